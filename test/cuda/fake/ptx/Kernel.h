//===- Kernel.h - Decoded kernels and what executes them ------------------===//
//
// A warp is 32 lanes in step. Registers are arrays of 32 lanes in one block of memory; constants
// and special registers lie there too, so that every operand is an offset and an instruction a loop
// over lanes. Lanes at the smallest program counter run until they branch or meet others: diverged
// lanes meet again behind what they diverged around.
//
//===----------------------------------------------------------------------===//
#pragma once
#include "AccessRecorder.h"
#include "Numbers.h"
#include <array>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace fake {

/// The code did what it must not, or is not understood.
struct PtxError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr unsigned lanes = 32;
constexpr uint32_t allLanes = ~uint32_t(0);

struct Warp;
struct Instruction;
/// Executes an instruction for the lanes of a mask.
using Handler = void (*)(Warp &, const Instruction &, uint32_t mask);

struct Instruction {
  enum class Flow : uint8_t { Next, Branch, Exit, Barrier } flow = Flow::Next;
  bool negated = false, guarded = false;
  uint8_t width = 0, vector = 1,
          extend = 0;   // memory: bytes of an element, how many; selectors of others
  uint8_t bits[4] = {}; // memory: bits of the registers
  uint32_t guard = 0, target = 0;
  Handler handler = nullptr;
  int64_t offset = 0;
  uint32_t operands[16] = {}; // offsets of registers: results first
  std::string text;
};

struct Parameter {
  std::string name;
  unsigned offset, bytes;
};

enum class Special {
  TidX,
  TidY,
  TidZ,
  NtidX,
  NtidY,
  NtidZ,
  CtaidX,
  CtaidY,
  CtaidZ,
  NctaidX,
  NctaidY,
  NctaidZ,
  LaneId,
  WarpId
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  unsigned parameterBytes = 0;
  std::vector<Instruction> code;
  /// Registers of a new warp: a pattern in what is not yet written, constants in all lanes.
  std::vector<uint8_t> image;
  std::vector<std::pair<Special, uint32_t>> specials;
  unsigned sharedBytes = 0, maxThreads = 1024;
  bool exactThreads = false, dynamicShared = false;
};

/// The kernels of a PTX text, decoded. Throws PtxError.
struct PtxModule {
  unsigned version = 0, arch = 0; // 80 of `.version 8.0`, `.target sm_80`
  bool archSpecific = false;      // sm_90a
  std::map<std::string, Kernel> kernels;
};
PtxModule parsePtx(const std::string &text);

/// Memory that kernels may use.
struct Memory {
  uint64_t begin = 0, end = 0;
  uint8_t *data = nullptr; // where `begin` really lies
};

struct Dimensions {
  unsigned x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t(x) * y * z; }
};

struct LaunchContext {
  const Kernel *kernel;
  Dimensions grid, block;
  unsigned dynamicShared;
  std::vector<uint8_t> parameters;
  /// The memory at an address, or none (begin == end).
  std::function<Memory(uint64_t)> find;
  AccessRecorder *recorder;
};

struct Block {
  LaunchContext &launch;
  uint32_t index[3];
  uint32_t number;
  std::vector<uint8_t> shared;
  std::vector<WordHistory> history;
  uint32_t epoch = 0;
  Memory lastMemory;
};

struct PendingCopy {
  uint64_t shared, global;
  unsigned bytes, zeros;
};

struct Warp {
  Block &block;
  unsigned number, threads;
  std::vector<uint8_t> registers;
  std::array<uint32_t, lanes> position = {};
  uint32_t live = 0, epoch = 0, waiting = 0; ///< lanes; waiting: for others
  bool atBarrier = false;
  /// cp.async: copies of a lane happen when it waits for their group, so that a missing wait shows.
  std::array<std::vector<std::vector<PendingCopy>>, lanes> copies;

  template <class T> T *at(uint32_t offset) {
    return reinterpret_cast<T *>(registers.data() + offset);
  }
  Actor actor(unsigned lane) const {
    uint32_t thread =
        uint32_t(block.number * ((block.launch.block.count() + 31) / 32) * 32 + number * 32 + lane);
    return {thread, block.number, thread / 32, block.epoch, epoch};
  }
  [[noreturn]] void fail(const Instruction &instruction, const std::string &why) const;
  /// Where global or shared memory lies, with checks of bounds, alignment and races.
  uint8_t *global(const Instruction &, unsigned lane, uint64_t address, unsigned bytes, bool write);
  uint8_t *shared(const Instruction &, unsigned lane, uint64_t address, unsigned bytes, bool write);
  /// Are all lanes that take part here? Otherwise those that are wait for the others.
  bool meet(const Instruction &, uint32_t mask, uint32_t wanted);
};

template <class F> void eachLane(uint32_t mask, F &&function) {
  if (mask == allLanes) {
    for (unsigned lane = 0; lane < lanes; ++lane)
      function(lane);
    return;
  }
  for (; mask; mask &= mask - 1)
    function(unsigned(__builtin_ctz(mask)));
}

/// All blocks of a launch. Throws PtxError.
void executeLaunch(LaunchContext &launch);

} // namespace fake
