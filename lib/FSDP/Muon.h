//===- Muon.h - Directions of matrices ------------------------------------===//

#ifndef SHARDC_LIB_FSDP_MUON_H
#define SHARDC_LIB_FSDP_MUON_H

#include "EntryFunction.h"
#include "Optimizer.h"

namespace shardc {

/// `momentum` (f32 [L], this rank's part of a bucket of matrices) with every matrix replaced by its
/// nearest orthogonal one, times the factor by which the learning rate is adjusted to its shape.
mlir::Value orthogonalise(mlir::OpBuilder &builder, mlir::Location loc, const ShardLayout &layout,
                          const Bucket &bucket, const OptimizerSpec &spec, mlir::Value momentum);

} // namespace shardc

#endif // SHARDC_LIB_FSDP_MUON_H
