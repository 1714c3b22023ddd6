//===- MemoryOperations.cpp - Loads, stores, asynchronous copies ----------===//
#include "Handlers.h"

namespace fake {
namespace {

uint64_t addressOf(Warp &warp, const Instruction &i, unsigned slot, unsigned lane, int64_t offset) {
  uint64_t base = i.extend == 32 ? warp.at<uint32_t>(i.operands[slot])[lane]
                                 : warp.at<uint64_t>(i.operands[slot])[lane];
  return base + uint64_t(offset);
}

/// Of `width` bytes into a register of `bits`, extended.
void store(uint8_t *target, unsigned bits, unsigned lane, const uint8_t *source, unsigned width,
           bool negative) {
  unsigned bytes = bits / 8;
  target += lane * bytes;
  std::memcpy(target, source, width);
  if (width < bytes)
    std::memset(target + width, negative && source[width - 1] & 128 ? 255 : 0, bytes - width);
}

template <bool isGlobal, bool isSigned>
void loadHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  // A lane's address may lie in one of its results.
  uint64_t addresses[lanes];
  eachLane(mask, [&](unsigned l) { addresses[l] = addressOf(warp, i, 4, l, i.offset); });
  eachLane(mask, [&](unsigned l) {
    unsigned bytes = i.width * i.vector;
    const uint8_t *data = isGlobal ? warp.global(i, l, addresses[l], bytes, false)
                                   : warp.shared(i, l, addresses[l], bytes, false);
    for (unsigned n = 0; n < i.vector; ++n)
      store(warp.at<uint8_t>(i.operands[n]), i.bits[n], l, data + n * i.width, i.width, isSigned);
  });
}

template <bool isGlobal> void storeHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  eachLane(mask, [&](unsigned l) {
    uint64_t address = addressOf(warp, i, 4, l, i.offset);
    unsigned bytes = i.width * i.vector;
    uint8_t *data = isGlobal ? warp.global(i, l, address, bytes, true)
                             : warp.shared(i, l, address, bytes, true);
    for (unsigned n = 0; n < i.vector; ++n)
      std::memcpy(data + n * i.width, warp.at<uint8_t>(i.operands[n]) + l * (i.bits[n] / 8),
                  i.width);
  });
}

void parameterHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  const uint8_t *data = warp.block.launch.parameters.data() + i.offset;
  eachLane(mask, [&](unsigned l) {
    store(warp.at<uint8_t>(i.operands[0]), i.bits[0], l, data, i.width, false);
  });
}

void vectorSize(Decoder &decoder, Statement &s, Instruction &i, size_t registers) {
  i.width = uint8_t(bitsOf(s.type()) / 8);
  i.vector = s.take("v2") ? 2 : s.take("v4") ? 4 : 1;
  if (registers != i.vector || !i.width || i.width * i.vector > 16)
    decoder.reject(s, "instruction not understood");
}

/// What only says how to cache.
void takeHints(Statement &s) {
  for (const char *hint : {"nc", "ca", "cg", "cs", "cv", "wb", "wt", "volatile", "L1::evict_first",
                           "L1::evict_last", "L1::no_allocate", "L2::128B", "L2::256B"})
    s.take(hint);
}

void load(Decoder &decoder, Statement &s, Instruction &i) {
  if (s.take("param")) {
    vectorSize(decoder, s, i, 1);
    std::string name = s.operands[1].substr(1, s.operands[1].size() - 2);
    size_t plus = name.find('+');
    const Parameter &parameter = decoder.parameter(s, name.substr(0, plus));
    unsigned offset = plus == std::string::npos ? 0 : unsigned(std::stoul(name.substr(plus + 1)));
    if (offset + i.width > parameter.bytes)
      decoder.reject(s, "parameter " + parameter.name + " has " + std::to_string(parameter.bytes) +
                            " bytes");
    i.offset = parameter.offset + offset;
    i.operands[0] = decoder.anyRegister(s, s.operands[0], i.bits[0]);
    if (i.bits[0] >= 8u * i.width)
      i.handler = parameterHandler;
    return;
  }
  bool isGlobal = s.take("global"), isShared = s.take("shared");
  takeHints(s);
  auto targets = Decoder::list(s.operands[0]);
  vectorSize(decoder, s, i, targets.size());
  for (size_t n = 0; n < targets.size(); ++n) {
    if (targets[n] == "_") {
      i.bits[n] = uint8_t(8 * i.width);
      i.operands[n] = decoder.scratch(i.bits[n]);
    } else {
      i.operands[n] = decoder.anyRegister(s, targets[n], i.bits[n]);
    }
    if (i.bits[n] < 8u * i.width)
      decoder.reject(s, "the register is narrower than what is loaded");
  }
  decoder.address(s, s.operands[1], i, 4);
  bool isSigned = fake::isSigned(s.type());
  if (isGlobal != isShared)
    i.handler = isGlobal ? (isSigned ? loadHandler<true, true> : loadHandler<true, false>)
                         : (isSigned ? loadHandler<false, true> : loadHandler<false, false>);
}

