//===- GemmPacking.h - Operands through scratch -----------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CPU_GEMMPACKING_H
#define SHARDC_LIB_LOWER_CPU_GEMMPACKING_H

#include "GemmPlan.h"

namespace shardc {

/// Where the inner loop finds A: element (r, k) of the register tile that begins at row t, at
/// buffer[base + t·tileStride + r·rowStride + k·kStride], in pairs of k with dot products.
struct PlacedA {
  mlir::Value buffer, base;
  int64_t tileStride, rowStride, kStride;
};

/// The place in scratch of the `kIndex`-th block of k.
PlacedA placeA(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
               mlir::Value scratch, mlir::Value kIndex);
/// Copies rows × k of A (from element `base` of `source`) there in the accumulator's type or in
/// pairs. What it pads is zero.
void copyA(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
           mlir::Value source, mlir::Value base, mlir::Value rows, mlir::Value k,
           const PlacedA &place);

/// Fills panel[panelBase…] ([k][nTile], in pairs of k with dot products) with columns n0… of B,
/// whose element (k, n) is at source[base + …]. `base` is that of k's block, for packed weights
/// that of the panel. What will be wanted `ahead` elements further is asked for, if that is not
/// zero.
void prepareB(Emitter &e, const GemmSpec &spec, const GemmPlan &plan, const GemmLevel &level,
              mlir::Value source, mlir::Value base, mlir::Value n0, mlir::Value k,
              mlir::Value panel, mlir::Value panelBase, int64_t ahead = 0);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_GEMMPACKING_H
