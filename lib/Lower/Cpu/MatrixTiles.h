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

/// Where a sequence of register tiles leaves its sums: row r and column n of one at acc[base +
/// r·columns + n]. `rows` are those of the highest, rounded up to whole tiles; `columns` is 16
/// or 32.
struct TileSums {
  int64_t rows, columns;
  mlir::Value acc;
};

/// One register tile of a sequence: stores what the tiles hold to `before`, then multiplies `rows`
/// of A by `steps` · 32 of k into them; they begin as zero or, unless `isFirst`, as the sums that
/// are at `from`, if that is given.
/// Operands hold pairs of bf16; A's pairs are contiguous along k. B's panel is expected to stay in
/// L1, A streams past it. `beside(i)` is emitted for each step i after the first: what a core can
/// do while its matrix unit computes.
///
/// Stores stand between the first products of the next tile because a store of a tile waits for
/// its last product, and the unit idles for 64 cycles if all four wait together; that is one eighth
/// of a tile with k = 256.
void emitTileLoop(Emitter &e, const TileSums &sums, int64_t rows, const MicroOperands &operands,
                  mlir::Value steps, mlir::Value before, mlir::Value from, mlir::Value isFirst,
                  llvm::function_ref<void(mlir::Value)> beside);
/// Stores the last register tile of a sequence.
void storeSums(Emitter &e, const TileSums &sums, mlir::Value base);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_MATRIXTILES_H
