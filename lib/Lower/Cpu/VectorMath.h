//===- VectorMath.h - Elementary functions as vector code -------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CPU_VECTORMATH_H
#define SHARDC_LIB_LOWER_CPU_VECTORMATH_H

#include "mlir/Pass/Pass.h"

namespace shardc {

/// Replaces math ops on f32 (vectors and scalars) by polynomials with errors of a few units in the last place.
std::unique_ptr<mlir::Pass> createVectorMathPass();

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_VECTORMATH_H
