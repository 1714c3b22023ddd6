//===- ApiDevice.cpp - Initialisation, devices, contexts, errors ----------===//
//
//   FAKE_CUDA_DEVICES (8)              how many there are; 0: none
//   FAKE_CUDA_ARCH (80)                compute capability of all of them
//   FAKE_CUDA_DRIVER_VERSION (13000)   what cuDriverGetVersion says
//   FAKE_CUDA_MEMORY (1 GiB)           bytes of each device
//   FAKE_CUDA_PINNED (any)             bytes of the machine's memory that a process can pin
//   FAKE_CUDA_SEED (0)                 order of what is not ordered; 0: as the host asked
//
//===----------------------------------------------------------------------===//
#include "Driver.h"
#include <cstdio>
#include <cstring>

namespace fake {

DriverState &state() {
  static auto *instance = new DriverState;
  return *instance;
}

static thread_local Device *currentContext = nullptr;

Device &current(bool evenIfFailed) {
  if (!state().initialised)
    throw CudaError{NotInitialized};
  if (!currentContext || !currentContext->retained)
    throw CudaError{InvalidContext};
  if (currentContext->error && !evenIfFailed)
    throw CudaError{currentContext->error};
  return *currentContext;
}

void setCurrent(Device *device) { currentContext = device; }

int currentDevice() { return currentContext ? currentContext->number : -1; }
int currentError() { return currentContext ? currentContext->error : InvalidContext; }

static Device &deviceNumber(int number) {
  if (!state().initialised)
    throw CudaError{NotInitialized};
  if (number < 0 || size_t(number) >= state().devices.size())
    throw CudaError{InvalidDevice};
  return state().devices[size_t(number)];
}

static void makeDevices() {
  DriverState &driver = state();
  driver.version = int(setting("FAKE_CUDA_DRIVER_VERSION", 13000));
  driver.arch = int(setting("FAKE_CUDA_ARCH", 80));
  driver.mostPinned = setting("FAKE_CUDA_PINNED", UINT64_MAX);
  uint64_t seed = setting("FAKE_CUDA_SEED", 0);
  for (uint64_t number = 0; number < setting("FAKE_CUDA_DEVICES", 8); ++number) {
    Device &device = driver.devices.emplace_back();
    device.number = int(number);
    device.total = setting("FAKE_CUDA_MEMORY", uint64_t(1) << 30);
    device.random.seed(seed * 1000 + number);
    device.inOrder = seed == 0;
    device.nullStream.lane = makeLane(device);
    device.nullStream.blocking = false; // It is what blocking streams wait for.
    device.lanes.push_back(&device.nullStream.lane);
  }
}

/// Attributes by their number in cuda.h.
static int attribute(int which) {
  switch (which) {
  case 1:
    return 1024; // threads of a block
  case 2:
  case 3:
    return 1024; // block dimensions
  case 4:
    return 64;
  case 5:
    return 0x7fffffff; // grid dimensions
  case 6:
  case 7:
    return 65535;
  case 8:
    return 48 << 10; // shared memory of a block
  case 10:
    return 32; // warp
  case 12:
    return 65536; // registers of a block
  case 16:
    return 108; // multiprocessors
  case 39:
    return 2048; // threads of a multiprocessor
  case 41:
    return 1; // unified addressing
  case 75:
    return state().arch / 10; // compute capability
  case 76:
    return state().arch % 10;
  case 81:
    return 164 << 10; // shared memory of a multiprocessor
  case 97:
    return 163 << 10; // shared memory of a block that asks for it
  default:
    throw CudaError{InvalidValue};
  }
}

} // namespace fake

using namespace fake;

FAKE_API int cuInit(unsigned flags) {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    if (flags)
      return InvalidValue;
    if (!state().initialised)
      makeDevices();
    state().initialised = !state().devices.empty();
    return state().initialised ? Success : NoDevice;
  });
}

