//===- Passes.h - One command list ----------------------------------------===//

#ifndef SHARDC_SCHEDULE_PASSES_H
#define SHARDC_SCHEDULE_PASSES_H

#include "dialects/Exec/Exec.h"
#include "mlir/Pass/Pass.h"
#include "shardc/Support/Target.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Schedule/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Schedule/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_SCHEDULE_PASSES_H
