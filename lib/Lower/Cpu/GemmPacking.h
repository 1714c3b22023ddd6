//===- GemmPacking.h - Operands through scratch -----------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CPU_GEMMPACKING_H
#define SHARDC_LIB_LOWER_CPU_GEMMPACKING_H

#include "GemmPlan.h"

namespace shardc {

/// Where the inner loop finds A: element (r, k) at buffer[base + r·rowStride + k·kStride], in pairs
/// of k with dot products.
struct PlacedA {
  mlir::Value buffer, base;
  int64_t rowStride, kStride;
};

/// Copies rows × k of A (from element `base` of `source`) into scratch in the accumulator's type or
/// in pairs. What it pads is zero.
PlacedA copyA(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
              mlir::Value source, mlir::Value base, mlir::Value rows, mlir::Value k,
              mlir::Value scratch);
/// The place that copyA fills, without filling it.
PlacedA placeA(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
               mlir::Value scratch);

/// Fills panel[panelBase…] ([k][nTile], in pairs of k with dot products) with columns n0… of B,
/// whose element (k, n) is at source[base + …]. `base` is that of k's block, for packed weights
/// that of the panel.
void prepareB(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
              mlir::Value source, mlir::Value base, mlir::Value n0, mlir::Value k,
              mlir::Value panel, mlir::Value panelBase);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_GEMMPACKING_H
