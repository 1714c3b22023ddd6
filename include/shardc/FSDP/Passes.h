//===- Passes.h - Parameters and gradients in flat buckets ----------------===//

#ifndef SHARDC_FSDP_PASSES_H
#define SHARDC_FSDP_PASSES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

/// Output of the entries that make gradients, if they are checked: of parameter i of the function
/// attribute, an array of names, how many numbers of its gradient on this rank are not finite, at
/// element i * kCountStride.
inline constexpr llvm::StringLiteral kNonFiniteOutput = "nonfinite_gradients",
                                     kCheckedGradientsAttr = "shard.checked_gradients";
inline constexpr int64_t kCountStride = 64;

#define GEN_PASS_DECL
#include "lib/FSDP/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/FSDP/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_FSDP_PASSES_H
