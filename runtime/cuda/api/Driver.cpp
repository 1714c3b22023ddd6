#include "runtime/cuda/api/Driver.h"

using namespace shardrt;
using namespace shardrt::cuda;

// The oldest with cuGraphInstantiateWithFlags's, cuStreamBeginCapture_v2's and cubins of sm_90a.
static const int oldestVersion = 12000;

Driver::Driver()
    : Library({{"libcuda.so.1"},
               "SHARDRT_LIBCUDA",
               "a bundle for cuda needs a machine with an NVIDIA GPU and its driver"}) {}

int Driver::checkedVersion() const {
  int found = 0;
  cuDriverGetVersion(&found);
  if (found < oldestVersion)
    throw Error(SHARDRT_NO_DEVICE,
                cat(file(), ": the driver is for CUDA ", found / 1000, ".", found % 1000 / 10,
                    ", this runtime needs ", oldestVersion / 1000, ".", oldestVersion % 1000 / 10,
                    " or newer"));
  return found;
}

void Driver::fail(const char *symbol, int status) const {
  const char *name = nullptr, *meaning = nullptr;
  plainFunction<int(int, const char **)>(*this, "cuGetErrorName")(status, &name);
  plainFunction<int(int, const char **)>(*this, "cuGetErrorString")(status, &meaning);
  shardrt_status code = status == CUDA_ERROR_OUT_OF_MEMORY ? SHARDRT_OUT_OF_MEMORY
                        : status == CUDA_ERROR_NO_DEVICE || status == CUDA_ERROR_STUB_LIBRARY
                            ? SHARDRT_NO_DEVICE
                            : SHARDRT_DEVICE_FAILED;
  throw Error(code, cat(symbol, ": ", name ? name : cat("error ", status),
                        meaning ? cat(" (", meaning, ")") : ""));
}

const Driver &cuda::driver() {
  static const Driver instance;
  return instance;
}
