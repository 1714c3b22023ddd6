//===- Reductions.h - Scalars of reductions ---------------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_KERNELS_REDUCTIONS_H
#define SHARDC_LIB_LOWER_KERNELS_REDUCTIONS_H

#include "dialects/Graph/Graph.h"
#include "lib/Lower/Cpu/Emitter.h"

namespace shardc {

/// What leaves any other operand of a reduction as it is.
mlir::Value neutralScalar(Emitter &e, graph::Reduction kind, mlir::Type type, bool isUnsigned);

/// One step of a reduction.
mlir::Value reduceScalars(Emitter &e, graph::Reduction kind, mlir::Value acc, mlir::Value x,
                          bool isUnsigned);

/// What a scatter's update makes of the element that is there.
mlir::Value combineScalars(Emitter &e, graph::Combine how, mlir::Value old, mlir::Value update,
                           mlir::Type element);

/// The lanes of a vector reduced to one.
mlir::Value reduceLanes(Emitter &e, graph::Reduction kind, mlir::Value vector, bool isUnsigned);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_KERNELS_REDUCTIONS_H
