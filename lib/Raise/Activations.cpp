//===- Activations.cpp - Sigmoid, silu, gelu, softplus, softmax -----------===//
//
// gelu has as many spellings as there are ways to write 0.5 x (1 + t): patterns expand the
// expression to a polynomial in x and t = tanh(u) or erf(u), and u to one in x, and compare
// coefficients. Squared relu and quick gelu stay as they are.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Patterns.h"
#include "lib/Raise/View.h"

#include <cmath>
#include <map>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

//===----------------------------------------------------------------------===//
// Polynomials
//===----------------------------------------------------------------------===//

/// Coefficients by the exponents of x and t.
using Polynomial = std::map<std::pair<int, int>, double>;
constexpr int kMaxDegree = 4;

std::optional<Polynomial> multiply(const Polynomial &a, const Polynomial &b) {
  Polynomial product;
  for (const auto &[m, u] : a)
    for (const auto &[n, v] : b) {
      if (m.first + n.first > kMaxDegree || m.second + n.second > kMaxDegree)
        return std::nullopt;
      product[{m.first + n.first, m.second + n.second}] += u * v;
    }
  return product;
}

/// `value` as a polynomial in x and t. `budget` bounds the number of ops looked at.
std::optional<Polynomial> expand(Value value, Value x, Value t, int &budget) {
  if (value == x)
    return Polynomial{{{1, 0}, 1.0}};
  if (value == t)
    return Polynomial{{{0, 1}, 1.0}};
  if (auto splat = splatValue(value))
    return Polynomial{{{0, 0}, *splat}};
  Operation *op = value.getDefiningOp();
  if (!op || --budget < 0 || !isa<AddOp, SubOp, MulOp, DivOp, NegOp, PowOp>(op))
    return std::nullopt;
  auto first = expand(op->getOperand(0), x, t, budget);
  if (!first)
    return std::nullopt;
  if (auto pow = dyn_cast<PowOp>(op)) {
    std::optional<double> exponent = splatValue(pow.getRhs());
    if (!exponent || (*exponent != 2 && *exponent != 3))
      return std::nullopt;
    auto square = multiply(*first, *first);
    return square && *exponent == 3 ? multiply(*square, *first) : square;
  }
  if (auto scaled = matchScaled(value))
    if (scaled->value == op->getOperand(0))
      return multiply(*first, {{{0, 0}, scaled->factor}});
  auto second = isa<NegOp, DivOp>(op) ? std::nullopt : expand(op->getOperand(1), x, t, budget);
  if (!second)
    return std::nullopt;
  if (isa<MulOp>(op))
    return multiply(*first, *second);
  for (auto &[exponents, coefficient] : *second)
    (*first)[exponents] += isa<SubOp>(op) ? -coefficient : coefficient;
  return first;
}

bool expandsTo(Value value, Value x, Value t, const Polynomial &expected) {
  int budget = 16;
  auto actual = expand(value, x, t, budget);
  if (!actual)
    return false;
  Type element = getType(value).getElementType();
  for (auto &[exponents, coefficient] : *actual) {
    auto at = expected.find(exponents);
    if (at == expected.end() ? coefficient != 0 : !isClose(coefficient, at->second, element))
      return false;
  }
  return llvm::all_of(expected, [&](auto &term) { return actual->count(term.first); });
}

/// The values that a product is made of, at any depth.
void collectFactors(Value value, SmallVectorImpl<Value> &factors) {
  auto mul = definedBy<MulOp>(value);
  auto scaled = mul ? std::nullopt : matchScaled(value);
  if (factors.size() < 16)
    factors.push_back(value);
  if (scaled)
    return collectFactors(scaled->value, factors);
  if (!mul || factors.size() >= 16)
    return;
  collectFactors(mul.getLhs(), factors);
  collectFactors(mul.getRhs(), factors);
}

//===----------------------------------------------------------------------===//
// Patterns
//===----------------------------------------------------------------------===//

/// 0.5 x (1 + erf(x / sqrt 2)) -> gelu; 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) ->
/// gelu_tanh
template <typename CurveOp, typename GeluOpTy> struct RaiseGelu : OpRewritePattern<MulOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MulOp op, PatternRewriter &rewriter) const override {
    if (!isa<FloatType>(op.getType().getElementType()))
      return rewriter.notifyMatchFailure(op, "not a product of floats");
    SmallVector<Value> factors;
    collectFactors(op, factors);
    for (Value sum : factors) {
      CurveOp curve = matchOnePlusCurve(sum);
      if (!curve)
        continue;
      for (Value x : factors)
        if (expandsTo(op, x, curve, {{{1, 0}, 0.5}, {{1, 1}, 0.5}}) &&
            expandsTo(curve.getInput(), x, Value(), curveArgument())) {
          OpMaker maker(rewriter, op);
          rewriter.replaceOp(op, maker.create<GeluOpTy>(x));
          return success();
        }
    }
    return rewriter.notifyMatchFailure(op, "not 0.5 x (1 + curve(x))");
  }

private:
  /// The curve in 1 + t, or in its half.
  static CurveOp matchOnePlusCurve(Value value) {
    auto shifted = matchShifted(value);
    if (!shifted)
      return {};
    auto scaled = matchScaled(shifted->value);
    return definedBy<CurveOp>(scaled ? scaled->value : shifted->value);
  }
  static Polynomial curveArgument() {
    if (std::is_same_v<CurveOp, ErfOp>)
      return {{{1, 0}, std::sqrt(0.5)}};
    double slope = std::sqrt(2 / M_PI);
    return {{{1, 0}, slope}, {{3, 0}, slope * 0.044715}};
  }
};

