// For every parameter: find the tensor, check dtype and shape, offset to the segment, copy or pack
// this rank's slice.
#include "runtime/core/ParameterLoader.h"
#include "runtime/core/Error.h"

using namespace shardrt;

static const size_t maxListed = 10;

/// What is wrong with the tensor for this parameter; empty if it fits.
static std::string mismatch(const Parameter &parameter, const TensorEntry &entry) {
  if (entry.dtype != parameter.dtype)
    return cat("has dtype ", entry.dtypeText, ", the program wants ", dtypeName(parameter.dtype));
  bool fits = entry.shape.size() == parameter.shape.size();
  for (size_t i = 0; fits && i < entry.shape.size(); ++i)
    fits = static_cast<int>(i) == parameter.segment.dim
               ? parameter.segment.offset <= entry.shape[i] - parameter.segment.size
               : entry.shape[i] == parameter.shape[i];
  if (fits)
    return "";
  std::string wanted = shapeString(parameter.shape);
  if (parameter.segment.dim >= 0)
    wanted += cat(" at offset ", parameter.segment.offset, " of dimension ", parameter.segment.dim);
  return cat("has shape ", shapeString(entry.shape), ", the program wants ", wanted);
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

void shardrt::loadParameters(const Program &program, const Mesh &mesh, int rank,
                             WeightFiles &weights, ThreadPool &pool, std::byte *arena) {
  std::vector<std::string> problems;
  std::vector<std::optional<WeightTensor>> tensors;
  for (const Parameter &parameter : program.parameters) {
    tensors.push_back(weights.find(parameter.tensor));
    std::string problem =
        tensors.back() ? mismatch(parameter, *tensors.back()->entry) : "is missing";
    if (!problem.empty())
      problems.push_back(cat("\"", parameter.tensor, "\" ", problem));
  }
  if (!problems.empty())
    complain(problems, weights, program.parameters.size());
  for (size_t i = 0; i < tensors.size(); ++i)
    load(program.parameters[i], *tensors[i], mesh, rank, pool,
         arena + program.buffers[program.parameters[i].buffer].offset);
}
