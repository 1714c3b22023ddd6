//===- GraphDerivativeBlocks.cpp - Cotangents of norms, rope, attention, loss ===//
//
// Statistics are computed again from the input rather than kept: that costs a pass over rows which
// the derivative reads anyway. Everything here is per row of the last dimensions, which Fuse makes
// one kernel, and shards along the others.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDerivative.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::graph::formula;

//===----------------------------------------------------------------------===//
// Normalisation
//===----------------------------------------------------------------------===//

Cotangents SoftmaxOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  Term g = f.cotangent(), y = f.result();
  int64_t dim = getDim();
  Term mean = sum(g * y, {dim}); // of g, by the weights y
  return SmallVector<Value>{
      f.finish(y * (g - spread(mean, y.shape(), otherDims(y.shape().size(), {dim}))))};
}

namespace {
/// The rows that a norm works on: its last dimensions.
struct NormRows {
  Dims shape;
  SmallVector<int64_t> leading, normed;
  double count = 1; ///< elements in a row

  NormRows(RankedTensorType type, int64_t normDims) : shape(type.getShape()) {
    for (int64_t d = 0, rank = type.getRank(); d < rank; ++d)
      (d < rank - normDims ? leading : normed).push_back(d);
    for (int64_t size : shape.take_back(normDims))
      count *= size;
  }
  Term mean(Term x) const { return (1 / count) * sum(x, normed); }
  /// One value per row, or one value per feature, at every element.
  Term fromRows(Term x) const { return spread(x, shape, leading); }
  Term fromFeatures(Term x) const { return spread(x, shape, normed); }
};
} // namespace

// In this order (what comes from outside of the row first, then statistics, then what is made of
// the normed row) Fuse sees one row kernel.

Cotangents RmsNormOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  NormRows rows(getType(), getNormDims());
  Term x = f.operand(0), g = f.cotangent();
  Term weighted = getWeight() ? g * rows.fromFeatures(f.operand(1)) : g;
  Term scale = rows.fromRows(rsqrt(rows.mean(x * x) + getEpsilon().convertToDouble()));
  Term normed = x * scale;
  // y = x s w with s = rsqrt(mean(x^2) + e), ds/dx_j = -s^3 x_j / n: what stretches the row has no
  // effect.
  Term stretch = rows.mean(weighted * normed);
  SmallVector<Value> result = {f.finish((weighted - normed * rows.fromRows(stretch)) * scale)};
  if (getWeight())
    result.push_back(f.finish(sum(g * normed, rows.leading)));
  return result;
}

Cotangents LayerNormOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  NormRows rows(getType(), getNormDims());
  Term x = f.operand(0), g = f.cotangent();
  Term weighted = getWeight() ? g * rows.fromFeatures(f.term(getWeight())) : g;
  Term centred = x - rows.fromRows(rows.mean(x));
  Term scale = rows.fromRows(rsqrt(rows.mean(centred * centred) + getEpsilon().convertToDouble()));
  Term normed = centred * scale;
  // What stretches the row, or moves it, has no effect. The normed row has no mean, so that one can
  // be taken away after the other: each statistic is of what is in the row's kernel already.
  Term unstretched = weighted - normed * rows.fromRows(rows.mean(weighted * normed));
  Term dx = (unstretched - rows.fromRows(rows.mean(unstretched))) * scale;
  SmallVector<Value> result = {f.finish(dx)};
  if (getWeight())
    result.push_back(f.finish(sum(g * normed, rows.leading)));
  if (getBias())
    result.push_back(f.finish(sum(g, rows.leading)));
  return result;
}

//===----------------------------------------------------------------------===//
// Rotary embedding
//===----------------------------------------------------------------------===//

Cotangents RopeOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  Value back = NegOp::create(b, getLoc(), getSin());
  Value dx =
      RopeOp::create(b, getLoc(), getType(), cotangents[0], getCos(), back, getInterleavedAttr());

  // The angles' part is dead where they are a table of positions.
  SmallVector<int64_t> half(getType().getShape()), strides(4, 1), first(4, 0), second(4, 0);
  int64_t pairs = half[3] = getCos().getType().getDimSize(2);
  strides[3] = getInterleaved() ? 2 : 1;
  second[3] = getInterleaved() ? 1 : pairs;
  Term x = f.operand(0), g = f.cotangent();
  Term x1 = slice(x, first, strides, half), x2 = slice(x, second, strides, half);
  Term g1 = slice(g, first, strides, half), g2 = slice(g, second, strides, half);
  auto overHeads = [&](Term t) {
    bool isShared = getCos().getType().getDimSize(0) != getType().getDimSize(0);
    SmallVector<int64_t> dims = isShared ? SmallVector<int64_t>{0, 1} : SmallVector<int64_t>{1};
    return f.finish(reshape(sum(t, dims), getCos().getType().getShape()));
  };
  return SmallVector<Value>{dx, overHeads(g1 * x1 + g2 * x2), overHeads(g2 * x1 - g1 * x2)};
}

//===----------------------------------------------------------------------===//
// Loss
//===----------------------------------------------------------------------===//

Cotangents SoftmaxCrossEntropyOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  // (softmax - onehot) g, of ops that shard over the vocabulary: its maximum and sum are small
  // reductions.
  Formula f(b, *this, cotangents[0]);
  Term x = f.operand(0);
  Dims shape = x.shape();
  int64_t vocabulary = shape.size() - 1;
  SmallVector<int64_t> rows = otherDims(shape.size(), {vocabulary});
  auto fromRows = [&](Term t) { return spread(t, shape, rows); };
  Term labels = {&f, b.createOrFold<CastOp>(getLoc(), getLabels(), b.getI64Type())};
  Term g = where(labels != static_cast<double>(static_cast<int64_t>(getIgnoreIndex())),
                 f.termAs(cotangents[0], x), 0);
  Term powers = exp(x - fromRows(maximum(x, {vocabulary})));
  Term share = g / sum(powers, {vocabulary});
  Term isLabel = f.iota(shape, vocabulary) == fromRows(labels);
  Term dx = powers * fromRows(share) - where(isLabel, fromRows(g), 0);
  return SmallVector<Value>{f.finish(dx, getLogits().getType().getElementType()), Value()};
}
