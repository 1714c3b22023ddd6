//===- Match.h - What the raising patterns ask of values ------------------===//

#ifndef SHARDC_LIB_RAISE_MATCH_H
#define SHARDC_LIB_RAISE_MATCH_H

#include "dialects/Graph/Graph.h"

#include "mlir/IR/PatternMatch.h"

#include <optional>

namespace shardc::raise {

inline mlir::RankedTensorType getType(mlir::Value value) {
  return llvm::cast<mlir::RankedTensorType>(value.getType());
}
inline llvm::ArrayRef<int64_t> getShape(mlir::Value value) { return getType(value).getShape(); }

/// Builds ops in the place of `root`, under its location and module path.
class OpMaker {
public:
  OpMaker(mlir::PatternRewriter &rewriter, mlir::Operation *root)
      : rewriter(rewriter), root(root) {}

  template <typename OpTy, typename... Args> OpTy create(Args &&...args) {
    auto op = OpTy::create(rewriter, root->getLoc(), std::forward<Args>(args)...);
    if (auto path = root->getAttr(graph::GraphDialect::kPathAttr))
      op->setAttr(graph::GraphDialect::kPathAttr, path);
    return op;
  }
  /// `value` under another shape; itself if it has that shape already.
  mlir::Value reshape(mlir::Value value, llvm::ArrayRef<int64_t> shape);

  mlir::PatternRewriter &rewriter;

private:
  mlir::Operation *root;
};

/// The elements of a constant, seen through ops that only rename dimensions of size one.
std::optional<HostTensor> constantValue(mlir::Value value);

/// The number that every element is, seen through movement and casts of a constant.
std::optional<double> splatValue(mlir::Value value);
/// Whether every element is `expected`, up to the rounding of the element type.
bool isSplat(mlir::Value value, double expected);
/// Equality up to the rounding of an element type.
bool isClose(double value, double expected, mlir::Type elementType);

/// value * factor, written as a product with, or a quotient by, one number, or as a negation.
struct Scaled {
  mlir::Value value;
  double factor;
};
std::optional<Scaled> matchScaled(mlir::Value value);

/// x + c, in either order.
struct Shifted {
  mlir::Value value;
  double summand;
};
std::optional<Shifted> matchShifted(mlir::Value value);

/// x where value is x * x, as a product or a power.
mlir::Value matchSquare(mlir::Value value);

/// Skips reshapes that only add or remove dimensions of size one.
mlir::Value skipUnitReshapes(mlir::Value value);
/// Skips casts between floats.
mlir::Value skipFloatCasts(mlir::Value value);

/// `op` if the value is its result.
template <typename OpTy> OpTy definedBy(mlir::Value value) {
  return value ? value.getDefiningOp<OpTy>() : OpTy();
}

/// Sum of `x` over its last `dims` dimensions, multiplied by 1 / their size.
struct RowMean {
  mlir::Value input;
  int64_t dims;
};
std::optional<RowMean> matchRowMean(mlir::Value value);

} // namespace shardc::raise

#endif // SHARDC_LIB_RAISE_MATCH_H
