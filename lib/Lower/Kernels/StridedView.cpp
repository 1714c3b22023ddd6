//===- StridedView.cpp - Transposes and reshapes as strides ---------------===//
#include "shardc/Lower/StridedView.h"
#include "dialects/Graph/Graph.h"

using namespace mlir;

namespace shardc {

static ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

Strides contiguousStrides(ArrayRef<int64_t> shape) {
  Strides strides(shape.size());
  int64_t stride = 1;
  for (int64_t d = shape.size() - 1; d >= 0; --d) {
    strides[d] = shape[d] == 1 ? 0 : stride;
    stride *= shape[d];
  }
  return strides;
}

std::optional<Strides> reshapeStrides(ArrayRef<int64_t> from, ArrayRef<int64_t> strides,
                                      ArrayRef<int64_t> to) {
  Strides result(to.size(), 0);
  if (llvm::is_contained(from, 0))
    return result;
  // Runs of old dimensions that are one dimension in memory, from the last to the first.
  int64_t i = from.size() - 1, o = to.size() - 1;
  while (true) {
    while (i >= 0 && from[i] == 1)
      --i;
    if (i < 0)
      break;
    int64_t size = from[i], stride = strides[i], outer = i - 1;
    for (; outer >= 0 && (from[outer] == 1 || strides[outer] == stride * size); --outer)
      size *= from[outer];
    // New dimensions have to fill the run exactly.
    int64_t filled = 1;
    for (; o >= 0 && filled * to[o] <= size && size % (filled * to[o]) == 0 && filled < size; --o) {
      result[o] = to[o] == 1 ? 0 : stride * filled;
      filled *= to[o];
    }
    if (filled != size)
      return std::nullopt;
    i = outer;
  }
  return result;
}

StridedView viewOf(Value value, llvm::function_ref<bool(Operation *)> mayCross) {
  // Collect the chain, then apply it from the base on; stop before the first op that strides cannot
  // say.
  SmallVector<Operation *> chain;
  Value base = value;
  while (Operation *op = base.getDefiningOp()) {
    if (!isa<graph::TransposeOp, graph::ReshapeOp, graph::BroadcastOp>(op) || !mayCross(op))
      break;
    chain.push_back(op);
    base = op->getOperand(0);
  }
  StridedView view{base, contiguousStrides(shapeOf(base))};
  for (Operation *op : llvm::reverse(chain)) {
    ArrayRef<int64_t> from = shapeOf(op->getOperand(0)), to = shapeOf(op->getResult(0));
    Strides strides(to.size(), 0);
    if (auto transpose = dyn_cast<graph::TransposeOp>(op)) {
      for (auto [i, p] : llvm::enumerate(transpose.getPermutation()))
        strides[i] = view.strides[p];
    } else if (auto broadcast = dyn_cast<graph::BroadcastOp>(op)) {
      for (auto [i, dim] : llvm::enumerate(broadcast.getDims()))
        strides[dim] = from[i] == 1 ? 0 : view.strides[i];
    } else if (auto reshaped = reshapeStrides(from, view.strides, to)) {
      strides = *reshaped;
    } else {
      view = {op->getResult(0), contiguousStrides(to)}; // memory again from here on
      continue;
    }
    view.strides = strides;
  }
  return view;
}

std::optional<Strides> stridesWhenStoredAs(Value value, Value stored) {
  SmallVector<Operation *> chain;
  for (Value at = stored; at != value; at = chain.back()->getOperand(0)) {
    Operation *op = at.getDefiningOp();
    if (!op || !isa<graph::TransposeOp, graph::ReshapeOp>(op))
      return std::nullopt;
    chain.push_back(op);
  }
  Strides strides = contiguousStrides(shapeOf(stored));
  for (Operation *op : chain) {
    ArrayRef<int64_t> from = shapeOf(op->getOperand(0)), to = shapeOf(op->getResult(0));
    if (auto transpose = dyn_cast<graph::TransposeOp>(op)) {
      Strides source(from.size());
      for (auto [i, p] : llvm::enumerate(transpose.getPermutation()))
        source[p] = strides[i];
      strides = source;
      continue;
    }
    std::optional<Strides> source = reshapeStrides(to, strides, from);
    if (!source)
      return std::nullopt;
    strides = *source;
  }
  return strides;
}

std::optional<int64_t> contiguousBegin(graph::SliceOp op) {
  constexpr int64_t kAlignment = 64; // of buffers
  ArrayRef<int64_t> from = shapeOf(op.getInput()), to = shapeOf(op.getResult());
  bool isWhole = true; // behind dimension d
  int64_t begin = 0, row = 1;
  for (int64_t d = static_cast<int64_t>(from.size()) - 1; d >= 0; --d) {
    if (to[d] > 1 && (!isWhole || op.getStrides()[d] != 1))
      return std::nullopt;
    begin += op.getStarts()[d] * row;
    row *= from[d];
    isWhole &= to[d] == from[d];
  }
  bool isAligned = begin * elementBytes(op.getType().getElementType()) % kAlignment == 0;
  return isAligned ? std::optional(begin) : std::nullopt;
}

} // namespace shardc
