// permute, broadcast, gather: whole buffers from one rank to another.
#include "runtime/channels/direct/DirectChannel.h"

#include <cstring>

using namespace shardrt;

void DirectChannel::permute(Group &group, const Collective &call) {
  int64_t bytes = call.count * dtypeSize(call.dtype);
  for (auto [from, to] : call.pairs)
    if (to == group.index) {
      std::memcpy(call.dst, peerSrc(group, from), bytes);
      return;
    }
  std::memset(call.dst, 0, bytes);
}

void DirectChannel::broadcast(Group &group, const Collective &call) {
  const std::byte *src = peerSrc(group, call.root);
  if (call.dst != src) // in place, the root must not even rewrite what others read
    std::memmove(call.dst, src, call.count * dtypeSize(call.dtype));
}

void DirectChannel::gather(Group &group, const Collective &call) {
  int64_t bytes = call.count * dtypeSize(call.dtype);
  for (size_t m = 0; m < group.ranks.size() && group.index == call.root; ++m)
    std::memcpy(static_cast<std::byte *>(call.dst) + m * bytes, peerSrc(group, static_cast<int>(m)),
                bytes);
}
