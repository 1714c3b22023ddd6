#include "runtime/core/GlobalTensors.h"
#include "runtime/core/Error.h"

#include <algorithm>
#include <map>

using namespace shardrt;

static std::string nameOf(StateRole role, const std::string &weight) {
  switch (role) {
  case StateRole::Parameter:
    return weight;
  case StateRole::Gradient:
    return "gradient." + weight;
  default:
    return cat("optimizer.", roleName(role), ".", weight);
  }
}

/// A bucket may have gradients that are still to be reduced beside those that were, which are cut
/// over more axes.
static bool isSuperseded(const Program &program, const State &state) {
  return state.role == StateRole::Gradient &&
         std::any_of(program.states.begin(), program.states.end(), [&](const State &other) {
           return other.role == state.role && other.bucket == state.bucket &&
                  other.shard.size() > state.shard.size();
         });
}

static DType wider(DType a, DType b) {
  if (a == b)
    return a;
  return a == SHARDRT_F64 || b == SHARDRT_F64 ? SHARDRT_F64 : SHARDRT_F32;
}

static void addPart(GlobalTensor &tensor, const TensorPart &part, DType dtype) {
  const BucketItem &item = *part.item;
  if (tensor.parts.empty()) {
    tensor.dtype = dtype;
    tensor.shape = item.shape;
  }
  tensor.dtype = wider(tensor.dtype, dtype);
  if (int dim = item.segment.dim; dim >= 0)
    tensor.shape[dim] = std::max(tensor.parts.empty() ? 0 : tensor.shape[dim],
                                 item.segment.offset + item.segment.size);
  tensor.parts.push_back(part);
}

/// Segments do not overlap, so that they leave no gap when their sizes add up to the whole.
static void checkCovered(const GlobalTensor &tensor) {
  int64_t covered = 0;
  int dim = tensor.parts.front().item ? tensor.parts.front().item->segment.dim : -1;
  if (dim < 0)
    return;
  for (const TensorPart &part : tensor.parts)
    covered += part.item->segment.size;
  if (covered != tensor.shape[dim])
    throw Error(SHARDRT_BAD_BUNDLE,
                cat("the program holds ", covered, " of ", tensor.shape[dim],
                    " rows along dimension ", dim, " of \"", tensor.name, "\""));
}

std::vector<GlobalTensor> shardrt::globalTensors(const Program &program) {
  std::map<std::string, GlobalTensor> tensors;
  for (const State &state : program.states) {
    const Buffer &buffer = program.buffers[state.buffer];
    if (state.bucket < 0 && state.role == StateRole::Scalar) {
      std::string name = "state." + state.name;
      tensors[name] = {name, state.role, buffer.dtype, buffer.shape, {{&state, nullptr, nullptr}}};
    }
    if (state.bucket < 0 || state.role == StateRole::ComputeParameter ||
        isSuperseded(program, state))
      continue;
    const Bucket &bucket = program.buckets[state.bucket];
    for (const BucketItem &item : bucket.items) {
      GlobalTensor &tensor = tensors[nameOf(state.role, item.tensor)];
      tensor.name = nameOf(state.role, item.tensor);
      tensor.role = state.role;
      addPart(tensor, {&state, &bucket, &item}, buffer.dtype);
    }
  }
  std::vector<GlobalTensor> result;
  for (auto &[name, tensor] : tensors) {
    checkCovered(tensor);
    result.push_back(std::move(tensor));
  }
  return result;
}

std::vector<BucketRun> shardrt::runsOf(const Program &program, const Mesh &mesh, int64_t rank,
                                       const TensorPart &part, const Shape &whole) {
  if (!part.bucket)
    return {{0, 0, *checkedCount(program.buffers[part.state->buffer].shape)}};
  return bucketRuns(mesh, rank, *part.bucket, *part.item, part.state->shard, whole);
}

bool shardrt::owns(const Mesh &mesh, int64_t rank, const TensorPart &part) {
  return part.bucket ? ownsItem(mesh, rank, *part.item, part.state->shard) : rank == 0;
}
