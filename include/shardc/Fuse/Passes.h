//===- Passes.h - Kernels out of graph ops --------------------------------===//

#ifndef SHARDC_FUSE_PASSES_H
#define SHARDC_FUSE_PASSES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"
#include "shardc/Support/Target.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Fuse/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Fuse/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_FUSE_PASSES_H
