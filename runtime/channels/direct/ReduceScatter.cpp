// Every rank reduces its own rows of all sources.
#include "runtime/channels/direct/DirectChannel.h"
#include "runtime/cpu/Reduce.h"

#include <cstring>

using namespace shardrt;

void DirectChannel::reduceScatter(Group &group, const Collective &call) {
  int64_t size = dtypeSize(call.dtype);
  int members = static_cast<int>(group.ranks.size());
  int64_t begin = std::min(group.index * call.inner, call.total);
  int64_t valid = validRows(group.index, call.inner, call.total);
  std::vector<const void *> &srcs = group.sources;
  for (int64_t o = 0; o < call.outer; ++o) {
    std::byte *row = static_cast<std::byte *>(call.dst) + o * call.inner * size;
    for (int m = 0; m < members; ++m)
      srcs[m] = peerSrc(group, m) + (o * call.total + begin) * size;
    if (valid > 0)
      reduceInRankOrder(call.dtype, call.reduce, row, srcs.data(), members, valid);
    std::memset(row + valid * size, 0, (call.inner - valid) * size);
  }
}
