//===- ReshardSimulate.cpp - Runs reshard steps on buffers of all devices -===//
//
// Each collective is written down as its formula in docs/contracts.md §3, on tensors viewed as
// outer × dimension × inner; nothing here looks at global positions.
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/Reshard.h"

#include <algorithm>

using namespace shardc;

namespace {

double combine(ReduceKind kind, double a, double b) {
  switch (kind) {
  case ReduceKind::Sum:
    return a + b;
  case ReduceKind::Max:
    return std::max(a, b);
  case ReduceKind::Min:
    return std::min(a, b);
  case ReduceKind::Prod:
    break;
  }
  return a * b;
}

/// Sizes before and after `dim`.
std::pair<int64_t, int64_t> outerInner(const Shape &shape, int dim) {
  int64_t outer = 1, inner = 1;
  for (int d = 0; d < static_cast<int>(shape.size()); ++d)
    (d < dim ? outer : inner) *= d == dim ? 1 : shape[d];
  return {outer, inner};
}

using Buffer = std::vector<double>;

/// One step on one group; `in[i]` and `out[i]` are the buffers of its i-th device.
struct GroupStep {
  const ReshardStep &step;
  const Shape &source, &result; ///< Local shapes.

  void allGather(const std::vector<const Buffer *> &in, size_t self, Buffer &out) const {
    auto [outer, inner] = outerInner(source, step.concatDim);
    int64_t row = source[step.concatDim] * inner, total = result[step.concatDim] * inner;
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t at = 0; at < total; ++at)
        out[o * total + at] = (*in[at / row])[o * row + at % row];
  }

  /// My part of `in`, zero beyond its end.
  void slice(const Buffer &in, size_t self, Buffer &out) const {
    auto [outer, inner] = outerInner(source, step.splitDim);
    int64_t total = source[step.splitDim] * inner, row = result[step.splitDim] * inner;
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < row; ++i) {
        int64_t at = self * row + i;
        out[o * row + i] = at < total ? in[o * total + at] : 0;
      }
  }

  Buffer reduced(const std::vector<const Buffer *> &in) const {
    Buffer sum = *in[0];
    for (size_t r = 1; r < in.size(); ++r)
      for (size_t i = 0; i < sum.size(); ++i)
        sum[i] = combine(step.reduce, sum[i], (*in[r])[i]);
    return sum;
  }

  /// Receives my part of everybody's split dimension and lays them side by side along the other.
  void allToAll(const std::vector<const Buffer *> &in, size_t self, Buffer &out) const {
    Shape parts = source;
    parts[step.splitDim] = result[step.splitDim];
    std::vector<Buffer> received(in.size(), Buffer(elementCount(parts)));
    for (size_t r = 0; r < in.size(); ++r)
      GroupStep{step, source, parts}.slice(*in[r], self, received[r]);
    std::vector<const Buffer *> pointers;
    for (const Buffer &buffer : received)
      pointers.push_back(&buffer);
    GroupStep{step, parts, result}.allGather(pointers, self, out);
  }

  void permute(const std::vector<const Buffer *> &in, size_t self, Buffer &out) const {
    std::fill(out.begin(), out.end(), 0);
    for (auto [from, to] : step.pairs)
      if (to == static_cast<int64_t>(self))
        out = *in[from];
  }

  void run(const std::vector<const Buffer *> &in, size_t self, Buffer &out) const {
    switch (step.kind) {
    case StepKind::AllGather:
      return allGather(in, self, out);
    case StepKind::AllReduce:
      out = reduced(in);
      return;
    case StepKind::ReduceScatter:
      return slice(reduced(in), self, out);
    case StepKind::AllToAll:
      return allToAll(in, self, out);
    case StepKind::Slice:
      return slice(*in[self], self, out);
    case StepKind::Permute:
      return permute(in, self, out);
    }
  }
};

} // namespace

Result<DeviceBuffers> shardc::executeSteps(const Mesh &mesh, const Shape &shape,
                                           const Sharding &from,
                                           const std::vector<ReshardStep> &steps,
                                           DeviceBuffers buffers) {
  if (Error error = verify(mesh, from, shape))
    return Result<DeviceBuffers>::failure(*error);
  if (static_cast<int64_t>(buffers.size()) != mesh.deviceCount())
    return Result<DeviceBuffers>::failure("got " + std::to_string(buffers.size()) +
                                          " buffers for " + std::to_string(mesh.deviceCount()) +
                                          " devices");
  Shape local = localShape(from, shape);
  for (const Buffer &buffer : buffers)
    if (static_cast<int64_t>(buffer.size()) != elementCount(local))
      return Result<DeviceBuffers>::failure("a buffer has " + std::to_string(buffer.size()) +
                                            " elements, the local shape has " +
                                            std::to_string(elementCount(local)));
  for (const ReshardStep &step : steps) {
    Shape result = localShape(step.result, shape);
    DeviceBuffers next(buffers.size(), Buffer(elementCount(result)));
    for (const std::vector<int64_t> &group : groupsAlong(mesh, step.axes)) {
      std::vector<const Buffer *> in;
      for (int64_t rank : group)
        in.push_back(&buffers[rank]);
      for (size_t self = 0; self < group.size(); ++self)
        GroupStep{step, local, result}.run(in, self, next[group[self]]);
    }
    buffers = std::move(next);
    local = result;
  }
  return buffers;
}
