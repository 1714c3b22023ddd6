// A session's arena on a GPU.
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
  DeviceMemory(const Device &device, CUstream stream, int64_t bytes, bool fromNccl);

  CUdeviceptr address(int64_t offset) const { return arena->base + offset; }
  int64_t size() const { return bytes; }

  std::byte *hostAddress() const override { return nullptr; }
  void read(int64_t offset, void *dst, int64_t bytes) const override;
  void write(int64_t offset, const void *src, int64_t bytes) override;
  void zero(int64_t offset, int64_t bytes) override;
  Block allocateBlock(int64_t bytes) override;
  void startWrite(int64_t offset, const std::byte *block, int64_t bytes) override;
  /// From now on blocks of this process are not freed: that would wait for a stuck device.
  static void leaveBlocks() { blocksAreLeft = true; }

private:
  inline static std::atomic<bool> blocksAreLeft = false;
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
  /// What goes to or comes from ordinary memory passes through these, one being filled while the
  /// other is on its way.
  struct Bounce {
    Block memory;
    Event free;
  };
  std::vector<Bounce> bounces;
};

} // namespace shardrt::cuda
