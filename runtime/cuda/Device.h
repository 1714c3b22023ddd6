// The GPU of a rank.
#pragma once

#include "runtime/cuda/api/Driver.h"
#include <utility>

namespace shardrt::cuda {

class Device {
public:
  /// The device with the number `localRank` of this machine. `share`: ranks may have it together.
  /// Throws SHARDRT_NO_DEVICE.
  Device(int localRank, bool share);
  ~Device();
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;

  /// Calls of this thread go to this device. Every way into the backend begins with it, since
  /// callers may use a session from another thread than the one that made it.
  void use() const { driver().cuCtxSetCurrent(context); }

  /// "sm_90 (NVIDIA H200)", for messages.
  std::string description() const { return cat("sm_", arch, " (", name, ")"); }
  struct Usage {
    size_t free, total;
  };
  Usage usage() const;

  int ordinal = 0;
  std::string name;
  int arch = 0; // 90: compute capability 9.0
  int maxShared = 0;

  CUcontext handle() const { return context; }

private:
  CUdevice device = 0;
  CUcontext context = nullptr;
};

/// What the device offers its streams: work of communicators goes first, since others wait for it.
struct StreamPriorities {
  int least = 0, greatest = 0;
  StreamPriorities() { driver().cuCtxGetStreamPriorityRange(&least, &greatest); }
};

/// Destroyed in any state, also after a failure of the device.
class Stream {
public:
  explicit Stream(int priority) {
    driver().cuStreamCreateWithPriority(&handle, CU_STREAM_NON_BLOCKING, priority);
  }
  ~Stream() {
    if (handle)
      driver().cuStreamDestroy.status(handle);
  }
  Stream(Stream &&other) noexcept : handle(std::exchange(other.handle, nullptr)) {}
  Stream &operator=(Stream &&) = delete;
  CUstream get() const { return handle; }

private:
  CUstream handle = nullptr;
};

class Event {
public:
  explicit Event(bool timed = false) {
    driver().cuEventCreate(&handle, timed ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING);
  }
  ~Event() {
    if (handle)
      driver().cuEventDestroy.status(handle);
  }
  Event(Event &&other) noexcept : handle(std::exchange(other.handle, nullptr)) {}
  Event &operator=(Event &&) = delete;
  void record(CUstream stream) const { driver().cuEventRecord(handle, stream); }
  void wait(CUstream stream) const { driver().cuStreamWaitEvent(stream, handle, 0); }
  CUevent get() const { return handle; }

private:
  CUevent handle = nullptr;
};

} // namespace shardrt::cuda
