// cuBLASLt, libcublasLt.so.13 or .12, by the names and values of cublasLt.h; these functions are
// the same in both.
#pragma once

#include "runtime/cuda/api/Driver.h"

namespace shardrt::cuda {

using cublasLtHandle_t = struct cublasLtContext *;
using cublasLtMatmulDesc_t = struct cublasLtMatmulDescOpaque *;
using cublasLtMatrixLayout_t = struct cublasLtMatrixLayoutOpaque *;
using cublasLtMatmulPreference_t = struct cublasLtMatmulPreferenceOpaque *;
struct cublasLtMatmulAlgo_t {
  uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  int state;
  float wavesCount;
  int reserved[4];
};

constexpr int CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16F = 2, CUDA_R_16BF = 14;
constexpr int CUDA_R_8F_E4M3 = 28, CUDA_R_8F_E5M2 = 29;
constexpr int CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_64F = 70, CUBLAS_COMPUTE_32F_FAST_TF32 = 77;
constexpr int32_t CUBLAS_OP_N = 0, CUBLAS_OP_T = 1;
constexpr int CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT = 5;                           // int32_t
constexpr int CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET = 6;                  // int64_t
constexpr int CUBLASLT_MATMUL_DESC_TRANSA = 3, CUBLASLT_MATMUL_DESC_TRANSB = 4; // int32_t
constexpr int CUBLASLT_MATMUL_DESC_EPILOGUE = 7;                                // uint32_t
constexpr int CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8;                            // void *
constexpr int CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER = 11;                   // void *
constexpr int CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD = 12;                        // int64_t
constexpr int CUBLASLT_MATMUL_DESC_A_SCALE_POINTER = 17,
              CUBLASLT_MATMUL_DESC_B_SCALE_POINTER = 18; // void *
constexpr int CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26;  // int32_t
constexpr uint32_t CUBLASLT_EPILOGUE_AUX = 128, CUBLASLT_EPILOGUE_BGRADA = 256,
                   CUBLASLT_EPILOGUE_BGRADB = 512;
constexpr uint32_t CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_RELU = 2,
                   CUBLASLT_EPILOGUE_BIAS = 4, CUBLASLT_EPILOGUE_GELU = 32;
constexpr int CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1;   // uint64_t
constexpr int CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5, // uint32_t
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8;

class CublasLt : public Library {
public:
  /// `driverVersion` decides which major version can run.
  explicit CublasLt(int driverVersion);
  [[noreturn]] void fail(const char *symbol, int status) const override;

  Function<int(cublasLtHandle_t *)> cublasLtCreate{*this, "cublasLtCreate"};
  Function<int(cublasLtHandle_t)> cublasLtDestroy{*this, "cublasLtDestroy"};
  Function<int(cublasLtMatmulDesc_t *, int, int)> cublasLtMatmulDescCreate{
      *this, "cublasLtMatmulDescCreate"};
  Function<int(cublasLtMatmulDesc_t)> cublasLtMatmulDescDestroy{*this, "cublasLtMatmulDescDestroy"};
  Function<int(cublasLtMatmulDesc_t, int, const void *, size_t)> cublasLtMatmulDescSetAttribute{
      *this, "cublasLtMatmulDescSetAttribute"};
  Function<int(cublasLtMatrixLayout_t *, int, uint64_t, uint64_t, int64_t)>
      cublasLtMatrixLayoutCreate{*this, "cublasLtMatrixLayoutCreate"};
  Function<int(cublasLtMatrixLayout_t)> cublasLtMatrixLayoutDestroy{*this,
                                                                    "cublasLtMatrixLayoutDestroy"};
  Function<int(cublasLtMatrixLayout_t, int, const void *, size_t)> cublasLtMatrixLayoutSetAttribute{
      *this, "cublasLtMatrixLayoutSetAttribute"};
  Function<int(cublasLtMatmulPreference_t *)> cublasLtMatmulPreferenceCreate{
      *this, "cublasLtMatmulPreferenceCreate"};
  Function<int(cublasLtMatmulPreference_t)> cublasLtMatmulPreferenceDestroy{
      *this, "cublasLtMatmulPreferenceDestroy"};
  Function<int(cublasLtMatmulPreference_t, int, const void *, size_t)>
      cublasLtMatmulPreferenceSetAttribute{*this, "cublasLtMatmulPreferenceSetAttribute"};
  Function<int(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
               cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
               cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t *, int *)>
      cublasLtMatmulAlgoGetHeuristic{*this, "cublasLtMatmulAlgoGetHeuristic"};
  Function<int(cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *,
               cublasLtMatrixLayout_t, const void *, cublasLtMatrixLayout_t, const void *,
               const void *, cublasLtMatrixLayout_t, void *, cublasLtMatrixLayout_t,
               const cublasLtMatmulAlgo_t *, void *, size_t, CUstream)>
      cublasLtMatmul{*this, "cublasLtMatmul"};
};

/// Loaded by the first call; throws SHARDRT_NO_DEVICE.
const CublasLt &cublasLt();

} // namespace shardrt::cuda
