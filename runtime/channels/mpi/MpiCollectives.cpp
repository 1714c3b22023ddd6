// Rows that do not divide evenly are packed into equal blocks with zeros behind them.
#include "runtime/channels/mpi/MpiChannel.h"
#include "runtime/cpu/Reduce.h"

#include <algorithm>
#include <cstring>

using namespace shardrt;

static const int64_t smallBytes = 16 << 10;

static std::byte *grow(std::vector<std::byte> &staging, int64_t bytes) {
  if (static_cast<int64_t>(staging.size()) < bytes)
    staging.resize(bytes);
  return staging.data();
}

static int64_t validRows(int64_t index, int64_t inner, int64_t total) {
  return std::min(inner, total - std::min(index * inner, total));
}

void MpiChannel::exchange(Group &group, const std::byte *src, std::byte *dst, int64_t each,
                          const char *what) {
  shardrt_mpi_request request;
  check(shim.all_to_all(group.comm, src, dst, each, &request), what);
  complete(request, what);
}

void MpiChannel::gatherAll(Group &group, const void *src, void *dst, int64_t each,
                           const char *what) {
  shardrt_mpi_request request;
  check(shim.all_gather(group.comm, src, dst, each, &request), what);
  complete(request, what);
}

static void reduceBlocks(const Collective &call, void *dst, const std::byte *blocks, int members,
                         int64_t count) {
  std::vector<const void *> srcs(members);
  for (int m = 0; m < members; ++m)
    srcs[m] = blocks + m * count * dtypeSize(call.dtype);
  reduceInRankOrder(call.dtype, call.reduce, dst, srcs.data(), members, count);
}

/// One exchange instead of two: everybody gets everything.
void MpiChannel::allReduceSmall(Group &group, const Collective &call) {
  int64_t bytes = call.count * dtypeSize(call.dtype);
  std::byte *received = grow(group.received, bytes * group.size);
  gatherAll(group, call.src, received, bytes, "all_reduce");
  reduceBlocks(call, call.dst, received, group.size, call.count);
}

void MpiChannel::allReduce(Group &group, const Collective &call) {
  int64_t size = dtypeSize(call.dtype), bytes = call.count * size;
  if (bytes <= smallBytes)
    return allReduceSmall(group, call);
  int64_t chunk = ceilDiv(call.count, group.size);
  bool even = chunk * group.size == call.count;
  std::byte *sent = grow(group.sent, (even ? 0 : chunk * group.size * size) + chunk * size);
  std::byte *reduced = sent, *padded = sent + chunk * size;
  std::byte *received = grow(group.received, chunk * group.size * size);
  if (!even) {
    std::memcpy(padded, call.src, bytes);
    std::memset(padded + bytes, 0, chunk * group.size * size - bytes);
  }
  exchange(group, even ? static_cast<const std::byte *>(call.src) : padded, received, chunk * size,
           "all_reduce");
  reduceBlocks(call, reduced, received, group.size, chunk);
  gatherAll(group, reduced, even ? call.dst : padded, chunk * size, "all_reduce");
  if (!even)
    std::memcpy(call.dst, padded, bytes);
}

void MpiChannel::allGather(Group &group, const Collective &call) {
  int64_t size = dtypeSize(call.dtype), block = call.outer * call.inner * size;
  if (call.outer == 1 && call.inner * group.size == call.total)
    return gatherAll(group, call.src, call.dst, block, "all_gather");
  std::byte *received = grow(group.received, block * group.size);
  gatherAll(group, call.src, received, block, "all_gather");
  for (int m = 0; m < group.size; ++m)
    for (int64_t o = 0, bytes = validRows(m, call.inner, call.total) * size;
         o < call.outer && bytes > 0; ++o)
      std::memcpy(static_cast<std::byte *>(call.dst) + (o * call.total + m * call.inner) * size,
                  received + m * block + o * call.inner * size, bytes);
}

void MpiChannel::reduceScatter(Group &group, const Collective &call) {
  int64_t size = dtypeSize(call.dtype), block = call.outer * call.inner * size;
  const std::byte *src = static_cast<const std::byte *>(call.src);
  if (call.outer != 1 || call.inner * group.size != call.total) {
    std::byte *sent = grow(group.sent, block * group.size);
    std::memset(sent, 0, block * group.size);
    for (int m = 0; m < group.size; ++m)
      for (int64_t o = 0, bytes = validRows(m, call.inner, call.total) * size;
           o < call.outer && bytes > 0; ++o)
        std::memcpy(sent + m * block + o * call.inner * size,
                    src + (o * call.total + m * call.inner) * size, bytes);
    src = sent;
  }
  std::byte *received = grow(group.received, block * group.size);
  exchange(group, src, received, block, "reduce_scatter");
  reduceBlocks(call, call.dst, received, group.size,
               call.outer * call.inner); // zeros reduce to zeros
}

