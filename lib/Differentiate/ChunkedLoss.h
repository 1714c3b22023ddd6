//===- ChunkedLoss.h - The loss without all logits at once ----------------===//

#ifndef SHARDC_LIB_DIFFERENTIATE_CHUNKEDLOSS_H
#define SHARDC_LIB_DIFFERENTIATE_CHUNKEDLOSS_H

#include "Cotangents.h"

#include "llvm/ADT/SetVector.h"

namespace shardc {

/// The end of a model, position by position: a contraction of `hidden` and what is elementwise
/// behind it.
struct ModelHead {
  mlir::Value logits, hidden;
  int64_t dim = 0, hiddenDim = 0; ///< of the positions that are cut into chunks, in either
  llvm::SmallVector<mlir::Operation *> ops;    ///< from hidden to logits, in their order
  llvm::SmallSetVector<mlir::Value, 4> shared; ///< what all positions read: weights, biases
};

/// The head that makes `logits`; `dim` is the last but one. A failure says what op is in the way.
mlir::FailureOr<ModelHead> findHead(mlir::Value logits, std::string &why);

/// What the chunks give.
struct ChunkedLoss {
  mlir::Value losses; ///< f32, shape of the labels
  llvm::SmallVector<std::pair<mlir::Value, mlir::Value>>
      cotangents; ///< of `hidden` and `shared`, as far as they are active
};

/// Cross entropy of `chunks` parts of the positions, one after the other, each with its part of the
/// gradients. Appended where `builder` stands.
mlir::FailureOr<ChunkedLoss> buildChunkedLoss(mlir::OpBuilder &builder, const ModelHead &head,
                                              mlir::Value labels, int64_t chunks,
                                              llvm::function_ref<bool(mlir::Value)> isActive);

} // namespace shardc

#endif // SHARDC_LIB_DIFFERENTIATE_CHUNKEDLOSS_H
