//===- AccessRecorder.h - Which bytes a launch touched --------------------===//
//
// Bytes read and written, and who did it last: two threads of one launch that use a word, one of
// them writing, with nothing between them that orders them, are a race.
//
//===----------------------------------------------------------------------===//
#pragma once
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace fake {

/// A thread at a point of its life. Barriers of the block and of the warp are counted.
struct Actor {
  uint32_t thread = 0, block = 0, warp = 0, epoch = 0, warpEpoch = 0;
};

struct Range {
  uint64_t begin, end;
};

/// Who used a 4-byte word last. `several`: threads of one block (1) or of more (2) have read it.
struct WordHistory {
  Actor writer, reader;
  uint8_t writeMask = 0, readMask = 0, several = 0;
  /// False if it races with what was before.
  bool touch(const Actor &who, uint8_t mask, bool write);
};

class AccessRecorder {
public:
  /// False if another thread of the launch uses these bytes, unordered.
  bool touch(uint64_t address, unsigned bytes, bool write, const Actor &who);
  /// Joined ranges in ascending order.
  std::vector<Range> ranges(bool write) const;

private:
  struct Page {
    uint64_t touched[2][64] = {};
    WordHistory words[1024];
  };
  Page &page(uint64_t number);
  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages;
  uint64_t lastNumber = ~uint64_t(0);
  Page *last = nullptr;
};

} // namespace fake
