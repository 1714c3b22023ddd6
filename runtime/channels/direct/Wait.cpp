// Barriers of a group. Every rank counts the barriers it has reached in its own slot, and waits
// until the slots of the others have reached the same number: first spinning, since peers are
// usually close, then asleep on a futex. While asleep it looks from time to time whether the job
// was aborted, a rank died, or the deadline passed.
#include "runtime/channels/direct/DirectChannel.h"
#include "runtime/core/Error.h"
#include "runtime/core/Trace.h"

#include <cerrno>
#include <cstring>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

using namespace shardrt;

static const int64_t sliceNs = 20 * 1000 * 1000;

// Not the "private" futex operations: the word may be shared between processes.
static void futexWait(std::atomic<uint32_t> &word, uint32_t expected) {
  timespec timeout = {0, sliceNs};
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAIT, expected, &timeout, nullptr,
          0);
}

static void futexWakeAll(std::atomic<uint32_t> &word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAKE, INT32_MAX, nullptr, nullptr,
          0);
}

static bool reached(uint32_t sequence, uint32_t target) {
  return static_cast<int32_t>(sequence - target) >= 0;
}

static uint64_t signatureOf(const Collective &call) {
  uint64_t hash = 1469598103934665603ull; // FNV-1a over the fields that must agree
  auto add = [&](int64_t value) {
    hash = (hash ^ static_cast<uint64_t>(value)) * 1099511628211ull;
  };
  for (int64_t value : {int64_t(call.kind), int64_t(call.dtype), int64_t(call.reduce), call.count,
                        call.outer, call.inner, call.total, int64_t(call.splitDim),
                        int64_t(call.concatDim), call.concatTotal, int64_t(call.root)})
    add(value);
  for (int64_t dim : call.shape)
    add(dim);
  for (auto [from, to] : call.pairs)
    add(int64_t(from) << 32 | to);
  return hash;
}

void DirectChannel::announce(Group &group, const Collective &call) {
  Announcement &mine = region->slot(group.id, rank).announcements[group.collectives & 1];
  const std::byte *base = arena();
  mine.signature = signatureOf(call);
  mine.kind = static_cast<uint32_t>(call.kind);
  mine.src = call.src ? static_cast<const std::byte *>(call.src) - base : 0;
  // A gather's destination is the root's own affair and may lie outside the arena.
  mine.dst = call.dst && call.kind != CollectiveKind::Gather
                 ? static_cast<const std::byte *>(call.dst) - base
                 : 0;
}

void DirectChannel::arrive(Group &group) {
  Slot &mine = region->slot(group.id, rank);
  // Sequentially consistent: either we see the sleeper, or the sleeper sees the new number.
  mine.sequence.store(++group.sequence, std::memory_order_seq_cst);
  if (mine.waiters.load(std::memory_order_seq_cst) != 0)
    futexWakeAll(mine.sequence);
}

void DirectChannel::waitForAll(Group &group, const Collective &call) {
  for (size_t member = 0; member < group.ranks.size(); ++member)
    if (static_cast<int>(member) != group.index)
      waitFor(group, static_cast<int>(member), call);
}

void DirectChannel::barrier(Group &group, const Collective &call) {
  arrive(group);
  waitForAll(group, call);
}

void DirectChannel::waitFor(Group &group, int member, const Collective &call) {
  Slot &slot = region->slot(group.id, group.ranks[member]);
  for (int i = 0; i < spins; ++i) {
    if (reached(slot.sequence.load(std::memory_order_acquire), group.sequence))
      return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  int64_t since = nowNs();
  slot.waiters.fetch_add(1, std::memory_order_seq_cst);
  struct Leave {
    Slot &slot;
    ~Leave() { slot.waiters.fetch_sub(1, std::memory_order_relaxed); }
  } leave{slot};
  for (;;) {
    uint32_t now = slot.sequence.load(std::memory_order_seq_cst);
    if (reached(now, group.sequence))
      return;
    futexWait(slot.sequence, now);
    if (!reached(slot.sequence.load(std::memory_order_acquire), group.sequence) &&
        nowNs() - since >= sliceNs)
      checkAlive(group, member, call, since);
  }
}

void DirectChannel::throwIfAborted() {
  RegionHeader &header = region->header();
  if (header.abortState.load(std::memory_order_acquire) != 2)
    return;
  char message[abortMessageBytes];
  std::memcpy(message, header.abortMessage, sizeof(message));
  message[abortMessageBytes - 1] = 0;
  throw AbortedError(message);
}

void DirectChannel::checkRanks() {
  throwIfAborted();
  if (int lost = findLost ? findLost() : -1; lost >= 0)
    throw Error(SHARDRT_RANK_LOST,
                cat("rank ", lost, " (process ", region->state(lost).pid.load(), ") died"));
}

void DirectChannel::checkAlive(Group &group, int member, const Collective &call, int64_t since) {
  throwIfAborted();
  int awaited = group.ranks[member];
  int lost = findLost ? findLost() : -1;
  // A rank that finished may have reached the barrier just before: look at its number once more.
  bool finished = region->state(awaited).finished.load(std::memory_order_acquire) != 0;
  if (reached(region->slot(group.id, awaited).sequence.load(std::memory_order_acquire),
              group.sequence))
    return;
  if (finished)
    throw Error(SHARDRT_RANK_LOST, cat("rank ", awaited, " has left, while rank ", rank,
                                       " waits for it in ", collectiveName(call.kind)));
  if (lost >= 0)
    throw Error(SHARDRT_RANK_LOST, cat("rank ", lost, " (process ", region->state(lost).pid.load(),
                                       ") died, while rank ", rank, " waits for rank ", awaited,
                                       " in ", collectiveName(call.kind)));
  double seconds = (nowNs() - since) * 1e-9;
  if (options.timeout > 0 && seconds > options.timeout)
    throw Error(SHARDRT_TIMEOUT,
                cat("rank ", rank, " has waited ", static_cast<int64_t>(seconds), " s for rank ",
                    awaited, " in ", collectiveName(call.kind), " of group ", group.id,
                    ", the limit is ", options.timeout, " s"));
}

void DirectChannel::checkSignatures(Group &group, const Collective &call) {
  const Announcement &mine = announcement(group, group.index);
  for (size_t member = 0; member < group.ranks.size(); ++member) {
    const Announcement &other = announcement(group, static_cast<int>(member));
    if (other.signature != mine.signature)
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("rank ", group.ranks[member], " calls ",
                      collectiveName(static_cast<CollectiveKind>(other.kind)), " where rank ", rank,
                      " calls ", collectiveName(call.kind),
                      other.kind == mine.kind ? " with other sizes" : ""));
  }
}

/// Bytes that a rank receives from others.
static int64_t receivedBytes(const Collective &call, int64_t size) {
  std::optional<CollectiveBytes> bytes = collectiveBytes(call, size);
  switch (call.kind) {
  case CollectiveKind::AllReduce:
    return 2 * bytes->src / size * (size - 1);
  case CollectiveKind::ReduceScatter:
    return bytes->dst * (size - 1);
  case CollectiveKind::AllGather:
  case CollectiveKind::AllToAll:
    return bytes->dst / size * (size - 1);
  default:
    return bytes->dst;
  }
}

void DirectChannel::pace(Group &group, const Collective &call, int64_t since) {
  if (options.linkBytesPerSecond <= 0 || group.ranks.size() == 1)
    return;
  double seconds = receivedBytes(call, group.ranks.size()) / options.linkBytesPerSecond;
  int64_t until = since + static_cast<int64_t>(seconds * 1e9);
  timespec at = {until / 1000000000, until % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR)
    ;
}
