//===- Loss.h - What is minimised -----------------------------------------===//

#ifndef SHARDC_LIB_DIFFERENTIATE_LOSS_H
#define SHARDC_LIB_DIFFERENTIATE_LOSS_H

#include "dialects/Graph/Graph.h"

namespace shardc {

constexpr int64_t kIgnoredLabel = -100;

/// Next-token cross entropy of `logits` [..., V] and `labels` [...] (i64, shifted already, -100 not
/// counted).
struct CrossEntropy {
  mlir::Value
      losses; ///< f32 [...]: each position's share of the loss, nothing where it is not counted
  mlir::Value
      cotangent; ///< of the logits. Written out, not differentiated: (softmax - onehot) / positions
};

/// `positions`: what the loss is divided by; those of the whole batch, of which `labels` may be a
/// part.
CrossEntropy buildCrossEntropy(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value logits,
                               mlir::Value labels, int64_t positions);

/// Counted positions / all positions, f32 scalar.
mlir::Value buildTokenShare(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value labels);

/// Sum of all elements.
mlir::Value buildSum(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value);

} // namespace shardc

#endif // SHARDC_LIB_DIFFERENTIATE_LOSS_H
