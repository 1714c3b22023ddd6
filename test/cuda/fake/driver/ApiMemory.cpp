//===- ApiMemory.cpp - Memory, copies, memset -----------------------------===//
#include "Driver.h"
#include <cstring>
#include <stdexcept>

namespace fake {
namespace {

/// One side of a copy: `rows` of `width` bytes, `pitch` apart.
struct Side {
  bool device;
  uint64_t address, pitch;
  std::shared_ptr<std::vector<uint8_t>> snapshot =
      nullptr; // of pageable memory, which is read when the host asks
};

uint64_t extent(const Side &side, uint64_t width, uint64_t rows) {
  return (rows - 1) * side.pitch + width;
}

uint8_t *locate(const Side &side, uint64_t width, uint64_t rows, const char *what) {
  if (side.snapshot)
    return side.snapshot->data();
  return side.device ? reachableBytes(side.address, extent(side, width, rows), what)
                     : reinterpret_cast<uint8_t *>(side.address);
}

void addRows(std::vector<Range> &ranges, const Side &side, uint64_t width, uint64_t rows) {
  if (side.snapshot)
    return;
  if (side.pitch == width)
    return ranges.push_back({side.address, side.address + width * rows});
  for (uint64_t row = 0; row < rows; ++row)
    ranges.push_back({side.address + row * side.pitch, side.address + row * side.pitch + width});
}

/// A copy with a pageable target is over when the call returns.
int copy(const char *name, Side from, Side to, uint64_t width, uint64_t rows, CUstream_st *handle,
         bool wait) {
  if (!width || !rows)
    return Success;
  Lock lock(state().mutex);
  Device &device = current();
  Stream &stream = streamOf(handle, device);
  bool pageableSource = !from.device && !findAllocation(from.address).bytes,
       pageableTarget = !to.device && !findAllocation(to.address).bytes;
  if (stream.capture && (pageableSource || pageableTarget)) {
    complain(std::string(name) + ": pageable host memory in a captured copy");
    return CaptureUnsupported;
  }
  if (pageableSource) {
    auto bytes = reinterpret_cast<const uint8_t *>(from.address);
    from.snapshot =
        std::make_shared<std::vector<uint8_t>>(bytes, bytes + extent(from, width, rows));
  }
  Operation operation{"copy", name, [=] {
                        return [=](Accesses &accesses) {
                          const uint8_t *source = locate(from, width, rows, "source of a copy");
                          uint8_t *target = locate(to, width, rows, "target of a copy");
                          for (uint64_t row = 0; row < rows; ++row)
                            std::memmove(target + row * to.pitch, source + row * from.pitch, width);
                          addRows(accesses.reads, from, width, rows);
                          addRows(accesses.writes, to, width, rows);
                          return true;
                        };
                      }};
  lock.unlock();
  if (int error = submit(handle, operation))
    return error;
  lock.lock();
  return wait || pageableTarget ? waitFor(lock, device, stream.lane.last) : Success;
}

int fill(const char *name, uint64_t address, uint64_t pitch, uint64_t width, uint64_t rows,
         unsigned char value, CUstream_st *stream) {
  if (!width || !rows)
    return Success;
  Side side{true, address, pitch};
  return submit(stream, {"memset", name, [=] {
                           return [=](Accesses &accesses) {
                             uint8_t *target = locate(side, width, rows, "target of a memset");
                             for (uint64_t row = 0; row < rows; ++row)
                               std::memset(target + row * pitch, value, width);
                             addRows(accesses.writes, side, width, rows);
                             return true;
                           };
                         }});
}

/// CUDA_MEMCPY2D of cuda.h.
struct Copy2D {
  size_t sourceX, sourceY;
  int sourceType;
  const void *sourceHost;
  uint64_t sourceDevice;
  void *sourceArray;
  size_t sourcePitch;
  size_t targetX, targetY;
  int targetType;
  void *targetHost;
  uint64_t targetDevice;
  void *targetArray;
  size_t targetPitch;
  size_t width, height;
};

Side sideOf(int type, const void *host, uint64_t device, size_t x, size_t y, size_t pitch,
            size_t width) {
  constexpr int hostType = 1, deviceType = 2;
  if ((type != hostType && type != deviceType) || (pitch && pitch < width))
    throw CudaError{InvalidValue};
  pitch = pitch ? pitch : width;
  return {type == deviceType,
          (type == deviceType ? device : reinterpret_cast<uint64_t>(host)) + y * pitch + x, pitch};
}

uint64_t number(const void *pointer) { return reinterpret_cast<uint64_t>(pointer); }

} // namespace
} // namespace fake

