//===- WarpOperations.cpp - Barriers, shuffles, votes ---------------------===//
#include "Handlers.h"

namespace fake {
namespace {

void barrier(Decoder &decoder, Statement &s, Instruction &i) {
  bool warpWide = s.take("warp");
  if (!s.take("sync"))
    return;
  s.take("aligned");
  if (warpWide) {
    i.operands[0] = decoder.source(s, s.operands[0], 32);
    i.handler = [](Warp &warp, const Instruction &i, uint32_t mask) {
      if (warp.meet(i, mask, warp.at<uint32_t>(i.operands[0])[__builtin_ctz(mask)]))
        ++warp.epoch;
    };
    return;
  }
  if (s.operands[0] != "0" || !s.operands[1].empty())
    decoder.reject(s, "only barrier 0 of the whole block is understood");
  i.flow = Instruction::Flow::Barrier;
  i.handler = [](Warp &, const Instruction &, uint32_t) {};
}

enum Shuffle : uint8_t { Up, Down, Butterfly, Index };

void shuffleHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  uint32_t *d = warp.at<uint32_t>(i.operands[0]);
  uint8_t *valid = warp.at<uint8_t>(i.operands[5]);
  uint32_t values[lanes];
  std::memcpy(values, warp.at<uint32_t>(i.operands[1]), sizeof(values));
  const uint32_t *amount = warp.at<uint32_t>(i.operands[2]),
                 *control = warp.at<uint32_t>(i.operands[3]);
  if (!warp.meet(i, mask, warp.at<uint32_t>(i.operands[4])[__builtin_ctz(mask)]))
    return;
  eachLane(mask, [&](unsigned l) {
    int by = int(amount[l] & 31), clamp = int(control[l] & 31), segment = int(control[l] >> 8 & 31),
        lane = int(l);
    int last = (lane & segment) | (clamp & ~segment), first = lane & segment, from = lane;
    bool inside = true;
    switch (i.extend) {
    case Up:
      from = lane - by;
      inside = from >= last;
      break;
    case Down:
      from = lane + by;
      inside = from <= last;
      break;
    case Butterfly:
      from = lane ^ by;
      inside = from <= last;
      break;
    default:
      from = first | (by & ~segment);
      inside = from <= last;
      break;
    }
    if (!inside)
      from = lane;
    else if (!(mask >> from & 1))
      warp.fail(i, "a lane that does not take part is read");
    d[l] = values[from];
    valid[l] = inside;
  });
}

void shuffle(Decoder &decoder, Statement &s, Instruction &i) {
  if (!s.take("sync") || s.type() != Type::B32)
    return;
  i.extend = s.take("up")     ? Up
             : s.take("down") ? Down
             : s.take("bfly") ? Butterfly
             : s.take("idx")  ? Index
                              : 255;
  if (i.extend == 255)
    return;
  std::string first = s.operands[0], second = "_";
  if (size_t bar = first.find('|'); bar != std::string::npos) {
    second = first.substr(bar + 1);
    first.resize(bar);
  }
  i.operands[0] = decoder.target(s, first, 32);
  for (int n = 1; n <= 4; ++n)
    i.operands[n] = decoder.source(s, s.operands[n], 32);
  i.operands[5] = decoder.target(s, second, 1);
  i.handler = shuffleHandler;
}

enum Vote : uint8_t { All, Any, Uniform, Ballot };

void voteHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  const uint8_t *votes = warp.at<uint8_t>(i.operands[1]);
  if (!warp.meet(i, mask, warp.at<uint32_t>(i.operands[2])[__builtin_ctz(mask)]))
    return;
  uint32_t yes = 0;
  eachLane(mask, [&](unsigned l) { yes |= uint32_t(votes[l] != 0) << l; });
  bool result = i.extend == All   ? yes == mask
                : i.extend == Any ? yes != 0
                                  : yes == 0 || yes == mask;
  eachLane(mask, [&](unsigned l) {
    if (i.extend == Ballot)
      warp.at<uint32_t>(i.operands[0])[l] = yes;
    else
      warp.at<uint8_t>(i.operands[0])[l] = result;
  });
}

void vote(Decoder &decoder, Statement &s, Instruction &i) {
  if (!s.take("sync"))
    return;
  i.extend = s.take("all")      ? All
             : s.take("any")    ? Any
             : s.take("uni")    ? Uniform
             : s.take("ballot") ? Ballot
                                : 255;
  if (i.extend == 255)
    return;
  i.operands[0] = decoder.target(s, s.operands[0], i.extend == Ballot ? 32 : 1);
  i.operands[1] = decoder.source(s, s.operands[1], 1);
  i.operands[2] = decoder.source(s, s.operands[2], 32);
  i.handler = voteHandler;
}

/// Threads of a block see each other's writes in order here anyway; the barrier is what orders
/// them.
void fence(Decoder &, Statement &s, Instruction &i) {
  if (s.take("cta") || s.take("gl"))
    i.handler = [](Warp &, const Instruction &, uint32_t) {};
}

} // namespace

void addWarpOperations(BuilderTable &table) {
  table["bar"] = barrier;
  table["barrier"] = barrier;
  table["shfl"] = shuffle;
  table["vote"] = vote;
  table["membar"] = fence;
}

} // namespace fake
