//===- SortOps.h - Order of a block ---------------------------------------===//

#ifndef SHARDC_SUPPORT_SORTOPS_H
#define SHARDC_SUPPORT_SORTOPS_H

#include "mlir/IR/Block.h"

namespace shardc {

/// Restores dominance after ops became calls that stand later than the ops they replace. Ops keep
/// their order; what one needs is moved up before it (mlir::sortTopologically moves what is not
/// ready to the end instead, where it keeps everything alive that it reads).
void pullProducersUp(mlir::Block &block);

} // namespace shardc

#endif // SHARDC_SUPPORT_SORTOPS_H
