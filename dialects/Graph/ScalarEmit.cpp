//===- ScalarEmit.cpp - Scalar code of the elementwise ops ----------------===//

#include "dialects/Graph/ScalarEmit.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;

namespace shardc::graph::scalar {

static bool isFloat(Value x) { return isa<FloatType>(x.getType()); }

Value constantLike(OpBuilder &b, Location loc, Value x, double value) {
  Type type = x.getType();
  TypedAttr attr = isFloat(x) ? TypedAttr(b.getFloatAttr(type, value))
                              : TypedAttr(b.getIntegerAttr(type, static_cast<int64_t>(value)));
  return arith::ConstantOp::create(b, loc, attr);
}

Value neg(OpBuilder &b, Location loc, Value x) {
  if (isFloat(x))
    return arith::NegFOp::create(b, loc, x);
  return arith::SubIOp::create(b, loc, constantLike(b, loc, x, 0), x);
}

Value abs(OpBuilder &b, Location loc, Value x, bool isUnsigned) {
  if (isFloat(x))
    return math::AbsFOp::create(b, loc, x);
  return isUnsigned ? x : math::AbsIOp::create(b, loc, x);
}

/// x < 0, in the sense of its type.
static Value isNegative(OpBuilder &b, Location loc, Value x, bool isUnsigned) {
  Value zero = constantLike(b, loc, x, 0);
  if (isFloat(x))
    return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, zero);
  auto predicate = isUnsigned ? arith::CmpIPredicate::ult : arith::CmpIPredicate::slt;
  return arith::CmpIOp::create(b, loc, predicate, x, zero);
}

static Value isPositive(OpBuilder &b, Location loc, Value x, bool isUnsigned) {
  Value zero = constantLike(b, loc, x, 0);
  if (isFloat(x))
    return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, zero);
  auto predicate = isUnsigned ? arith::CmpIPredicate::ugt : arith::CmpIPredicate::sgt;
  return arith::CmpIOp::create(b, loc, predicate, x, zero);
}

Value sign(OpBuilder &b, Location loc, Value x, bool isUnsigned) {
  Value negative = arith::SelectOp::create(b, loc, isNegative(b, loc, x, isUnsigned),
                                           constantLike(b, loc, x, -1), x);
  return arith::SelectOp::create(b, loc, isPositive(b, loc, x, isUnsigned),
                                 constantLike(b, loc, x, 1), negative);
}

Value relu(OpBuilder &b, Location loc, Value x, bool isUnsigned) {
  return arith::SelectOp::create(b, loc, isNegative(b, loc, x, isUnsigned),
                                 constantLike(b, loc, x, 0), x);
}

Value bitNot(OpBuilder &b, Location loc, Value x) {
  return arith::XOrIOp::create(b, loc, x, constantLike(b, loc, x, -1));
}

Value reciprocal(OpBuilder &b, Location loc, Value x) {
  return arith::DivFOp::create(b, loc, constantLike(b, loc, x, 1), x);
}

Value rsqrt(OpBuilder &b, Location loc, Value x) {
  return reciprocal(b, loc, math::SqrtOp::create(b, loc, x));
}

Value sigmoid(OpBuilder &b, Location loc, Value x) {
  Value e = math::ExpOp::create(b, loc, arith::NegFOp::create(b, loc, x));
  return reciprocal(b, loc, arith::AddFOp::create(b, loc, e, constantLike(b, loc, x, 1)));
}

Value silu(OpBuilder &b, Location loc, Value x) {
  Value e = math::ExpOp::create(b, loc, arith::NegFOp::create(b, loc, x));
  return arith::DivFOp::create(b, loc, x,
                               arith::AddFOp::create(b, loc, e, constantLike(b, loc, x, 1)));
}

Value gelu(OpBuilder &b, Location loc, Value x) {
  Value scaled = arith::MulFOp::create(b, loc, x, constantLike(b, loc, x, 0.70710678118654752440));
  Value erf = math::ErfOp::create(b, loc, scaled);
  Value phi = arith::MulFOp::create(b, loc, constantLike(b, loc, x, 0.5),
                                    arith::AddFOp::create(b, loc, erf, constantLike(b, loc, x, 1)));
  return arith::MulFOp::create(b, loc, x, phi);
}