using namespace fake;

FAKE_API int cuMemGetInfo_v2(size_t *available, size_t *total) {
  return guarded([&] {
    Device &device = current();
    *total = device.total;
    *available = device.total - device.used;
    return Success;
  });
}

FAKE_API int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  return guarded([&] {
    *address = allocateOn(current(), bytes);
    LogLine("allocate").add("address", *address).add("bytes", bytes);
    return Success;
  });
}

FAKE_API int cuMemFree_v2(uint64_t address) {
  return guarded([&]() -> int {
    if (!address)
      return Success;
    Allocation found = findAllocation(address);
    if (!found.device || found.begin != address)
      return InvalidValue;
    release(address);
    LogLine("free").add("address", address);
    return Success;
  });
}

FAKE_API int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
  return guarded([&] {
    if (flags & ~7u)
      return InvalidValue;
    *memory = reinterpret_cast<void *>((current(), allocatePinned(bytes, flags & 2)));
    LogLine("allocate")
        .add("address", *memory)
        .add("bytes", bytes)
        .add("pinned", uint64_t(1))
        .add("mapped", uint64_t(bool(flags & 2)));
    return Success;
  });
}

FAKE_API int cuMemFreeHost(void *memory) {
  return guarded([&] {
    Allocation found = findAllocation(number(memory));
    if (found.device || found.begin != number(memory) || !release(found.begin))
      return InvalidValue;
    LogLine("free").add("address", memory);
    return Success;
  });
}

FAKE_API int cuMemcpyHtoDAsync_v2(uint64_t target, const void *source, size_t bytes,
                                  CUstream_st *stream) {
  return guarded([&] {
    return copy("host to device", {false, number(source), bytes}, {true, target, bytes}, bytes, 1,
                stream, false);
  });
}
FAKE_API int cuMemcpyDtoHAsync_v2(void *target, uint64_t source, size_t bytes,
                                  CUstream_st *stream) {
  return guarded([&] {
    return copy("device to host", {true, source, bytes}, {false, number(target), bytes}, bytes, 1,
                stream, false);
  });
}
FAKE_API int cuMemcpyDtoDAsync_v2(uint64_t target, uint64_t source, size_t bytes,
                                  CUstream_st *stream) {
  return guarded([&] {
    return copy("device to device", {true, source, bytes}, {true, target, bytes}, bytes, 1, stream,
                false);
  });
}
FAKE_API int cuMemcpyHtoD_v2(uint64_t target, const void *source, size_t bytes) {
  return guarded([&] {
    return copy("host to device", {false, number(source), bytes}, {true, target, bytes}, bytes, 1,
                nullptr, true);
  });
}
FAKE_API int cuMemcpyDtoH_v2(void *target, uint64_t source, size_t bytes) {
  return guarded([&] {
    return copy("device to host", {true, source, bytes}, {false, number(target), bytes}, bytes, 1,
                nullptr, true);
  });
}

FAKE_API int cuMemcpy2DAsync_v2(const Copy2D *what, CUstream_st *stream) {
  return guarded([&] {
    Side from = sideOf(what->sourceType, what->sourceHost, what->sourceDevice, what->sourceX,
                       what->sourceY, what->sourcePitch, what->width);
    Side to = sideOf(what->targetType, what->targetHost, what->targetDevice, what->targetX,
                     what->targetY, what->targetPitch, what->width);
    return copy("rows", from, to, what->width, what->height, stream, false);
  });
}

FAKE_API int cuMemsetD8Async(uint64_t address, unsigned char value, size_t count,
                             CUstream_st *stream) {
  return guarded([&] { return fill("bytes", address, count, count, 1, value, stream); });
}
/// The host may look at the word at any time: no race.
FAKE_API int cuStreamWriteValue32_v2(CUstream_st *stream, uint64_t address, unsigned value,
                                     unsigned flags) {
  return guarded([&]() -> int {
    if (flags || address % 4)
      return InvalidValue;
    return submit(
        stream, {"write value", "word", [=] {
                   return [=](Accesses &) {
                     uint8_t *word = reachableBytes(address, 4, "target of a written value");
                     __atomic_store_n(reinterpret_cast<unsigned *>(word), value, __ATOMIC_RELEASE);
                     return true;
                   };
                 }});
  });
}
FAKE_API int cuMemsetD2D8Async(uint64_t address, size_t pitch, unsigned char value, size_t width,
                               size_t height, CUstream_st *stream) {
  return guarded([&] {
    return pitch < width && height > 1 ? InvalidValue
                                       : fill("rows", address, pitch, width, height, value, stream);
  });
}
