#include "runtime/cuda/Gemm.h"

#include <algorithm>

using namespace shardrt;
using namespace shardrt::cuda;

GemmLibrary::GemmLibrary(CUdeviceptr workspace, int64_t workspaceBytes)
    : api(cublasLt()), workspace(reinterpret_cast<void *>(workspace)),
      workspaceBytes(workspaceBytes) {
  api.cublasLtCreate(&handle);
}

GemmLibrary::~GemmLibrary() { api.cublasLtDestroy.status(handle); }

bool cuda::isByRows(const CudaMatrix &matrix, int64_t rows, int64_t columns) {
  return (matrix.column == 1 || columns == 1) && (rows == 1 || matrix.row >= columns);
}

GemmView cuda::viewOf(const CudaMatrix &matrix, int64_t rows, int64_t columns, bool transposed) {
  if (isByRows(matrix, rows, columns)) // the transpose, as it lies
    return {transposed ? CUBLAS_OP_N : CUBLAS_OP_T, columns, rows, std::max(matrix.row, columns)};
  return {transposed ? CUBLAS_OP_T : CUBLAS_OP_N, rows, columns, std::max(matrix.column, rows)};
}

GemmBatch::GemmBatch(const CudaGemm &gemm) : calls{{0, 0, 0}} {
  for (size_t i = gemm.batch.size(); i-- > 0;) {
    int64_t size = gemm.batch[i], sa = gemm.a.batch[i], sb = gemm.b.batch[i], sd = gemm.d.batch[i];
    if (size == 1)
      continue;
    bool follows = sa == a * count && sb == b * count && sd == d * count;
    if (count == 1 || follows) {
      if (count == 1) {
        a = sa;
        b = sb;
        d = sd;
      }
      count *= size;
      continue;
    }
    std::vector<Offset> inner = std::exchange(calls, {});
    for (int64_t j = 0; j < size; ++j)
      for (const Offset &offset : inner)
        calls.push_back({j * sa + offset.a, j * sb + offset.b, j * sd + offset.d});
  }
}

static int dataType(DType dtype) {
  switch (dtype) {
  case SHARDRT_F64:
    return CUDA_R_64F;
  case SHARDRT_F16:
    return CUDA_R_16F;
  case SHARDRT_BF16:
    return CUDA_R_16BF;
  case SHARDRT_F8E4M3FN:
    return CUDA_R_8F_E4M3;
  case SHARDRT_F8E5M2:
    return CUDA_R_8F_E5M2;
  default:
    return CUDA_R_32F;
  }
}

const std::vector<CudaCall> &cuda::callsOf(const CudaKernel &kernel, const GemmPlans &plans) {
  for (const CudaCall &call : kernel.calls)
    if (const CudaGemm *gemm = std::get_if<CudaGemm>(&call); gemm && !plans.count(gemm))
      return kernel.otherwise;
  return kernel.calls;
}

Gemm::Gemm(const GemmLibrary &library, const CudaGemm &gemm, const std::string &kernel)
    : library(library), gemm(gemm), batch(gemm), transposed(isByRows(gemm.d, gemm.m, gemm.n)) {
  try {
    describe();
    choose(kernel);
  } catch (...) {
    release();
    throw;
  }
}

Gemm::~Gemm() { release(); }

void Gemm::release() const {
  for (cublasLtMatrixLayout_t layout : {left, right, result})
    if (layout)
      library.api.cublasLtMatrixLayoutDestroy.status(layout);
  if (operation)
    library.api.cublasLtMatmulDescDestroy.status(operation);
}

cublasLtMatrixLayout_t Gemm::layoutOf(const GemmView &view, DType dtype, int64_t stride) const {
  cublasLtMatrixLayout_t layout = nullptr;
  library.api.cublasLtMatrixLayoutCreate(&layout, dataType(dtype), view.rows, view.columns,
                                         view.leading);
  int32_t count = static_cast<int32_t>(batch.count);
  auto set = library.api.cublasLtMatrixLayoutSetAttribute;
  set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count));
  set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride));
  return layout;
}

void Gemm::describe() {
  const CublasLt &api = library.api;
  bool wide = gemm.compute == CudaCompute::F64;
  api.cublasLtMatmulDescCreate(&operation,
                               wide                                ? CUBLAS_COMPUTE_64F
                               : gemm.compute == CudaCompute::Tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                   : CUBLAS_COMPUTE_32F,
                               wide ? CUDA_R_64F : CUDA_R_32F);
  GemmView a = viewOf(gemm.a, gemm.m, gemm.k, transposed),
           b = viewOf(gemm.b, gemm.k, gemm.n, transposed),
           d = viewOf(gemm.d, gemm.m, gemm.n, transposed);
  auto set = api.cublasLtMatmulDescSetAttribute;
  const GemmView &first = transposed ? b : a, &second = transposed ? a : b;
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, &first.operation, sizeof(first.operation));
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, &second.operation, sizeof(second.operation));
  uint32_t epilogue = gemm.activation == CudaGemm::Relu   ? CUBLASLT_EPILOGUE_RELU
                      : gemm.activation == CudaGemm::Gelu ? CUBLASLT_EPILOGUE_GELU
                                                          : 0;
  if (gemm.aux)
    epilogue |= CUBLASLT_EPILOGUE_AUX;
  if (gemm.biasUse != CudaGemm::Added) // the library's first factor is b if d is transposed
    epilogue = (gemm.biasUse == CudaGemm::SumsOfA) != transposed ? CUBLASLT_EPILOGUE_BGRADA
                                                                 : CUBLASLT_EPILOGUE_BGRADB;
  else if (gemm.bias)
    epilogue |= CUBLASLT_EPILOGUE_BIAS;
  if (epilogue == 0)
    epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
  if (gemm.bias) {
    int32_t type = dataType(gemm.d.dtype);
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof(type));
    // Any aligned address, until there is one: what may be chosen can depend on it.
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &library.workspace,
        sizeof(library.workspace));
  }
  // Any address here too.
  setScales(reinterpret_cast<CUdeviceptr>(library.workspace),
            reinterpret_cast<CUdeviceptr>(library.workspace));
  if (gemm.aux) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &library.workspace,
        sizeof(library.workspace));
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &d.leading, sizeof(d.leading));
  }
  left = transposed ? layoutOf(b, gemm.b.dtype, batch.b) : layoutOf(a, gemm.a.dtype, batch.a);
  right = transposed ? layoutOf(a, gemm.a.dtype, batch.a) : layoutOf(b, gemm.b.dtype, batch.b);
  result = layoutOf(d, gemm.d.dtype, batch.d);
}

