//===- AccessRecorder.cpp - Which bytes a launch touched ------------------===//
#include "AccessRecorder.h"
#include <algorithm>

namespace fake {

static bool ordered(const Actor &before, const Actor &now) {
  if (before.block != now.block)
    return false;
  return before.thread == now.thread || before.epoch < now.epoch ||
         (before.warp == now.warp && before.warpEpoch < now.warpEpoch);
}

bool WordHistory::touch(const Actor &who, uint8_t mask, bool write) {
  if ((writeMask & mask) && !ordered(writer, who))
    return false;
  if (!write) {
    uint8_t both = readMask & mask;
    if (!both || (!several && reader.thread == who.thread)) {
      // Of other bytes of the word: what was known about those is forgotten.
      readMask = both ? readMask | mask : mask;
      several = 0;
    } else {
      readMask = both;
      if (reader.block != who.block)
        several = 2;
      else if (reader.thread != who.thread)
        several = std::max<uint8_t>(several, reader.epoch < who.epoch ? 0 : 1);
    }
    reader = who;
    return true;
  }
  if (readMask & mask) {
    if (several == 2)
      return false;
    if (several == 1 ? reader.block != who.block || reader.epoch >= who.epoch
                     : !ordered(reader, who))
      // Readers of one warp that only met at a barrier of the warp count as one.
      if (!(reader.block == who.block && reader.warp == who.warp &&
            reader.warpEpoch < who.warpEpoch))
        return false;
  }
  readMask = several = 0;
  writer = who;
  writeMask = mask;
  return true;
}

AccessRecorder::Page &AccessRecorder::page(uint64_t number) {
  if (number != lastNumber) {
    std::unique_ptr<Page> &slot = pages[number];
    if (!slot)
      slot = std::make_unique<Page>();
    lastNumber = number;
    last = slot.get();
  }
  return *last;
}

bool AccessRecorder::touch(uint64_t address, unsigned bytes, bool write, const Actor &who) {
  bool fine = true;
  while (bytes) {
    // Accesses are aligned: pieces end at words, and words at pages.
    unsigned within = address & 3, piece = std::min(bytes, 4 - within);
    Page &target = page(address >> 12);
    unsigned offset = address & 4095, mask = ((1u << piece) - 1);
    target.touched[write][offset >> 6] |= uint64_t(mask) << (offset & 63);
    fine &= target.words[offset >> 2].touch(who, uint8_t(mask << within), write);
    address += piece;
    bytes -= piece;
  }
  return fine;
}

std::vector<Range> AccessRecorder::ranges(bool write) const {
  std::vector<uint64_t> numbers;
  for (const auto &[number, page] : pages)
    numbers.push_back(number);
  std::sort(numbers.begin(), numbers.end());
  std::vector<Range> found;
  for (uint64_t number : numbers) {
    const Page &page = *pages.at(number);
    for (unsigned word = 0; word < 64; ++word)
      for (uint64_t bits = page.touched[write][word]; bits;) {
        unsigned start = __builtin_ctzll(bits);
        uint64_t rest = ~(bits >> start);
        unsigned length = rest ? std::min<unsigned>(__builtin_ctzll(rest), 64 - start) : 64 - start;
        uint64_t begin = (number << 12) + word * 64 + start;
        if (!found.empty() && found.back().end == begin)
          found.back().end += length;
        else
          found.push_back({begin, begin + length});
        bits &= length == 64 ? 0 : ~(((uint64_t(1) << length) - 1) << start);
      }
  }
  return found;
}

} // namespace fake
