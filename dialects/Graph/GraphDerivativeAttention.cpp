//===- GraphDerivativeAttention.cpp - Vector-Jacobian product of attention -===//
//
// Queries, keys, values and sinks have an op, attention_grad, that never holds the scores. A float
// mask is a bias of the scores and its cotangent as large as they are: there is no way around them,
// and they are written out here. That part is dead unless the mask is learned (T5's relative
// positions).
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDerivative.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::graph::formula;

namespace {

/// The scores of an attention as [batch, key/value heads, query heads of each, queries, keys].
class Scores {
public:
  Scores(AttentionOp op, Formula &f) : op(op), f(f) {
    auto q = op.getQuery().getType(), k = op.getKey().getType();
    int64_t kvHeads = k.getDimSize(1), members = q.getDimSize(1) / kvHeads;
    shape = {q.getDimSize(0), kvHeads, members, q.getDimSize(2), k.getDimSize(2)};
  }

  /// Cotangent of the scores behind the mask, as [batch, query heads, queries, keys].
  Term cotangent() {
    Term p = probabilities(), dp = contract(f.cotangent(), f.term(op.getValue()));
    Term ds = p * (dp - fromRows(sum(p * dp, {4})));
    SmallVector<int64_t> merged = {shape[0], shape[1] * shape[2], shape[3], shape[4]};
    return reshape(ds, merged);
  }

private:
  /// Every query (or its cotangent) with every key (or value).
  Term contract(Term rows, Term columns) {
    SmallVector<int64_t> split = {shape[0], shape[1], shape[2], shape[3], rows.shape().back()};
    Term grouped = reshape(rows, split);
    return {&f, EinsumOp::create(f.b, f.loc, rows.type().clone(shape), "bhgqd,bhkd->bhgqk",
                                 grouped.value, columns.value)};
  }

  Term fromRows(Term x) { return spread(x, shape, {0, 1, 2, 3}); }

  /// The mask (of 1 or all heads) at every score.
  Term everywhere(Term mask) {
    SmallVector<int64_t> split(mask.shape());
    bool perHead = split[1] != 1;
    split[1] = perHead ? shape[1] : 1;
    split.insert(split.begin() + 2, perHead ? shape[2] : 1);
    return spread(reshape(mask, split), shape, {0, 1, 2, 3, 4});
  }

  Term probabilities() {
    double softcap = op.getSoftcap().convertToDouble();
    Term s = op.getScale().convertToDouble() * contract(f.term(op.getQuery()), f.term(op.getKey()));
    if (softcap != 0)
      s = softcap * tanh((1 / softcap) * s);
    s = s + everywhere(f.termAs(op.getMask(), s));
    constexpr double kHidden = -std::numeric_limits<double>::infinity();
    if (op.getCausal()) {
      Term last =
          f.iota(shape, 3) + static_cast<double>(static_cast<int64_t>(op.getCausalOffset()));
      Term key = f.iota(shape, 4);
      s = where(key > last, kHidden, s);
      if (op.getWindow())
        s = where(key > last - static_cast<double>(op.getWindow()), s, kHidden);
    }
    Term highest = maximum(s, {4});
    if (!op.getSinks()) {
      highest = where(highest == kHidden, 0, highest); // a row that sees no key has zeros
      Term powers = exp(s - fromRows(highest)), total = sum(powers, {4});
      return powers * fromRows(where(total == 0, 0, 1 / total));
    }
    Dims rows = highest.shape();
    Term heads = reshape(f.termAs(op.getSinks(), s), {shape[1], shape[2]});
    Term sinks = spread(heads, rows, {1, 2});
    highest = where(highest > sinks, highest, sinks);
    Term powers = exp(s - fromRows(highest)), total = sum(powers, {4}) + exp(sinks - highest);
    return powers * fromRows(1 / total);
  }

  AttentionOp op;
  Formula &f;
  SmallVector<int64_t> shape;
};

} // namespace

/// Of a float mask: the scores' cotangent, summed where the mask was repeated.
static Value maskCotangent(AttentionOp op, OpBuilder &b, Value cotangent) {
  Formula f(b, op, cotangent);
  Term ds = Scores(op, f).cotangent();
  auto mask = op.getMask().getType();
  SmallVector<int64_t> repeated;
  for (int64_t d = 0; d < 4; ++d)
    if (mask.getDimSize(d) != ds.shape()[d])
      repeated.push_back(d);
  return f.finish(reshape(sum(ds, repeated), mask.getShape()), mask.getElementType());
}

Cotangents AttentionOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  SmallVector<Type> types = {getQuery().getType(), getKey().getType(), getValue().getType()};
  if (getSinks())
    types.push_back(getSinks().getType());
  auto grad = AttentionGradOp::create(
      b, getLoc(), types, getQuery(), getKey(), getValue(), getMask(), getSinks(), cotangents[0],
      getScaleAttr(), getCausalAttr(), getCausalOffsetAttr(), getWindowAttr(), getSoftcapAttr());
  SmallVector<Value> result = {grad.getDquery(), grad.getDkey(), grad.getDvalue()};
  if (getMask()) {
    bool isBias = isa<FloatType>(getMask().getType().getElementType());
    result.push_back(isBias ? maskCotangent(*this, b, cotangents[0]) : Value());
  }
  if (getSinks())
    result.push_back(grad.getDsinks());
  return result;
}

// The scores would have to be written out, as for a learned mask, to no use: nobody trains on
// second derivatives.
Cotangents AttentionGradOp::buildVJP(OpBuilder &, ValueRange) {
  return emitOpError() << "has no derivative";
}
