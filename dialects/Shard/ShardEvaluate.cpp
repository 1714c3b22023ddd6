//===- ShardEvaluate.cpp - Reference evaluation of collectives ------------===//
//
// All ranks at once. Reductions run in rank order 0, 1, …, G-1 of the group, for f16 and bf16 in
// f32 with one rounding at the end: the order that the in-process and shared-memory channels keep,
// bit for bit.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/HostMath.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Support/StridedWalk.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::shard;
namespace host = shardc::graph::host;

using Evaluated = FailureOr<SmallVector<DeviceTensors>>;

static Evaluated single(DeviceTensors &&tensors) {
  return SmallVector<DeviceTensors>{std::move(tensors)};
}

//===----------------------------------------------------------------------===//
// Pieces
//===----------------------------------------------------------------------===//

namespace {

/// A box inside a tensor.
struct Box {
  SmallVector<int64_t> starts, sizes;

  explicit Box(ArrayRef<int64_t> shape) : starts(shape.size(), 0), sizes(shape) {}
  /// Cut down to part `index` of `total` rows along `dim`, in parts of `part`; what lies beyond
  /// `total` is padding.
  Box &take(int64_t dim, int64_t index, int64_t part, int64_t total) {
    starts[dim] = std::min(index * part, total);
    sizes[dim] = std::min((index + 1) * part, total) - starts[dim];
    return *this;
  }
};

} // namespace

/// Copies `from` at box `source` to `to`, its first element at `starts`.
static void copyBox(HostTensor &to, ArrayRef<int64_t> starts, const HostTensor &from,
                    const Box &source) {
  copyStrided(source.sizes, to, StridedView::box(to.shape(), starts), from,
              StridedView::box(from.shape(), source.starts));
}

/// Calls `fn(group)` for each group of ranks along an op's axes.
template <typename Op, typename Fn>
static LogicalResult forEachGroup(Op op, const Mesh &mesh, Fn fn) {
  Result<AxisList> axes = resolveAxes(mesh, op.getAxes());
  if (!axes)
    return op.emitOpError() << axes.error;
  for (const std::vector<int64_t> &group : groupsAlong(mesh, *axes))
    fn(group);
  return success();
}

/// The results on all ranks, by `fn(group, index in the group, zero-filled result)`.
template <typename Op, typename Fn> static Evaluated perMember(Op op, const Mesh &mesh, Fn fn) {
  DeviceTensors results(mesh.deviceCount(), HostTensor(op.getType()));
  LogicalResult done = forEachGroup(op, mesh, [&](ArrayRef<int64_t> group) {
    for (size_t r = 0; r < group.size(); ++r)
      fn(group, static_cast<int64_t>(r), results[group[r]]);
  });
  if (failed(done))
    return failure();
  return single(std::move(results));
}

//===----------------------------------------------------------------------===//
// Reduction
//===----------------------------------------------------------------------===//

template <typename T> static T reduceTwo(ReduceKind kind, T x, T y, bool isUnsigned) {
  switch (kind) {
  case ReduceKind::Sum:
    return host::add(x, y);
  case ReduceKind::Max:
    return host::max(x, y, isUnsigned);
  case ReduceKind::Min:
    return host::min(x, y, isUnsigned);
  case ReduceKind::Prod:
    return host::mul(x, y);
  }
  return x;
}

HostTensor shard::reduceInOrder(ReduceKind kind, ArrayRef<const HostTensor *> terms) {
  HostTensor sum = *terms[0];
  Type element = sum.type.getElementType();
  Type accumulator = isa<FloatType>(element) && element.getIntOrFloatBitWidth() <= 16
                         ? Float32Type::get(element.getContext())
                         : element;
  bool isUnsigned = element.isUnsignedInteger() || element.isInteger(1);
  for (const HostTensor *term : terms.drop_front()) {
    for (size_t n = 0; n < sum.f.size(); ++n)
      sum.f[n] = roundToType(reduceTwo(kind, sum.f[n], term->f[n], isUnsigned), accumulator);
    for (size_t n = 0; n < sum.i.size(); ++n)
      sum.i[n] = wrapToType(reduceTwo(kind, sum.i[n], term->i[n], isUnsigned), element);
  }
  sum.round();
  return sum;
}

/// The reduction of one group's tensors.
static HostTensor reduceGroup(ReduceKind kind, ArrayRef<int64_t> group,
                              const DeviceTensors &input) {
  SmallVector<const HostTensor *> terms;
  for (int64_t rank : group)
    terms.push_back(&input[rank]);
  return reduceInOrder(kind, terms);
}

Evaluated AllReduceOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  DeviceTensors results(mesh.deviceCount());
  LogicalResult done = forEachGroup(*this, mesh, [&](ArrayRef<int64_t> group) {
    HostTensor sum = reduceGroup(toReduceKind(getKind()), group, operands[0]);
    for (int64_t rank : group)
      results[rank] = sum;
  });
  if (failed(done))
    return failure();
  return single(std::move(results));
}

