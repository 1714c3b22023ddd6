//===- Norms.cpp - Rms_norm and layer_norm --------------------------------===//
//
// 1. x * rsqrt(mean(x^2) + eps), however the inverse root is written          -> rms_norm x
// 2. rms_norm (x - mean(x))                                                   -> layer_norm x
// 3. a weight and a bias that vary along the normalised dimensions only join their norm; Gemma's 1
//    + w is a weight like any other
// 4. cast16(norm(cast32(x))) -> norm of the 16-bit x, whose statistics are f32 anyway
//
// A 16-bit weight stays outside: the norm is rounded before it is multiplied. Norms without a mean
// (L2) stay as they are.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Patterns.h"
#include "lib/Raise/View.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

/// The base of a value that is constant along the last `dims` dimensions of `like`, or nothing.
Value rowStatistic(Value value, Value like, int64_t dims) {
  View view = View::of(value);
  if (view.dims.size() != getShape(like).size() || !view.isRowwise(dims))
    return {};
  return view.base;
}

/// s where value is 1 / sqrt(s).
Value matchInverseRoot(Value value) {
  value = skipUnitReshapes(value);
  if (auto rsqrt = definedBy<RsqrtOp>(value))
    return rsqrt.getInput();
  if (auto pow = definedBy<PowOp>(value))
    return isSplat(pow.getRhs(), -0.5) ? pow.getLhs() : Value();
  Value root;
  if (auto reciprocal = definedBy<ReciprocalOp>(value))
    root = reciprocal.getInput();
  else if (auto div = definedBy<DivOp>(value); div && isSplat(div.getLhs(), 1))
    root = div.getRhs();
  auto sqrt = root ? definedBy<SqrtOp>(skipUnitReshapes(root)) : SqrtOp();
  return sqrt ? sqrt.getInput() : Value();
}

/// s where value is sqrt(s).
Value matchRoot(Value value) {
  value = skipUnitReshapes(value);
  if (auto pow = definedBy<PowOp>(value))
    return isSplat(pow.getRhs(), 0.5) ? pow.getLhs() : Value();
  auto sqrt = definedBy<SqrtOp>(value);
  return sqrt ? sqrt.getInput() : Value();
}

/// Root: x * r or x / s, with r or s constant along rows.
template <typename RootOp> struct RaiseRmsNorm : OpRewritePattern<RootOp> {
  using OpRewritePattern<RootOp>::OpRewritePattern;

  LogicalResult matchAndRewrite(RootOp op, PatternRewriter &rewriter) const override {
    if (succeeded(tryOperands(op, op.getLhs(), op.getRhs(), rewriter)))
      return success();
    if (isa<MulOp>(op.getOperation()) &&
        succeeded(tryOperands(op, op.getRhs(), op.getLhs(), rewriter)))
      return success();
    return rewriter.notifyMatchFailure(
        op, "no operand is the (inverse) root of the other's mean square");
  }

private:
  LogicalResult tryOperands(RootOp op, Value x, Value statistic, PatternRewriter &rewriter) const {
    if (!isa<FloatType>(getType(x).getElementType()))
      return failure();
    Value inner = View::of(statistic).base;
    Value square = isa<MulOp>(op.getOperation()) ? matchInverseRoot(inner) : matchRoot(inner);
    auto shifted = square ? matchShifted(skipUnitReshapes(square)) : std::nullopt;
    auto mean = shifted ? matchRowMean(shifted->value) : std::nullopt;
    if (!mean || matchSquare(mean->input) != x || !rowStatistic(statistic, x, mean->dims))
      return failure();
    OpMaker maker(rewriter, op);
    rewriter.replaceOp(op, maker.create<RmsNormOp>(x.getType(), x, Value(),
                                                   APFloat(shifted->summand), mean->dims));
    return success();
  }
};

/// rms_norm (x - mean(x)) -> layer_norm x
struct CentredToLayerNorm : OpRewritePattern<RmsNormOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(RmsNormOp op, PatternRewriter &rewriter) const override {
    auto sub = definedBy<SubOp>(op.getInput());
    int64_t dims = op.getNormDims();
    Value base = sub ? rowStatistic(sub.getRhs(), sub.getLhs(), dims) : Value();
    auto mean = base ? matchRowMean(base) : std::nullopt;
    if (!mean || mean->dims != dims || mean->input != sub.getLhs())
      return rewriter.notifyMatchFailure(op, "input is not a value less its mean");
    OpMaker maker(rewriter, op);
    rewriter.replaceOp(op, maker.create<LayerNormOp>(op.getType(), sub.getLhs(), op.getWeight(),
                                                     Value(), op.getEpsilon(), dims));
    return success();
  }
};

