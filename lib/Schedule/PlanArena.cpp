//===- PlanArena.cpp - A place for every buffer ---------------------------===//
//
// 1. What lives from loading on (weights, constants, axis indices, states, results of the init
//    list) lies at the start, one after the other; offloaded states likewise, in a range of their
//    own (placeCudaRanges puts it behind the arena).
// 2. Each entry's buffers live from their first use (an input: from the start) to their last (an
//    output: to the end). They are placed twice, and the smaller plan stays: in the order of time,
//    each in the best-fitting hole (O(n log n)); and by size, the largest first, each in the lowest
//    hole that is free while it lives (O(n^2), with a small constant). Parts of a buffer live and
//    lie where it does.
//
// By size is what TVM and TFLite do (Pisarchyk and Lee, arXiv 2001.03288); by time wins where
// buffers of different sizes follow each other.
//
//===----------------------------------------------------------------------===//
#include "shardc/Schedule/Program.h"
#include <numeric>
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

namespace {

/// A buffer of an entry: the commands that it lives through, both included.
struct Lifetime {
  int buffer;
  int64_t first, last, bytes, offset = 0;
};

} // namespace

/// What an entry uses and nothing else keeps, in the order of first use.
static std::vector<Lifetime> findLifetimes(const Program &program, const ProgramEntry &entry,
                                           const std::vector<bool> &isPlaced) {
  std::vector<Lifetime> lifetimes;
  llvm::DenseMap<int, size_t> numberOf;
  auto use = [&](int buffer, int64_t at) {
    if (isPlaced[buffer])
      return;
    auto [it, isNew] = numberOf.try_emplace(buffer, lifetimes.size());
    if (isNew)
      lifetimes.push_back({buffer, at, at, aligned(program, program.buffers[buffer].bytes)});
    lifetimes[it->second].last =
        program.buffers[buffer].kind == BufferKind::Output ? entry.commands.size() : at;
  };
  // Every input is copied in before a run, also one that nobody reads.
  for (const ProgramValue &input : entry.inputs)
    use(input.buffer, 0);
  for (auto [n, command] : llvm::enumerate(entry.commands))
    for (int buffer : command.buffers)
      use(program.wholeOf(buffer), n);
  return lifetimes;
}

static int64_t placeByTime(std::vector<Lifetime> &lifetimes, int64_t start) {
  Arena arena(start);
  std::vector<size_t> ends(lifetimes.size());
  std::iota(ends.begin(), ends.end(), 0);
  llvm::stable_sort(ends,
                    [&](size_t a, size_t b) { return lifetimes[a].last < lifetimes[b].last; });
  auto ended = ends.begin();
  for (Lifetime &lifetime : lifetimes) {
    for (; lifetimes[*ended].last < lifetime.first; ++ended)
      arena.give(lifetimes[*ended].offset, lifetimes[*ended].bytes);
    lifetime.offset = arena.take(lifetime.bytes);
  }
  return arena.end;
}

static int64_t placeBySize(std::vector<Lifetime> &lifetimes, int64_t start) {
  std::vector<Lifetime *> order, placed; // by offset
  for (Lifetime &lifetime : lifetimes)
    order.push_back(&lifetime);
  llvm::stable_sort(order,
                    [](const Lifetime *a, const Lifetime *b) { return a->bytes > b->bytes; });
  int64_t end = start;
  for (Lifetime *lifetime : order) {
    int64_t offset = start;
    for (const Lifetime *other : placed) {
      if (other->last < lifetime->first || lifetime->last < other->first ||
          other->offset + other->bytes <= offset)
        continue;
      if (offset + lifetime->bytes <= other->offset)
        break;
      offset = other->offset + other->bytes;
    }
    lifetime->offset = offset;
    end = std::max(end, offset + lifetime->bytes);
    placed.insert(llvm::upper_bound(
                      placed, lifetime,
                      [](const Lifetime *a, const Lifetime *b) { return a->offset < b->offset; }),
                  lifetime);
  }
  return end;
}

/// Places what one entry uses and nothing else keeps; returns the end.
static int64_t planEntry(Program &program, const ProgramEntry &entry, int64_t start,
                         std::vector<bool> &isPlaced) {
  std::vector<Lifetime> byTime = findLifetimes(program, entry, isPlaced), bySize = byTime;
  int64_t timeEnd = placeByTime(byTime, start), sizeEnd = placeBySize(bySize, start);
  for (const Lifetime &lifetime : sizeEnd < timeEnd ? bySize : byTime) {
    program.buffers[lifetime.buffer].offset = lifetime.offset;
    isPlaced[lifetime.buffer] = true;
  }
  return std::min(timeEnd, sizeEnd);
}

void planArena(Program &program) {
  std::vector<bool> isPermanent(program.buffers.size());
  for (auto [i, buffer] : llvm::enumerate(program.buffers))
    isPermanent[i] = buffer.whole < 0 &&
                     (buffer.kind == BufferKind::Parameter || buffer.kind == BufferKind::Constant ||
                      buffer.kind == BufferKind::AxisIndex || buffer.kind == BufferKind::State);
  for (const ProgramCommand &command : program.init)
    for (int buffer : command.buffers)
      isPermanent[program.wholeOf(buffer)] = true;
  int64_t offset = 0, hostBytes = 0;
  for (auto [i, buffer] : llvm::enumerate(program.buffers))
    if (isPermanent[i]) {
      int64_t &end = buffer.isHost ? hostBytes : offset;
      buffer.offset = end;
      end += aligned(program, buffer.bytes);
    }
  if (program.cuda)
    program.cuda->host.bytes = hostBytes;
  // Entries run one after the other: their temporaries share the rest.
  int64_t end = offset;
  std::vector<bool> isPlaced = isPermanent;
  for (const ProgramEntry &entry : program.entries)
    end = std::max(end, planEntry(program, entry, offset, isPlaced));
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
