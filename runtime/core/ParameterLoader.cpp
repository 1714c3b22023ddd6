// For every parameter: find the tensor, check dtype and shape, offset to the segment, copy or pack
// this rank's slice. For every state that holds parameters: the same item by item, converting, and
// only the elements of this rank's shard.
#include "runtime/core/ParameterLoader.h"
#include "runtime/core/BucketRuns.h"
#include "runtime/core/Convert.h"
#include "runtime/core/Error.h"
#include "runtime/core/ProgramReader.h"

using namespace shardrt;

static const size_t maxListed = 10;

/// What is wrong with the tensor for this shape; empty if it fits.
static std::string misfit(const Shape &shape, const Segment &segment, const TensorEntry &entry) {
  if (fitsInto(shape, segment, entry.shape))
    return "";
  std::string wanted = shapeString(shape);
  if (segment.dim >= 0)
    wanted += cat(" at offset ", segment.offset, " of dimension ", segment.dim);
  return cat("has shape ", shapeString(entry.shape), ", the program wants ", wanted);
}

static std::string mismatch(const Parameter &parameter, const TensorEntry &entry) {
  if (entry.dtype != parameter.dtype)
    return cat("has dtype ", entry.dtypeText, ", the program wants ", dtypeName(parameter.dtype));
  return misfit(parameter.shape, parameter.segment, entry);
}

/// States are converted while loading.
static std::string mismatch(const BucketItem &item, DType state, const TensorEntry &entry) {
  if (entry.dtype != state && !(entry.dtype && isFloat(*entry.dtype) && isFloat(state)))
    return cat("has dtype ", entry.dtypeText, ", which does not convert to ", dtypeName(state));
  return misfit(item.shape, item.segment, entry);
}

static void load(const Parameter &parameter, const WeightTensor &tensor, const Mesh &mesh, int rank,
                 ThreadPool &pool, std::byte *dst) {
  Slices slices = slicesOf(mesh, rank, parameter.shape, parameter.sharding);
  Shape strides = rowMajorStrides(tensor.entry->shape);
  int64_t size = dtypeSize(parameter.dtype);
  const std::byte *src = tensor.data;
  if (parameter.segment.dim >= 0)
    src += parameter.segment.offset * strides[parameter.segment.dim] * size;
  bool pairs = parameter.dtype == SHARDRT_BF16 || parameter.dtype == SHARDRT_F16;
  if (parameter.layout.isPanels())
    packPanels(parameter.layout, slices, strides, size, pairs, src, dst, pool);
  else
    copyToLocal(slices, strides, size, src, dst);
}

static void complain(const std::vector<std::string> &problems, const WeightFiles &weights,
                     size_t total) {
  std::string message =
      cat(weights.path(), ": ", problems.size(), " of ", total, " weights do not fit:");
  for (size_t i = 0; i < problems.size() && i < maxListed; ++i)
    message += "\n  " + problems[i];
  if (problems.size() > maxListed)
    message += cat("\n  and ", problems.size() - maxListed, " more");
  throw Error(SHARDRT_BAD_WEIGHTS, message);
}

namespace {
/// Finds tensors, and collects what is wrong with them.
class Finder {
public:
  explicit Finder(WeightFiles &weights) : weights(weights) {}
  template <typename Check> void find(const std::string &tensor, const Check &problemWith) {
    found.push_back(weights.find(tensor));
    std::string problem = found.back() ? problemWith(*found.back()->entry) : "is missing";
    if (!problem.empty())
      problems.push_back(cat("\"", tensor, "\" ", problem));
  }
  const std::vector<std::optional<WeightTensor>> &tensors() const {
    if (!problems.empty())
      complain(problems, weights, found.size());
    return found;
  }

private:
  WeightFiles &weights;
  std::vector<std::optional<WeightTensor>> found;
  std::vector<std::string> problems;
};
} // namespace

void shardrt::loadParameters(const Program &program, const Mesh &mesh, int rank,
                             WeightFiles &weights, ThreadPool &pool, Memory &memory) {
  Finder finder(weights);
  for (const Parameter &parameter : program.parameters)
    finder.find(parameter.tensor,
                [&](const TensorEntry &entry) { return mismatch(parameter, entry); });
  const auto &tensors = finder.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Parameter &parameter = program.parameters[i];
    int64_t bytes = *layoutBytes(parameter.layout, localShape(parameter.shape, parameter.sharding),
                                 parameter.dtype);
    memory.access(program.buffers[parameter.buffer].offset, bytes, Memory::Write,
                  [&](std::byte *dst) { load(parameter, *tensors[i], mesh, rank, pool, dst); });
    weights.release(*tensors[i]);
  }
}

void shardrt::loadStates(const Program &program, const Mesh &mesh, int rank, WeightFiles &weights,
                         Memory &memory) {
  Finder finder(weights);
  for (const State &state : program.states)
    if (state.role == StateRole::Parameter)
      for (const BucketItem &item : program.buckets[state.bucket].items)
        finder.find(item.tensor, [&](const TensorEntry &entry) {
          return mismatch(item, program.buffers[state.buffer].dtype, entry);
        });
  auto tensor = finder.tensors().begin();
  for (const State &state : program.states) {
    if (state.role != StateRole::Parameter)
      continue;
    const Buffer &buffer = program.buffers[state.buffer];
    const Bucket &bucket = program.buckets[state.bucket];
    memory.access(buffer.offset, buffer.bytes, Memory::Update, [&](std::byte *dst) {
      for (const BucketItem &item : bucket.items) {
        const WeightTensor &source = **tensor++;
        DType from = *source.entry->dtype;
        for (const BucketRun &run :
             bucketRuns(mesh, rank, bucket, item, state.shard, source.entry->shape))
          convert(from, source.data + run.tensor * dtypeSize(from), buffer.dtype,
                  dst + run.state * dtypeSize(buffer.dtype), run.count);
        weights.release(source);
      }
    });
  }
}