/// The value of the normalised dimensions' shape that `operand` repeats along all other dimensions
/// of a norm.
Value trailingOperand(Value operand, int64_t dims, OpMaker &maker) {
  View view = View::of(operand);
  if (!view.isTrailing(dims))
    return {};
  view.dims.erase(view.dims.begin(), view.dims.end() - dims);
  return view.materialize(maker);
}

/// Whether the norm's result is rounded no further by its operator than by what follows it.
LogicalResult checkJoins(Operation *norm, Operation *user, PatternRewriter &rewriter) {
  if (!norm->hasOneUse())
    return rewriter.notifyMatchFailure(user, "the norm has other uses");
  if (getType(norm->getResult(0)).getElementType().getIntOrFloatBitWidth() < 32)
    return rewriter.notifyMatchFailure(user, "a 16-bit norm is rounded before its weight");
  return success();
}

/// norm * weight -> norm with weight
template <typename NormOp> struct JoinWeight : OpRewritePattern<MulOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MulOp op, PatternRewriter &rewriter) const override {
    for (unsigned side = 0; side < 2; ++side) {
      auto norm = definedBy<NormOp>(op->getOperand(side));
      if (!norm || norm.getWeight() || hasBias(norm))
        continue;
      if (failed(checkJoins(norm, op, rewriter)))
        return failure();
      OpMaker maker(rewriter, op);
      Value weight = trailingOperand(op->getOperand(1 - side), norm.getNormDims(), maker);
      if (!weight)
        return rewriter.notifyMatchFailure(op, "factor varies along other dimensions");
      rewriter.replaceOp(op, create(maker, norm, weight));
      return success();
    }
    return rewriter.notifyMatchFailure(op, "no operand is a norm without weight");
  }

private:
  static bool hasBias(RmsNormOp) { return false; }
  static bool hasBias(LayerNormOp norm) { return !!norm.getBias(); }
  static Value create(OpMaker &maker, RmsNormOp norm, Value weight) {
    return maker.create<RmsNormOp>(norm.getType(), norm.getInput(), weight, norm.getEpsilon(),
                                   norm.getNormDims());
  }
  static Value create(OpMaker &maker, LayerNormOp norm, Value weight) {
    return maker.create<LayerNormOp>(norm.getType(), norm.getInput(), weight, Value(),
                                     norm.getEpsilon(), norm.getNormDims());
  }
};

/// layer_norm + bias -> layer_norm with bias
struct JoinBias : OpRewritePattern<AddOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AddOp op, PatternRewriter &rewriter) const override {
    for (unsigned side = 0; side < 2; ++side) {
      auto norm = definedBy<LayerNormOp>(op->getOperand(side));
      if (!norm || norm.getBias())
        continue;
      if (failed(checkJoins(norm, op, rewriter)))
        return failure();
      OpMaker maker(rewriter, op);
      Value bias = trailingOperand(op->getOperand(1 - side), norm.getNormDims(), maker);
      if (!bias)
        return rewriter.notifyMatchFailure(op, "summand varies along other dimensions");
      rewriter.replaceOp(op, maker.create<LayerNormOp>(norm.getType(), norm.getInput(),
                                                       norm.getWeight(), bias, norm.getEpsilon(),
                                                       norm.getNormDims()));
      return success();
    }
    return rewriter.notifyMatchFailure(op, "no operand is a layer norm without bias");
  }
};

/// cast16(norm(cast32(x))) -> norm(x): both compute in f32 and round once
template <typename NormOp> struct NarrowNorm : OpRewritePattern<CastOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(CastOp op, PatternRewriter &rewriter) const override {
    auto norm = definedBy<NormOp>(op.getInput());
    auto widened = norm ? definedBy<CastOp>(norm.getInput()) : CastOp();
    if (!widened || widened.getInput().getType() != op.getType() || !norm->hasOneUse() ||
        op.getType().getElementType().getIntOrFloatBitWidth() != 16 ||
        !norm.getType().getElementType().isF32())
      return rewriter.notifyMatchFailure(op, "not a norm between a cast to f32 and the cast back");
    Operation *narrow = rewriter.clone(*norm);
    narrow->setOperand(0, widened.getInput());
    narrow->getResult(0).setType(op.getType());
    rewriter.replaceOp(op, narrow);
    return success();
  }
};

} // namespace

void raise::populateNormPatterns(RewritePatternSet &patterns) {
  patterns.add<RaiseRmsNorm<MulOp>, RaiseRmsNorm<DivOp>, CentredToLayerNorm, JoinWeight<RmsNormOp>,
               JoinWeight<LayerNormOp>, JoinBias, NarrowNorm<RmsNormOp>, NarrowNorm<LayerNormOp>>(
      patterns.getContext());
}
