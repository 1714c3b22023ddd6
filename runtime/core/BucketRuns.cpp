// An item's elements are its slice's, row by row; a rank's state cuts a range out of them. A row of
// the slice is a run in the tensor, and rows that touch each other there become one.
#include "runtime/core/BucketRuns.h"

#include <algorithm>

using namespace shardrt;

/// The tensor offset of a row (all dimensions but the last) of a slice; -1 if the row is padding.
static int64_t rowOffset(const Slices &slices, const Shape &strides, int64_t row) {
  int64_t offset = 0;
  for (size_t d = slices.size() - 1; d-- > 0;) {
    int64_t at = row % slices[d].local;
    row /= slices[d].local;
    if (at >= slices[d].valid)
      return -1;
    offset += (slices[d].begin + at) * strides[d];
  }
  return offset;
}

static void append(std::vector<BucketRun> &runs, const BucketRun &run) {
  if (run.count <= 0)
    return;
  if (!runs.empty() && runs.back().state + runs.back().count == run.state &&
      runs.back().tensor + runs.back().count == run.tensor)
    runs.back().count += run.count;
  else
    runs.push_back(run);
}

int64_t shardrt::heldLength(const Bucket &bucket, const SubAxes &shard) {
  return bucket.length / sizeOf(shard);
}

int64_t shardrt::firstElement(const Mesh &mesh, int64_t rank, const Bucket &bucket,
                              const SubAxes &shard) {
  return mesh.indexAlong(rank, shard) * heldLength(bucket, shard);
}

std::vector<BucketRun> shardrt::bucketRuns(const Mesh &mesh, int64_t rank, const Bucket &bucket,
                                           const BucketItem &item, const SubAxes &shard,
                                           const Shape &whole) {
  int64_t held = heldLength(bucket, shard), first = firstElement(mesh, rank, bucket, shard);
  Slices slices = slicesOf(mesh, rank, item.shape, item.sharding);
  Shape strides = rowMajorStrides(whole);
  int64_t base = item.segment.dim < 0 ? 0 : item.segment.offset * strides[item.segment.dim];
  if (slices.empty()) { // a scalar
    bool inside = item.offset >= first && item.offset < first + held;
    return inside ? std::vector<BucketRun>{{item.offset - first, 0, 1}} : std::vector<BucketRun>{};
  }
  int64_t count = *checkedCount(localShape(item.shape, item.sharding));
  int64_t begin = std::clamp<int64_t>(first - item.offset, 0, count);
  int64_t end = std::clamp<int64_t>(first + held - item.offset, 0, count);
  const DimSlice &last = slices.back();
  std::vector<BucketRun> runs;
  for (int64_t at = begin; at < end;) {
    int64_t row = at / last.local, rowBegin = row * last.local;
    int64_t next = std::min(end, rowBegin + last.local);
    if (int64_t offset = rowOffset(slices, strides, row); offset >= 0)
      append(runs, {item.offset + at - first, base + offset + last.begin + at - rowBegin,
                    std::min(next, rowBegin + last.valid) - at});
    at = next;
  }
  return runs;
}

bool shardrt::ownsItem(const Mesh &mesh, int64_t rank, const BucketItem &item,
                       const SubAxes &shard) {
  auto same = [&](int64_t other) {
    return mesh.indexAlong(rank, shard) == mesh.indexAlong(other, shard) &&
           std::all_of(item.sharding.begin(), item.sharding.end(), [&](const SubAxes &axes) {
             return mesh.indexAlong(rank, axes) == mesh.indexAlong(other, axes);
           });
  };
  for (int64_t other = 0; other < rank; ++other)
    if (same(other))
      return false;
  return true;
}

bool shardrt::fitsInto(const Shape &shape, const Segment &segment, const Shape &whole) {
  bool fits = whole.size() == shape.size();
  for (size_t i = 0; fits && i < whole.size(); ++i)
    fits = static_cast<int>(i) == segment.dim ? segment.offset <= whole[i] - segment.size
                                              : whole[i] == shape[i];
  return fits;
}
