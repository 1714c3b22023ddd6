//===- Cotangents.h - One block in reverse --------------------------------===//

#ifndef SHARDC_LIB_DIFFERENTIATE_COTANGENTS_H
#define SHARDC_LIB_DIFFERENTIATE_COTANGENTS_H

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace shardc {

/// Reverse-mode differentiation of the ops of one block: the Wengert list read backwards.
class Cotangents {
public:
  using VisitCall = llvm::function_ref<mlir::LogicalResult(mlir::func::CallOp)>;

  /// `active`: the leaves with respect to which is differentiated. New ops are put where `builder`
  /// stands.
  Cotangents(mlir::OpBuilder &builder, mlir::Block &block, llvm::ArrayRef<mlir::Value> active);

  /// Does `value` depend on a leaf? Decided once, for the ops that the block had.
  bool isActive(mlir::Value value) const { return active.contains(value); }
  /// Adds a cotangent (null: zero) of an active value; of others it is dropped.
  void add(mlir::Value value, mlir::Value cotangent);
  /// Null where it is zero.
  mlir::Value get(mlir::Value value) const { return cotangents.lookup(value); }

  /// Visits `ops` (in the block's order) in reverse; calls are left to `visitCall`.
  mlir::LogicalResult run(llvm::ArrayRef<mlir::Operation *> ops, VisitCall visitCall);

private:
  mlir::LogicalResult visit(mlir::Operation *op);

  mlir::OpBuilder &builder;
  llvm::DenseSet<mlir::Value> active;
  llvm::DenseMap<mlir::Value, mlir::Value> cotangents;
};

/// Floating point: what can have a cotangent.
bool isDifferentiable(mlir::Type type);

} // namespace shardc

#endif // SHARDC_LIB_DIFFERENTIATE_COTANGENTS_H
