//===- Grouping.h - Which ops become one kernel -----------------*- C++ -*-===//
#ifndef SHARDC_LIB_FUSE_GROUPING_H
#define SHARDC_LIB_FUSE_GROUPING_H

#include "dialects/Graph/Graph.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "shardc/Lower/Float8Product.h"
#include "shardc/Lower/StridedView.h"
#include "shardc/Support/Target.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallPtrSet.h"

namespace shardc {

/// Ops that are computed by one kernel, each once.
struct KernelGroup {
  llvm::SmallVector<mlir::Operation *> members; ///< in program order
  mlir::Operation *anchor =
      nullptr; ///< contraction, attention, row op or op of class Loops, if there is one
};

/// Products of 8-bit floats with scales become contractions and what is behind them.
void expandScaledProducts(mlir::func::FuncOp function);

/// The partition of a function's ops into kernels. An op is a member of a group; or inlined, which
/// means computed again inside of every group that wants its value; or stays (sources, calls,
/// collectives, and reshapes as other names of the same memory).
class Grouping {
public:
  Grouping(mlir::func::FuncOp function, Target target);

  llvm::ArrayRef<std::unique_ptr<KernelGroup>> getGroups() const { return groups; }
  const KernelGroup *groupOf(mlir::Operation *op) const { return memberOf.lookup(op); }
  /// The value that the kernel takes from memory for this operand of a member: null if the operand
  /// is computed in the kernel by one op, which is the member's or a clone.
  bool isFromMemory(mlir::OpOperand &operand) const;
  /// The memory behind an operand that is read by strides, or null.
  mlir::Value strideBase(mlir::OpOperand &operand) const { return strideBases.lookup(&operand); }

private:
  void formAnchorGroup(mlir::Operation *op);
  void growEpilogue(KernelGroup &group, graph::EinsumOp op);
  void growLibraryEpilogue(KernelGroup &group, graph::EinsumOp op);
  bool isInMemory(mlir::Value value) const;
  graph::EinsumOp productBeside(graph::ReduceOp sums) const;
  void takeBiasGradient(KernelGroup &group, graph::EinsumOp op);
  graph::AddOp libraryAddition(mlir::Value product) const;
  void growFloat8(KernelGroup &group, Float8Product product);
  void absorbResultViews(KernelGroup &group, mlir::Value result);
  void growSums(KernelGroup &group);
  void growRows(KernelGroup &group);
  bool joinsRows(const KernelGroup &group, mlir::Operation *op,
                 llvm::SmallVectorImpl<mlir::Operation *> &between);
  void pullProducer(KernelGroup &group);
  void addMember(KernelGroup &group, mlir::Operation *op);
  StridedView stridedView(mlir::Value value) const;
  void readByStrides(mlir::OpOperand &operand);
  void decide(mlir::Operation *op);
  void decideElement(mlir::Operation *op);
  KernelGroup *pointwiseConsumer(mlir::Operation *op);
  void growColumns(KernelGroup &group);
  void joinColumns();
  void joinSiblings();
  void join(KernelGroup &into, KernelGroup &from);
  bool canJoin(const KernelGroup &a, const KernelGroup &b) const;
  bool isBetween(const KernelGroup &from, const KernelGroup &to) const;
  llvm::SetVector<mlir::Value> largeInputs(const KernelGroup &group) const;
  bool findConsumer(mlir::Operation *op, KernelGroup *&group,
                    llvm::SmallVectorImpl<mlir::Operation *> &others);
  void requireOperands(mlir::Operation *op);
  void planEinsumOperands(graph::EinsumOp op);
  double evaluations(mlir::Operation *op, llvm::SmallPtrSetImpl<const KernelGroup *> &consumers);
  KernelGroup &newGroup(mlir::Operation *anchor, mlir::Operation *member);

  mlir::func::FuncOp function;
  Target target;
  llvm::SmallVector<std::unique_ptr<KernelGroup>> groups;
  llvm::DenseMap<mlir::Operation *, KernelGroup *> memberOf;
  llvm::DenseMap<mlir::OpOperand *, mlir::Value> strideBases;
  llvm::DenseMap<mlir::Operation *, double>
      evaluationCounts; ///< of inlined ops: how often an element is computed, in all
  llvm::DenseSet<mlir::Operation *> inlined;
  llvm::DenseSet<mlir::Value> required; ///< must be in memory
};

/// Class of lowering; Source for ops that are not of the graph dialect.
graph::LoweringClass loweringClass(mlir::Operation *op);
bool isSplatConstant(mlir::Operation *op);
/// How many of the last dimensions of its input a row op works on; none if it is on others.
int64_t trailingDims(mlir::Operation *op);

} // namespace shardc

#endif // SHARDC_LIB_FUSE_GROUPING_H
