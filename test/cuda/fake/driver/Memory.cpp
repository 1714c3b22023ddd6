//===- Memory.cpp - Device memory -----------------------------------------===//
//
// A device address is reserved, but cannot be touched by the host: the bytes lie elsewhere. New
// memory is filled with a pattern that is no number in any float type.
//
//===----------------------------------------------------------------------===//
#include "Driver.h"
#include <cstring>
#include <stdexcept>
#include <sys/mman.h>

namespace fake {

static constexpr uint64_t pageBytes = 4096, guardBytes = 1 << 21;

static void *map(size_t bytes, int protection) {
  void *address =
      mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED)
    throw CudaError{OutOfMemory};
  return address;
}

uint64_t allocateOn(Device &device, uint64_t bytes) {
  DriverState &driver = state();
  std::lock_guard<std::mutex> lock(driver.memoryMutex);
  if (!bytes)
    throw CudaError{InvalidValue};
  // Drivers give memory in pieces of 2 MiB.
  uint64_t charged = (bytes + guardBytes - 1) / guardBytes * guardBytes;
  if (device.used + charged > device.total)
    throw CudaError{OutOfMemory};
  Allocation made;
  made.bytes = bytes;
  made.device = &device;
  made.reserved = charged + 2 * guardBytes;
  made.begin = (reinterpret_cast<uint64_t>(map(made.reserved, PROT_NONE)) + guardBytes) /
               pageBytes * pageBytes;
  made.data = static_cast<uint8_t *>(map(bytes, PROT_READ | PROT_WRITE));
  std::memset(made.data, 0xff, bytes);
  device.used += charged;
  driver.memory[made.begin] = made;
  return made.begin;
}

uint64_t allocatePinned(uint64_t bytes, bool mapped) {
  DriverState &driver = state();
  std::lock_guard<std::mutex> lock(driver.memoryMutex);
  if (bytes > driver.mostPinned - driver.pinned)
    throw CudaError{OutOfMemory};
  driver.pinned += bytes;
  Allocation made;
  made.mapped = mapped;
  made.bytes = bytes;
  made.reserved = bytes;
  made.data = static_cast<uint8_t *>(map(bytes, PROT_READ | PROT_WRITE));
  made.begin = reinterpret_cast<uint64_t>(made.data);
  driver.memory[made.begin] = made;
  return made.begin;
}

Allocation findAllocation(uint64_t address) {
  DriverState &driver = state();
  std::lock_guard<std::mutex> lock(driver.memoryMutex);
  auto after = driver.memory.upper_bound(address);
  if (after == driver.memory.begin())
    return {};
  const Allocation &found = std::prev(after)->second;
  return address < found.begin + found.bytes ? found : Allocation();
}

static uint8_t *bytesOf(const Allocation &found, uint64_t address, uint64_t bytes,
                        const std::string &what) {
  if (!found.bytes)
    throw std::runtime_error(what + ": the address lies in no allocation");
  if (address + bytes > found.begin + found.bytes)
    throw std::runtime_error(what + ": " + std::to_string(bytes) + " bytes at " +
                             std::to_string(address - found.begin) + " of an allocation of " +
                             std::to_string(found.bytes));
  return found.data + (address - found.begin);
}

uint8_t *deviceBytes(uint64_t address, uint64_t bytes, const std::string &what) {
  Allocation found = findAllocation(address);
  if (found.bytes && !found.device)
    throw std::runtime_error(what + ": the address is of the machine's memory");
  return bytesOf(found, address, bytes, what);
}

uint8_t *reachableBytes(uint64_t address, uint64_t bytes, const std::string &what) {
  Allocation found = findAllocation(address);
  if (found.bytes && !found.device && !found.mapped)
    throw std::runtime_error(what +
                             ": the address is of the machine's memory, which is not mapped");
  return bytesOf(found, address, bytes, what);
}

/// All devices, since pinned memory is everybody's.
static void waitForDevices(uint64_t address, bool idle) {
  DriverState &driver = state();
  Lock lock(driver.mutex);
  for (Device &device : driver.devices)
    for (size_t number = 0; number < device.lanes.size(); ++number) {
      OpPtr last = device.lanes[number]->last;
      if (idle && last && !last->done)
        complain("memory at " + std::to_string(address) + " is freed while " + last->kind + " " +
                 last->name + " is under way");
      waitFor(lock, device, last);
    }
}

bool release(uint64_t address, bool idle) {
  DriverState &driver = state();
  waitForDevices(address, idle);
  Allocation found;
  {
    std::lock_guard<std::mutex> lock(driver.memoryMutex);
    auto entry = driver.memory.find(address);
    if (entry == driver.memory.end())
      return false;
    found = entry->second;
    driver.memory.erase(entry);
    if (found.device)
      found.device->used -= found.reserved - 2 * guardBytes;
    else
      driver.pinned -= found.bytes;
  }
  munmap(found.data, found.bytes);
  // The addresses stay reserved: what still uses them is found.
  forgetAccesses(found.begin, found.begin + found.bytes);
  return true;
}

uint64_t allocate(uint64_t bytes) { return allocateOn(current(), bytes); }

} // namespace fake
