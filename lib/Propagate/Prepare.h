//===- Prepare.h - What must be separate before shardings spread ----------===//

#ifndef SHARDC_LIB_PROPAGATE_PREPARE_H
#define SHARDC_LIB_PROPAGATE_PREPARE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace shardc {

/// Gives every use its own constant, iota or broadcast scalar: it would otherwise tie the shardings
/// of ops that have nothing to do with each other.
void splitConstants(mlir::func::FuncOp function);

/// One function for each combination of shardings that calls give its parameters. Afterwards a
/// callee's argument has the sharding of the parameter that is passed.
void specialiseCallees(mlir::ModuleOp module);

} // namespace shardc

#endif // SHARDC_LIB_PROPAGATE_PREPARE_H
