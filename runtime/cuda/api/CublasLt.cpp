#include "runtime/cuda/api/CublasLt.h"

using namespace shardrt;
using namespace shardrt::cuda;

/// The libraries of CUDA 13 need a driver of it.
static std::vector<std::string> filesFor(int driverVersion) {
  std::vector<std::string> files = {"libcublasLt.so.12"};
  if (driverVersion >= 13000)
    files.insert(files.begin(), "libcublasLt.so.13");
  return files;
}

CublasLt::CublasLt(int driverVersion)
    : Library(
          {filesFor(driverVersion), "SHARDRT_CUBLASLT",
           driverVersion >= 13000
               ? "matrix multiplications are cuBLASLt's: install it (PyPI: nvidia-cublas) and "
                 "put its folder into LD_LIBRARY_PATH"
               : "matrix multiplications are cuBLASLt's, and the driver is for CUDA 12: install "
                 "it (PyPI: nvidia-cublas-cu12) and put its folder into LD_LIBRARY_PATH"}) {}

void CublasLt::fail(const char *symbol, int status) const {
  const char *meaning = "unknown status";
  switch (status) {
  case 1:
    meaning = "not initialized";
    break;
  case 3:
    meaning = "allocation failed";
    break;
  case 7:
    meaning = "invalid value";
    break;
  case 8:
    meaning = "architecture mismatch";
    break;
  case 13:
    meaning = "execution failed";
    break;
  case 14:
    meaning = "internal error";
    break;
  case 15:
    meaning = "not supported";
    break;
  default:
    break;
  }
  throw Error(status == 3 ? SHARDRT_OUT_OF_MEMORY : SHARDRT_DEVICE_FAILED,
              cat(symbol, ": status ", status, " (", meaning, ")"));
}

const CublasLt &cuda::cublasLt() {
  static const CublasLt instance(driver().version);
  return instance;
}
