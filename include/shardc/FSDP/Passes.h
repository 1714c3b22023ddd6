//===- Passes.h - parameters and gradients in flat buckets ----------------------------------------------===//

#ifndef SHARDC_FSDP_PASSES_H
#define SHARDC_FSDP_PASSES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/FSDP/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/FSDP/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_FSDP_PASSES_H
