//===- GemmKernel.h - Matrix multiplication kernels -------------*- C++ -*-===//
//
// C[b, m, n] = epilogue(sum over k of A[b, m, k] · B[b, k, n]), static shapes, accumulated in f32
// (f64 and integers in their own type) and rounded once to C's type.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_GEMMKERNEL_H
#define SHARDC_LOWER_GEMMKERNEL_H

#include "shardc/Lower/KernelSpec.h"
#include <functional>

namespace shardc {

/// Where an epilogue is: `vector` lanes starting at column n of row m. The lanes from `width` on,
/// if any, are outside the result and `mask` (null when all lanes are inside) is false there.
struct EpiloguePoint {
  mlir::Value batch, m, n; ///< index; batch is linear over the batch dimensions
  mlir::Value mask;        ///< vector<lanes x i1> or null
  int64_t lanes;
  llvm::ArrayRef<mlir::Value> extra; ///< the extra buffers

  /// `lanes` elements of buffer at [indices] (the last dimension is contiguous); zero where masked
  /// off.
  mlir::Value load(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value buffer,
                   mlir::ValueRange indices) const;
  void store(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value vector, mlir::Value buffer,
             mlir::ValueRange indices) const;
};

/// Maps the accumulator (vector<lanes x accumulator type>) to what is stored, in the accumulator's
/// or the result's type. A null result means that the epilogue stored by itself.
using Epilogue = std::function<mlir::Value(mlir::OpBuilder &, mlir::Location, mlir::Value acc,
                                           const EpiloguePoint &)>;

/// An operand as strides in elements over a flat buffer. `batch` has one stride per batch dimension
/// (0 broadcasts).
struct GemmOperand {
  mlir::Type type;
  int64_t rowStride = 0, columnStride = 1; ///< A: m, k. B: k, n. C: m, n (columnStride 1)
  llvm::SmallVector<int64_t> batch;
};

struct GemmSpec {
  std::string symbol;
  llvm::SmallVector<int64_t> batch; ///< sizes of the batch dimensions
  int64_t m = 0, n = 0, k = 0;
  GemmOperand a, b, c;
  /// B is in packed panels (contracts §3); b.rowStride and columnStride are unused and batch
  /// strides count panel sets.
  bool packedB = false;
  int64_t nTile = 32;                        ///< 16 or 32; the panels' width
  llvm::SmallVector<mlir::MemRefType> extra; ///< more buffers, for the epilogue
  Epilogue epilogue;
};

/// The panel width to pack a weight of N columns with.
int64_t preferredNTile(int64_t n);
/// Elements of one packed panel set: ceil(N / nTile) panels, pairs along K for 16-bit types.
int64_t packedElements(int64_t k, int64_t n, int64_t nTile, mlir::Type type);

/// Contiguous row-major operands of the usual kinds.
GemmSpec makeGemm(llvm::StringRef symbol, int64_t m, int64_t n, int64_t k, mlir::Type a,
                  mlir::Type b, mlir::Type c, bool packedB);

/// Appends the kernel; buffers: A, B, extra…, C. `builder` is restored. Bad specs are reported at
/// `module`.
mlir::FailureOr<Kernel> buildGemm(mlir::OpBuilder &builder, mlir::ModuleOp module,
                                  const GemmSpec &spec, const CpuTarget &target);

} // namespace shardc

#endif // SHARDC_LOWER_GEMMKERNEL_H
