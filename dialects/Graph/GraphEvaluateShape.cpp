//===- GraphEvaluateShape.cpp - Reference evaluation: views, movement, gather, scatter -===//
//
// Views are strided walks. Every op is total: a gather reads zero at an index that is out of range
// and a scatter drops the update, so that a shard may look up its part of a table, and padding may
// hold anything.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDetail.h"
#include "dialects/Graph/HostMath.h"
#include "shardc/Support/StridedWalk.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using graph::detail::Evaluated;

static Evaluated single(HostTensor &&tensor) { return SmallVector<HostTensor>{std::move(tensor)}; }

/// The result whose elements, in row-major order, are a view of the input.
static Evaluated readView(RankedTensorType type, const HostTensor &input, const StridedView &view) {
  HostTensor result(type);
  copyStrided(type.getShape(), result, StridedView::whole(type.getShape()), input, view);
  return single(std::move(result));
}

//===----------------------------------------------------------------------===//
// Views and movement
//===----------------------------------------------------------------------===//

Evaluated ReshapeOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result = operands[0];
  result.type = getType();
  return single(std::move(result));
}

Evaluated TransposeOp::evaluate(ArrayRef<HostTensor> operands) {
  SmallVector<int64_t> strides = rowMajorStrides(operands[0].shape());
  StridedView view;
  for (int64_t dim : getPermutation())
    view.strides.push_back(strides[dim]);
  return readView(getType(), operands[0], view);
}

Evaluated BroadcastOp::evaluate(ArrayRef<HostTensor> operands) {
  SmallVector<int64_t> strides = rowMajorStrides(operands[0].shape());
  StridedView view{0, SmallVector<int64_t>(getType().getRank(), 0)};
  for (auto [i, dim] : llvm::enumerate(getDims()))
    view.strides[dim] = operands[0].shape()[i] == 1 ? 0 : strides[i];
  return readView(getType(), operands[0], view);
}

Evaluated SliceOp::evaluate(ArrayRef<HostTensor> operands) {
  StridedView view = StridedView::box(operands[0].shape(), getStarts());
  for (auto [stride, step] : llvm::zip(view.strides, getStrides()))
    stride *= step;
  return readView(getType(), operands[0], view);
}

Evaluated ReverseOp::evaluate(ArrayRef<HostTensor> operands) {
  StridedView view = StridedView::whole(operands[0].shape());
  for (int64_t dim : getDims()) {
    view.offset += (getType().getDimSize(dim) - 1) * view.strides[dim];
    view.strides[dim] = -view.strides[dim];
  }
  return readView(getType(), operands[0], view);
}

Evaluated PadOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  if (auto padding = dyn_cast<FloatAttr>(getPadding())) {
    std::fill(result.f.begin(), result.f.end(), padding.getValueAsDouble());
  } else if (auto padding = dyn_cast<IntegerAttr>(getPadding())) {
    bool isUnsigned = graph::detail::isUnsignedElement(getType());
    llvm::APInt value = padding.getValue();
    std::fill(result.i.begin(), result.i.end(),
              isUnsigned ? host::s(value.getZExtValue()) : value.getSExtValue());
  } else {
    return emitOpError() << "has padding " << getPadding() << ", expected a number";
  }
  const HostTensor &input = operands[0];
  copyStrided(input.shape(), result, StridedView::box(result.shape(), getLow()), input,
              StridedView::whole(input.shape()));
  return single(std::move(result));
}

Evaluated ConcatOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  SmallVector<int64_t> starts(getType().getRank(), 0);
  for (const HostTensor &input : operands) {
    copyStrided(input.shape(), result, StridedView::box(result.shape(), starts), input,
                StridedView::whole(input.shape()));
    starts[getDim()] += input.shape()[getDim()];
  }
  return single(std::move(result));
}

//===----------------------------------------------------------------------===//
// Gather
//===----------------------------------------------------------------------===//

static int64_t product(ArrayRef<int64_t> sizes) {
  int64_t result = 1;
  for (int64_t size : sizes)
    result *= size;
  return result;
}

static void copyRow(HostTensor &to, int64_t toStart, const HostTensor &from, int64_t fromStart,
                    int64_t count) {
  for (int64_t n = 0; n < count; ++n)
    to.copyElement(toStart + n, from, fromStart + n);
}

Evaluated GatherOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &data = operands[0], &indices = operands[1];
  HostTensor result(getType());
  int64_t size = data.shape()[getAxis()], count = indices.size();
  int64_t outer = product(data.shape().take_front(getAxis()));
  int64_t inner = product(data.shape().drop_front(getAxis() + 1));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t n = 0; n < count; ++n)
      if (int64_t index = indices.i[n]; index >= 0 && index < size)
        copyRow(result, (o * count + n) * inner, data, (o * size + index) * inner, inner);
  return single(std::move(result));
}

