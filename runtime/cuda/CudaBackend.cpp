#include "runtime/core/Backend.h"
using namespace shardrt;
std::unique_ptr<Backend> shardrt::createCudaBackend(const Bundle &, Progress &, Exchange &,
                                                    const SessionOptions &) {
  throw Error(SHARDRT_NO_DEVICE, "none");
}
