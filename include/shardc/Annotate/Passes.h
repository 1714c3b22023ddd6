//===- Passes.h - Apply plans ---------------------------------------------===//

#ifndef SHARDC_ANNOTATE_PASSES_H
#define SHARDC_ANNOTATE_PASSES_H

#include "dialects/Shard/Shard.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Annotate/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Annotate/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_ANNOTATE_PASSES_H
