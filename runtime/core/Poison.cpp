// Liveness by bytes, backwards through the commands: a command's results are not needed before it,
// what it reads is. What was needed before it or written by it, but is not needed after it, died
// there. Views need no care, since only bytes count. A collective that is only started uses its
// buffers until it was waited for.
#include "runtime/core/Poison.h"

#include <algorithm>
#include <cstring>
#include <map>

using namespace shardrt;

void ByteSet::add(Range range) {
  if (range.begin >= range.end)
    return;
  auto first = std::lower_bound(sorted.begin(), sorted.end(), range.begin,
                                [](const Range &r, int64_t at) { return r.end < at; });
  auto last = first;
  for (; last != sorted.end() && last->begin <= range.end; ++last) {
    range.begin = std::min(range.begin, last->begin);
    range.end = std::max(range.end, last->end);
  }
  sorted.insert(sorted.erase(first, last), range);
}

void ByteSet::remove(Range range) {
  std::vector<Range> rest;
  for (const Range &own : sorted) {
    if (own.end <= range.begin || own.begin >= range.end) {
      rest.push_back(own);
      continue;
    }
    if (own.begin < range.begin)
      rest.push_back({own.begin, range.begin});
    if (own.end > range.end)
      rest.push_back({range.end, own.end});
  }
  sorted = std::move(rest);
}

void ByteSet::remove(const ByteSet &other) {
  for (const Range &range : other.sorted)
    remove(range);
}

namespace {
struct Access {
  std::vector<ByteSet::Range> reads, writes; // writes: all of these bytes
};

class Accesses {
public:
  explicit Accesses(const Program &program) : program(program) {}

  Access of(const Command &command) const {
    Access access;
    switch (command.kind) {
    case CommandKind::Launch:
      addLaunch(command, access);
      break;
    case CommandKind::Copy:
      access.reads.push_back(range(command.src, command.bytes));
      [[fallthrough]];
    case CommandKind::Zero:
      access.writes.push_back(range(command.dst, command.bytes));
      break;
    case CommandKind::Collective:
    case CommandKind::Slice: {
      auto [src, dst] = collectiveRanges(command);
      access.reads.push_back(src);
      access.writes.push_back(dst);
      break;
    }
    case CommandKind::Wait:
      break;
    }
    return access;
  }

  std::pair<ByteSet::Range, ByteSet::Range> collectiveRanges(const Command &command) const {
    int64_t size = sizeOf(program.groups[command.collective.group]);
    CollectiveBytes bytes = *collectiveBytes(command.collective, size);
    if (command.kind == CommandKind::Slice) // the way of an all_gather, backwards
      std::swap(bytes.src, bytes.dst);
    return {range(command.src, bytes.src), range(command.dst, bytes.dst)};
  }

  ByteSet::Range range(int buffer, int64_t bytes = -1) const {
    const Buffer &storage = program.buffers[buffer];
    return {storage.offset, storage.offset + (bytes < 0 ? storage.bytes : bytes)};
  }

private:
  void addLaunch(const Command &command, Access &access) const {
    size_t count = command.buffers.size();
    // Without the number of results, all buffers are taken for both, and none for overwritten.
    size_t operands = command.results < 0 ? count : count - command.results;
    for (size_t i = 0; i < count; ++i)
      (i < operands ? access.reads : access.writes).push_back(range(command.buffers[i]));
  }

  const Program &program;
};
} // namespace

static bool isPermanent(BufferKind kind) {
  return kind == BufferKind::Parameter || kind == BufferKind::Constant ||
         kind == BufferKind::AxisIndex || kind == BufferKind::State;
}

/// For each wait the collective that it completes, null for other commands.
static std::vector<const Command *> startsOfWaits(const std::vector<Command> &commands) {
  std::map<int64_t, const Command *> starts;
  std::vector<const Command *> result(commands.size());
  for (size_t i = 0; i < commands.size(); ++i) {
    const Command &command = commands[i];
    if (command.kind == CommandKind::Collective && command.ticket >= 0)
      starts[command.ticket] = &command;
    if (command.kind == CommandKind::Wait)
      result[i] = starts[command.ticket];
  }
  return result;
}

Poison::Poison(const Program &program, const Entry &entry) : died(entry.commands.size()) {
  Accesses accesses(program);
  ByteSet permanent;
  for (const Buffer &buffer : program.buffers)
    if (isPermanent(buffer.kind))
      permanent.add({buffer.offset, buffer.offset + buffer.bytes});
  for (const Command &command : program.init)
    for (const ByteSet::Range &range : accesses.of(command).writes)
      permanent.add(range);
  std::vector<const Command *> startOf = startsOfWaits(entry.commands);
  ByteSet live;
  for (const Value &output : entry.outputs)
    live.add(accesses.range(output.buffer, localBytes(output)));
  for (size_t i = entry.commands.size(); i-- > 0;) {
    Access access = accesses.of(entry.commands[i]);
    if (startOf[i]) {
      auto [src, dst] = accesses.collectiveRanges(*startOf[i]);
      access.reads = {src, dst};
    }
    ByteSet after = live;
    for (const ByteSet::Range &range : access.writes)
      live.remove(range);
    for (const ByteSet::Range &range : access.reads)
      live.add(range);
    ByteSet &dead = died[i];
    dead = live;
    for (const ByteSet::Range &range : access.writes)
      dead.add(range);
    dead.remove(after);
    dead.remove(permanent);
  }
  before.add({0, program.arenaBytes}); // also what is read without having been written
  before.remove(permanent);
  for (const Value &input : entry.inputs)
    before.remove(accesses.range(input.buffer));
}

void Poison::fill(const ByteSet &dead, std::byte *arena) {
  for (const ByteSet::Range &range : dead.ranges())
    std::memset(arena + range.begin, 0xff, range.end - range.begin);
}

int64_t Poison::bytes() const {
  int64_t sum = 0;
  for (const ByteSet::Range &range : before.ranges())
    sum += range.end - range.begin;
  for (const ByteSet &set : died)
    for (const ByteSet::Range &range : set.ranges())
      sum += range.end - range.begin;
  return sum;
}