Value geluTanh(OpBuilder &b, Location loc, Value x) {
  Value square = arith::MulFOp::create(b, loc, x, x);
  Value cubic = arith::MulFOp::create(b, loc, arith::MulFOp::create(b, loc, square, x),
                                      constantLike(b, loc, x, 0.044715));
  Value inner = arith::MulFOp::create(b, loc, arith::AddFOp::create(b, loc, x, cubic),
                                      constantLike(b, loc, x, 0.79788456080286535588));
  Value tanh = math::TanhOp::create(b, loc, inner);
  Value half = arith::MulFOp::create(b, loc, x, constantLike(b, loc, x, 0.5));
  return arith::MulFOp::create(b, loc, half,
                               arith::AddFOp::create(b, loc, tanh, constantLike(b, loc, x, 1)));
}

Value softplus(OpBuilder &b, Location loc, Value x) {
  // max(x, 0) + log1p(exp(-|x|)): exact in both tails.
  Value e =
      math::ExpOp::create(b, loc, arith::NegFOp::create(b, loc, math::AbsFOp::create(b, loc, x)));
  Value tail = math::Log1pOp::create(b, loc, e);
  return arith::AddFOp::create(b, loc, relu(b, loc, x, false), tail);
}

Value add(OpBuilder &b, Location loc, Value x, Value y) {
  if (isFloat(x))
    return arith::AddFOp::create(b, loc, x, y);
  return arith::AddIOp::create(b, loc, x, y);
}

Value sub(OpBuilder &b, Location loc, Value x, Value y) {
  if (isFloat(x))
    return arith::SubFOp::create(b, loc, x, y);
  return arith::SubIOp::create(b, loc, x, y);
}

Value mul(OpBuilder &b, Location loc, Value x, Value y) {
  if (isFloat(x))
    return arith::MulFOp::create(b, loc, x, y);
  return arith::MulIOp::create(b, loc, x, y);
}

/// Integer x op y where a y that would trap (0, or -1 if signed) is replaced by 1 and the result
/// there by `onZero` / `onMinusOne`.
template <typename SignedOp, typename UnsignedOp>
static Value guardedDivision(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned,
                             Value onMinusOne) {
  Value zero = constantLike(b, loc, y, 0), one = constantLike(b, loc, y, 1);
  Value isZero = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, y, zero);
  Value divisor = arith::SelectOp::create(b, loc, isZero, one, y);
  if (isUnsigned) {
    Value q = UnsignedOp::create(b, loc, x, divisor);
    return arith::SelectOp::create(b, loc, isZero, zero, q);
  }
  Value minusOne = constantLike(b, loc, y, -1);
  Value isMinusOne = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, y, minusOne);
  divisor = arith::SelectOp::create(b, loc, isMinusOne, one, divisor);
  Value q = SignedOp::create(b, loc, x, divisor);
  q = arith::SelectOp::create(b, loc, isMinusOne, onMinusOne, q);
  return arith::SelectOp::create(b, loc, isZero, zero, q);
}

Value div(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  if (isFloat(x))
    return arith::DivFOp::create(b, loc, x, y);
  return guardedDivision<arith::DivSIOp, arith::DivUIOp>(b, loc, x, y, isUnsigned, neg(b, loc, x));
}

Value rem(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  if (isFloat(x))
    return arith::RemFOp::create(b, loc, x, y);
  return guardedDivision<arith::RemSIOp, arith::RemUIOp>(b, loc, x, y, isUnsigned,
                                                         constantLike(b, loc, x, 0));
}

Value mod(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  Value r = rem(b, loc, x, y, isUnsigned);
  if (isUnsigned)
    return r;
  Value zero = constantLike(b, loc, x, 0);
  Value nonZero = isFloat(x)
                      ? Value(arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNE, r, zero))
                      : Value(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, r, zero));
  Value differ =
      arith::XOrIOp::create(b, loc, isNegative(b, loc, r, false), isNegative(b, loc, y, false));
  Value adjust = arith::AndIOp::create(b, loc, nonZero, differ);
  return arith::SelectOp::create(b, loc, adjust, add(b, loc, r, y), r);
}

