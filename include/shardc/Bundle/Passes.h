//===- Passes.h - Bundles -------------------------------------------------===//

#ifndef SHARDC_BUNDLE_PASSES_H
#define SHARDC_BUNDLE_PASSES_H

#include "dialects/Exec/Exec.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Bundle/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Bundle/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_BUNDLE_PASSES_H
