//===- Sites.h - Collectives along the sequence, and what is beside them --===//
#ifndef SHARDC_LIB_DECOMPOSE_SITES_H
#define SHARDC_LIB_DECOMPOSE_SITES_H

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "shardc/Support/CostTable.h"
#include "shardc/Support/Target.h"

namespace shardc {

/// How tensors of tokens lie: [outer, sequence, …], or [sequence, …]; a collective along the
/// sequence makes wholes of parts, or parts of wholes.
struct Tokens {
  int64_t dim;                     ///< the sequence's: 0 or 1
  int64_t outer;                   ///< size of dimension 0 in front of it, or 1
  int64_t whole, part, ranks;      ///< the sequence, what a rank has of it, and how many ranks
  mlir::Attribute axes;            ///< of the mesh
  std::pair<int64_t, int64_t> cut; ///< pieces of `outer`, and pieces of each rank's part

  int64_t pieces() const { return cut.first * cut.second; }
  bool operator==(const Tokens &other) const {
    return std::tie(dim, outer, whole, part, ranks, axes) ==
           std::tie(other.dim, other.outer, other.whole, other.part, other.ranks, other.axes);
  }
  /// Has a tensor these tokens, all of the sequence?
  bool isWhole(mlir::Type type) const;
  mlir::RankedTensorType pieceOfWhole(mlir::RankedTensorType type) const;
  mlir::RankedTensorType pieceOfPart(mlir::RankedTensorType type) const;
};

/// A gather along a sequence, or a reduce-scatter.
struct Site {
  mlir::Operation *op;
  Tokens tokens;
  llvm::SetVector<mlir::Operation *> products; ///< that read what is gathered, or make what is
                                               ///< reduced, with elementwise ops between
  std::string refusal;                         ///< why it stays whole; empty: it does not

  bool isGather() const { return mlir::isa<shard::AllGatherOp>(op); }
  mlir::RankedTensorType wholeType() const;
};

/// An elementwise op on tensors of all tokens.
bool isTokenwise(mlir::Operation *op, const Tokens &tokens);
/// Which operand of a product has the tokens: they are in the same place of the result, and not
/// summed over; none if there is no such one.
std::optional<unsigned> tokenOperand(mlir::Operation *op, const Tokens &tokens);

/// All collectives along a sequence of a function, with the products beside them, or why there are
/// none.
llvm::SmallVector<Site> findSites(mlir::func::FuncOp function);

/// How many pieces, and where they are worth it.
struct ChoiceOptions {
  int64_t pieces = 0; ///< 0: by costs or size
  Target target = Target::Cpu;
  CostTable costs;
};
/// Sets `tokens.cut` of sites, the same for those of the same tokens, and `refusal` where one stays
/// whole.
void choosePieces(llvm::MutableArrayRef<Site> sites, const ChoiceOptions &options);

/// Ops that are done piece by piece, for sites of the same tokens.
class CutOps {
public:
  CutOps(mlir::func::FuncOp function, llvm::ArrayRef<const Site *> sites);
  llvm::ArrayRef<mlir::Operation *> getOps() const { return ops; } ///< in program order

private:
  void findReached();
  bool comesFromProduct(mlir::Value value);
  void addSum(mlir::Value value);
  void addReached(mlir::Value value);
  void addEpilogues();
  void addOperands(mlir::func::FuncOp function);

  llvm::ArrayRef<const Site *> sites;
  const Tokens &tokens;
  llvm::DenseSet<mlir::Value> reached; ///< there piece by piece, if what makes them is
  llvm::DenseMap<mlir::Value, bool> isFromProduct;
  llvm::SetVector<mlir::Operation *> cut;
  llvm::SmallVector<mlir::Operation *> ops;
};

/// Replaces sites and ops by their pieces. `sites` have the same tokens. Returns the first ops that
/// compute pieces, of each connected set.
llvm::SmallVector<mlir::Operation *>
cutIntoPieces(mlir::func::FuncOp function, llvm::ArrayRef<const Site *> sites, const CutOps &ops);

} // namespace shardc

#endif // SHARDC_LIB_DECOMPOSE_SITES_H
