// Matrix multiplications by cuBLASLt: everything that does not depend on addresses is decided once,
// when the program is loaded.
#pragma once

#include "runtime/core/CudaProgram.h"
#include "runtime/cuda/Device.h"
#include "runtime/cuda/api/CublasLt.h"

#include <map>
#include <memory>

namespace shardrt::cuda {

/// A cuBLASLt handle and the workspace that its calls share, one after the other.
class GemmLibrary {
public:
  GemmLibrary(CUdeviceptr workspace, int64_t workspaceBytes);
  ~GemmLibrary();
  GemmLibrary(const GemmLibrary &) = delete;
  GemmLibrary &operator=(const GemmLibrary &) = delete;

  const CublasLt &api;
  cublasLtHandle_t handle = nullptr;
  void *workspace;
  size_t workspaceBytes;
};

/// cuBLASLt's matrices have contiguous columns. d with contiguous rows is its own transpose there:
/// d^T = b^T · a^T.
struct GemmView {
  int32_t operation;     // what is done to the matrix as it lies: CUBLAS_OP_N or CUBLAS_OP_T
  int64_t rows, columns; // as it lies
  int64_t leading;       // elements from column to column
};
/// How a rows × columns matrix enters, itself or (`transposed`) its transpose.
GemmView viewOf(const CudaMatrix &matrix, int64_t rows, int64_t columns, bool transposed);
/// Rows are contiguous, and do not overlap.
bool isByRows(const CudaMatrix &matrix, int64_t rows, int64_t columns);

/// Batch dimensions as one that cuBLASLt goes through, and calls for the rest.
struct GemmBatch {
  int64_t count = 1, a = 0, b = 0, d = 0; // strides in elements
  struct Offset {
    int64_t a, b, d; // elements
  };
  std::vector<Offset> calls;
  explicit GemmBatch(const CudaGemm &gemm);
};

/// The products of a program that are planned.
using GemmPlans = std::map<const CudaGemm *, std::unique_ptr<class Gemm>>;
/// Which calls a kernel makes: the others, if the library had no algorithm for one of the first.
const std::vector<CudaCall> &callsOf(const CudaKernel &kernel, const GemmPlans &plans);

class Gemm {
public:
  /// Throws SHARDRT_DEVICE_FAILED if the library cannot compute it; `kernel` is for messages.
  Gemm(const GemmLibrary &library, const CudaGemm &gemm, const std::string &kernel);
  ~Gemm();
  Gemm(const Gemm &) = delete;
  Gemm &operator=(const Gemm &) = delete;

  struct Addresses {
    CUdeviceptr a, b, c, d, bias, aux, aScale, bScale;
  };
  void enqueue(const Addresses &at, CUstream stream) const;

private:
  void describe();
  void setScales(CUdeviceptr a, CUdeviceptr b) const;
  void choose(const std::string &kernel);
  cublasLtMatrixLayout_t layoutOf(const GemmView &view, DType dtype, int64_t stride) const;
  void release() const;

  const GemmLibrary &library;
  const CudaGemm &gemm;
  GemmBatch batch;
  bool transposed; // d^T is computed
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t left = nullptr, right = nullptr, result = nullptr;
  cublasLtMatmulAlgo_t algorithm = {};
};

} // namespace shardrt::cuda
