//===- Collectives.cpp - What ranks do together, piece by piece -----------===//
//
// A rank posts a piece of what it sends as soon as all have taken its last one, and takes the
// pieces of all others when they are there. If the calls of two ranks are different, both are
// named, and the call never ends.
//
//===----------------------------------------------------------------------===//
#include "Nccl.h"
#include <algorithm>
#include <cstring>
#include <set>
#include <stdexcept>

namespace fake::nccl {

const char *nameOf(Kind kind) {
  static constexpr const char *names[] = {"nothing",   "all_reduce", "all_gather", "reduce_scatter",
                                          "broadcast", "send",       "receive"};
  return names[int(kind)];
}

bool CallFacts::operator==(const CallFacts &other) const {
  return kind == other.kind && dtype == other.dtype && reduce == other.reduce &&
         root == other.root && count == other.count && number == other.number;
}

std::string CallFacts::text() const {
  static constexpr const char *types[] = {"i8",   "ui8", "i32", "ui32", "i64",
                                          "ui64", "f16", "f32", "f64",  "bf16"};
  static constexpr const char *reductions[] = {"sum", "prod", "max", "min"};
  std::string text =
      std::string(nameOf(kind)) + " of " + std::to_string(count) + " " + types[dtype];
  if (kind == Kind::AllReduce || kind == Kind::ReduceScatter)
    text += std::string(" (") + reductions[reduce] + ")";
  if (kind == Kind::Broadcast)
    text += " from " + std::to_string(root);
  return text + ", call " + std::to_string(number);
}

namespace {

// poll() does what can be done; true: it is over.

class Collective {
public:
  Collective(Communicator &communicator, const Call &call, Accesses &accesses)
      : c(communicator), call(call), size(bytesOf(call.facts.dtype)) {
    const CallFacts &facts = call.facts;
    sent = facts.count * (facts.kind == Kind::ReduceScatter ? c.ranks : 1);
    uint64_t received = facts.count * (facts.kind == Kind::AllGather ? c.ranks : 1);
    bool sends = facts.kind != Kind::Broadcast || facts.root == int(c.rank);
    std::string what = facts.text();
    if (sends) {
      source = deviceBytes(call.source, sent * size, "source of " + what);
      accesses.reads.push_back({call.source, call.source + sent * size});
    }
    target = deviceBytes(call.target, received * size, "target of " + what);
    accesses.writes.push_back({call.target, call.target + received * size});
    checkOverlap(received, what);
    mine = c.segment->slot(c.rank).posted;
  }

  bool poll() {
    while (begin < sent) {
      uint64_t count = std::min(pieceBytes / size, sent - begin);
      if (!posted && !post(count))
        return false;
      if (!take(count))
        return false;
      begin += count;
      posted = false;
    }
    return true;
  }

private:
  /// In place is exactly what NCCL allows; anything else that overlaps is wrong.
  void checkOverlap(uint64_t received, const std::string &what) {
    uint64_t offset = c.rank * call.facts.count * size, from = call.source, to = call.target;
    bool inPlace = call.facts.kind == Kind::AllGather       ? from == to + offset
                   : call.facts.kind == Kind::ReduceScatter ? to == from + offset
                                                            : from == to;
    if (source && !inPlace && from < to + received * size && to < from + sent * size)
      throw std::runtime_error(what + ": source and target overlap");
  }

  bool post(uint64_t count) {
    for (unsigned other = 0; other < c.ranks; ++other)
      if (c.segment->slot(other).taken < mine)
        return false;
    Slot &slot = c.segment->slot(c.rank);
    slot.facts = call.facts;
    if (source)
      std::memcpy(slot.piece, source + begin * size, count * size);
    slot.posted = ++mine;
    return posted = true;
  }

  bool take(uint64_t count) {
    for (unsigned other = 0; other < c.ranks; ++other) {
      Slot &slot = c.segment->slot(other);
      if (slot.posted < mine)
        return false;
      if (!(slot.facts == call.facts)) {
        c.fail(InvalidUsage, "calls " + call.facts.text() + ", but rank " + std::to_string(other) +
                                 " calls " + slot.facts.text());
        return false;
      }
    }
    combine(count);
    c.segment->slot(c.rank).taken = mine;
    return true;
  }

