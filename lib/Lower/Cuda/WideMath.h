//===- WideMath.h - Elementary functions that want f64 ----------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CUDA_WIDEMATH_H
#define SHARDC_LIB_LOWER_CUDA_WIDEMATH_H

#include "mlir/Pass/Pass.h"

namespace shardc {

/// Replaces powers and remainders of f32 and f64, and exponentials and logarithms of f64, by
/// arithmetic: PTX has no instructions for them, and libdevice is not at hand.
std::unique_ptr<mlir::Pass> createWideMathPass();

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_WIDEMATH_H
