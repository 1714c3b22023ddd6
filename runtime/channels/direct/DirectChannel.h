// Collectives between ranks that can read each other's arenas: every rank pulls what it needs
// straight from its peers, with one copy and no staging. Threads (inprocess) and processes (shm)
// share this code, and with it every bit of the results.
#pragma once

#include "runtime/channels/direct/Region.h"
#include <algorithm>
#include <deque>
#include <functional>

namespace shardrt {

class DirectChannel : public Channel {
public:
  /// findLost returns a rank that has died, or -1; asked from time to time while waiting.
  DirectChannel(const char *name, std::shared_ptr<Region> region, const ChannelOptions &options,
                std::function<int()> findLost);
  ~DirectChannel() override;

  const char *name() const override { return label; }
  std::byte *arena() override { return region->arena(rank); }
  int createGroup(const std::vector<int> &ranks) override;
  int groupSize(int group) const override { return static_cast<int>(groupAt(group).ranks.size()); }
  int groupIndex(int group) const override { return groupAt(group).index; }
  void run(const Collective &call) override;
  bool concurrent() const override { return true; }
  void checkRanks() override;
  void abort(const std::string &message, shardrt_status status) noexcept override;

private:
  struct Group {
    int id;
    std::vector<int> ranks;
    int index;
    std::vector<const void *> sources; // one a member: room for a reduction
    uint32_t sequence = 0;             // barriers so far
    uint32_t collectives = 0;          // collectives so far
  };

  const Group &groupAt(int group) const;

  // Collectives, one file each.
  void allReduce(Group &group, const Collective &call);
  void allGather(Group &group, const Collective &call);
  void reduceScatter(Group &group, const Collective &call);
  void allToAll(Group &group, const Collective &call);
  void permute(Group &group, const Collective &call);
  void broadcast(Group &group, const Collective &call);
  void gather(Group &group, const Collective &call);

  // Synchronisation (Wait.cpp).
  void announce(Group &group, const Collective &call);
  void arrive(Group &group);
  void waitForAll(Group &group, const Collective &call);
  void barrier(Group &group, const Collective &call);
  void waitFor(Group &group, int member, const Collective &call);
  void checkAlive(Group &group, int member, const Collective &call, int64_t since);
  void throwIfAborted();
  void checkSignatures(Group &group, const Collective &call);
  void pace(Group &group, const Collective &call, int64_t since);

  const Announcement &announcement(Group &group, int member);
  const std::byte *peerSrc(Group &group, int member);
  const std::byte *peerDst(Group &group, int member);

  const char *label;
  std::shared_ptr<Region> region;
  ChannelOptions options;
  std::function<int()> findLost;
  std::deque<Group> groups; // addresses stay valid while the progress thread works on one
  int spins;
};

/// Rows of a local block of an uneven dimension: how many of `inner` rows member `index` really
/// has.
inline int64_t validRows(int64_t index, int64_t inner, int64_t total) {
  int64_t begin = std::min(index * inner, total);
  return std::min(inner, total - begin);
}

} // namespace shardrt
