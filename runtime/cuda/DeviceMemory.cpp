#include "runtime/cuda/DeviceMemory.h"
#include "runtime/cuda/api/Nccl.h"

#include <algorithm>

using namespace shardrt;
using namespace shardrt::cuda;

static const int64_t bounceBytes = 4 << 20;

DeviceMemory::DeviceMemory(const Device &device, CUstream stream, int64_t bytes, int64_t hostBytes,
                           bool fromNccl)
    : device(device), stream(stream), bytes(bytes) {
  Device::Usage usage = device.usage();
  if (static_cast<uint64_t>(bytes) > usage.free)
    throw Error(SHARDRT_OUT_OF_MEMORY, cat("the program needs ", bytes, " bytes of device memory, ",
                                           usage.free, " of ", usage.total, " are free on device ",
                                           device.ordinal, ", ", device.description()));
  arena.emplace(std::max<int64_t>(bytes, 1), fromNccl);
  driver().cuMemsetD8Async(arena->base, 0, std::max<int64_t>(bytes, 1), stream);
  // A session that fails to load frees the arena, and nobody says that ncclMemFree waits.
  driver().cuStreamSynchronize(stream);
  if (hostBytes) {
    host = pinnedBlock(hostBytes, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (!host)
      throw Error(SHARDRT_OUT_OF_MEMORY, cat("the program keeps ", hostBytes,
                                             " bytes of states in this machine's memory "
                                             "(--offload), which the driver cannot pin"));
  }
  for (int i = 0; i < 2; ++i)
    bounces.push_back({allocateBlock(bounceBytes), Event()});
}

DeviceMemory::Allocation::Allocation(int64_t bytes, bool fromNccl) : fromNccl(fromNccl) {
  if (fromNccl) {
    void *memory = nullptr;
    nccl().ncclMemAlloc(&memory, bytes);
    base = reinterpret_cast<CUdeviceptr>(memory);
  } else {
    driver().cuMemAlloc(&base, bytes);
  }
}

DeviceMemory::Allocation::~Allocation() {
  if (fromNccl)
    nccl().ncclMemFree.status(reinterpret_cast<void *>(base));
  else
    driver().cuMemFree.status(base);
}

void DeviceMemory::write(int64_t offset, const void *src, int64_t count) {
  device.use();
  if (std::byte *place = hostPlace(offset)) {
    driver().cuStreamSynchronize(stream);
    std::memcpy(place, src, count);
    return;
  }
  const std::byte *from = static_cast<const std::byte *>(src);
  for (int64_t at = 0, i = 0; at < count; at += bounceBytes, ++i) {
    const Bounce &bounce = bounces[i % bounces.size()];
    int64_t piece = std::min(bounceBytes, count - at);
    driver().cuEventSynchronize(bounce.free.get()); // at once, if it was never recorded
    std::memcpy(bounce.memory.get(), from + at, piece);
    driver().cuMemcpyHtoDAsync(address(offset + at), bounce.memory.get(), piece, stream);
    bounce.free.record(stream);
  }
  driver().cuStreamSynchronize(stream);
}

void DeviceMemory::read(int64_t offset, void *dst, int64_t count) const {
  device.use();
  if (const std::byte *place = hostPlace(offset)) {
    driver().cuStreamSynchronize(stream);
    std::memcpy(dst, place, count);
    return;
  }
  std::byte *to = static_cast<std::byte *>(dst);
  auto finish = [&](int64_t at, int64_t i) {
    const Bounce &bounce = bounces[i % bounces.size()];
    driver().cuEventSynchronize(bounce.free.get());
    std::memcpy(to + at, bounce.memory.get(), std::min(bounceBytes, count - at));
  };
  int64_t at = 0, i = 0;
  for (; at < count; at += bounceBytes, ++i) {
    const Bounce &bounce = bounces[i % bounces.size()];
    driver().cuMemcpyDtoHAsync(bounce.memory.get(), address(offset + at),
                               std::min(bounceBytes, count - at), stream);
    bounce.free.record(stream);
    if (i > 0)
      finish(at - bounceBytes, i - 1);
  }
  if (i > 0)
    finish(at - bounceBytes, i - 1);
}

void DeviceMemory::zero(int64_t offset, int64_t count) {
  device.use();
  if (count)
    driver().cuMemsetD8Async(address(offset), 0, count, stream);
  driver().cuStreamSynchronize(stream);
}

Memory::Block DeviceMemory::pinnedBlock(int64_t count, unsigned flags) {
  void *memory = nullptr;
  size_t size = std::max<int64_t>(count, 1);
  int status = driver().cuMemHostAlloc.status(&memory, size, flags);
  if (status == CUDA_ERROR_OUT_OF_MEMORY)
    return nullptr;
  if (status)
    driver().cuMemHostAlloc.fail(status);
  std::memset(memory, 0, size);
  return Block(static_cast<std::byte *>(memory), {[](std::byte *block) {
                 if (!blocksAreLeft)
                   driver().cuMemFreeHost.status(block);
               }});
}

Memory::Block DeviceMemory::allocateBlock(int64_t count) {
  device.use();
  Block block = pinnedBlock(count, CU_MEMHOSTALLOC_PORTABLE);
  if (!block)
    driver().cuMemHostAlloc.fail(CUDA_ERROR_OUT_OF_MEMORY);
  return block;
}

void DeviceMemory::copy(int64_t dst, int64_t src, int64_t count, CUstream on) const {
  if (!count || dst == src)
    return;
  if (const std::byte *from = hostPlace(src))
    return driver().cuMemcpyHtoDAsync(address(dst), from, count, on);
  if (std::byte *to = hostPlace(dst))
    return driver().cuMemcpyDtoHAsync(to, address(src), count, on);
  driver().cuMemcpyDtoDAsync(address(dst), address(src), count, on);
}

void DeviceMemory::startWrite(int64_t offset, const std::byte *block, int64_t count) {
  device.use();
  driver().cuMemcpyHtoDAsync(address(offset), block, count, stream);
}
