// A test mode: whatever no later command of a run needs is filled with ones, which as numbers of
// any floating-point type are not finite, and as indices out of range. A program that reads what it
// should not then shows it in its results.
#pragma once

#include "runtime/core/Program.h"
#include <cstddef>

namespace shardrt {

/// Disjoint ranges of bytes.
class ByteSet {
public:
  struct Range {
    int64_t begin, end;
  };
  void add(Range range);
  void remove(Range range);
  void remove(const ByteSet &other);
  const std::vector<Range> &ranges() const { return sorted; }

private:
  std::vector<Range> sorted; // neither empty nor touching
};

class Poison {
public:
  /// Which bytes of the arena are dead after each command of an entry. Storage that is loaded, and
  /// what `init` computes, is never dead.
  Poison(const Program &program, const Entry &entry);
  /// Before the first command: all that is no input. After command i: what died there.
  void start(std::byte *arena) const { fill(before, arena); }
  void after(size_t command, std::byte *arena) const { fill(died[command], arena); }
  /// The same ranges, for who fills them otherwise.
  const ByteSet &atStart() const { return before; }
  const ByteSet &diedAfter(size_t command) const { return died[command]; }
  /// Bytes that are filled during a run.
  int64_t bytes() const;

private:
  static void fill(const ByteSet &dead, std::byte *arena);
  ByteSet before;
  std::vector<ByteSet> died;
};

} // namespace shardrt
