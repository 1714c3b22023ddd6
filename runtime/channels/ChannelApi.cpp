// The C interface of channels (include/shardrt/channel.h).
#include "runtime/channels/Factories.h"
#include "runtime/core/Error.h"

#include <cstdlib>

using namespace shardrt;

static const int defaultMaxGroups = 64;

ChannelOptions shardrt::resolveOptions(const shardrt_channel_options &given) {
  if (given.ranks < 1 || given.rank < 0 || given.rank >= given.ranks)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("rank ", given.rank, " of ", given.ranks, " ranks does not exist"));
  if (given.arena_bytes > uint64_t(1) << 48)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("arena of ", given.arena_bytes, " bytes is not plausible"));
  if (given.max_groups < 0)
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("max_groups is ", given.max_groups));
  ChannelOptions options;
  options.rank = given.rank;
  options.ranks = given.ranks;
  options.arenaBytes = static_cast<int64_t>(given.arena_bytes);
  options.job = given.job ? given.job : "default";
  options.mpiShim = given.mpi_shim ? given.mpi_shim : "";
  options.fingerprint = given.fingerprint;
  options.timeout = given.timeout_s == 0 ? SHARDRT_DEFAULT_TIMEOUT_S : given.timeout_s;
  options.linkBytesPerSecond = given.link_gbps * 1e9 / 8;
  options.maxGroups = given.max_groups ? given.max_groups : defaultMaxGroups;
  options.address = given.address ? given.address : "";
  options.port = given.port;
  options.openMpi = std::getenv("OMPI_COMM_WORLD_RANK") != nullptr;
  return options;
}

static bool inArena(Channel &channel, const void *pointer, int64_t bytes) {
  auto at = reinterpret_cast<uintptr_t>(pointer),
       base = reinterpret_cast<uintptr_t>(channel.arena());
  return at >= base && at - base <= static_cast<uint64_t>(channel.arenaBytes) &&
         static_cast<uint64_t>(bytes) <= channel.arenaBytes - (at - base);
}

static void checkMembers(const Collective &call, int size) {
  if (call.root < 0 || call.root >= size)
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("root ", call.root, " is not in a group of ", size));
  for (auto [from, to] : call.pairs)
    if (from < 0 || from >= size || to < 0 || to >= size)
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("pair (", from, ", ", to, ") is not in a group of ", size));
}

void shardrt::checkCall(Channel &channel, const Collective &call) {
  int size = channel.groupSize(call.group);
  checkMembers(call, size);
  std::optional<CollectiveBytes> bytes = collectiveBytes(call, size);
  if (!bytes)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("the sizes of this ", collectiveName(call.kind), " contradict each other"));
  bool hasDst = call.kind !=
                CollectiveKind::Gather; // a gather's is checked by nobody: any memory of the root
  if ((bytes->src > 0 && !inArena(channel, call.src, bytes->src)) ||
      (hasDst && bytes->dst > 0 && !inArena(channel, call.dst, bytes->dst)))
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat(collectiveName(call.kind), " of ", bytes->src, " to ", bytes->dst,
                    " bytes leaves the arena of ", channel.arenaBytes, " bytes"));
}

static shardrt_channel wrap(std::unique_ptr<Channel> channel) {
  auto handle = std::make_unique<shardrt_channel_s>();
  handle->progress = std::make_unique<Progress>(std::move(channel));
  return handle.release();
}

shardrt_status shardrt_channel_create_inprocess(const shardrt_channel_options *options,
                                                shardrt_channel *out) {
  return guard([&] {
    shardrt_channel_options first = *options;
    first.rank = 0;
    for (std::unique_ptr<Channel> &channel : createInProcessChannels(resolveOptions(first)))
      *out++ = wrap(std::move(channel));
  });
}

shardrt_status shardrt_channel_create_shm(const shardrt_channel_options *options,
                                          shardrt_channel *out) {
  return guard([&] { *out = wrap(createShmChannel(resolveOptions(*options))); });
}

shardrt_status shardrt_channel_create_mpi(const shardrt_channel_options *options,
                                          shardrt_channel *out) {
  return guard([&] { *out = wrap(createMpiChannel(resolveOptions(*options))); });
}

shardrt_status shardrt_channel_create_tcp(const shardrt_channel_options *options,
                                          shardrt_channel *out) {
  return guard([&] { *out = wrap(createTcpChannel(resolveOptions(*options))); });
}

void shardrt_channel_release(shardrt_channel channel) { delete channel; }

shardrt_status shardrt_channel_arena(shardrt_channel channel, void **out) {
  return guard([&] { *out = channel->progress->channel().arena(); });
}

