//===- MatrixTiles.h - Register tiles of AMX --------------------*- C++ -*-===//
//
// The counterpart of MicroKernel.h for processors with matrix tiles: eight registers of up to 16
// rows of 64 bytes, and a product that adds 16 × 32 by 32 × 16 of bf16 to 16 × 16 of f32. Tiles go
// by number: four for sums, two for A and two for B; no value lives in one longer than a register
// tile's loop.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_CPU_MATRIXTILES_H
#define SHARDC_LIB_LOWER_CPU_MATRIXTILES_H

#include "MicroKernel.h"

namespace shardc {

inline constexpr int64_t kTileSide = 16; ///< rows, and columns of sums
inline constexpr int64_t kTileK = 32;    ///< elements of k in one tile of A or B

/// Gives the tiles their shapes, of which `rows` (at most 16) are A's and the sums'. A kernel does
/// so first, and releases them before it returns: whoever runs next on the thread need not save
/// them.
void configureTiles(Emitter &e, int64_t rows);
void releaseTiles(Emitter &e);

/// acc[accBase + r·columns + n] = (`accumulate`: itself) + the product of `steps` · 32 of k. Rows
/// are rounded up to whole tiles, `columns` is 16 or 32. Operands hold pairs of bf16; A's pairs are
/// contiguous along k.
void emitTileLoop(Emitter &e, int64_t rows, int64_t columns, const MicroOperands &operands,
                  mlir::Value steps, mlir::Value acc, mlir::Value accBase, bool accumulate);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_MATRIXTILES_H
