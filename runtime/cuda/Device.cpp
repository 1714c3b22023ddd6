#include "runtime/cuda/Device.h"

#include <cstdlib>

using namespace shardrt;
using namespace shardrt::cuda;

static int chooseOrdinal(int localRank, int count, bool share) {
  if (localRank < count)
    return localRank;
  const char *visible = std::getenv("CUDA_VISIBLE_DEVICES");
  // A launcher that shows each of its tasks only the task's own device.
  bool isOwn = count == 1 && visible && *visible;
  if (share || isOwn)
    return localRank % count;
  throw Error(SHARDRT_NO_DEVICE,
              cat("local rank ", localRank, " has no GPU of its own, this machine shows ", count,
                  visible ? cat(" (CUDA_VISIBLE_DEVICES is \"", visible, "\")") : "",
                  "; --share-device lets ranks have one together, to test"));
}

Device::Device(int localRank, bool share) {
  const Driver &api = driver();
  api.cuInit(0);
  int count = 0, major = 0, minor = 0;
  api.cuDeviceGetCount(&count);
  if (count == 0)
    throw Error(SHARDRT_NO_DEVICE, "the driver shows no GPU on this machine");
  ordinal = chooseOrdinal(localRank, count, share);
  api.cuDeviceGet(&device, ordinal);
  char text[256] = {};
  api.cuDeviceGetName(text, sizeof(text) - 1, device);
  name = text;
  api.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
  api.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
  arch = major * 10 + minor;
  api.cuDeviceGetAttribute(&maxShared, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
                           device);
  api.cuDevicePrimaryCtxRetain(&context, device);
  use();
}

Device::~Device() { driver().cuDevicePrimaryCtxRelease.status(device); }

Device::Usage Device::usage() const {
  use();
  Usage usage = {};
  driver().cuMemGetInfo(&usage.free, &usage.total);
  return usage;
}
