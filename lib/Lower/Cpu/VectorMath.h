//===- VectorMath.h - Elementary functions as vector code -------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CPU_VECTORMATH_H
#define SHARDC_LIB_LOWER_CPU_VECTORMATH_H

#include "Emitter.h"
#include "mlir/Pass/Pass.h"

namespace shardc {

/// 2^x for f32 x <= 0 (a scalar or a vector), below 1 ulp; what would be smaller than 2^-125 is
/// zero, so that 2^-inf is too.
mlir::Value emitExp2NonPositive(Emitter &e, mlir::Value x);

/// Replaces math ops on f32 (vectors and scalars) by polynomials with errors of a few units in the
/// last place.
std::unique_ptr<mlir::Pass> createVectorMathPass();

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_VECTORMATH_H
