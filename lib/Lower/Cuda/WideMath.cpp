//===- WideMath.cpp - Elementary functions that want f64 ------------------===//
//
// exp(x) = 2^n · e^r with n = round(x / ln 2) and a polynomial of r; log(x) = e ln 2 + 2 artanh((m
// - 1) / (m + 1)) as the sum of two f64, so that a power exp(y log |x|) has its digits when y log
//   |x| is large; a remainder by long division in steps of 50 bits, each of which is exact. f32 is
//   widened: its results are then right but for the last rounding.
//
//===----------------------------------------------------------------------===//
#include "WideMath.h"
#include "lib/Lower/Cpu/Emitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include <limits>

using namespace mlir;

namespace shardc {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLn2High = 0x1.62e42fefa39efp-1, kLn2Low = 0x1.abc9e3b39803fp-56;
constexpr int64_t kBias = 1023, kMantissa = 52, kStep = 50;

/// A number as the sum of two.
struct Pair {
  Value high, low;
};

/// Scalars of f64 and their bits.
struct Wide {
  OpBuilder &b;
  Location loc;

  Value number(double v) { return arith::ConstantOp::create(b, loc, b.getF64FloatAttr(v)); }
  Value integer(int64_t v) { return arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(v)); }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(b, loc, x, y); }
  Value neg(Value x) { return arith::NegFOp::create(b, loc, x); }
  Value abs(Value x) { return math::AbsFOp::create(b, loc, x); }
  Value floor(Value x) { return math::FloorOp::create(b, loc, x); }
  Value trunc(Value x) { // math.trunc has no conversion to NVVM
    return select(less(x, number(0)), neg(floor(neg(x))), floor(x));
  }
  Value fma(Value x, Value y, Value z) { return math::FmaOp::create(b, loc, x, y, z); }
  Value select(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, loc, condition, x, y);
  }
  Value is(arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(b, loc, predicate, x, y);
  }
  Value equal(Value x, Value y) { return is(arith::CmpFPredicate::OEQ, x, y); }
  Value less(Value x, Value y) { return is(arith::CmpFPredicate::OLT, x, y); }
  Value both(Value x, Value y) { return arith::AndIOp::create(b, loc, x, y); }
  Value bits(Value x) { return arith::BitcastOp::create(b, loc, b.getI64Type(), x); }
  Value fromBits(Value x) { return arith::BitcastOp::create(b, loc, b.getF64Type(), x); }
  Value plus(Value x, Value y) { return arith::AddIOp::create(b, loc, x, y); }
  Value minus(Value x, Value y) { return arith::SubIOp::create(b, loc, x, y); }
  Value field(Value x) { // of the exponent, of a positive number
    return arith::ShRUIOp::create(b, loc, bits(x), integer(kMantissa));
  }
  /// 2^n of a normal number.
  Value power(Value n) {
    return fromBits(arith::ShLIOp::create(b, loc, plus(n, integer(kBias)), integer(kMantissa)));
  }
  /// Horner's rule; the highest coefficient first.
  Value polynomial(Value x, ArrayRef<double> coefficients) {
    Value sum = number(coefficients.front());
    for (double coefficient : coefficients.drop_front())
      sum = fma(sum, x, number(coefficient));
    return sum;
  }

  Value exp(Pair x);
  Pair log(Value x);
  Value pow(Value x, Value y);
  Value remainder(Value x, Value y);
};

/// e^(high + low), where low is below high's last places.
Value Wide::exp(Pair x) {
  Value isNan = is(arith::CmpFPredicate::UNO, x.high, x.high);
  // Beyond these it is zero or infinite; the factors below say so.
  Value bounded = select(isNan, number(0), x.high);
  bounded = select(less(bounded, number(-746)), number(-746), bounded);
  bounded = select(less(number(710), bounded), number(710), bounded);
  Value n = math::RoundEvenOp::create(b, loc, mul(bounded, number(1.4426950408889634)));
  Value r = fma(n, number(-kLn2High), bounded);
  r = fma(n, number(-kLn2Low), r);
  if (x.low)
    r = add(r, x.low);
  // Taylor's series: |r| < 0.35, so that r^14 / 14! is below the last place.
  SmallVector<double> coefficients;
  double factorial = 1;
  for (int i = 1; i <= 14; factorial *= i++)
    coefficients.insert(coefficients.begin(), 1 / factorial);
  Value sum = polynomial(r, coefficients);
  Value whole = arith::FPToSIOp::create(b, loc, b.getI64Type(), n);
  Value half = arith::ShRSIOp::create(b, loc, whole, integer(1)); // each factor is a normal number
  Value result = mul(mul(sum, power(half)), power(minus(whole, half)));
  return select(isNan, x.high, result);
}

