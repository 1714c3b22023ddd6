// A session's arena on a GPU, and behind it, in the same space of offsets, what the program keeps in
// this machine's memory.
#pragma once

#include "runtime/core/Memory.h"
#include "runtime/cuda/Device.h"
#include <atomic>
#include <optional>

namespace shardrt::cuda {

class DeviceMemory : public Memory {
public:
  /// Throws SHARDRT_OUT_OF_MEMORY before anything is taken if the device has less than `bytes`
  /// free. Work is ordered on `stream`. `fromNccl`: allocated so that NCCL can register it.
  DeviceMemory(const Device &device, CUstream stream, int64_t bytes, int64_t hostBytes,
               bool fromNccl);

  /// Of host memory too: it is mapped, and with unified addresses the device knows it by the same one.
  CUdeviceptr address(int64_t offset) const {
    std::byte *onHost = hostPlace(offset);
    return onHost ? reinterpret_cast<CUdeviceptr>(onHost) : arena->base + offset;
  }
  /// Null for what is on the device.
  std::byte *hostPlace(int64_t offset) const {
    return host && offset >= bytes ? host.get() + (offset - bytes) : nullptr;
  }
  int64_t size() const { return bytes; }

  std::byte *hostAddress() const override { return nullptr; }
  void read(int64_t offset, void *dst, int64_t bytes) const override;
  void write(int64_t offset, const void *src, int64_t bytes) override;
  void zero(int64_t offset, int64_t bytes) override;
  Block allocateBlock(int64_t bytes) override;
  void startWrite(int64_t offset, const std::byte *block, int64_t bytes) override;
  /// dst = src, on a stream; from one memory to the other, or on the device.
  void copy(int64_t dst, int64_t src, int64_t bytes, CUstream stream) const;
  /// From now on blocks of this process are not freed: that would wait for a stuck device.
  static void leaveBlocks() { blocksAreLeft = true; }

private:
  inline static std::atomic<bool> blocksAreLeft = false;
  /// Zeros; null: there is not so much.
  static Block pinnedBlock(int64_t bytes, unsigned flags);
  struct Allocation {
    Allocation(int64_t bytes, bool fromNccl);
    ~Allocation();
    Allocation(const Allocation &) = delete;
    Allocation &operator=(const Allocation &) = delete;
    bool fromNccl;
    CUdeviceptr base = 0;
  };
  const Device &device;
  CUstream stream;
  int64_t bytes;
  std::optional<Allocation> arena;
  Block host; // pinned; null: the program has none
  /// What goes to or comes from ordinary memory passes through these, one being filled while the
  /// other is on its way.
  struct Bounce {
    Block memory;
    Event free;
  };
  std::vector<Bounce> bounces;
};

} // namespace shardrt::cuda