void Gemm::setScales(CUdeviceptr a, CUdeviceptr b) const {
  auto set = [&](const CudaMatrix &matrix, int attribute, CUdeviceptr address) {
    if (matrix.scale)
      library.api.cublasLtMatmulDescSetAttribute(operation, attribute, &address, sizeof(address));
  };
  set(gemm.a,
      transposed ? CUBLASLT_MATMUL_DESC_B_SCALE_POINTER : CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, a);
  set(gemm.b,
      transposed ? CUBLASLT_MATMUL_DESC_A_SCALE_POINTER : CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, b);
}

/// What all addresses that a matrix is called with are a multiple of: buffers begin at multiples
/// of 64, more than 16 makes no difference to the library.
static uint32_t alignmentOf(const std::vector<GemmBatch::Offset> &calls,
                            int64_t GemmBatch::Offset::*member, DType dtype) {
  int64_t alignment = 16;
  for (const GemmBatch::Offset &offset : calls)
    while (offset.*member * dtypeSize(dtype) % alignment)
      alignment /= 2;
  return static_cast<uint32_t>(alignment);
}

void Gemm::choose(const std::string &kernel) {
  const CublasLt &api = library.api;
  cublasLtMatmulPreference_t preference = nullptr;
  api.cublasLtMatmulPreferenceCreate(&preference);
  auto set = [&](int attribute, auto value) {
    api.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
  };
  uint32_t a = alignmentOf(batch.calls, &GemmBatch::Offset::a, gemm.a.dtype),
           b = alignmentOf(batch.calls, &GemmBatch::Offset::b, gemm.b.dtype),
           d = alignmentOf(batch.calls, &GemmBatch::Offset::d, gemm.d.dtype);
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(library.workspaceBytes));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, transposed ? b : a);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, transposed ? a : b);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d);
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  int status = api.cublasLtMatmulAlgoGetHeuristic.status(
      library.handle, operation, left, right, result, result, preference, 1, &found, &count);
  api.cublasLtMatmulPreferenceDestroy.status(preference);
  if (status != 0 || count == 0 || found.state != 0)
    throw Error(SHARDRT_DEVICE_FAILED,
                cat(api.file(), ": kernel \"", kernel, "\": no algorithm for ",
                    dtypeName(gemm.a.dtype), " ", gemm.m, " x ", gemm.k, " by ",
                    dtypeName(gemm.b.dtype), " ", gemm.k, " x ", gemm.n, " to ",
                    dtypeName(gemm.d.dtype), " with ", library.workspaceBytes,
                    " bytes of workspace (status ", status ? status : found.state, ")"));
  algorithm = found.algo;
}

void Gemm::enqueue(const Addresses &at, CUstream stream) const {
  const CublasLt &api = library.api;
  if (gemm.bias)
    api.cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at.bias,
                                       sizeof(at.bias));
  setScales(at.aScale, at.bScale);
  if (gemm.aux)
    api.cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
                                       &at.aux, sizeof(at.aux));
  static const float one = 1, zero = 0;
  static const double wideOne = 1, wideZero = 0;
  bool wide = gemm.compute == CudaCompute::F64;
  const void *alpha = wide ? static_cast<const void *>(&wideOne) : &one;
  const void *beta = gemm.c ? alpha : wide ? static_cast<const void *>(&wideZero) : &zero;
  for (const GemmBatch::Offset &offset : batch.calls) {
    const void *a = reinterpret_cast<const void *>(at.a + offset.a * dtypeSize(gemm.a.dtype)),
               *b = reinterpret_cast<const void *>(at.b + offset.b * dtypeSize(gemm.b.dtype));
    const void *c = reinterpret_cast<const void *>(at.c + offset.d * dtypeSize(gemm.d.dtype));
    void *d = reinterpret_cast<void *>(at.d + offset.d * dtypeSize(gemm.d.dtype));
    api.cublasLtMatmul(library.handle, operation, alpha, transposed ? b : a, left,
                       transposed ? a : b, right, beta, gemm.c ? c : d, result, d, result,
                       &algorithm, library.workspace, library.workspaceBytes, stream);
  }
}
