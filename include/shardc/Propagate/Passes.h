//===- Passes.h - Spread shardings over a program -------------------------===//

#ifndef SHARDC_PROPAGATE_PASSES_H
#define SHARDC_PROPAGATE_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Propagate/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Propagate/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_PROPAGATE_PASSES_H