Evaluated ReduceScatterOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  DeviceTensors results(mesh.deviceCount(), HostTensor(getType()));
  int64_t dim = getDim(), part = getType().getDimSize(dim);
  SmallVector<int64_t> origin(getType().getRank(), 0);
  LogicalResult done = forEachGroup(*this, mesh, [&](ArrayRef<int64_t> group) {
    HostTensor sum = reduceGroup(toReduceKind(getKind()), group, operands[0]);
    for (size_t r = 0; r < group.size(); ++r)
      copyBox(results[group[r]], origin, sum,
              Box(sum.shape()).take(dim, r, part, sum.shape()[dim]));
  });
  if (failed(done))
    return failure();
  return single(std::move(results));
}

//===----------------------------------------------------------------------===//
// Movement
//===----------------------------------------------------------------------===//

Evaluated AllGatherOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  int64_t dim = getDim(), part = getInput().getType().getDimSize(dim),
          total = getType().getDimSize(dim);
  return perMember(*this, mesh, [&](ArrayRef<int64_t> group, int64_t, HostTensor &result) {
    for (auto [r, rank] : llvm::enumerate(group)) {
      Box piece = Box(result.shape()).take(dim, r, part, total);
      SmallVector<int64_t> starts = piece.starts;
      piece.starts[dim] = 0;
      copyBox(result, starts, operands[0][rank], piece);
    }
  });
}

Evaluated shard::SliceOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  int64_t dim = getDim(), part = getType().getDimSize(dim),
          total = getInput().getType().getDimSize(dim);
  SmallVector<int64_t> origin(getType().getRank(), 0);
  return perMember(*this, mesh, [&](ArrayRef<int64_t> group, int64_t index, HostTensor &result) {
    const HostTensor &whole = operands[0][group[index]];
    copyBox(result, origin, whole, Box(whole.shape()).take(dim, index, part, total));
  });
}

Evaluated AllToAllOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  int64_t split = getSplitDim(), concat = getConcatDim();
  int64_t splitPart = getType().getDimSize(split),
          concatPart = getInput().getType().getDimSize(concat);
  return perMember(*this, mesh, [&](ArrayRef<int64_t> group, int64_t index, HostTensor &result) {
    for (auto [r, rank] : llvm::enumerate(group)) {
      const HostTensor &source = operands[0][rank];
      Box rows = Box(result.shape()).take(concat, r, concatPart, getConcatTotal());
      Box piece = Box(source.shape()).take(split, index, splitPart, getSplitTotal());
      piece.sizes[concat] = rows.sizes[concat];
      SmallVector<int64_t> starts(result.rank(), 0);
      starts[concat] = rows.starts[concat];
      copyBox(result, starts, source, piece);
    }
  });
}

Evaluated PermuteOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  ArrayRef<int64_t> pairs = getPairs();
  return perMember(*this, mesh, [&](ArrayRef<int64_t> group, int64_t index, HostTensor &result) {
    for (size_t p = 0; p + 1 < pairs.size(); p += 2)
      if (pairs[p + 1] == index)
        result = operands[0][group[pairs[p]]];
  });
}

Evaluated shard::BroadcastOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  return perMember(*this, mesh, [&](ArrayRef<int64_t> group, int64_t, HostTensor &result) {
    result = operands[0][group[getRoot()]];
  });
}

Evaluated AxisIndexOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors>) {
  return perMember(*this, mesh, [&](ArrayRef<int64_t>, int64_t index, HostTensor &result) {
    std::fill(result.i.begin(), result.i.end(), index);
  });
}

Evaluated BucketViewOp::evaluateOnMesh(const Mesh &, ArrayRef<DeviceTensors> operands) {
  DeviceTensors results(operands[0].size(), HostTensor(getType()));
  for (auto [result, whole] : llvm::zip(results, operands[0])) {
    std::copy_n(whole.f.begin() + (whole.f.empty() ? 0 : getOffset()), result.f.size(),
                result.f.begin());
    std::copy_n(whole.i.begin() + (whole.i.empty() ? 0 : getOffset()), result.i.size(),
                result.i.begin());
  }
  return single(std::move(results));
}

Evaluated BucketPackOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  DeviceTensors results(mesh.deviceCount(), HostTensor(getType()));
  for (auto [offset, tensors] : llvm::zip(getOffsets(), operands))
    for (auto [result, piece] : llvm::zip(results, tensors)) {
      std::copy(piece.f.begin(), piece.f.end(), result.f.begin() + (piece.f.empty() ? 0 : offset));
      std::copy(piece.i.begin(), piece.i.end(), result.i.begin() + (piece.i.empty() ? 0 : offset));
    }
  return single(std::move(results));
}

//===----------------------------------------------------------------------===//
// Global view
//===----------------------------------------------------------------------===//

Evaluated ConstraintOp::evaluateOnMesh(const Mesh &, ArrayRef<DeviceTensors> operands) {
  return SmallVector<DeviceTensors>{operands[0]};
}

Evaluated ReshardOp::evaluateOnMesh(const Mesh &mesh, ArrayRef<DeviceTensors> operands) {
  if (mesh.deviceCount() != 1)
    return emitOpError() << "is global, but runs on " << mesh.deviceCount() << " devices";
  return SmallVector<DeviceTensors>{operands[0]};
}