void storeTo(Decoder &decoder, Statement &s, Instruction &i) {
  bool isGlobal = s.take("global"), isShared = s.take("shared");
  takeHints(s);
  auto sources = Decoder::list(s.operands[1]);
  vectorSize(decoder, s, i, sources.size());
  for (size_t n = 0; n < sources.size(); ++n) {
    if (sources[n][0] == '%') {
      i.operands[n] = decoder.anyRegister(s, sources[n], i.bits[n]);
    } else {
      i.bits[n] = uint8_t(8 * i.width);
      i.operands[n] = decoder.source(s, sources[n], i.bits[n]);
    }
    if (i.bits[n] < 8u * i.width)
      decoder.reject(s, "the register is narrower than what is stored");
  }
  decoder.address(s, s.operands[0], i, 4);
  if (isGlobal != isShared)
    i.handler = isGlobal ? storeHandler<true> : storeHandler<false>;
}

// cp.async: `[shared], [global], bytes, bytes that are really read`.

void startCopy(Warp &warp, const Instruction &i, uint32_t mask) {
  eachLane(mask, [&](unsigned l) {
    uint64_t shared =
        i.bits[0] == 32 ? warp.at<uint32_t>(i.operands[0])[l] : warp.at<uint64_t>(i.operands[0])[l];
    unsigned read = warp.at<uint32_t>(i.operands[2])[l];
    if (read > i.width)
      warp.fail(i, "more bytes are read than copied");
    auto &groups = warp.copies[l];
    if (groups.empty())
      groups.emplace_back();
    groups.back().push_back({shared + i.target,
                             warp.at<uint64_t>(i.operands[1])[l] + uint64_t(i.offset), read,
                             i.width - read});
  });
}

/// All groups but the last `open` are complete; the last one in the list is not yet committed.
void waitForCopies(Warp &warp, const Instruction &i, uint32_t mask) {
  eachLane(mask, [&](unsigned l) {
    auto &groups = warp.copies[l];
    size_t open = i.vector ? size_t(i.offset) + 1 : 0,
           finished = groups.size() > open ? groups.size() - open : 0;
    for (size_t group = 0; group < finished; ++group)
      for (const PendingCopy &copy : groups[group]) {
        uint8_t *target = warp.shared(i, l, copy.shared, copy.bytes + copy.zeros, true);
        if (copy.bytes)
          std::memcpy(target, warp.global(i, l, copy.global, copy.bytes, false), copy.bytes);
        std::memset(target + copy.bytes, 0, copy.zeros);
      }
    groups.erase(groups.begin(), groups.begin() + long(finished));
    if (!i.vector)
      groups.clear();
  });
}

void commitCopies(Warp &warp, const Instruction &, uint32_t mask) {
  eachLane(mask, [&](unsigned l) {
    auto &groups = warp.copies[l];
    if (groups.empty())
      groups.emplace_back();
    groups.emplace_back();
  });
}

void asynchronousCopy(Decoder &decoder, Statement &s, Instruction &i) {
  if (!s.take("async"))
    return;
  if (s.take("commit_group")) {
    i.handler = commitCopies;
    return;
  }
  if (s.take("wait_all") || s.take("wait_group")) {
    i.vector = !s.operands[0].empty();
    i.offset = i.vector ? std::stol(s.operands[0]) : 0;
    i.handler = waitForCopies;
    return;
  }
  takeHints(s);
  bool shared = s.take("shared"), global = s.take("global");
  if (!shared || !global)
    return;
  Instruction target;
  decoder.address(s, s.operands[0], target, 0);
  i.operands[0] = target.operands[0];
  i.bits[0] = target.extend;
  i.target = uint32_t(target.offset);
  decoder.address(s, s.operands[1], i, 1);
  i.width = uint8_t(std::stoul(s.operands[2]));
  i.operands[2] =
      s.operands[3].empty() ? decoder.constant(i.width, 32) : decoder.source(s, s.operands[3], 32);
  if ((i.width == 4 || i.width == 8 || i.width == 16) && i.extend == 64)
    i.handler = startCopy;
}

} // namespace

void addMemory(BuilderTable &table) {
  table["ld"] = load;
  table["st"] = storeTo;
  table["cp"] = asynchronousCopy;
}

} // namespace fake
