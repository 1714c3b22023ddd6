// The states of a program as whole tensors with names: what checkpoints hold and callers see.
//   "<weight>"                    parameters
//   "optimizer.exp_avg.<weight>"  and exp_avg_sq, momentum
//   "gradient.<weight>"           after the reduction where that is sharded
//   "state.<name>"                scalars and other states without a bucket
#pragma once

#include "runtime/core/BucketRuns.h"

namespace shardrt {

/// Where a part of a tensor (all of it, unless it has segments) is kept.
struct TensorPart {
  const State *state;
  const Bucket *bucket;   // null: the state is the tensor, whole on every rank
  const BucketItem *item; // null with it
};

struct GlobalTensor {
  std::string name;
  StateRole role;
  DType dtype; // of the states; the wider one if they differ
  Shape shape;
  std::vector<TensorPart> parts;
};

/// By name. Throws SHARDRT_BAD_BUNDLE when the segments of a tensor leave a gap.
std::vector<GlobalTensor> globalTensors(const Program &program);

/// The runs of a part in a rank's state.
std::vector<BucketRun> runsOf(const Program &program, const Mesh &mesh, int64_t rank,
                              const TensorPart &part, const Shape &whole);
/// Of the ranks that hold the same elements, exactly one owns them.
bool owns(const Mesh &mesh, int64_t rank, const TensorPart &part);

} // namespace shardrt
