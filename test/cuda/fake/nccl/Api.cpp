//===- Api.cpp - Libnccl.so.2: communicators, memory, registration --------===//
#include "Nccl.h"
#include <cstring>
#include <stdexcept>
#include <unistd.h>

using namespace fake;
using namespace fake::nccl;

using Handle = CommunicatorPtr *;

/// ncclConfig_t of 2.28, as far as it means something here.
struct Config {
  size_t size;
  unsigned magic, version;
  int blocking;
};

FAKE_API int ncclGetVersion(int *version) {
  return *version = int(setting("FAKE_NCCL_VERSION", 22809)), Success;
}

FAKE_API const char *ncclGetErrorString(int result) {
  static constexpr const char *texts[] = {
      "no error",
      "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
      "unhandled system error (run with NCCL_DEBUG=INFO for details)",
      "internal error - please report this issue to the NCCL developers",
      "invalid argument (run with NCCL_DEBUG=WARN for details)",
      "invalid usage (run with NCCL_DEBUG=WARN for details)",
      "remote process exited or there was a network error",
      "NCCL operation in progress"};
  return result >= 0 && result < 8 ? texts[result] : "unknown result code";
}
FAKE_API const char *ncclGetLastError(Handle) { return lastError().c_str(); }

FAKE_API int ncclGetUniqueId(UniqueId *id) {
  try {
    return *id = Segment::create(), Success;
  } catch (const std::exception &error) {
    return refuse(SystemError, error.what());
  }
}

FAKE_API int ncclCommInitRankConfig(Handle *handle, int ranks, UniqueId id, int rank,
                                    const Config *config) {
  if (ranks < 1 || rank < 0 || rank >= ranks)
    return refuse(InvalidArgument, "rank " + std::to_string(rank) + " of " + std::to_string(ranks));
  if (config && (config->magic != 0xcafebeef || config->size < sizeof(Config)))
    return refuse(InvalidArgument,
                  "ncclConfig_t argument not initialized via NCCL_CONFIG_INITIALIZER");
  if (currentDevice() < 0)
    return refuse(CudaFailed, "there is no context");
  auto made = std::make_shared<Communicator>();
  try {
    made->segment = std::make_unique<Segment>(id, unsigned(ranks));
  } catch (const std::exception &error) {
    return refuse(SystemError, error.what());
  }
  made->rank = unsigned(rank);
  made->ranks = unsigned(ranks);
  made->id = id.nonce;
  made->device = currentDevice();
  made->blocking = !config || config->blocking != 0;
  uint32_t first = 0;
  if (!made->segment->header().ranks.compare_exchange_strong(first, uint32_t(ranks)) &&
      first != uint32_t(ranks))
    return refuse(InvalidArgument, "rank " + std::to_string(rank) + " expects " +
                                       std::to_string(ranks) + " ranks, others " +
                                       std::to_string(first));
  Slot &slot = made->segment->slot(made->rank);
  slot.device = uint32_t(made->device);
  uint32_t absent = 0;
  if (!slot.present.compare_exchange_strong(absent, uint32_t(getpid())))
    return refuse(InvalidUsage, "rank " + std::to_string(rank) + " joins twice");
  *handle = new CommunicatorPtr(made);
  LogLine("communicator").add("comm", made->id).add("rank", made->rank).add("ranks", made->ranks);
  made->takeBuffers(setting("FAKE_NCCL_BUFFERS", 0));
  // Who does not block asks ncclCommGetAsyncError until all are there.
  if (!made->blocking)
    return InProgress;
  int result = made->join();
  for (; result == InProgress; result = made->join())
    usleep(200);
  return result;
}

/// Work that is not yet done counts while it is being flushed.
FAKE_API int ncclCommGetAsyncError(Handle handle, int *result) {
  Communicator &c = **handle;
  std::lock_guard<std::mutex> lock(c.mutex);
  *result = c.error ? int(c.error) : c.join();
  if (*result != Success)
    return Success;
  if (c.finalised && c.finished != c.started)
    *result = InProgress;
  else if (!c.polled)
    *result = InProgress;
  c.polled = true;
  return Success;
}