void MpiChannel::allToAll(Group &group, const Collective &call) {
  AllToAllView view(call, group.size);
  int64_t size = dtypeSize(call.dtype);
  int64_t block =
      view.before * view.between * view.after * view.splitLocal * view.concatLocal * size;
  std::byte *sent = grow(group.sent, block * group.size),
            *received = grow(group.received, block * group.size);
  std::memset(sent, 0, block * group.size);
  // The run over the second of the two dimensions is contiguous in all three layouts.
  auto copyBlock = [&](int64_t splits, int64_t concats, auto &&copy) {
    int64_t firsts = view.splitFirst ? splits : concats,
            run = (view.splitFirst ? concats : splits) * view.after * size;
    for (int64_t b = 0; b < view.before && run > 0; ++b)
      for (int64_t i = 0; i < firsts; ++i)
        for (int64_t j = 0; j < view.between; ++j)
          copy(b, view.splitFirst ? i : 0, j, view.splitFirst ? 0 : i, run);
  };
  const std::byte *src = static_cast<const std::byte *>(call.src);
  std::byte *dst = static_cast<std::byte *>(call.dst);
  for (int m = 0; m < group.size; ++m)
    copyBlock(validRows(m, view.splitLocal, view.splitTotal), view.concatLocal,
              [&](int64_t b, int64_t split, int64_t j, int64_t concat, int64_t run) {
                std::memcpy(sent + m * block + view.blockOffset(b, split, j, concat) * size,
                            src + view.srcOffset(b, m * view.splitLocal + split, j, concat) * size,
                            run);
              });
  exchange(group, sent, received, block, "all_to_all");
  for (int m = 0; m < group.size; ++m)
    copyBlock(view.splitLocal, validRows(m, view.concatLocal, view.concatTotal),
              [&](int64_t b, int64_t split, int64_t j, int64_t concat, int64_t run) {
                std::memcpy(dst + view.dstOffset(b, split, j, m * view.concatLocal + concat) * size,
                            received + m * block + view.blockOffset(b, split, j, concat) * size,
                            run);
              });
}

void MpiChannel::permute(Group &group, const Collective &call) {
  int64_t bytes = call.count * dtypeSize(call.dtype);
  shardrt_mpi_request sending = nullptr, receiving = nullptr;
  bool gotOwn = false;
  for (auto [from, to] : call.pairs) {
    gotOwn |= from == group.index && to == group.index;
    if (to == group.index && from != to)
      check(shim.receive(group.comm, call.dst, bytes, from, &receiving), "permute");
    if (from == group.index && from != to)
      check(shim.send(group.comm, call.src, bytes, to, &sending), "permute");
  }
  if (gotOwn)
    std::memcpy(call.dst, call.src, bytes);
  else if (!receiving)
    std::memset(call.dst, 0, bytes);
  if (receiving)
    complete(receiving, "permute");
  if (sending)
    complete(sending, "permute");
}

void MpiChannel::broadcast(Group &group, const Collective &call) {
  bool isRoot = group.index == call.root;
  int64_t bytes = call.count * dtypeSize(call.dtype);
  if (isRoot && call.dst != call.src)
    std::memmove(call.dst, call.src, bytes);
  shardrt_mpi_request request;
  check(shim.broadcast(group.comm, call.dst, bytes, call.root, &request), "broadcast");
  complete(request, "broadcast");
}

void MpiChannel::run(const Collective &call) {
  Group &group = groups[call.group];
  shardrt_mpi_request request;
  switch (call.kind) {
  case CollectiveKind::AllReduce:
    return allReduce(group, call);
  case CollectiveKind::AllGather:
    return allGather(group, call);
  case CollectiveKind::ReduceScatter:
    return reduceScatter(group, call);
  case CollectiveKind::AllToAll:
    return allToAll(group, call);
  case CollectiveKind::Permute:
    return permute(group, call);
  case CollectiveKind::Broadcast:
    return broadcast(group, call);
  case CollectiveKind::Gather:
    check(shim.gather(group.comm, call.src, call.dst, call.count * dtypeSize(call.dtype), call.root,
                      &request),
          "gather");
    return complete(request, "gather");
  case CollectiveKind::Barrier:
    check(shim.barrier(group.comm, &request), "barrier");
    return complete(request, "barrier");
  }
}
