//===- GraphDerivative.cpp - Formulas of cotangents, and ops outside of the table -===//
//
// The table is GraphElementwise.td.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDerivative.h"
#include "dialects/Graph/GraphDetail.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::graph::formula;

//===----------------------------------------------------------------------===//
// Terms and values
//===----------------------------------------------------------------------===//

Term Formula::term(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  Type element = type.getElementType();
  if (!isNarrowFloat(element))
    return {this, value};
  for (auto [narrow, wide] : widened)
    if (narrow == value)
      return {this, wide};
  Value wide = CastOp::create(b, loc, value, computeType(element));
  widened.push_back({value, wide});
  return {this, wide};
}

Term Formula::termAs(Value value, Term like) {
  Term x = term(value);
  Type element = like.type().getElementType();
  return x.type().getElementType() == element ? x
                                              : Term{this, CastOp::create(b, loc, value, element)};
}

Term Formula::constant(RankedTensorType type, double value) {
  return {this, ConstantOp::splat(b, loc, type, value)};
}

Term Formula::iota(Dims shape, int64_t dim) {
  return {this, IotaOp::create(b, loc, RankedTensorType::get(shape, b.getI64Type()), dim)};
}

Value Formula::finish(Term x) {
  return finish(x, cast<RankedTensorType>(given.getType()).getElementType());
}

/// One op on widened operands rounds as the op on the narrow ones does: it is that.
static Value tryNarrow(OpBuilder &b, Operation *op, Type elementType) {
  if (!op || !isa<NegOp, AddOp, SubOp, MulOp, DivOp>(op) || !op->use_empty())
    return {};
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    auto widened = operand.getDefiningOp<CastOp>();
    if (!widened || widened.getInput().getType().getElementType() != elementType)
      return {};
    operands.push_back(widened.getInput());
  }
  Value narrow = cloneLocal(b, op, operands, operands.front().getType())->getResult(0);
  op->erase();
  return narrow;
}

Formula::~Formula() {
  for (auto [narrow, wide] : widened)
    if (wide.use_empty())
      wide.getDefiningOp()->erase();
}

