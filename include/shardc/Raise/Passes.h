//===- Passes.h - Raise: transformer blocks out of primitive ops ----------===//

#ifndef SHARDC_RAISE_PASSES_H
#define SHARDC_RAISE_PASSES_H

#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Raise/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Raise/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_RAISE_PASSES_H
