//===- Passes.h - Kernels for targets -------------------------------------===//

#ifndef SHARDC_LOWER_PASSES_H
#define SHARDC_LOWER_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Lower/Cuda/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Lower/Cuda/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_LOWER_PASSES_H
