// Every rank fetches its rows of the split dimension from all ranks, which are consecutive in the
// concat dimension.
#include "runtime/channels/direct/DirectChannel.h"

#include <cstring>

using namespace shardrt;

void DirectChannel::allToAll(Group &group, const Collective &call) {
  AllToAllView view(call, static_cast<int64_t>(group.ranks.size()));
  int64_t size = dtypeSize(call.dtype);
  std::byte *dst = static_cast<std::byte *>(call.dst);
  int64_t firstSplit = group.index * view.splitLocal;
  int64_t splits = validRows(group.index, view.splitLocal, view.splitTotal);
  if (splits < view.splitLocal)
    std::memset(dst, 0,
                view.before * view.between * view.after * view.splitLocal * view.concatTotal *
                    size);
  for (size_t m = 0; m < group.ranks.size(); ++m) {
    const std::byte *src = peerSrc(group, static_cast<int>(m));
    int64_t firstConcat = m * view.concatLocal,
            concats = validRows(m, view.concatLocal, view.concatTotal);
    // Of the two dimensions, the second one and what follows it is one run of bytes.
    int64_t firsts = view.splitFirst ? splits : concats,
            run = (view.splitFirst ? concats : splits) * view.after * size;
    for (int64_t b = 0; b < view.before && run > 0; ++b)
      for (int64_t i = 0; i < firsts; ++i)
        for (int64_t j = 0; j < view.between; ++j) {
          int64_t split = view.splitFirst ? i : 0, concat = view.splitFirst ? 0 : i;
          std::memcpy(dst + view.dstOffset(b, split, j, firstConcat + concat) * size,
                      src + view.srcOffset(b, firstSplit + split, j, concat) * size, run);
        }
  }
}