  void combine(uint64_t count) {
    std::vector<const uint8_t *> pieces;
    for (unsigned other = 0; other < c.ranks; ++other)
      pieces.push_back(c.segment->slot(other).piece);
    switch (call.facts.kind) {
    case Kind::AllReduce:
      return reduce(target + begin * size, pieces, count, call.facts.dtype, call.facts.reduce);
    case Kind::AllGather:
      for (unsigned other = 0; other < c.ranks; ++other)
        std::memcpy(target + (other * call.facts.count + begin) * size, pieces[other],
                    count * size);
      return;
    case Kind::Broadcast:
      std::memcpy(target + begin * size, pieces[size_t(call.facts.root)], count * size);
      return;
    default: { // My part of the scatter may lie in this piece.
      uint64_t first = std::max(begin, c.rank * call.facts.count),
               last = std::min(begin + count, (c.rank + 1) * call.facts.count);
      if (first >= last)
        return;
      for (const uint8_t *&piece : pieces)
        piece += (first - begin) * size;
      reduce(target + (first - c.rank * call.facts.count) * size, pieces, last - first,
             call.facts.dtype, call.facts.reduce);
    }
    }
  }

  Communicator &c;
  const Call call;
  unsigned size;
  uint64_t sent = 0, begin = 0, mine = 0;
  const uint8_t *source = nullptr;
  uint8_t *target = nullptr;
  bool posted = false;
};

class Transfer {
public:
  Transfer(Communicator &communicator, const Call &call, Accesses &accesses)
      : c(communicator), call(call), sends(call.facts.kind == Kind::Send),
        total(call.facts.count * bytesOf(call.facts.dtype)),
        box(sends ? c.segment->mailbox(c.rank, unsigned(call.peer))
                  : c.segment->mailbox(unsigned(call.peer), c.rank)) {
    uint64_t address = sends ? call.source : call.target;
    memory = deviceBytes(address, total, call.facts.text());
    (sends ? accesses.reads : accesses.writes).push_back({address, address + total});
  }

  bool poll() {
    while (done < total) {
      uint64_t bytes = std::min(pieceBytes, total - done);
      if (sends ? box.posted != box.taken : box.posted == box.taken)
        return false;
      if (sends) {
        box.facts = call.facts;
        box.total = total;
        std::memcpy(box.piece, memory + done, bytes);
        ++box.posted;
      } else {
        if (box.total != total) {
          c.fail(InvalidUsage, "receives " + std::to_string(total) + " bytes from rank " +
                                   std::to_string(call.peer) + ", which sends " + box.facts.text());
          return false;
        }
        std::memcpy(memory + done, box.piece, bytes);
        ++box.taken;
      }
      done += bytes;
    }
    return true;
  }

  std::pair<bool, int> way() const { return {sends, call.peer}; }

private:
  Communicator &c;
  const Call call;
  bool sends;
  uint64_t total, done = 0;
  Mailbox &box;
  uint8_t *memory;
};

/// Collectives one after another, transfers all at once.
class Group {
public:
  Group(CommunicatorPtr communicator, std::vector<Call> calls)
      : c(std::move(communicator)), calls(std::move(calls)), turn(c->started++) {}

  bool poll(Accesses &accesses) {
    if (c->aborted)
      return over();
    if (c->finished != turn || c->error)
      return false;
    if (transfers.empty())
      for (const Call &call : calls)
        if (call.facts.kind >= Kind::Send)
          transfers.push_back(std::make_unique<Transfer>(*c, call, accesses));
    for (; next < calls.size(); ++next) {
      if (calls[next].facts.kind >= Kind::Send)
        continue;
      if (!collective)
        collective = std::make_unique<Collective>(*c, calls[next], accesses);
      if (!collective->poll())
        return false;
      collective.reset();
    }
    // What goes the same way goes in order.
    std::set<std::pair<bool, int>> busy;
    for (auto &transfer : transfers)
      if (busy.count(transfer->way()) || !transfer->poll())
        busy.insert(transfer->way());
    return busy.empty() && over();
  }

private:
  bool over() {
    ++c->finished;
    return true;
  }
  CommunicatorPtr c;
  std::vector<Call> calls;
  uint64_t turn;
  size_t next = 0;
  std::unique_ptr<Collective> collective;
  std::vector<std::unique_ptr<Transfer>> transfers;
};

} // namespace

Step makeStep(CommunicatorPtr communicator, std::vector<Call> calls) {
  auto group = std::make_shared<Group>(std::move(communicator), std::move(calls));
  return [group](Accesses &accesses) { return group->poll(accesses); };
}

} // namespace fake::nccl
