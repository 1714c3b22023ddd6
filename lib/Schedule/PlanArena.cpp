//===- PlanArena.cpp - A place for every buffer ---------------------------===//
//
// 1. What lives from loading on (weights, constants, axis indices, states, results of the init list) lies at the start, one after the other.
// 2. The commands of each entry are walked once: a buffer takes the best-fitting hole when it is first written (an input: before the first
//    command) and gives it back after its last use (an output: never). O(n log n). Parts of a buffer live and lie where it does.
//
//===----------------------------------------------------------------------===//
#include "shardc/Schedule/Program.h"
#include <set>

using namespace mlir;

namespace shardc {
namespace {

int64_t aligned(const Program &program, int64_t bytes) {
  return std::max<int64_t>(program.alignment(), llvm::alignTo(bytes, program.alignment()));
}

/// Holes below `end`, by offset and by size; neighbours are merged.
class Arena {
public:
  explicit Arena(int64_t start) : end(start) {}

  int64_t take(int64_t bytes) {
    auto fit = bySize.lower_bound({bytes, 0});
    if (fit != bySize.end()) {
      auto [size, offset] = *fit;
      remove(offset, size);
      if (size > bytes)
        add(offset + bytes, size - bytes);
      return offset;
    }
    // The last hole, if it reaches the end, grows.
    if (!byOffset.empty()) {
      auto [offset, size] = *byOffset.rbegin();
      if (offset + size == end) {
        remove(offset, size);
        end = offset + bytes;
        return offset;
      }
    }
    end += bytes;
    return end - bytes;
  }

  void give(int64_t offset, int64_t bytes) {
    auto next = byOffset.lower_bound(offset);
    if (next != byOffset.end() && next->first == offset + bytes) {
      int64_t size = next->second;
      remove(offset + bytes, size);
      bytes += size;
    }
    auto previous = byOffset.lower_bound(offset);
    if (previous != byOffset.begin() && (--previous)->first + previous->second == offset) {
      int64_t before = previous->first, size = previous->second;
      remove(before, size);
      offset = before;
      bytes += size;
    }
    add(offset, bytes);
  }

  int64_t end;

private:
  void add(int64_t offset, int64_t size) {
    byOffset[offset] = size;
    bySize.insert({size, offset});
  }
  void remove(int64_t offset, int64_t size) {
    byOffset.erase(offset);
    bySize.erase({size, offset});
  }
  std::map<int64_t, int64_t> byOffset;
  std::set<std::pair<int64_t, int64_t>> bySize;
};

} // namespace

/// Places what one entry uses and nothing else keeps; returns the end.
static int64_t planEntry(Program &program, const ProgramEntry &entry, const std::vector<bool> &isPermanent, int64_t start,
                         std::vector<bool> &isPlaced) {
  std::vector<int64_t> lastUse(program.buffers.size(), -1);
  for (auto [n, command] : llvm::enumerate(entry.commands))
    for (int buffer : command.buffers)
      lastUse[program.wholeOf(buffer)] = n;
  Arena arena(start);
  auto place = [&](int i) {
    if (isPlaced[i])
      return;
    program.buffers[i].offset = arena.take(aligned(program, program.buffers[i].bytes));
    isPlaced[i] = true;
  };
  auto release = [&](int i) {
    if (!isPermanent[i] && program.buffers[i].kind != BufferKind::Output)
      arena.give(program.buffers[i].offset, aligned(program, program.buffers[i].bytes));
  };
  // Every input is copied in before a run, also one that nobody reads.
  for (const ProgramValue &input : entry.inputs)
    place(input.buffer);
  for (auto [n, command] : llvm::enumerate(entry.commands)) {
    for (int buffer : command.buffers)
      place(program.wholeOf(buffer));
    llvm::SmallDenseSet<int> done;
    for (int buffer : command.buffers)
      if (int whole = program.wholeOf(buffer); lastUse[whole] == static_cast<int64_t>(n) && done.insert(whole).second)
        release(whole);
  }
  return arena.end;
}

void planArena(Program &program) {
  std::vector<bool> isPermanent(program.buffers.size());
  for (auto [i, buffer] : llvm::enumerate(program.buffers))
    isPermanent[i] = buffer.whole < 0 && (buffer.kind == BufferKind::Parameter || buffer.kind == BufferKind::Constant ||
                                          buffer.kind == BufferKind::AxisIndex || buffer.kind == BufferKind::State);
  for (const ProgramCommand &command : program.init)
    for (int buffer : command.buffers)
      isPermanent[program.wholeOf(buffer)] = true;
  int64_t offset = 0;
  for (auto [i, buffer] : llvm::enumerate(program.buffers))
    if (isPermanent[i]) {
      buffer.offset = offset;
      offset += aligned(program, buffer.bytes);
    }
  // Entries run one after the other: their temporaries share the rest.
  int64_t end = offset;
  std::vector<bool> isPlaced = isPermanent;
  for (const ProgramEntry &entry : program.entries)
    end = std::max(end, planEntry(program, entry, isPermanent, offset, isPlaced));
  for (auto [i, buffer] : llvm::enumerate(program.buffers)) {
    int whole = program.wholeOf(i);
    int64_t begin = 0;
    for (int at = i; program.buffers[at].whole >= 0; at = program.buffers[at].whole)
      begin += program.buffers[at].begin;
    buffer.offset = program.buffers[whole].offset + begin;
  }
  program.temporaryBytes = end - offset;
  program.arenaBytes = end;
}

} // namespace shardc