shardrt_status shardrt_group_create(shardrt_channel channel, const int32_t *ranks, int32_t size,
                                    int32_t *out) {
  return guard([&] {
    Channel &target = channel->progress->channel();
    for (int32_t i = 0; i < size; ++i)
      if (ranks[i] < 0 || ranks[i] >= target.ranks)
        throw Error(SHARDRT_INVALID_ARGUMENT,
                    cat("rank ", ranks[i], " of ", target.ranks, " ranks does not exist"));
    *out = target.createGroup(std::vector<int>(ranks, ranks + size));
  });
}

static void start(shardrt_channel_s &channel, const Collective &call, int64_t ticket) {
  auto [it, isNew] = channel.started.emplace(ticket, call);
  if (!isNew)
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("ticket ", ticket, " is already under way"));
  channel.progress->start(it->second, ticket);
}

/// Completes a call from its common part and hands it to the progress engine.
template <typename Fill>
static shardrt_status issue(shardrt_channel channel, CollectiveKind kind, const shardrt_call *call,
                            Fill &&fill) {
  return guard([&] {
    Collective collective;
    collective.kind = kind;
    collective.group = call->group;
    collective.dtype = call->dtype;
    collective.src = call->src;
    collective.dst = call->dst;
    fill(collective);
    checkCall(channel->progress->channel(), collective);
    if (call->ticket >= 0)
      start(*channel, collective, call->ticket);
    else
      channel->progress->run(collective);
  });
}

shardrt_status shardrt_all_reduce(shardrt_channel channel, const shardrt_call *call,
                                  shardrt_reduce reduce, int64_t count) {
  return issue(channel, CollectiveKind::AllReduce, call, [&](Collective &c) {
    c.reduce = reduce;
    c.count = count;
  });
}

static void setRows(Collective &c, int64_t outer, int64_t inner, int64_t total) {
  c.outer = outer;
  c.inner = inner;
  c.total = total;
}

shardrt_status shardrt_all_gather(shardrt_channel channel, const shardrt_call *call, int64_t outer,
                                  int64_t inner, int64_t total) {
  return issue(channel, CollectiveKind::AllGather, call,
               [&](Collective &c) { setRows(c, outer, inner, total); });
}

shardrt_status shardrt_reduce_scatter(shardrt_channel channel, const shardrt_call *call,
                                      shardrt_reduce reduce, int64_t outer, int64_t inner,
                                      int64_t total) {
  return issue(channel, CollectiveKind::ReduceScatter, call, [&](Collective &c) {
    c.reduce = reduce;
    setRows(c, outer, inner, total);
  });
}

shardrt_status shardrt_all_to_all(shardrt_channel channel, const shardrt_call *call,
                                  const int64_t *shape, int32_t dims, int32_t splitDim,
                                  int32_t concatDim, int64_t concatTotal) {
  return issue(channel, CollectiveKind::AllToAll, call, [&](Collective &c) {
    c.shape.assign(shape, shape + dims);
    c.splitDim = splitDim;
    c.concatDim = concatDim;
    c.concatTotal = concatTotal;
  });
}

shardrt_status shardrt_permute(shardrt_channel channel, const shardrt_call *call, int64_t count,
                               const int32_t *pairs, int32_t pairCount) {
  return issue(channel, CollectiveKind::Permute, call, [&](Collective &c) {
    c.count = count;
    for (int32_t i = 0; i < pairCount; ++i)
      c.pairs.push_back({pairs[2 * i], pairs[2 * i + 1]});
  });
}

shardrt_status shardrt_broadcast(shardrt_channel channel, const shardrt_call *call, int64_t count,
                                 int32_t root) {
  return issue(channel, CollectiveKind::Broadcast, call, [&](Collective &c) {
    c.count = count;
    c.root = root;
  });
}

shardrt_status shardrt_gather(shardrt_channel channel, const shardrt_call *call, int64_t count,
                              int32_t root) {
  return issue(channel, CollectiveKind::Gather, call, [&](Collective &c) {
    c.count = count;
    c.root = root;
  });
}

shardrt_status shardrt_barrier(shardrt_channel channel, int32_t group) {
  shardrt_call call = {group, SHARDRT_NO_TICKET, SHARDRT_UI8, nullptr, nullptr};
  return issue(channel, CollectiveKind::Barrier, &call, [](Collective &) {});
}

shardrt_status shardrt_wait(shardrt_channel channel, int64_t ticket) {
  return guard([&] {
    struct Forget { // also after an error
      std::map<int64_t, Collective> &started;
      int64_t ticket;
      ~Forget() { started.erase(ticket); }
    } forget{channel->started, ticket};
    channel->progress->wait(ticket);
  });
}

void shardrt_channel_abort(shardrt_channel channel, const char *message) {
  channel->progress->channel().abort(message, SHARDRT_INTERNAL);
}
