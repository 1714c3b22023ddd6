//===- Machine.cpp - Blocks and warps -------------------------------------===//
#include "Kernel.h"
#include <algorithm>
#include <cinttypes>

namespace fake {

static std::string hexadecimal(uint64_t value) {
  char text[24];
  snprintf(text, sizeof(text), "0x%" PRIx64, value);
  return text;
}

void Warp::fail(const Instruction &instruction, const std::string &why) const {
  throw PtxError(block.launch.kernel->name + ": " + why + ", at `" + instruction.text +
                 "` (block " + std::to_string(block.number) + ", warp " + std::to_string(number) +
                 ")");
}

uint8_t *Warp::global(const Instruction &instruction, unsigned lane, uint64_t address,
                      unsigned bytes, bool write) {
  if (address & (bytes - 1))
    fail(instruction,
         "address " + hexadecimal(address) + " is not a multiple of " + std::to_string(bytes));
  Memory &memory = block.lastMemory;
  if (address < memory.begin || address + bytes > memory.end) {
    memory = block.launch.find(address);
    if (memory.begin == memory.end)
      fail(instruction, "address " + hexadecimal(address) + " lies in no allocation");
    if (address + bytes > memory.end)
      fail(instruction, "access of " + std::to_string(bytes) + " bytes at " +
                            std::to_string(address - memory.begin) + " of an allocation of " +
                            std::to_string(memory.end - memory.begin));
  }
  if (!block.launch.recorder->touch(address, bytes, write, actor(lane)))
    fail(instruction, "two threads use address " + hexadecimal(address) +
                          ", one of them writing, without a barrier between");
  return memory.data + (address - memory.begin);
}

uint8_t *Warp::shared(const Instruction &instruction, unsigned lane, uint64_t address,
                      unsigned bytes, bool write) {
  if (address & (bytes - 1))
    fail(instruction, "address " + std::to_string(address) +
                          " of shared memory is not a multiple of " + std::to_string(bytes));
  if (address + bytes > block.shared.size() || address + bytes < address)
    fail(instruction, "access of " + std::to_string(bytes) + " bytes at " +
                          std::to_string(address) + " of " + std::to_string(block.shared.size()) +
                          " bytes of shared memory");
  Actor who = actor(lane);
  for (uint64_t at = address; at < address + bytes; at = (at & ~uint64_t(3)) + 4) {
    unsigned within = at & 3,
             piece = unsigned(std::min<uint64_t>(address + bytes - at, 4 - within));
    if (!block.history[at >> 2].touch(who, uint8_t(((1u << piece) - 1) << within), write))
      fail(instruction, "two threads use word " + std::to_string(at >> 2) +
                            " of shared memory without a barrier between");
  }
  return block.shared.data() + address;
}

bool Warp::meet(const Instruction &instruction, uint32_t mask, uint32_t wanted) {
  uint32_t ended = wanted & ~live & (threads == lanes ? allLanes : (1u << threads) - 1);
  if (mask == (wanted & live) && !ended)
    return true;
  bool othersMove = live & ~mask & ~waiting;
  if (!othersMove || !(wanted & live & ~mask))
    fail(instruction, "not all lanes that take part are here: " + hexadecimal(mask) + " of " +
                          hexadecimal(wanted));
  waiting |= mask;
  return false;
}

static uint32_t specialValue(const Warp &warp, Special special, unsigned lane) {
  const Dimensions &size = warp.block.launch.block, &grid = warp.block.launch.grid;
  unsigned thread = warp.number * lanes + lane;
  switch (special) {
  case Special::TidX:
    return thread % size.x;
  case Special::TidY:
    return thread / size.x % size.y;
  case Special::TidZ:
    return thread / size.x / size.y;
  case Special::NtidX:
    return size.x;
  case Special::NtidY:
    return size.y;
  case Special::NtidZ:
    return size.z;
  case Special::CtaidX:
    return warp.block.index[0];
  case Special::CtaidY:
    return warp.block.index[1];
  case Special::CtaidZ:
    return warp.block.index[2];
  case Special::NctaidX:
    return grid.x;
  case Special::NctaidY:
    return grid.y;
  case Special::NctaidZ:
    return grid.z;
  case Special::LaneId:
    return lane;
  case Special::WarpId:
    return warp.number;
  }
  return 0;
}

/// Until all live lanes are at the end or at a barrier.
static void runWarp(Warp &warp) {
  const std::vector<Instruction> &code = warp.block.launch.kernel->code;
  const auto done = uint32_t(code.size());
  while (warp.live) {
    // Lanes at the smallest position run until the next larger one; those that wait for others,
    // from when these are there.
    uint32_t current = done, limit = done, mask = 0;
    if (!(warp.live & ~warp.waiting)) // nobody else comes
      warp.waiting = 0;
    eachLane(warp.live & ~warp.waiting,
             [&](unsigned l) { current = std::min(current, warp.position[l]); });
    eachLane(warp.live, [&](unsigned l) {
      if (warp.position[l] == current)
        mask |= 1u << l;
      else if (warp.position[l] > current)
        limit = std::min(limit, warp.position[l]);
    });
    warp.waiting &= ~mask;
    if (current == done) {
      warp.live &= ~mask;
      continue;
    }
    for (bool straight = true; straight;) {
      const Instruction &instruction = code[current];
      uint32_t active = mask;
      if (instruction.guarded) {
        const uint8_t *guard = warp.at<uint8_t>(instruction.guard);
        active = 0;
        eachLane(mask, [&](unsigned l) {
          active |= uint32_t((guard[l] != 0) != instruction.negated) << l;
        });
      }
      switch (instruction.flow) {
      case Instruction::Flow::Next:
        if (active)
          instruction.handler(warp, instruction, active);
        if (warp.waiting & mask) {
          eachLane(mask,
                   [&](unsigned l) { warp.position[l] = current + !(warp.waiting >> l & 1); });
          straight = false;
        } else {
          ++current;
        }
        break;
      case Instruction::Flow::Barrier:
        if (active != warp.live)
          warp.fail(instruction, "not all threads of a warp reach the barrier");
        eachLane(mask, [&](unsigned l) { warp.position[l] = current + 1; });
        warp.atBarrier = true;
        return;
      case Instruction::Flow::Branch:
        if (active == mask && mask == warp.live) {
          current = instruction.target;
        } else {
          eachLane(mask, [&](unsigned l) {
            warp.position[l] = active >> l & 1 ? instruction.target : current + 1;
          });
          straight = false;
        }
        break;
      case Instruction::Flow::Exit:
        eachLane(mask,
                 [&](unsigned l) { warp.position[l] = active >> l & 1 ? done : current + 1; });
        warp.live &= ~active;
        straight = false;
        break;
      }
      if (straight && current >= limit) {
        eachLane(mask, [&](unsigned l) { warp.position[l] = current; });
        straight = false;
      }
    }
  }
}

static void runBlock(Block &block, std::vector<Warp> &warps) {
  const Kernel &kernel = *block.launch.kernel;
  unsigned threads = unsigned(block.launch.block.count());
  std::fill(block.history.begin(), block.history.end(), WordHistory());
  std::fill(block.shared.begin(), block.shared.end(), 0xcb);
  block.epoch = 0;
  for (Warp &warp : warps) {
    warp.registers = kernel.image;
    warp.position = {};
    warp.epoch = 0;
    warp.waiting = 0;
    warp.atBarrier = false;
    warp.threads = std::min(lanes, threads - warp.number * lanes);
    warp.live = warp.threads == lanes ? allLanes : (1u << warp.threads) - 1;
    for (auto [special, slot] : kernel.specials)
      for (unsigned lane = 0; lane < lanes; ++lane)
        warp.at<uint32_t>(slot)[lane] = specialValue(warp, special, lane);
    for (auto &copies : warp.copies)
      copies.clear();
  }
  for (bool running = true; running;) {
    running = false;
    for (Warp &warp : warps)
      runWarp(warp);
    // Threads that have ended count as arrived.
    for (Warp &warp : warps) {
      running |= warp.atBarrier;
      warp.atBarrier = false;
    }
    ++block.epoch;
  }
}

void executeLaunch(LaunchContext &launch) {
  Block block{launch, {}, 0, {}, {}, 0, {}};
  block.shared.resize(launch.kernel->sharedBytes + launch.dynamicShared);
  block.history.resize((block.shared.size() + 3) / 4);
  std::vector<Warp> warps;
  for (unsigned number = 0; number < (launch.block.count() + lanes - 1) / lanes; ++number)
    warps.push_back({block, number, 0, {}, {}, 0, 0, 0, false, {}});
  for (unsigned z = 0; z < launch.grid.z; ++z)
    for (unsigned y = 0; y < launch.grid.y; ++y)
      for (unsigned x = 0; x < launch.grid.x; ++x, ++block.number) {
        block.index[0] = x;
        block.index[1] = y;
        block.index[2] = z;
        runBlock(block, warps);
      }
}

} // namespace fake
