// Every rank copies the rows of all sources into its destination.
#include "runtime/channels/direct/DirectChannel.h"

#include <cstring>

using namespace shardrt;

void DirectChannel::allGather(Group &group, const Collective &call) {
  int64_t size = dtypeSize(call.dtype);
  std::byte *dst = static_cast<std::byte *>(call.dst);
  int members = static_cast<int>(group.ranks.size());
  for (int step = 0; step < members; ++step) {
    int m = (group.index + step) % members; // not everybody reads from the same rank at once
    const std::byte *src = peerSrc(group, m);
    int64_t bytes = validRows(m, call.inner, call.total) * size;
    if (src == dst + m * call.inner * size && call.outer == 1) // in place
      continue;
    for (int64_t o = 0; o < call.outer && bytes > 0; ++o)
      std::memmove(dst + (o * call.total + m * call.inner) * size, src + o * call.inner * size,
                   bytes);
  }
}
