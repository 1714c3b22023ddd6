//===- Passes.h - From a model to its training step   ---------------------===//

#ifndef SHARDC_DIFFERENTIATE_PASSES_H
#define SHARDC_DIFFERENTIATE_PASSES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Differentiate/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Differentiate/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_DIFFERENTIATE_PASSES_H
