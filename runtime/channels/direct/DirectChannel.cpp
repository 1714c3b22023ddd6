// The frame of every collective: announce, first barrier, the work of one of the neighbouring
// files, last barrier.
#include "runtime/channels/direct/DirectChannel.h"
#include "runtime/core/Error.h"
#include "runtime/core/ThreadPool.h"
#include "runtime/core/Trace.h"

#include <cstring>

using namespace shardrt;

static const int spinsWhenAlone = 4000;
static const int spinsWhenCrowded = 100; // fewer processors than ranks: the peer may need ours

DirectChannel::DirectChannel(const char *name, std::shared_ptr<Region> sharedRegion,
                             const ChannelOptions &options, std::function<int()> findLost)
    : label(name), region(std::move(sharedRegion)), options(options), findLost(std::move(findLost)),
      spins(options.ranks <= usableCpus() ? spinsWhenAlone : spinsWhenCrowded) {
  rank = options.rank;
  ranks = options.ranks;
  arenaBytes = options.arenaBytes;
  timeout = options.timeout;
  std::vector<int> world(ranks);
  for (int i = 0; i < ranks; ++i)
    world[i] = i;
  createGroup(world);
}

DirectChannel::~DirectChannel() {
  region->state(rank).finished.store(1, std::memory_order_release);
}

int DirectChannel::createGroup(const std::vector<int> &members) {
  int id = static_cast<int>(groups.size());
  if (id >= region->layout.groups)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("more groups than the ", region->layout.groups, " that were asked for"));
  auto me = std::find(members.begin(), members.end(), rank);
  if (me == members.end())
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("rank ", rank, " creates a group that it is not in"));
  groups.push_back({id, members, static_cast<int>(me - members.begin()),
                    std::vector<const void *>(members.size())});
  return id;
}

const DirectChannel::Group &DirectChannel::groupAt(int group) const {
  if (group < 0 || group >= static_cast<int>(groups.size()))
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("group ", group, " does not exist, there are ", groups.size()));
  return groups[group];
}

const Announcement &DirectChannel::announcement(Group &group, int member) {
  return region->slot(group.id, group.ranks[member]).announcements[group.collectives & 1];
}

const std::byte *DirectChannel::peerSrc(Group &group, int member) {
  return region->arena(group.ranks[member]) + announcement(group, member).src;
}

const std::byte *DirectChannel::peerDst(Group &group, int member) {
  return region->arena(group.ranks[member]) + announcement(group, member).dst;
}

void DirectChannel::run(const Collective &call) {
  throwIfAborted();
  Group &group = groups[call.group];
  announce(group, call);
  // A small all_reduce also sends its data along with the announcement.
  bool eager =
      call.kind == CollectiveKind::AllReduce && call.count * dtypeSize(call.dtype) <= eagerBytes;
  if (eager && call.count > 0)
    std::memcpy(region->staging(group.id, rank, group.collectives & 1), call.src,
                call.count * dtypeSize(call.dtype));
  barrier(group, call);
  checkSignatures(group, call);
  int64_t since = nowNs();
  switch (call.kind) {
  case CollectiveKind::AllReduce:
    allReduce(group, call);
    break;
  case CollectiveKind::AllGather:
    allGather(group, call);
    break;
  case CollectiveKind::ReduceScatter:
    reduceScatter(group, call);
    break;
  case CollectiveKind::AllToAll:
    allToAll(group, call);
    break;
  case CollectiveKind::Permute:
    permute(group, call);
    break;
  case CollectiveKind::Broadcast:
    broadcast(group, call);
    break;
  case CollectiveKind::Gather:
    gather(group, call);
    break;
  case CollectiveKind::Barrier:
    break;
  }
  pace(group, call, since);
  // Nobody may overwrite what a peer still reads. Staging is double-buffered, so it needs no second
  // barrier.
  if (!eager && call.kind != CollectiveKind::Barrier)
    barrier(group, call);
  ++group.collectives;
}

void DirectChannel::abort(const std::string &message, shardrt_status) noexcept {
  RegionHeader &header = region->header();
  uint32_t running = 0;
  if (!header.abortState.compare_exchange_strong(running, 1))
    return;
  size_t length = std::min<size_t>(message.size(), abortMessageBytes - 1);
  std::memcpy(header.abortMessage, message.data(), length);
  header.abortMessage[length] = 0;
  header.abortState.store(2, std::memory_order_release);
}
