//===- Passes.h - From the global view to one program for every device ----===//

#ifndef SHARDC_PARTITION_PASSES_H
#define SHARDC_PARTITION_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

#define GEN_PASS_DECL
#include "lib/Partition/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Partition/Passes.h.inc"

/// What `--shard-verify-partitioned` checks; emits an error at each thing that is wrong.
mlir::LogicalResult verifyPartitioned(mlir::ModuleOp module);

} // namespace shardc

#endif // SHARDC_PARTITION_PASSES_H