/// 1 / (1 + exp(-x)) -> sigmoid
template <typename RootOp> struct RaiseSigmoid : OpRewritePattern<RootOp> {
  using OpRewritePattern<RootOp>::OpRewritePattern;
  LogicalResult matchAndRewrite(RootOp op, PatternRewriter &rewriter) const override {
    Value denominator = op->getOperand(0);
    if (auto div = dyn_cast<DivOp>(op.getOperation()))
      denominator = isSplat(div.getLhs(), 1) ? div.getRhs() : Value();
    auto shifted = denominator ? matchShifted(denominator) : std::nullopt;
    auto exp = shifted && shifted->summand == 1 ? definedBy<ExpOp>(shifted->value) : ExpOp();
    auto negated = exp ? matchScaled(exp.getInput()) : std::nullopt;
    if (!negated || negated->factor != -1)
      return rewriter.notifyMatchFailure(op, "not 1 / (1 + exp(-x))");
    OpMaker maker(rewriter, op);
    rewriter.replaceOp(op, maker.template create<SigmoidOp>(negated->value));
    return success();
  }
};

/// x * sigmoid(x) -> silu
struct RaiseSilu : OpRewritePattern<MulOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MulOp op, PatternRewriter &rewriter) const override {
    for (unsigned side = 0; side < 2; ++side) {
      auto sigmoid = definedBy<SigmoidOp>(op->getOperand(side));
      if (!sigmoid || sigmoid.getInput() != op->getOperand(1 - side))
        continue;
      OpMaker maker(rewriter, op);
      rewriter.replaceOp(op, maker.create<SiluOp>(sigmoid.getInput()));
      return success();
    }
    return rewriter.notifyMatchFailure(op, "not x * sigmoid(x)");
  }
};

/// log(1 + exp(x)) -> softplus, also as log1p
template <typename RootOp> struct RaiseSoftplus : OpRewritePattern<RootOp> {
  using OpRewritePattern<RootOp>::OpRewritePattern;
  LogicalResult matchAndRewrite(RootOp op, PatternRewriter &rewriter) const override {
    Value argument = op.getInput();
    if (std::is_same_v<RootOp, LogOp>) {
      auto shifted = matchShifted(argument);
      argument = shifted && shifted->summand == 1 ? shifted->value : Value();
    }
    auto exp = definedBy<ExpOp>(argument);
    if (!exp)
      return rewriter.notifyMatchFailure(op, "not log(1 + exp(x))");
    OpMaker maker(rewriter, op);
    rewriter.replaceOp(op, maker.template create<SoftplusOp>(exp.getInput()));
    return success();
  }
};

/// x > 20 ? x : softplus(x) -> softplus(x): torch's guard, which changes less than a rounding
struct DropSoftplusGuard : OpRewritePattern<SelectOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(SelectOp op, PatternRewriter &rewriter) const override {
    auto softplus = definedBy<SoftplusOp>(op.getOnFalse());
    auto compare = definedBy<CompareOp>(op.getCondition());
    if (!softplus || !compare || compare.getPredicate() != Predicate::GT ||
        op.getOnTrue() != softplus.getInput() || compare.getLhs() != softplus.getInput() ||
        op.getType().getElementType().isF64())
      return rewriter.notifyMatchFailure(op, "not a choice between x and softplus(x)");
    std::optional<double> threshold = splatValue(compare.getRhs());
    if (!threshold || *threshold < 17)
      return rewriter.notifyMatchFailure(op, "threshold is too low for the two to agree");
    rewriter.replaceOp(op, softplus);
    return success();
  }
};

/// softmax(x - max(x)) -> softmax(x)
struct DropSoftmaxShift : OpRewritePattern<SoftmaxOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(SoftmaxOp op, PatternRewriter &rewriter) const override {
    auto sub = definedBy<SubOp>(op.getInput());
    bool isLast = static_cast<int64_t>(op.getDim()) == op.getType().getRank() - 1;
    View view = sub ? View::of(sub.getRhs()) : View();
    auto reduce = sub && isLast && view.isRowwise(1) ? definedBy<ReduceOp>(view.base) : ReduceOp();
    if (!reduce || reduce.getKind() != Reduction::Max || reduce.getInput() != sub.getLhs())
      return rewriter.notifyMatchFailure(op, "input is not shifted by its own maximum");
    rewriter.modifyOpInPlace(op, [&] { op.getInputMutable().assign(sub.getLhs()); });
    return success();
  }
};

/// exp(x) / sum(exp(x)) -> softmax(x); the shift by the maximum then goes too
struct RaiseSoftmax : OpRewritePattern<DivOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(DivOp op, PatternRewriter &rewriter) const override {
    auto exp = definedBy<ExpOp>(op.getLhs());
    View view = exp ? View::of(op.getRhs()) : View();
    auto reduce = exp && view.isRowwise(1) ? definedBy<ReduceOp>(view.base) : ReduceOp();
    int64_t last = op.getType().getRank() - 1;
    if (!reduce || reduce.getKind() != Reduction::Sum || reduce.getInput() != exp.getResult() ||
        reduce.getDims() != ArrayRef(last))
      return rewriter.notifyMatchFailure(op, "not exp(x) by its sum along the last dimension");
    OpMaker maker(rewriter, op);
    rewriter.replaceOp(op, maker.create<SoftmaxOp>(exp.getInput(), last));
    return success();
  }
};

} // namespace

void raise::populateActivationPatterns(RewritePatternSet &patterns) {
  patterns.add<RaiseGelu<ErfOp, GeluOp>, RaiseGelu<TanhOp, GeluTanhOp>, RaiseSigmoid<DivOp>,
               RaiseSigmoid<ReciprocalOp>, RaiseSilu, RaiseSoftplus<LogOp>, RaiseSoftplus<Log1pOp>,
               DropSoftplusGuard, DropSoftmaxShift, RaiseSoftmax>(patterns.getContext());
}