/// Of a number that is not negative.
Pair Wide::log(Value x) {
  Value isSmall = less(x, number(0x1p-1022));
  Value normal = select(isSmall, mul(x, number(0x1p54)), x);
  // m in [√½, √2): x = m · 2^e.
  Value offset = minus(bits(normal), integer(0x3fe6a09e667f3bcd));
  Value e = arith::ShRSIOp::create(b, loc, offset, integer(kMantissa));
  Value m = fromBits(minus(bits(normal), arith::ShLIOp::create(b, loc, e, integer(kMantissa))));
  e = minus(e, select(isSmall, integer(54), integer(0)));
  Value exponent = arith::SIToFPOp::create(b, loc, b.getF64Type(), e);
  Value above = sub(m, number(1)), below = add(m, number(1)); // the first is exact
  Value lost = sub(m, sub(below, number(1)));                 // … of the second
  Value s = div(above, below);
  Value rest = div(fma(neg(s), lost, fma(neg(s), below, above)), below); // s is s + rest
  Value square = mul(s, s);
  SmallVector<double> coefficients; // 2/3 + 2/5 s² + …; |s| < 0.172
  for (int i = 21; i >= 3; i -= 2)
    coefficients.push_back(2.0 / i);
  Value tail = mul(mul(square, s), polynomial(square, coefficients));
  // e ln 2 (its high part has few digits where e is small) + 2 s, then what is small.
  Value big = mul(exponent, number(kLn2High)), bigLow = fma(exponent, number(kLn2High), neg(big));
  bigLow = fma(exponent, number(kLn2Low), bigLow);
  Value twice = add(s, s), high = add(big, twice);
  // Which of the two is larger is not known: Knuth's sum.
  Value part = sub(high, big), error = add(sub(big, sub(high, part)), sub(twice, part));
  Value low = add(add(add(error, bigLow), add(rest, rest)), tail);
  Value total = add(high, low);
  low = add(sub(high, total), low);
  Value isZero = equal(x, number(0)), isEndless = equal(x, number(kInfinity));
  Value isNan = is(arith::CmpFPredicate::UNO, x, x);
  total = select(isZero, number(-kInfinity), total);
  Value isSpecial =
      arith::OrIOp::create(b, loc, isZero, arith::OrIOp::create(b, loc, isEndless, isNan));
  return {select(arith::OrIOp::create(b, loc, isEndless, isNan), x, total),
          select(isSpecial, number(0), low)};
}

/// C's pow.
Value Wide::pow(Value x, Value y) {
  Value size = abs(x);
  Pair l = log(size);
  Value high = mul(y, l.high), low = fma(y, l.low, fma(y, l.high, neg(high)));
  Value isFinite = less(abs(high), number(kInfinity));
  Value result = exp({high, select(isFinite, low, number(0))});
  Value isWhole = equal(trunc(y), y), half = mul(y, number(0.5));
  Value isOdd = both(isWhole, is(arith::CmpFPredicate::ONE, trunc(half), half));
  Value isNegative = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, bits(x), integer(0));
  result = select(both(isNegative, isOdd), neg(result), result);
  Value hasNoPower = both(both(less(x, number(0)), less(number(-kInfinity), x)),
                          is(arith::CmpFPredicate::UNE, trunc(y), y));
  result = select(hasNoPower, number(std::numeric_limits<double>::quiet_NaN()), result);
  // 1^y, x^0, and -1 to an endless power.
  Value isOne = arith::OrIOp::create(b, loc, equal(x, number(1)), equal(y, number(0)));
  Value isMinusOne = both(equal(x, number(-1)), equal(abs(y), number(kInfinity)));
  return select(arith::OrIOp::create(b, loc, isOne, isMinusOne), number(1), result);
}

