//===- Api.cpp - LibcublasLt.so.13 ----------------------------------------===//
#include "CublasLt.h"
#include <cstdlib>
#include <cstring>

using namespace fake;
using namespace fake::lt;

static constexpr uint64_t algorithmMagic = 0x66616b65626c6173;

static int refuse(const std::string &what, const std::string &why, int status) {
  complain("cublasLt: " + what + ": " + why);
  return status;
}

/// An attribute must have exactly its size.
template <class T> static int set(T &field, const void *value, size_t bytes, const char *what) {
  if (!value || bytes != sizeof(T))
    return refuse(what,
                  std::to_string(bytes) + " bytes for an attribute of " + std::to_string(sizeof(T)),
                  InvalidValue);
  std::memcpy(&field, value, sizeof(T));
  return Success;
}

FAKE_API size_t cublasLtGetVersion() { return 130100; }
FAKE_API int cublasLtCreate(void **handle) {
  if (currentDevice() < 0)
    return refuse("create", "there is no context", NotInitialized);
  *handle = new int(0);
  return Success;
}
FAKE_API int cublasLtDestroy(void *handle) { return delete static_cast<int *>(handle), Success; }

FAKE_API int cublasLtMatmulDescCreate(MatmulDesc **desc, int compute, int scale) {
  return *desc = new MatmulDesc{compute, scale}, Success;
}
FAKE_API int cublasLtMatmulDescDestroy(MatmulDesc *desc) { return delete desc, Success; }
FAKE_API int cublasLtMatmulDescSetAttribute(MatmulDesc *desc, int attribute, const void *value,
                                            size_t bytes) {
  switch (attribute) {
  case 3:
    return set(desc->transposeA, value, bytes, "TRANSA");
  case 4:
    return set(desc->transposeB, value, bytes, "TRANSB");
  case 7:
    return set(desc->epilogue, value, bytes, "EPILOGUE");
  case 8:
    return set(desc->bias, value, bytes, "BIAS_POINTER");
  case 11:
    return set(desc->aux, value, bytes, "EPILOGUE_AUX_POINTER");
  case 12:
    return set(desc->auxLeading, value, bytes, "EPILOGUE_AUX_LD");
  case 17:
    return set(desc->aScale, value, bytes, "A_SCALE_POINTER");
  case 18:
    return set(desc->bScale, value, bytes, "B_SCALE_POINTER");
  case 26:
    return set(desc->biasType, value, bytes, "BIAS_DATA_TYPE");
  default:
    return refuse("descriptor", "attribute " + std::to_string(attribute) + " is not understood",
                  InvalidValue);
  }
}

FAKE_API int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns,
                                        int64_t leading) {
  if (!bytesOf(type) || !rows || !columns)
    return refuse("layout",
                  "type " + std::to_string(type) + ", " + std::to_string(rows) + " x " +
                      std::to_string(columns),
                  InvalidValue);
  *layout = new Layout{type, rows, columns, leading};
  return Success;
}
FAKE_API int cublasLtMatrixLayoutDestroy(Layout *layout) { return delete layout, Success; }
FAKE_API int cublasLtMatrixLayoutSetAttribute(Layout *layout, int attribute, const void *value,
                                              size_t bytes) {
  switch (attribute) {
  case 1:
    return set(layout->order, value, bytes, "ORDER");
  case 5:
    return set(layout->batches, value, bytes, "BATCH_COUNT");
  case 6:
    return set(layout->batchStride, value, bytes, "STRIDED_BATCH_OFFSET");
  default:
    return refuse("layout", "attribute " + std::to_string(attribute) + " is not understood",
                  InvalidValue);
  }
}

FAKE_API int cublasLtMatmulPreferenceCreate(Preference **preference) {
  return *preference = new Preference, Success;
}
FAKE_API int cublasLtMatmulPreferenceDestroy(Preference *preference) {
  return delete preference, Success;
}
FAKE_API int cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute,
                                                  const void *value, size_t bytes) {
  if (attribute == 1)
    return set(preference->workspace, value, bytes, "MAX_WORKSPACE_BYTES");
  if (attribute >= 5 && attribute <= 8)
    return set(preference->alignment[attribute - 5], value, bytes, "MIN_ALIGNMENT");
  return refuse("preference", "attribute " + std::to_string(attribute) + " is not understood",
                InvalidValue);
}

/// Uses a little of the workspace, so that who forgets it is found.
static Algorithm choose(const Product &product, const Preference &preference) {
  Algorithm algorithm{algorithmMagic,
                      std::min<uint64_t>(preference.workspace, 1024),
                      {},
                      product.m(),
                      product.n(),
                      product.k(),
                      0};
  std::memcpy(algorithm.alignment, preference.alignment, sizeof(algorithm.alignment));
  return algorithm;
}