Value Formula::finish(Term x, Type elementType) {
  if (x.type().getElementType() == elementType)
    return x.value;
  for (auto [narrow, wide] : widened)
    if (wide == x.value && cast<RankedTensorType>(narrow.getType()).getElementType() == elementType)
      return narrow;
  if (Value narrow = tryNarrow(b, x.value.getDefiningOp(), elementType))
    return narrow;
  return CastOp::create(b, loc, x.value, elementType);
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

template <typename Op> static Term build(Term x) {
  return {x.formula, Op::create(x.formula->b, x.formula->loc, x.value)};
}
template <typename Op> static Term build(Term x, Term y) {
  return {x.formula, Op::create(x.formula->b, x.formula->loc, x.value, y.value)};
}
static Term compare(Predicate predicate, Term x, Term y) {
  return {x.formula, CompareOp::create(x.formula->b, x.formula->loc, predicate, x.value, y.value)};
}
static Term like(Term x, double value) { return x.formula->constant(x.type(), value); }

#define SHARDC_FORMULA_BINARY(name, built)                                                         \
  Term formula::name(Term x, Term y) { return built; }                                             \
  Term formula::name(Term x, double y) { return name(x, like(x, y)); }                             \
  Term formula::name(double x, Term y) { return name(like(y, x), y); }
SHARDC_FORMULA_BINARY(operator+, build<AddOp>(x, y))
SHARDC_FORMULA_BINARY(operator-, build<SubOp>(x, y))
SHARDC_FORMULA_BINARY(operator*, build<MulOp>(x, y))
SHARDC_FORMULA_BINARY(operator/, build<DivOp>(x, y))
SHARDC_FORMULA_BINARY(pow, build<PowOp>(x, y))
SHARDC_FORMULA_BINARY(operator==, compare(Predicate::EQ, x, y))
SHARDC_FORMULA_BINARY(operator!=, compare(Predicate::NE, x, y))
SHARDC_FORMULA_BINARY(operator<, compare(Predicate::LT, x, y))
SHARDC_FORMULA_BINARY(operator>, compare(Predicate::GT, x, y))
SHARDC_FORMULA_BINARY(operator>=, compare(Predicate::GE, x, y))
#undef SHARDC_FORMULA_BINARY
Term formula::operator&&(Term x, Term y) { return build<AndOp>(x, y); }

Term formula::operator-(Term x) { return build<NegOp>(x); }
Term formula::exp(Term x) { return build<ExpOp>(x); }
Term formula::log(Term x) { return build<LogOp>(x); }
Term formula::rsqrt(Term x) { return build<RsqrtOp>(x); }
Term formula::sin(Term x) { return build<SinOp>(x); }
Term formula::cos(Term x) { return build<CosOp>(x); }
Term formula::sinh(Term x) { return build<SinhOp>(x); }
Term formula::cosh(Term x) { return build<CoshOp>(x); }
Term formula::tanh(Term x) { return build<TanhOp>(x); }
Term formula::erf(Term x) { return build<ErfOp>(x); }
Term formula::sigmoid(Term x) { return build<SigmoidOp>(x); }
Term formula::sign(Term x) { return build<SignOp>(x); }
Term formula::floor(Term x) { return build<FloorOp>(x); }
Term formula::trunc(Term x) { return build<TruncOp>(x); }

Term formula::where(Term condition, Term x, Term y) {
  Formula &f = *condition.formula;
  return {&f, SelectOp::create(f.b, f.loc, x.value.getType(), condition.value, x.value, y.value)};
}
Term formula::where(Term condition, Term x, double y) { return where(condition, x, like(x, y)); }
Term formula::where(Term condition, double x, Term y) { return where(condition, like(y, x), y); }

Term formula::siluSlope(Term x) {
  Term s = sigmoid(x);
  return s * (1 + x * (1 - s));
}

Term formula::geluSlope(Term x) {
  constexpr double kSqrtHalf = 0.70710678118654752440, kDensityAtZero = 0.39894228040143267794;
  return 0.5 * (1 + erf(kSqrtHalf * x)) + x * (kDensityAtZero * exp(-0.5 * x * x));
}

Term formula::geluTanhSlope(Term x) {
  constexpr double kScale = 0.79788456080286535588, kCubic = 0.044715;
  Term square = x * x;
  Term t = tanh(kScale * (x * (1 + kCubic * square)));
  return 0.5 * (1 + t) + 0.5 * kScale * x * ((1 - t * t) * (1 + 3 * kCubic * square));
}

Term formula::productSlope(Term x, Term zeros, Term product) {
  // Dividing by x is right only where no factor is zero; a single zero gets the product of the
  // others.
  return where(x == 0, where(zeros == 1, product, 0), where(zeros == 0, product / x, 0));
}

Term formula::indicator(Term condition, Term like) {
  Formula &f = *condition.formula;
  return {&f, CastOp::create(f.b, f.loc, condition.value, like.type().getElementType())};
}

//===----------------------------------------------------------------------===//
// Dimensions
//===----------------------------------------------------------------------===//

static Term reduce(Reduction kind, Term x, Dims dims) {
  if (dims.empty())
    return x;
  return {x.formula, ReduceOp::create(x.formula->b, x.formula->loc, kind, x.value, dims)};
}
Term formula::sum(Term x, Dims dims) { return reduce(Reduction::Sum, x, dims); }
Term formula::maximum(Term x, Dims dims) { return reduce(Reduction::Max, x, dims); }

Term formula::spread(Term x, Dims shape, Dims dims) {
  if (x.shape() == shape)
    return x;
  Formula &f = *x.formula;
  return {&f, BroadcastOp::create(f.b, f.loc, x.type().clone(shape), x.value, dims)};
}

Term formula::reshape(Term x, Dims shape) {
  if (x.shape() == shape)
    return x;
  Formula &f = *x.formula;
  return {&f, ReshapeOp::create(f.b, f.loc, x.type().clone(shape), x.value)};
}

Term formula::transpose(Term x, Dims permutation) {
  return {x.formula, TransposeOp::create(x.formula->b, x.formula->loc, x.value, permutation)};
}

Term formula::slice(Term x, Dims starts, Dims strides, Dims shape) {
  if (x.shape() == shape)
    return x;
  Formula &f = *x.formula;
  return {&f, SliceOp::create(f.b, f.loc, x.type().clone(shape), x.value, starts, strides)};
}

Term formula::pad(Term x, Dims low, Dims high) {
  SmallVector<int64_t> shape(x.shape());
  for (size_t d = 0; d < shape.size(); ++d)
    shape[d] += low[d] + high[d];
  if (x.shape() == Dims(shape))
    return x;
  Formula &f = *x.formula;
  TypedAttr zero = f.b.getZeroAttr(x.type().getElementType());
  return {&f, PadOp::create(f.b, f.loc, x.type().clone(shape), x.value, low, high, zero)};
}

Term formula::dilate(Term x, Dims strides) {
  for (auto [d, stride] : llvm::enumerate(strides)) {
    int64_t size = x.shape()[d];
    if (stride == 1 || size < 2)
      continue;
    // [.., n, ..] -> [.., n, 1, ..] -> [.., n, stride, ..] -> [.., n * stride, ..]: what is behind
    // the last is cut off.
    SmallVector<int64_t> shape(x.shape()), split(shape);
    split.insert(split.begin() + d + 1, 1);
    SmallVector<int64_t> low(split.size(), 0), high(split.size(), 0);
    high[d + 1] = stride - 1;
    shape[d] = size * stride;
    x = reshape(pad(reshape(x, split), low, high), shape);
    shape[d] = (size - 1) * stride + 1;
    SmallVector<int64_t> zeros(shape.size(), 0), ones(shape.size(), 1);
    x = slice(x, zeros, ones, shape);
  }
  return x;
}

SmallVector<int64_t> formula::otherDims(int64_t rank, Dims dims) {
  SmallVector<int64_t> others;
  for (int64_t d = 0; d < rank; ++d)
    if (!llvm::is_contained(dims, d))
      others.push_back(d);
  return others;
}

//===----------------------------------------------------------------------===//
// Compare, select, cast, tests
//===----------------------------------------------------------------------===//

static bool isFloat(Value value) {
  return isa<FloatType>(cast<RankedTensorType>(value.getType()).getElementType());
}

Cotangents CompareOp::buildVJP(OpBuilder &, ValueRange) { return SmallVector<Value>(2); }
Cotangents IsNanOp::buildVJP(OpBuilder &, ValueRange) { return SmallVector<Value>(1); }
Cotangents IsInfOp::buildVJP(OpBuilder &, ValueRange) { return SmallVector<Value>(1); }

Cotangents SelectOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  // Without a Formula: choice rounds nothing, so that 16-bit floats stay as they are.
  Value g = cotangents[0], zero = ConstantOp::splat(b, getLoc(), getType(), 0);
  return SmallVector<Value>{Value(),
                            SelectOp::create(b, getLoc(), getType(), getCondition(), g, zero),
                            SelectOp::create(b, getLoc(), getType(), getCondition(), zero, g)};
}

Cotangents CastOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  if (!isFloat(getInput()))
    return SmallVector<Value>(1);
  return SmallVector<Value>{
      b.createOrFold<CastOp>(getLoc(), cotangents[0], getInput().getType().getElementType())};
}