/// C's fmod. Before step k the rest is below y · 2^(50 (k + 1)), so that its quotient by y · 2^(50
/// k) is a whole number of at most 50 bits, and what is left of it has no more digits than y.
Value Wide::remainder(Value x, Value y) {
  Value divisor = abs(y), dividend = abs(x);
  Value place = field(divisor);
  Value isTiny = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, place, integer(0));
  place = select(isTiny, integer(-kMantissa), place);
  Value ahead = minus(field(dividend), place);
  Value none = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, ahead, integer(0));
  Value steps = plus(
      arith::DivUIOp::create(b, loc, select(none, integer(0), ahead), integer(kStep)), integer(1));
  Value zero = integer(0), one = integer(1);
  auto loop = scf::ForOp::create(
      b, loc, zero, steps, one, ValueRange{dividend},
      [&](OpBuilder &inner, Location, Value i, ValueRange carried) {
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
        Value shift = arith::MulIOp::create(b, loc, minus(minus(steps, one), i), integer(kStep));
        Value third = arith::DivUIOp::create(b, loc, shift, integer(3));
        Value factor = power(third);
        Value scaled =
            mul(mul(mul(divisor, factor), factor), power(minus(shift, plus(third, third))));
        Value quotient = trunc(div(carried[0], scaled));
        Value rest = fma(neg(quotient), scaled, carried[0]);
        rest =
            select(less(rest, number(0)), add(rest, scaled), rest); // the quotient was rounded up
        rest = select(less(carried[0], scaled), carried[0], rest);
        scf::YieldOp::create(b, loc, rest);
      });
  Value result = math::CopySignOp::create(b, loc, loop.getResult(0), x);
  // Of nothing endless, and not by zero.
  Value isDefined = both(less(dividend, number(kInfinity)), less(number(0), divisor));
  return select(isDefined, result, number(std::numeric_limits<double>::quiet_NaN()));
}

/// An op of f32 or f64 in f64.
template <typename Op, bool takesF32> struct WidePattern : OpRewritePattern<Op> {
  using Rule = Value (*)(Wide &, ValueRange);
  WidePattern(MLIRContext *context, Rule rule) : OpRewritePattern<Op>(context), rule(rule) {}

  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const final {
    Type type = op.getType();
    if (!type.isF64() && !(takesF32 && type.isF32()))
      return rewriter.notifyMatchFailure(op, "not a wide function");
    Wide wide{rewriter, op.getLoc()};
    SmallVector<Value> operands(op->getOperands());
    for (Value &operand : operands)
      if (type.isF32())
        operand = arith::ExtFOp::create(rewriter, op.getLoc(), rewriter.getF64Type(), operand);
    Value result = rule(wide, operands);
    if (type.isF32())
      result = arith::TruncFOp::create(rewriter, op.getLoc(), type, result);
    rewriter.replaceOp(op, result);
    return success();
  }
  Rule rule;
};

struct WideMathPass : PassWrapper<WideMathPass, OperationPass<gpu::GPUModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(WideMathPass)

  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect, math::MathDialect, scf::SCFDialect>();
  }
  void runOnOperation() final {
    RewritePatternSet patterns(&getContext());
    MLIRContext *context = &getContext();
    patterns.add<WidePattern<math::ExpOp, false>>(
        context, [](Wide &w, ValueRange x) { return w.exp({x[0], {}}); });
    patterns.add<WidePattern<math::LogOp, false>>(context, [](Wide &w, ValueRange x) {
      Value isNegative = w.less(x[0], w.number(0));
      return w.select(isNegative, w.number(std::numeric_limits<double>::quiet_NaN()),
                      w.log(x[0]).high);
    });
    patterns.add<WidePattern<math::PowFOp, true>>(
        context, [](Wide &w, ValueRange x) { return w.pow(x[0], x[1]); });
    patterns.add<WidePattern<arith::RemFOp, true>>(
        context, [](Wide &w, ValueRange x) { return w.remainder(x[0], x[1]); });
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace

std::unique_ptr<Pass> createWideMathPass() { return std::make_unique<WideMathPass>(); }

} // namespace shardc
