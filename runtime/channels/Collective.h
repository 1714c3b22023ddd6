// One collective call: what the command list, the C interface and the channels have in common.
#pragma once

#include "runtime/core/DType.h"
#include <utility>

namespace shardrt {

enum class CollectiveKind {
  AllReduce,
  AllGather,
  ReduceScatter,
  AllToAll,
  Permute,
  Broadcast,
  Gather,
  Barrier
};

struct Collective {
  CollectiveKind kind = CollectiveKind::Barrier;
  int group = 0; // a channel's group number
  DType dtype = SHARDRT_F32;
  shardrt_reduce reduce = SHARDRT_SUM;
  const void *src = nullptr;
  void *dst = nullptr;
  int64_t count = 0;                       // all_reduce, permute, broadcast, gather
  int64_t outer = 0, inner = 0, total = 0; // all_gather, reduce_scatter
  Shape shape;                             // all_to_all: local shape of src
  int splitDim = 0, concatDim = 0;
  int64_t concatTotal = 0;
  std::vector<std::pair<int, int>> pairs; // permute: group indices (from, to)
  int root = 0;
};

const char *collectiveName(CollectiveKind kind);

/// Bytes that a call reads at src and writes at dst, for a group of `size` ranks. Empty on overflow
/// or when the fields contradict each other. (Gather: dst is what the root writes.)
struct CollectiveBytes {
  int64_t src, dst;
};
std::optional<CollectiveBytes> collectiveBytes(const Collective &call, int64_t size);

/// all_to_all as five nested loops: before × first × between × second × after, where first and
/// second are the split and the concat dimension in the order of the tensor.
struct AllToAllView {
  int64_t before, between, after;
  bool splitFirst;
  int64_t splitTotal, splitLocal, concatTotal, concatLocal;
  AllToAllView(const Collective &call, int64_t size);
  /// Element offset in src (split whole, concat local) and in dst (split local, concat whole).
  int64_t srcOffset(int64_t b, int64_t split, int64_t m, int64_t concat) const;
  int64_t dstOffset(int64_t b, int64_t split, int64_t m, int64_t concat) const;
  /// In a message from one rank to another (both local).
  int64_t blockOffset(int64_t b, int64_t split, int64_t m, int64_t concat) const;
};

} // namespace shardrt
