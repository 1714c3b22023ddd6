//===- Loss.h - what is minimised ---------------------------------------------------------------===//

#ifndef SHARDC_LIB_DIFFERENTIATE_LOSS_H
#define SHARDC_LIB_DIFFERENTIATE_LOSS_H

#include "dialects/Graph/Graph.h"

namespace shardc {

constexpr int64_t kIgnoredLabel = -100;

/// The loss of one batch and the cotangent that begins the backward pass.
struct Loss {
  mlir::Value loss;      ///< f32 scalar: sum over counted positions / all positions
  mlir::Value tokens;    ///< f32 scalar: counted positions / all positions
  mlir::Value seed;      ///< cotangent of the output that the loss is of
};

/// Next-token cross entropy of `logits` [..., V] and `labels` [...] (i64, shifted already, -100 not counted). The cotangent is
/// written out, not differentiated: (softmax - onehot) / positions.
Loss buildCrossEntropy(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value logits, mlir::Value labels);

} // namespace shardc

#endif // SHARDC_LIB_DIFFERENTIATE_LOSS_H
