//===- Races.cpp - Operations on the same bytes that nothing orders -------===//
//
// For every stretch of memory: who wrote it last, and who has read it since. An operation that does
// not come behind those, by streams, events and what the host has waited for, races with them.
//
//===----------------------------------------------------------------------===//
#include "Driver.h"
#include <algorithm>
#include <stdexcept>

namespace fake {
namespace {

struct Access {
  unsigned lane;
  uint64_t number;
  std::string what;
};

struct Stretch {
  uint64_t end;
  std::shared_ptr<Access> writer;
  std::vector<std::shared_ptr<Access>> readers;
};

struct Shadow {
  std::mutex mutex;
  std::map<uint64_t, Stretch> stretches;

  /// Stretches begin and end at these addresses then.
  void cut(uint64_t address) {
    auto after = stretches.upper_bound(address);
    if (after == stretches.begin())
      return;
    auto [begin, stretch] = *std::prev(after);
    if (begin == address || stretch.end <= address)
      return;
    std::prev(after)->second.end = address;
    stretches.emplace(address, stretch);
  }
};

Shadow &shadow() {
  static auto *instance = new Shadow;
  return *instance;
}

bool happened(const Access &access, const Op &op) {
  auto found = op.clock.find(access.lane);
  return found != op.clock.end() && found->second >= access.number;
}

[[noreturn]] void report(const Access &before, bool wrote, const Op &op, bool writes,
                         uint64_t address) {
  throw std::runtime_error("race: " + op.kind + " " + op.name + (writes ? " writes" : " reads") +
                           " what " + before.what + (wrote ? " writes" : " reads") +
                           ", and nothing orders them (address " + std::to_string(address) + ")");
}

void checkWriter(const Stretch &stretch, const Op &op, bool writes, uint64_t address) {
  if (stretch.writer && !happened(*stretch.writer, op))
    report(*stretch.writer, true, op, writes, address);
}

void read(Shadow &memory, const Op &op, const std::shared_ptr<Access> &who, Range range) {
  memory.cut(range.begin);
  memory.cut(range.end);
  for (uint64_t at = range.begin; at < range.end;) {
    auto found = memory.stretches.lower_bound(at);
    uint64_t next = found == memory.stretches.end() ? range.end : std::min(found->first, range.end);
    if (next > at) // Not touched before.
      found = memory.stretches.emplace_hint(found, at, Stretch{next, nullptr, {}});
    Stretch &stretch = found->second;
    checkWriter(stretch, op, false, at);
    // One reader of each lane is enough: the last.
    auto mine = std::find_if(stretch.readers.begin(), stretch.readers.end(),
                             [&](const auto &reader) { return reader->lane == who->lane; });
    if (mine == stretch.readers.end())
      stretch.readers.push_back(who);
    else
      *mine = who;
    at = stretch.end;
  }
}

/// What is written becomes one stretch.
void write(Shadow &memory, const Op &op, const std::shared_ptr<Access> &who, Range range) {
  memory.cut(range.begin);
  memory.cut(range.end);
  auto first = memory.stretches.lower_bound(range.begin), last = first;
  for (; last != memory.stretches.end() && last->first < range.end; ++last) {
    checkWriter(last->second, op, true, last->first);
    for (const auto &reader : last->second.readers)
      if (!happened(*reader, op))
        report(*reader, false, op, true, last->first);
  }
  last = memory.stretches.erase(first, last);
  memory.stretches.emplace_hint(last, range.begin, Stretch{range.end, who, {}});
}

} // namespace

void checkRaces(const Op &op) {
  if (op.accesses.reads.empty() && op.accesses.writes.empty())
    return;
  auto who = std::make_shared<Access>(Access{op.lane->index, op.number, op.kind + " " + op.name});
  Shadow &memory = shadow();
  std::lock_guard<std::mutex> lock(memory.mutex);
  for (const Range &range : op.accesses.reads)
    read(memory, op, who, range);
  for (const Range &range : op.accesses.writes)
    if (range.begin < range.end)
      write(memory, op, who, range);
}

void forgetAccesses(uint64_t begin, uint64_t end) {
  Shadow &memory = shadow();
  std::lock_guard<std::mutex> lock(memory.mutex);
  memory.cut(begin);
  memory.cut(end);
  memory.stretches.erase(memory.stretches.lower_bound(begin), memory.stretches.lower_bound(end));
}

} // namespace fake