FAKE_API int cuDriverGetVersion(int *version) {
  *version = int(setting("FAKE_CUDA_DRIVER_VERSION", 13000));
  return Success;
}

FAKE_API int cuDeviceGetCount(int *count) {
  return guarded([&] {
    return state().initialised ? (*count = int(state().devices.size()), Success) : NotInitialized;
  });
}

FAKE_API int cuDeviceGet(int *device, int number) {
  return guarded([&] { return *device = deviceNumber(number).number, Success; });
}

FAKE_API int cuDeviceGetName(char *name, int bytes, int device) {
  return guarded([&] {
    return std::snprintf(name, size_t(bytes), "Fake GPU %d", deviceNumber(device).number), Success;
  });
}

FAKE_API int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  return guarded([&] { return *bytes = deviceNumber(device).total, Success; });
}

FAKE_API int cuDeviceGetPCIBusId(char *text, int bytes, int device) {
  return guarded([&] {
    return std::snprintf(text, size_t(bytes), "0000:%02x:00.0", deviceNumber(device).number + 1),
           Success;
  });
}

FAKE_API int cuDeviceGetAttribute(int *value, int which, int device) {
  return guarded([&] { return deviceNumber(device), *value = attribute(which), Success; });
}

FAKE_API int cuDevicePrimaryCtxRetain(Device **context, int number) {
  return guarded([&] {
    Lock lock(state().mutex);
    Device &device = deviceNumber(number);
    static std::map<int, bool> started;
    if (!started[number])
      startDevice(device);
    started[number] = true;
    ++device.retained;
    *context = &device;
    return Success;
  });
}

FAKE_API int cuDevicePrimaryCtxRelease_v2(int number) {
  return guarded([&] {
    Lock lock(state().mutex);
    Device &device = deviceNumber(number);
    if (!device.retained)
      return InvalidContext;
    --device.retained;
    return Success;
  });
}

FAKE_API int cuCtxSetCurrent(Device *context) {
  setCurrent(context);
  return Success;
}

FAKE_API int cuCtxGetCurrent(Device **context) {
  *context = currentContext;
  return Success;
}

FAKE_API int cuCtxGetDevice(int *device) {
  return guarded([&] { return *device = current(true).number, Success; });
}

FAKE_API int cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  return guarded([&] {
    current();
    if (least)
      *least = 0;
    if (greatest)
      *greatest = -5;
    return Success;
  });
}

FAKE_API int cuCtxSynchronize() {
  return guarded([&]() -> int {
    Lock lock(state().mutex);
    Device &device = current();
    LogLine("synchronize").add("what", "context");
    for (size_t lane = 0; lane < device.lanes.size(); ++lane)
      if (int error = waitFor(lock, device, device.lanes[lane]->last))
        return error;
    return Success;
  });
}

namespace {
struct ErrorName {
  int code;
  const char *name, *meaning;
};
constexpr ErrorName errorNames[] = {
    {Success, "CUDA_SUCCESS", "no error"},
    {InvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {InvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {InvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {InvalidPtx, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {UnsupportedPtxVersion, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {InvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {IllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LaunchOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {LaunchFailed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CaptureMerge, "CUDA_ERROR_STREAM_CAPTURE_MERGE",
     "operation would result in a merge of separate capture sequences"},
    {CaptureUnmatched, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {CaptureUnjoined, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {CaptureIsolation, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CapturedEvent, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"}};
} // namespace

static int describe(int code, const char **text, const char *ErrorName::*member) {
  for (const ErrorName &error : errorNames)
    if (error.code == code)
      return *text = error.*member, Success;
  *text = nullptr;
  return InvalidValue;
}

FAKE_API int cuGetErrorName(int code, const char **text) {
  return describe(code, text, &ErrorName::name);
}
FAKE_API int cuGetErrorString(int code, const char **text) {
  return describe(code, text, &ErrorName::meaning);
}
