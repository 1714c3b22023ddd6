// Header, rank states, slots, staging, arenas, in this order; arenas start on pages so that they
// never share one.
#include "runtime/channels/direct/Region.h"
#include "runtime/core/Error.h"

#include <sys/mman.h>

using namespace shardrt;

static int64_t roundUp(int64_t value, int64_t to) { return ceilDiv(value, to) * to; }

static const int64_t statesAt = (sizeof(RegionHeader) + 63) / 64 * 64;
static const int64_t pageBytes = 4096;

RegionLayout::RegionLayout(int ranks, int groups, int64_t arenaBytes)
    : ranks(ranks), groups(groups), arenaBytes(arenaBytes) {
  slotsAt = statesAt + ranks * static_cast<int64_t>(sizeof(RankState));
  int64_t slots = static_cast<int64_t>(groups) * ranks;
  stagingAt = roundUp(slotsAt + slots * static_cast<int64_t>(sizeof(Slot)), pageBytes);
  arenasAt = stagingAt + slots * 2 * eagerBytes;
  arenaStride = roundUp(arenaBytes, pageBytes);
  std::optional<int64_t> arenas = checkedMul(arenaStride, ranks);
  std::optional<int64_t> sum = arenas ? checkedAdd(arenasAt, *arenas) : std::nullopt;
  if (!sum)
    throw Error(SHARDRT_OUT_OF_MEMORY,
                cat(ranks, " arenas of ", arenaBytes, " bytes exceed the address space"));
  total = *sum;
}

Region::Region(const RegionLayout &layout, int fd) : layout(layout) {
  int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED | MAP_NORESERVE;
  void *mapping = mmap(nullptr, layout.total, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (mapping == MAP_FAILED)
    throw Error(SHARDRT_OUT_OF_MEMORY,
                cat("cannot map ", layout.total, " bytes for ", layout.ranks, " arenas of ",
                    layout.arenaBytes, " bytes: ", systemError()));
  base = static_cast<std::byte *>(mapping);
  // Matrices walk many pages at once: with pages of 4 KiB address translation can cost more than
  // the arithmetic. A wish only; shared memory follows it where the system is set to.
  madvise(mapping, layout.total, MADV_HUGEPAGE);
}

Region::~Region() { munmap(base, layout.total); }

RankState &Region::state(int rank) { return reinterpret_cast<RankState *>(base + statesAt)[rank]; }

Slot &Region::slot(int group, int rank) {
  return reinterpret_cast<Slot *>(base + layout.slotsAt)[group * layout.ranks + rank];
}

std::byte *Region::staging(int group, int rank, int parity) {
  return base + layout.stagingAt +
         ((int64_t(group) * layout.ranks + rank) * 2 + parity) * eagerBytes;
}