/// Start of the slice that index tuple `tuple` (of `depth` entries) names in a tensor whose indexed
/// dimensions have `shape` and `strides`; nothing if it lies outside.
static std::optional<int64_t> findTuple(const HostTensor &indices, int64_t tuple, int64_t depth,
                                        ArrayRef<int64_t> shape, ArrayRef<int64_t> strides) {
  int64_t offset = 0;
  for (int64_t d = 0; d < depth; ++d) {
    int64_t index = indices.i[tuple * depth + d];
    if (index < 0 || index >= shape[d])
      return std::nullopt;
    offset += index * strides[d];
  }
  return offset;
}

Evaluated GatherNdOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &data = operands[0], &indices = operands[1];
  HostTensor result(getType());
  int64_t batchDims = getBatchDims(), depth = indices.shape().back();
  int64_t batches = product(data.shape().take_front(batchDims));
  int64_t tuples = product(indices.shape().drop_front(batchDims).drop_back());
  int64_t batchSize = product(data.shape().drop_front(batchDims));
  int64_t slice = product(data.shape().drop_front(batchDims + depth));
  SmallVector<int64_t> strides = rowMajorStrides(data.shape());
  for (int64_t n = 0; n < batches * tuples; ++n)
    if (auto start = findTuple(indices, n, depth, data.shape().drop_front(batchDims),
                               ArrayRef(strides).drop_front(batchDims)))
      copyRow(result, n * slice, data, n / tuples * batchSize + *start, slice);
  return single(std::move(result));
}

/// Calls `fn(position in indices, position in the table)` for the in-range indices of an ONNX
/// GatherElements-like access along `axis`.
static void forEachIndexed(const HostTensor &indices, ArrayRef<int64_t> table, int64_t axis,
                           llvm::function_ref<void(int64_t, int64_t)> fn) {
  StridedView view = StridedView::whole(table);
  int64_t stride = std::exchange(view.strides[axis], 0);
  walkStrided(indices.shape(), StridedView::whole(indices.shape()), view,
              [&](int64_t n, int64_t base) {
                if (int64_t index = indices.i[n]; index >= 0 && index < table[axis])
                  fn(n, base + index * stride);
              });
}

Evaluated GatherElementsOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  forEachIndexed(operands[1], operands[0].shape(), getAxis(),
                 [&](int64_t n, int64_t from) { result.copyElement(n, operands[0], from); });
  return single(std::move(result));
}

//===----------------------------------------------------------------------===//
// Scatter
//===----------------------------------------------------------------------===//

template <typename T> static T combined(Combine how, T old, T update, bool isUnsigned) {
  switch (how) {
  case Combine::Replace:
    return update;
  case Combine::Sum:
    return host::add(old, update);
  case Combine::Prod:
    return host::mul(old, update);
  case Combine::Max:
    return host::max(old, update, isUnsigned);
  case Combine::Min:
    return host::min(old, update, isUnsigned);
  }
  return update;
}

/// Combines element `from` of the updates into element `to` of the result.
static void combineElement(Combine how, HostTensor &result, int64_t to, const HostTensor &updates,
                           int64_t from) {
  bool isUnsigned = graph::detail::isUnsignedElement(result.type);
  if (result.isFloat())
    result.f[to] = combined(how, result.f[to], updates.f[from], isUnsigned);
  else
    result.i[to] = combined(how, result.i[to], updates.i[from], isUnsigned);
}

Evaluated ScatterElementsOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result = operands[0];
  forEachIndexed(operands[1], result.shape(), getAxis(), [&](int64_t n, int64_t to) {
    combineElement(getCombine(), result, to, operands[2], n);
  });
  result.round();
  return single(std::move(result));
}

Evaluated ScatterSumOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &updates = operands[0], &indices = operands[1];
  HostTensor result(getType());
  int64_t size = result.shape()[getAxis()], count = indices.size();
  int64_t outer = product(result.shape().take_front(getAxis()));
  int64_t inner = product(result.shape().drop_front(getAxis() + 1));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t n = 0; n < count; ++n)
      if (int64_t index = indices.i[n]; index >= 0 && index < size)
        for (int64_t k = 0; k < inner; ++k)
          combineElement(Combine::Sum, result, (o * size + index) * inner + k, updates,
                         (o * count + n) * inner + k);
  result.round();
  return single(std::move(result));
}

Evaluated ScatterNdOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &indices = operands[1], &updates = operands[2];
  HostTensor result = operands[0];
  int64_t depth = indices.shape().back(), tuples = product(indices.shape().drop_back());
  int64_t slice = product(result.shape().drop_front(depth));
  SmallVector<int64_t> strides = rowMajorStrides(result.shape());
  for (int64_t n = 0; n < tuples; ++n)
    if (auto start = findTuple(indices, n, depth, result.shape(), strides))
      for (int64_t k = 0; k < slice; ++k)
        combineElement(getCombine(), result, *start + k, updates, n * slice + k);
  result.round();
  return single(std::move(result));
}
