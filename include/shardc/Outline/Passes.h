//===- Passes.h - Outline layers ------------------------------------------===//

#ifndef SHARDC_OUTLINE_PASSES_H
#define SHARDC_OUTLINE_PASSES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Outline/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Outline/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_OUTLINE_PASSES_H
