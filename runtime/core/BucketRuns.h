// Where the elements of a tensor lie in the states of a bucket.
#pragma once

#include "runtime/core/Program.h"

namespace shardrt {

/// `count` elements that follow each other both in a rank's state and in the whole tensor.
struct BucketRun {
  int64_t state, tensor, count; // offsets in elements
};

/// Elements of a bucket in a state that is cut over the axes `shard`, and the first of a rank.
int64_t heldLength(const Bucket &bucket, const SubAxes &shard);
int64_t firstElement(const Mesh &mesh, int64_t rank, const Bucket &bucket, const SubAxes &shard);

/// The runs of an item in a rank's state that is cut over `shard`, by state offset. Padding is in
/// none. `whole` is the shape of the tensor that the item is, or is a segment of.
std::vector<BucketRun> bucketRuns(const Mesh &mesh, int64_t rank, const Bucket &bucket,
                                  const BucketItem &item, const SubAxes &shard, const Shape &whole);

/// Of the ranks that hold the same elements of an item, exactly one is its owner.
bool ownsItem(const Mesh &mesh, int64_t rank, const BucketItem &item, const SubAxes &shard);

/// Whether an item can be a part of a tensor of this shape.
bool fitsInto(const Shape &shape, const Segment &segment, const Shape &whole);

} // namespace shardrt
