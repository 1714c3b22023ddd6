//===- MicroKernel.h - A tile of accumulators in registers ------*- C++ -*-===//
//
// The inner loop that matrix multiplication and attention share: `rows` × `vecs` vector
// accumulators stay in registers while k runs; each step broadcasts one element of A per row and
// loads `vecs` vectors of B.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_CPU_MICROKERNEL_H
#define SHARDC_LIB_LOWER_CPU_MICROKERNEL_H

#include "Emitter.h"
#include "shardc/Lower/KernelSpec.h"

namespace shardc {

/// What a step along k is.
enum class StepKind {
  Element,     ///< one k: acc += a·b
  DotPair,     ///< two k, as 2×bf16 in one i32: vdpbf16ps
  ConvertPair, ///< two k: B holds 2×16-bit in one i32, converted in registers; A holds f32
};

struct MicroTile {
  int64_t rows, vecs, lanes;
  mlir::Type accType;
  StepKind step = StepKind::Element;
  mlir::Type pairType = {}; ///< ConvertPair: bf16 or f16
  /// k is summed over in order, so that a row's bits do not depend on how many are in its tile.
  bool inOrder = false;
};

/// Element (r, k) of A is a[aBase + r·aRow + k·aK]; vector (step, v) of B starts at b[bBase +
/// step·bStep + v·lanes].
struct MicroOperands {
  mlir::Value a, aBase;
  int64_t aRow, aK;
  mlir::Value b, bBase;
  int64_t bStep;
  bool prefetchB = false; ///< B streams from memory: ask for it two pages ahead, where the hardware
                          ///< stops at each page
};

/// The most rows of a tile that is `vecs` vectors wide such that nothing is spilled.
int64_t maxTileRows(const CpuTarget &target, int64_t vecs);

/// Runs `steps` steps from the accumulators `init` (row-major, rows × vecs) and returns the new
/// ones.
Emitter::Values emitMicroLoop(Emitter &e, const MicroTile &tile, const MicroOperands &operands,
                              mlir::Value steps, mlir::ValueRange init);

/// The even and the odd element of each pair, as f32.
std::pair<mlir::Value, mlir::Value> convertPair(Emitter &e, mlir::Value pairs, mlir::Type type);

/// Two rows of 16-bit elements to one row of pairs (i32).
mlir::Value makePairs(Emitter &e, mlir::Value even, mlir::Value odd);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_MICROKERNEL_H
