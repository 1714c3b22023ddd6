//===- GraphDerivativeShape.cpp - Vector-Jacobian products: views, movement, gather -===//
//
// The transpose of a movement: what an element was copied to is summed up.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDerivative.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::graph::formula;

static SmallVector<Value> single(Value cotangent) { return {cotangent}; }

//===----------------------------------------------------------------------===//
// Sources, views
//===----------------------------------------------------------------------===//

Cotangents IotaOp::buildVJP(OpBuilder &, ValueRange) { return SmallVector<Value>(); }

Cotangents ReshapeOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  return single(ReshapeOp::create(b, getLoc(), getInput().getType(), cotangents[0]));
}

Cotangents TransposeOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  SmallVector<int64_t> inverse(getPermutation().size());
  for (auto [i, p] : llvm::enumerate(getPermutation()))
    inverse[p] = i;
  return single(TransposeOp::create(b, getLoc(), cotangents[0], inverse));
}

Cotangents BroadcastOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  auto input = getInput().getType();
  SmallVector<int64_t> repeated;
  for (int64_t d = 0; d < getType().getRank(); ++d) {
    const int64_t *at = llvm::find(getDims(), d);
    if (at == getDims().end() ||
        input.getDimSize(at - getDims().begin()) != getType().getDimSize(d))
      repeated.push_back(d);
  }
  // A reduction of 16-bit floats accumulates in f32 by itself.
  Value g = cotangents[0];
  if (!repeated.empty())
    g = ReduceOp::create(b, getLoc(), Reduction::Sum, g, repeated);
  return single(b.createOrFold<ReshapeOp>(getLoc(), input, g));
}

//===----------------------------------------------------------------------===//
// Movement. Nothing is rounded: 16-bit floats stay as they are.
//===----------------------------------------------------------------------===//

Cotangents SliceOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this);
  Term g = dilate({&f, cotangents[0]}, getStrides());
  SmallVector<int64_t> high;
  for (int64_t d = 0; d < getType().getRank(); ++d)
    high.push_back(getInput().getType().getDimSize(d) - getStarts()[d] - g.shape()[d]);
  // Of no elements there may be a start behind the end.
  if (getType().getNumElements() == 0)
    return single(ConstantOp::splat(b, getLoc(), getInput().getType(), 0));
  return single(pad(g, getStarts(), high).value);
}

Cotangents ReverseOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  return single(ReverseOp::create(b, getLoc(), getType(), cotangents[0], getDims()));
}

Cotangents PadOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this);
  SmallVector<int64_t> ones(getType().getRank(), 1);
  return single(slice({&f, cotangents[0]}, getLow(), ones, getInput().getType().getShape()).value);
}

Cotangents ConcatOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this);
  SmallVector<int64_t> starts(getType().getRank(), 0), ones(getType().getRank(), 1);
  SmallVector<Value> result;
  for (Value input : getInputs()) {
    Dims shape = cast<RankedTensorType>(input.getType()).getShape();
    result.push_back(slice({&f, cotangents[0]}, starts, ones, shape).value);
    starts[getDim()] += shape[getDim()];
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Gather. Many 16-bit rows may meet in one: they are added in f32.
//===----------------------------------------------------------------------===//

Cotangents GatherOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  Term g = f.cotangent();
  auto type = g.type().clone(getData().getType().getShape());
  Term rows = {&f, ScatterSumOp::create(b, getLoc(), type, g.value, getIndices(), getAxis())};
  return SmallVector<Value>{f.finish(rows), Value()};
}

Cotangents ScatterSumOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  return SmallVector<Value>{
      GatherOp::create(b, getLoc(), getUpdates().getType(), cotangents[0], getIndices(), getAxis()),
      Value()};
}

Cotangents GatherNdOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  Term g = f.cotangent();
  // scatter_nd has no batch dimensions: the places along them become part of the index tuples.
  auto indices = getIndices().getType();
  SmallVector<int64_t> shape(indices.getShape());
  shape.back() = 1;
  SmallVector<Value> tuples;
  for (int64_t d = 0; d < static_cast<int64_t>(getBatchDims()); ++d)
    tuples.push_back(f.iota(shape, d).value);
  tuples.push_back(b.createOrFold<CastOp>(getLoc(), getIndices(), b.getI64Type()));
  shape.back() = static_cast<int64_t>(getBatchDims()) + indices.getShape().back();
  Value joined = b.createOrFold<ConcatOp>(getLoc(), RankedTensorType::get(shape, b.getI64Type()),
                                          tuples, shape.size() - 1);
  Term zeros = f.constant(g.type().clone(getData().getType().getShape()), 0);
  Term sums = {&f, ScatterNdOp::create(b, getLoc(), zeros.value, joined, g.value, Combine::Sum)};
  return SmallVector<Value>{f.finish(sums), Value()};
}

Cotangents GatherElementsOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  Term g = f.cotangent();
  Term zeros = f.constant(g.type().clone(getData().getType().getShape()), 0);
  Term sums = {&f, ScatterElementsOp::create(b, getLoc(), zeros.value, getIndices(), g.value,
                                             getAxis(), Combine::Sum)};
  return SmallVector<Value>{f.finish(sums), Value()};
}
