// Small: everybody reduces everything from the staging areas. Large: everybody reduces one chunk of
// all sources into its own destination, and after a barrier fetches the other chunks from their
// owners. Each element is reduced in rank order either way. In place works, since a rank writes its
// own chunk only, which nobody else reads before the barrier.
#include "runtime/channels/direct/DirectChannel.h"
#include "runtime/cpu/Reduce.h"

#include <cstring>

using namespace shardrt;

void DirectChannel::allReduce(Group &group, const Collective &call) {
  int64_t size = dtypeSize(call.dtype);
  int members = static_cast<int>(group.ranks.size());
  std::byte *dst = static_cast<std::byte *>(call.dst);
  std::vector<const void *> &srcs = group.sources;
  if (call.count * size <= eagerBytes) {
    for (int m = 0; m < members; ++m)
      srcs[m] = region->staging(group.id, group.ranks[m], group.collectives & 1);
    return reduceInRankOrder(call.dtype, call.reduce, dst, srcs.data(), members, call.count);
  }
  // Chunks of whole cache lines, so that owners do not write to each other's lines.
  int64_t chunk = ceilDiv(ceilDiv(call.count, members) * size, 64) * 64 / size;
  int64_t begin = std::min(group.index * chunk, call.count);
  for (int m = 0; m < members; ++m)
    srcs[m] = peerSrc(group, m) + begin * size;
  reduceInRankOrder(call.dtype, call.reduce, dst + begin * size, srcs.data(), members,
                    validRows(group.index, chunk, call.count));
  barrier(group, call);
  for (int m = 0; m < members; ++m)
    if (m != group.index) {
      int64_t offset = std::min(m * chunk, call.count) * size;
      std::memcpy(dst + offset, peerDst(group, m) + offset, validRows(m, chunk, call.count) * size);
    }
}