/// Integer power by squaring, over all bits of the exponent; below zero only 1 and -1 have integer
/// powers.
static Value integerPow(OpBuilder &b, Location loc, Value x, Value y) {
  Value zero = constantLike(b, loc, x, 0), one = constantLike(b, loc, x, 1),
        minusOne = constantLike(b, loc, x, -1);
  auto equals = [&](Value p, Value q) -> Value {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, p, q);
  };
  Value first = arith::ConstantIndexOp::create(b, loc, 0),
        step = arith::ConstantIndexOp::create(b, loc, 1);
  Value bits = arith::ConstantIndexOp::create(b, loc, x.getType().getIntOrFloatBitWidth());
  auto loop = scf::ForOp::create(
      b, loc, first, bits, step, ValueRange{one, x, y},
      [&](OpBuilder &b, Location loc, Value, ValueRange s) {
        Value isSet = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne,
                                            arith::AndIOp::create(b, loc, s[2], one), zero);
        Value product = arith::MulIOp::create(b, loc, s[0], s[1]);
        Value next = arith::SelectOp::create(b, loc, isSet, product, s[0]);
        scf::YieldOp::create(b, loc,
                             ValueRange{next, Value(arith::MulIOp::create(b, loc, s[1], s[1])),
                                        Value(arith::ShRUIOp::create(b, loc, s[2], one))});
      });
  Value isOdd = equals(arith::AndIOp::create(b, loc, y, one), one);
  Value ofMinusOne = arith::SelectOp::create(b, loc, isOdd, minusOne, one);
  Value inverse = arith::SelectOp::create(b, loc, equals(x, minusOne), ofMinusOne, zero);
  inverse = arith::SelectOp::create(b, loc, equals(x, one), one, inverse);
  return arith::SelectOp::create(b, loc, isNegative(b, loc, y, false), inverse, loop.getResult(0));
}

/// x to a small whole constant (or a half): products are exact where the library's function may not
/// be, and vector code.
static Value constantPow(OpBuilder &b, Location loc, Value x, double exponent) {
  if (exponent == 0.5)
    return math::SqrtOp::create(b, loc, x);
  Value result;
  int64_t n = static_cast<int64_t>(std::abs(exponent));
  for (Value power = x; n; n >>= 1) {
    if (n & 1)
      result = result ? Value(arith::MulFOp::create(b, loc, result, power)) : power;
    if (n > 1)
      power = arith::MulFOp::create(b, loc, power, power);
  }
  return exponent < 0 ? reciprocal(b, loc, result) : result;
}

Value pow(OpBuilder &b, Location loc, Value x, Value y) {
  if (!isFloat(x))
    return integerPow(b, loc, x, y);
  FloatAttr exponent;
  if (matchPattern(y, m_Constant(&exponent))) {
    double value = exponent.getValueAsDouble();
    if (value == 0.5 || (value == std::trunc(value) && std::abs(value) <= 8 && value != 0))
      return constantPow(b, loc, x, value);
  }
  return math::PowFOp::create(b, loc, x, y);
}

Value max(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  if (isFloat(x))
    return arith::MaximumFOp::create(b, loc, x, y);
  if (isUnsigned)
    return arith::MaxUIOp::create(b, loc, x, y);
  return arith::MaxSIOp::create(b, loc, x, y);
}

Value min(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  if (isFloat(x))
    return arith::MinimumFOp::create(b, loc, x, y);
  if (isUnsigned)
    return arith::MinUIOp::create(b, loc, x, y);
  return arith::MinSIOp::create(b, loc, x, y);
}

Value bitAnd(OpBuilder &b, Location loc, Value x, Value y) {
  return arith::AndIOp::create(b, loc, x, y);
}
Value bitOr(OpBuilder &b, Location loc, Value x, Value y) {
  return arith::OrIOp::create(b, loc, x, y);
}
Value bitXor(OpBuilder &b, Location loc, Value x, Value y) {
  return arith::XOrIOp::create(b, loc, x, y);
}

/// Shifts by the width or more are not defined in LLVM: choose the mathematical result.
static Value isTooFar(OpBuilder &b, Location loc, Value x, Value y) {
  Value width = constantLike(b, loc, y, x.getType().getIntOrFloatBitWidth());
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, y, width);
}

Value shl(OpBuilder &b, Location loc, Value x, Value y) {
  Value zero = constantLike(b, loc, x, 0), tooFar = isTooFar(b, loc, x, y);
  Value safe = arith::SelectOp::create(b, loc, tooFar, zero, y);
  return arith::SelectOp::create(b, loc, tooFar, zero, arith::ShLIOp::create(b, loc, x, safe));
}

Value shr(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  Value last = constantLike(b, loc, y, x.getType().getIntOrFloatBitWidth() - 1);
  Value tooFar = isTooFar(b, loc, x, y);
  Value safe = arith::SelectOp::create(b, loc, tooFar, last, y);
  if (!isUnsigned)
    return arith::ShRSIOp::create(b, loc, x, safe);
  return arith::SelectOp::create(b, loc, tooFar, constantLike(b, loc, x, 0),
                                 arith::ShRUIOp::create(b, loc, x, safe));
}

} // namespace shardc::graph::scalar
