//===- Instances.h - One model for several shapes -------------------------===//

#ifndef SHARDC_LIB_DRIVER_INSTANCES_H
#define SHARDC_LIB_DRIVER_INSTANCES_H

#include "shardc/Driver/Driver.h"

namespace shardc {

/// Puts `other`, the same model for other shapes, as another entry point into `module`; both are of
/// the local view. Inputs that outputs replace are the same in all entries, so that one can go on
/// where another has ended. `other` is left empty.
mlir::LogicalResult mergeInstance(mlir::ModuleOp module, mlir::ModuleOp other,
                                  const ShapeInstance &instance);

/// Weights that only `other` has: values that were computed at import.
void mergeWeights(WeightStore &weights, const WeightStore &other);

} // namespace shardc

#endif // SHARDC_LIB_DRIVER_INSTANCES_H
