//===- AttentionGradient.h - Kernels of attention's gradient ----*- C++ -*-===//
//
// Recomputed from the operands, without the score matrix and without atomics (FlashAttention-2,
// arXiv:2307.08691): with P the softmax, dP = g vᵀ and δ = sum over keys of P ∘ dP,
//
//   queries   a block has query rows: the softmax's statistics and δ in one pass over the keys,
//             then dS = P ∘ (dP - δ) and dq = dS k in another
//   keys      a block has keys: dv = Pᵀ g and dk = dSᵀ q, from the statistics, over the query rows
//             of all heads that read the key head, in one order
//   sinks     a block has a head: -sum of P_sink δ
//
// Statistics lie in the scratch area: log₂ of the softmax's denominator (+inf for a row that sees
// no key, so that its powers are zero), and δ.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_CUDA_ATTENTIONGRADIENT_H
#define SHARDC_LIB_LOWER_CUDA_ATTENTIONGRADIENT_H

#include "AttentionGrid.h"

namespace shardc {

/// By name, as the kernels number them differently.
struct AttentionGradBuffers {
  CudaBuffer query, key, value, cotangent, dquery, dkey, dvalue;
  std::optional<CudaBuffer> mask, sinks, dsinks;
  CudaBuffer denominator, delta; ///< f32 [batch, query heads, queries]
};

/// What the kernels over queries and over keys share: rows of one kind stay in a block, tiles of
/// `tileRows` rows of the other kind pass by.
struct AttentionGradKernel {
  using Value = mlir::Value;
  using Values = Emitter::Values;

  AttentionGradKernel(CudaLowering &lowering, const AttentionGradSpec &spec);

  /// Begins a kernel over these buffers.
  void begin(llvm::StringRef suffix, std::vector<const CudaBuffer *> buffers);
  Value bufferOf(const CudaBuffer &buffer);

  CudaLowering &lowering;
  const AttentionGradSpec &gradient;
  const AttentionSpec &spec;
  Emitter e;
  AttentionGrid grid;
  bool tensorCores;
  int64_t tileRows = 0;
  std::vector<std::pair<const CudaBuffer *, Value>> arguments;
};

CudaLaunch lowerAttentionGradQueries(CudaLowering &lowering, const AttentionGradSpec &spec,
                                     const AttentionGradBuffers &buffers);
CudaLaunch lowerAttentionGradKeys(CudaLowering &lowering, const AttentionGradSpec &spec,
                                  const AttentionGradBuffers &buffers);
CudaLaunch lowerAttentionGradSinks(CudaLowering &lowering, const AttentionGradSpec &spec,
                                   const AttentionGradBuffers &buffers);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_ATTENTIONGRADIENT_H
