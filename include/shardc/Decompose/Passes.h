//===- Passes.h - Products and their collectives in pieces ----------------===//

#ifndef SHARDC_DECOMPOSE_PASSES_H
#define SHARDC_DECOMPOSE_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "shardc/Support/Target.h"

namespace shardc {

/// Unit attribute of a collective that is one of several pieces: Schedule starts it where it stands
/// and waits for it where its result is needed.
inline constexpr llvm::StringLiteral kPieceAttr = "shard.piece";

#define GEN_PASS_DECL
#include "lib/Decompose/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lib/Decompose/Passes.h.inc"

} // namespace shardc

#endif // SHARDC_DECOMPOSE_PASSES_H
