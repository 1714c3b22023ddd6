// The memory that all ranks of a job share: control words, small-message staging, and one arena a
// rank. It is plain memory when the ranks are threads, and a memory file that every process maps
// when they are processes.
#pragma once

#include "runtime/channels/Channel.h"
#include <atomic>
#include <memory>

namespace shardrt {

static const int64_t eagerBytes = 16 << 10; // messages up to this size go through staging
static const int64_t abortMessageBytes = 2048;

struct RegionHeader {
  std::atomic<uint32_t> abortState; // 0 running, 1 message being written, 2 aborted
  char abortMessage[abortMessageBytes];
};

struct alignas(64) RankState {
  std::atomic<int32_t> pid;
  std::atomic<uint32_t> finished;
};

/// What a rank announces with a collective.
struct Announcement {
  uint64_t signature; // of the call's kind and sizes; must agree within the group
  uint32_t kind;
  int64_t src, dst; // arena offsets
};

/// One rank's words in one group.
struct alignas(64) Slot {
  std::atomic<uint32_t> sequence; // barriers that this rank has reached
  std::atomic<uint32_t> waiters;  // threads asleep on `sequence`
  Announcement announcements[2];  // of even and odd collectives
};

/// Where everything lies. The same on all ranks, since it depends on the options only.
struct RegionLayout {
  int ranks, groups;
  int64_t arenaBytes;
  int64_t slotsAt, stagingAt, arenasAt, arenaStride, total;
  RegionLayout(int ranks, int groups, int64_t arenaBytes);
};

/// A mapping of the region in this process.
class Region {
public:
  /// fd < 0: private memory of this process.
  Region(const RegionLayout &layout, int fd);
  ~Region();
  Region(const Region &) = delete;
  Region &operator=(const Region &) = delete;

  RegionHeader &header() { return *reinterpret_cast<RegionHeader *>(base); }
  RankState &state(int rank);
  Slot &slot(int group, int rank);
  std::byte *staging(int group, int rank, int parity);
  std::byte *arena(int rank) { return base + layout.arenasAt + rank * layout.arenaStride; }

  const RegionLayout layout;

private:
  std::byte *base;
};

} // namespace shardrt