FAKE_API int cublasLtMatmulAlgoGetHeuristic(void *, const MatmulDesc *desc, const Layout *a,
                                            const Layout *b, const Layout *c, const Layout *d,
                                            const Preference *preference, int wanted,
                                            HeuristicResult *results, int *found) {
  Product product{*desc, *a, *b, *c, *d, 0, 0, 0, 0, 0, 0, 1, 1};
  *found = 0;
  if (wanted < 1)
    return InvalidValue;
  // A library that knows the plain epilogues only says so, which is no mistake of its caller.
  const char *known = std::getenv("FAKE_CUDA_EPILOGUES");
  if (known && std::string(known) == "plain" && desc->epilogue & (Aux | GradientA | GradientB))
    return NotSupported;
  if (auto why = refusal(product))
    return refuse("heuristic for " + product.name(), *why, NotSupported);
  for (const Layout *layout : {a, b, d})
    if (preference->alignment[layout == a ? 0 : layout == b ? 1 : 3] % bytesOf(layout->type))
      return refuse("heuristic for " + product.name(), "alignment below an element's",
                    NotSupported);
  Algorithm algorithm = choose(product, *preference);
  results[0] = {algorithm, size_t(algorithm.workspace), Success, 1.0f, {}};
  *found = 1;
  return Success;
}

FAKE_API int cublasLtMatmul(void *handle, const MatmulDesc *desc, const void *alpha, const void *a,
                            const Layout *aLayout, const void *b, const Layout *bLayout,
                            const void *beta, const void *c, const Layout *cLayout, void *d,
                            const Layout *dLayout, const Algorithm *algorithm, void *workspace,
                            size_t workspaceBytes, CUstream_st *stream) {
  auto address = [](const void *pointer) { return reinterpret_cast<uint64_t>(pointer); };
  auto scalar = [&](const void *pointer) {
    return desc->scale == F64 ? *static_cast<const double *>(pointer)
                              : double(*static_cast<const float *>(pointer));
  };
  Product product{*desc,      *aLayout,      *bLayout,    *cLayout,   *dLayout,
                  address(a), address(b),    address(c),  address(d), address(workspace),
                  0,          scalar(alpha), scalar(beta)};
  std::string what = "matmul " + product.name();
  if (!handle)
    return refuse(what, "there is no handle", NotInitialized);
  if (auto why = refusal(product))
    return refuse(what, *why, InvalidValue);
  if ((desc->epilogue & Bias || product.hasBiasGradient()) && !desc->bias)
    return refuse(what, "an epilogue with a bias, and no bias", InvalidValue);
  if (desc->epilogue & Aux && !desc->aux)
    return refuse(what, "an epilogue with an aux, and no aux", InvalidValue);
  if (desc->epilogue & Aux && desc->aux % 16)
    return refuse(what, "an aux that is not aligned to 16 bytes", InvalidValue);
  Algorithm chosen = algorithm ? *algorithm : choose(product, {workspaceBytes, {16, 16, 16, 16}});
  if (chosen.magic != algorithmMagic || chosen.m != product.m() || chosen.n != product.n() ||
      chosen.k != product.k())
    return refuse(what, "the algorithm is of another product", InvalidValue);
  if (chosen.workspace > workspaceBytes)
    return refuse(what,
                  std::to_string(workspaceBytes) + " bytes of workspace, the algorithm needs " +
                      std::to_string(chosen.workspace),
                  InvalidValue);
  const std::pair<uint64_t, uint32_t> alignments[] = {
      {product.aData, chosen.alignment[0]},
      {product.bData, chosen.alignment[1]},
      {product.beta != 0 ? product.cData : 0, chosen.alignment[2]},
      {product.dData, chosen.alignment[3]}};
  for (auto [pointer, alignment] : alignments)
    if (pointer % alignment)
      return refuse(what,
                    "an operand is not aligned to the " + std::to_string(alignment) +
                        " bytes that the algorithm was chosen for",
                    InvalidValue);
  product.workspaceBytes = chosen.workspace;
  int error = submit(stream, {"matmul", product.name(), [product] {
                                return [product](Accesses &accesses) {
                                  multiply(product, accesses);
                                  return true;
                                };
                              }});
  return error ? ExecutionFailed : Success;
}

FAKE_API const char *cublasLtGetStatusName(int status) {
  switch (status) {
  case Success:
    return "CUBLAS_STATUS_SUCCESS";
  case NotInitialized:
    return "CUBLAS_STATUS_NOT_INITIALIZED";
  case InvalidValue:
    return "CUBLAS_STATUS_INVALID_VALUE";
  case NotSupported:
    return "CUBLAS_STATUS_NOT_SUPPORTED";
  default:
    return "CUBLAS_STATUS_EXECUTION_FAILED";
  }
}
