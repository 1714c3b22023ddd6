//===- Optimizer.h - Updates of flat buffers ------------------------------===//

#ifndef SHARDC_LIB_FSDP_OPTIMIZER_H
#define SHARDC_LIB_FSDP_OPTIMIZER_H

#include "shardc/FSDP/Optimizer.h"

#include "dialects/Graph/Graph.h"

namespace shardc {

/// Values of one bucket (f32 [L]) and of the step (f32 []).
struct UpdateInputs {
  mlir::Value parameter, gradient;
  llvm::SmallVector<mlir::Value> states; ///< as stateRoles()
  mlir::Value scale; ///< what the gradient is multiplied by: 1 / tokens and clipping
  llvm::StringMap<mlir::Value> scalars; ///< as scalarNames()
  bool hasDecay = true;
};

/// Muon: a flat buffer of momenta to one of the matrices' directions, both f32 [L].
using Orthogonalise = llvm::function_ref<mlir::Value(mlir::Value)>;

/// New parameter, then new states. torch.optim's formulas, operation by operation.
llvm::SmallVector<mlir::Value> buildUpdate(mlir::OpBuilder &builder, mlir::Location loc,
                                           const OptimizerSpec &spec, const UpdateInputs &in,
                                           Orthogonalise orthogonalise);

/// One-letter helpers for arithmetic on tensors of one type.
struct Arithmetic {
  mlir::OpBuilder &b;
  mlir::Location loc;

  mlir::Value constant(mlir::Type type, double value) {
    return graph::ConstantOp::splat(b, loc, mlir::cast<mlir::RankedTensorType>(type), value);
  }
  mlir::Value spread(mlir::Value scalar, mlir::Type type) {
    return graph::broadcastScalar(b, loc, scalar,
                                  mlir::cast<mlir::RankedTensorType>(type).getShape());
  }
  mlir::Value add(mlir::Value x, mlir::Value y) { return graph::AddOp::create(b, loc, x, y); }
  mlir::Value sub(mlir::Value x, mlir::Value y) { return graph::SubOp::create(b, loc, x, y); }
  mlir::Value mul(mlir::Value x, mlir::Value y) { return graph::MulOp::create(b, loc, x, y); }
  mlir::Value mul(mlir::Value x, double y) { return mul(x, constant(x.getType(), y)); }
  mlir::Value div(mlir::Value x, mlir::Value y) { return graph::DivOp::create(b, loc, x, y); }
  mlir::Value sqrt(mlir::Value x) { return graph::SqrtOp::create(b, loc, x); }
};

} // namespace shardc

#endif // SHARDC_LIB_FSDP_OPTIMIZER_H
