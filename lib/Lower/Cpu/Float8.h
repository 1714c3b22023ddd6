//===- Float8.h - 8-bit floats by bit arithmetic ----------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CPU_FLOAT8_H
#define SHARDC_LIB_LOWER_CPU_FLOAT8_H

#include "mlir/Pass/Pass.h"

namespace shardc {

/// Conversions between f8E4M3FN or f8E5M2 and wider floats, of scalars and vectors, become integer
/// code.
std::unique_ptr<mlir::Pass> createFloat8Pass();

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_FLOAT8_H
