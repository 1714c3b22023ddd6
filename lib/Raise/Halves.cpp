//===- Halves.cpp - Tensors whose two halves are equal --------------------===//
//
// Rotary tables repeat their angles: cos(concat(f, f)), or a constant folded from that. Both
// functions walk the same expressions: constants, concat(f, f), elementwise ops, views, and gathers
// of rows from such a table.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Halves.h"
#include "lib/Raise/View.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

static SmallVector<int64_t> halved(ArrayRef<int64_t> shape, int64_t dim) {
  SmallVector<int64_t> sizes(shape);
  sizes[dim] /= 2;
  return sizes;
}

/// The first half of a constant, or null if the second differs.
static ElementsAttr readHalf(ConstantOp op, int64_t dim) {
  auto type = op.getType().clone(halved(op.getType().getShape(), dim));
  if (auto splat = dyn_cast<SplatElementsAttr>(op.getValue()))
    return splat.resizeSplat(type);
  FailureOr<HostTensor> whole = HostTensor::fromAttr(op.getValue());
  if (failed(whole))
    return {};
  HostTensor half(type);
  SmallVector<int64_t> strides = rowMajorStrides(whole->shape());
  int64_t offset = type.getDimSize(dim) * strides[dim];
  bool equal = true;
  forEachIndex(type.getShape(), [&](ArrayRef<int64_t> index, int64_t at) {
    int64_t from = 0;
    for (auto [i, stride] : llvm::zip_equal(index, strides))
      from += i * stride;
    half.copyElement(at, *whole, from);
    equal &= whole->isFloat() ? whole->f[from] == whole->f[from + offset]
                              : whole->i[from] == whole->i[from + offset];
  });
  return equal ? half.toAttr() : ElementsAttr();
}

static ElementsAttr halfOf(ConstantOp op, int64_t dim, ConstantFacts &facts) {
  auto [entry, isNew] = facts.halves.try_emplace({op.getValue(), dim});
  if (isNew)
    entry->second = readHalf(op, dim);
  return entry->second;
}

/// The dimension of a gather's data that dimension `dim` of its result is, or -1 for a dimension of
/// the indices.
static int64_t gatheredDim(GatherOp op, int64_t dim) {
  int64_t axis = op.getAxis(), indices = op.getIndices().getType().getRank();
  if (dim < axis)
    return dim;
  return dim < axis + indices ? -1 : dim - indices + 1;
}

bool raise::hasEqualHalves(Value value, int64_t dim, ConstantFacts &facts) {
  if (getShape(value)[dim] % 2)
    return false;
  View view = View::of(value);
  if (view.base != value) {
    const AtomGroup &group = view.dims[dim];
    if (!group.empty() && group[0].isRepetition() && group[0].size % 2 == 0)
      return true;
    bool isWhole = group.size() == 1 && group[0].size == getShape(view.base)[group[0].baseDim];
    return isWhole && hasEqualHalves(view.base, group[0].baseDim, facts);
  }
  Operation *op = value.getDefiningOp();
  if (auto constant = dyn_cast_or_null<ConstantOp>(op))
    return !!halfOf(constant, dim, facts);
  if (auto iota = dyn_cast_or_null<IotaOp>(op))
    return static_cast<int64_t>(iota.getDim()) != dim;
  if (auto gather = dyn_cast_or_null<GatherOp>(op))
    return gatheredDim(gather, dim) >= 0 &&
           hasEqualHalves(gather.getData(), gatheredDim(gather, dim), facts);
  if (auto concat = dyn_cast_or_null<ConcatOp>(op)) {
    if (static_cast<int64_t>(concat.getDim()) == dim)
      return concat.getInputs().size() == 2 && concat.getInputs()[0] == concat.getInputs()[1];
    return llvm::all_of(concat.getInputs(),
                        [&](Value input) { return hasEqualHalves(input, dim, facts); });
  }
  return op && op->hasTrait<OpTrait::Elementwise>() &&
         llvm::all_of(op->getOperands(),
                      [&](Value operand) { return hasEqualHalves(operand, dim, facts); });
}

Value raise::firstHalf(Value value, int64_t dim, OpMaker &maker, ConstantFacts &facts) {
  View view = View::of(value);
  if (view.base != value) {
    Atom &atom = view.dims[dim][0];
    if (!atom.isRepetition())
      view.base = firstHalf(view.base, atom.baseDim, maker, facts);
    atom.size /= 2;
    return view.materialize(maker);
  }
  Operation *op = value.getDefiningOp();
  if (auto constant = dyn_cast<ConstantOp>(op))
    return maker.create<ConstantOp>(halfOf(constant, dim, facts));
  auto type = getType(value).clone(halved(getShape(value), dim));
  if (auto gather = dyn_cast<GatherOp>(op))
    return maker.create<GatherOp>(
        type, firstHalf(gather.getData(), gatheredDim(gather, dim), maker, facts),
        gather.getIndices(), gather.getAxis());
  if (auto concat = dyn_cast<ConcatOp>(op); concat && static_cast<int64_t>(concat.getDim()) == dim)
    return concat.getInputs()[0];
  IRMapping mapping;
  if (!isa<IotaOp>(op))
    for (Value operand : op->getOperands())
      mapping.map(operand, firstHalf(operand, dim, maker, facts));
  Operation *clone = maker.rewriter.clone(*op, mapping);
  clone->getResult(0).setType(type);
  return clone->getResult(0);
}