FAKE_API int ncclCommFinalize(Handle handle) {
  Communicator &c = **handle;
  c.finalised = true;
  while (c.blocking && !c.error && c.finished != c.started)
    usleep(200);
  return c.error ? int(c.error) : c.finished == c.started ? Success : InProgress;
}

FAKE_API int ncclCommDestroy(Handle handle) {
  Communicator &c = **handle;
  LogLine("destroy communicator").add("comm", c.id).add("rank", c.rank);
  // NCCL waits for what is under way.
  while (!c.error && c.finished != c.started && !currentError())
    usleep(200);
  c.releaseBuffers();
  delete handle;
  return Success;
}

FAKE_API int ncclCommAbort(Handle handle) {
  Communicator &c = **handle;
  LogLine("abort communicator").add("comm", c.id).add("rank", c.rank);
  while (setting("FAKE_NCCL_ABORT_HANGS", 0))
    pause();
  // Its operations end as the device comes to them.
  c.aborted = true;
  delete handle;
  return Success;
}

FAKE_API int ncclCommCount(Handle handle, int *count) {
  return *count = int((*handle)->ranks), Success;
}
FAKE_API int ncclCommUserRank(Handle handle, int *rank) {
  return *rank = int((*handle)->rank), Success;
}
FAKE_API int ncclCommCuDevice(Handle handle, int *device) {
  return *device = (*handle)->device, Success;
}

FAKE_API int ncclMemAlloc(void **memory, size_t bytes) {
  try {
    uint64_t address = allocate(bytes);
    *memory = reinterpret_cast<void *>(address);
    LogLine("allocate").add("address", address).add("bytes", bytes).add("nccl", uint64_t(1));
    return Success;
  } catch (...) { // The driver's error; out of memory, most likely.
    return refuse(CudaFailed, "ncclMemAlloc of " + std::to_string(bytes) + " bytes failed");
  }
}

FAKE_API int ncclMemFree(void *memory) {
  LogLine("free").add("address", memory);
  return !memory || release(reinterpret_cast<uint64_t>(memory), /*idle=*/true)
             ? Success
             : refuse(InvalidArgument, "ncclMemFree of an address that is none");
}

static int addRegistration(Communicator &c, void *buffer, size_t bytes, bool window,
                           void **handle) {
  std::lock_guard<std::mutex> lock(c.mutex);
  auto begin = reinterpret_cast<uint64_t>(buffer);
  if (window && begin % 4096)
    return refuse(InvalidArgument, "the buffer of a window is not aligned to 4096 bytes");
  try {
    deviceBytes(begin, bytes, "registered buffer");
  } catch (const std::exception &error) {
    return refuse(InvalidArgument, error.what());
  }
  uint64_t number = ++c.registrationCount;
  c.registrations.insert(number);
  *handle = reinterpret_cast<void *>(number);
  LogLine("register")
      .add("comm", c.id)
      .add("rank", c.rank)
      .add("address", begin)
      .add("bytes", bytes)
      .add("window", uint64_t(window));
  return Success;
}

static int removeRegistration(Communicator &c, void *handle) {
  std::lock_guard<std::mutex> lock(c.mutex);
  return c.registrations.erase(reinterpret_cast<uint64_t>(handle))
             ? Success
             : refuse(InvalidArgument, "a registration that is none");
}

FAKE_API int ncclCommRegister(Handle comm, void *buffer, size_t bytes, void **handle) {
  return addRegistration(**comm, buffer, bytes, false, handle);
}
FAKE_API int ncclCommDeregister(Handle comm, void *handle) {
  return removeRegistration(**comm, handle);
}
FAKE_API int ncclCommWindowRegister(Handle comm, void *buffer, size_t bytes, void **window,
                                    int flags) {
  return flags & ~1 ? refuse(InvalidArgument, "window flags " + std::to_string(flags))
                    : addRegistration(**comm, buffer, bytes, true, window);
}
FAKE_API int ncclCommWindowDeregister(Handle comm, void *window) {
  return removeRegistration(**comm, window);
}
