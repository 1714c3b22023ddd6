//===- GraphEmit.cpp - Index lambdas: one scalar of an op's result at given indices -===//
//
// Every op of lowering class Element says here which elements of its operands it needs. Fuse
// composes these without intermediate buffers. Idea: XLA's elemental IR emitter.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDetail.h"
#include "dialects/Graph/ScalarEmit.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace {

/// Index arithmetic that folds constants as it goes.
struct IndexMath {
  OpBuilder &b;
  Location loc;

  Value constant(int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); }
  Value add(Value x, int64_t y) {
    return y == 0 ? x : b.createOrFold<arith::AddIOp>(loc, x, constant(y));
  }
  Value add(Value x, Value y) { return b.createOrFold<arith::AddIOp>(loc, x, y); }
  Value mul(Value x, int64_t y) {
    return y == 1 ? x : b.createOrFold<arith::MulIOp>(loc, x, constant(y));
  }
  // Indices are never negative: unsigned division is exact and cheaper.
  Value div(Value x, int64_t y) {
    return y == 1 ? x : b.createOrFold<arith::DivUIOp>(loc, x, constant(y));
  }
  Value rem(Value x, int64_t y) {
    return y == 1 ? constant(0) : b.createOrFold<arith::RemUIOp>(loc, x, constant(y));
  }
  Value less(Value x, int64_t y) {
    return b.createOrFold<arith::CmpIOp>(loc, arith::CmpIPredicate::ult, x, constant(y));
  }
  /// An integer element as an index.
  Value index(Value x) { return b.createOrFold<arith::IndexCastOp>(loc, b.getIndexType(), x); }
};

} // namespace

/// `then` where `condition` holds, else `otherwise`; only the chosen side is evaluated.
static Value choose(OpBuilder &b, Location loc, Value condition, Type type,
                    llvm::function_ref<Value()> then, llvm::function_ref<Value()> otherwise) {
  auto branch = scf::IfOp::create(b, loc, type, condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  scf::YieldOp::create(b, loc, then());
  b.setInsertionPointToStart(branch.elseBlock());
  scf::YieldOp::create(b, loc, otherwise());
  return branch.getResult(0);
}

/// `then` where `inside` holds, else zero.
static Value readInside(OpBuilder &b, Location loc, Value inside, Type type,
                        llvm::function_ref<Value()> then) {
  return choose(b, loc, inside, type, then,
                [&]() -> Value { return arith::ConstantOp::create(b, loc, b.getZeroAttr(type)); });
}

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

static Type scalarType(Value value) { return computeType(typeOf(value).getElementType()); }

//===----------------------------------------------------------------------===//
// Compare, select, cast, tests
//===----------------------------------------------------------------------===//

Value CompareOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  Value x = emitter.operand(getLhsMutable(), indices),
        y = emitter.operand(getRhsMutable(), indices);
  OpBuilder &b = emitter.builder;
  if (isa<FloatType>(x.getType())) {
    static constexpr arith::CmpFPredicate predicates[] = {
        arith::CmpFPredicate::OEQ, arith::CmpFPredicate::UNE, arith::CmpFPredicate::OLT,
        arith::CmpFPredicate::OLE, arith::CmpFPredicate::OGT, arith::CmpFPredicate::OGE};
    return arith::CmpFOp::create(b, getLoc(), predicates[static_cast<int>(getPredicate())], x, y);
  }
  static constexpr arith::CmpIPredicate signedOnes[] = {
      arith::CmpIPredicate::eq,  arith::CmpIPredicate::ne,  arith::CmpIPredicate::slt,
      arith::CmpIPredicate::sle, arith::CmpIPredicate::sgt, arith::CmpIPredicate::sge};
  static constexpr arith::CmpIPredicate unsignedOnes[] = {
      arith::CmpIPredicate::eq,  arith::CmpIPredicate::ne,  arith::CmpIPredicate::ult,
      arith::CmpIPredicate::ule, arith::CmpIPredicate::ugt, arith::CmpIPredicate::uge};
  bool isUnsigned = graph::detail::isUnsignedElement(getLhs().getType());
  auto predicate = (isUnsigned ? unsignedOnes : signedOnes)[static_cast<int>(getPredicate())];
  return arith::CmpIOp::create(b, getLoc(), predicate, x, y);
}

Value SelectOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  // Both sides are evaluated: a select vectorises, a branch does not.
  Value condition = emitter.operand(getConditionMutable(), indices);
  Value onTrue = emitter.operand(getOnTrueMutable(), indices);
  Value onFalse = emitter.operand(getOnFalseMutable(), indices);
  return arith::SelectOp::create(emitter.builder, getLoc(), condition, onTrue, onFalse);
}

/// Float to integer with the value clamped into range first: out of range is undefined in LLVM.
static Value floatToInt(OpBuilder &b, Location loc, Value x, Type to, bool isUnsigned) {
  if (isUnsigned)
    return arith::FPToUIOp::create(b, loc, to, x);
  return arith::FPToSIOp::create(b, loc, to, x);
}

/// f32 within what an 8-bit float can hold; NaN stays.
static Value saturate(OpBuilder &b, Location loc, Value x, Type element) {
  double largest = largestOf(element);
  Value high = scalar::constantLike(b, loc, x, largest),
        low = scalar::constantLike(b, loc, x, -largest);
  x = arith::SelectOp::create(
      b, loc, arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, high), high, x);
  return arith::SelectOp::create(
      b, loc, arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, low), low, x);
}

Value QuantizeOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  OpBuilder &b = emitter.builder;
  Value x = emitter.operand(getInputMutable(), indices),
        scale = emitter.operand(getScaleMutable(), indices);
  if (x.getType().isF64())
    x = arith::TruncFOp::create(b, getLoc(), b.getF32Type(), x);
  Value scaled = arith::MulFOp::create(b, getLoc(), x, scale);
  return emitter.round(getType(), saturate(b, getLoc(), scaled, getType().getElementType()));
}

Value CastOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  OpBuilder &b = emitter.builder;
  Location loc = getLoc();
  Value x = emitter.operand(getInputMutable(), indices);
  Type element = getType().getElementType(), to = computeType(element), from = x.getType();
  bool fromUnsigned = graph::detail::isUnsignedElement(getInput().getType());
  if (getSaturate() && isa<FloatType>(from))
    x = saturate(b, loc, x, element);
  if (element.isInteger(1)) {
    Value zero = scalar::constantLike(b, loc, x, 0);
    if (isa<FloatType>(from))
      return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNE, x, zero);
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, x, zero);
  }
  if (isa<FloatType>(from) && isa<FloatType>(to)) {
    Value y = x;
    if (from.getIntOrFloatBitWidth() < to.getIntOrFloatBitWidth())
      y = arith::ExtFOp::create(b, loc, to, x);
    else if (from.getIntOrFloatBitWidth() > to.getIntOrFloatBitWidth())
      // Straight to the narrow type: two roundings would not be one.
      return from.isF64() && isNarrowFloat(element)
                 ? Value(arith::ExtFOp::create(b, loc, to,
                                               Value(arith::TruncFOp::create(b, loc, element, x))))
                 : Value(arith::TruncFOp::create(b, loc, to, x));
    return emitter.round(getType(), y);
  }
  if (isa<FloatType>(from))
    return floatToInt(b, loc, x, to, element.isUnsignedInteger());
  if (isa<FloatType>(to)) {
    Value y = fromUnsigned ? Value(arith::UIToFPOp::create(b, loc, to, x))
                           : Value(arith::SIToFPOp::create(b, loc, to, x));
    return emitter.round(getType(), getSaturate() ? saturate(b, loc, y, element) : y);
  }
  unsigned fromWidth = from.getIntOrFloatBitWidth(), toWidth = to.getIntOrFloatBitWidth();
  if (fromWidth > toWidth)
    return arith::TruncIOp::create(b, loc, to, x);
  if (fromWidth == toWidth)
    return x;
  return fromUnsigned ? Value(arith::ExtUIOp::create(b, loc, to, x))
                      : Value(arith::ExtSIOp::create(b, loc, to, x));
}

Value IsNanOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  Value x = emitter.operand(getInputMutable(), indices);
  return arith::CmpFOp::create(emitter.builder, getLoc(), arith::CmpFPredicate::UNO, x, x);
}

Value IsInfOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  OpBuilder &b = emitter.builder;
  Value x = emitter.operand(getInputMutable(), indices);
  double infinity = std::numeric_limits<double>::infinity();
  Value result = arith::ConstantOp::create(b, getLoc(), b.getBoolAttr(false));
  for (double sign : {1.0, -1.0}) {
    if (!(sign > 0 ? getPositive() : getNegative()))
      continue;
    Value limit = scalar::constantLike(b, getLoc(), x, sign * infinity);
    Value is = arith::CmpFOp::create(b, getLoc(), arith::CmpFPredicate::OEQ, x, limit);
    result = arith::OrIOp::create(b, getLoc(), result, is);
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Sources and movement
//===----------------------------------------------------------------------===//

LoweringClass ParameterOp::getLoweringClass() { return LoweringClass::Source; }

LoweringClass ConstantOp::getLoweringClass() {
  // A splat is an immediate; anything else is data that the caller loads.
  return getValue().isSplat() ? LoweringClass::Element : LoweringClass::Source;
}

Value ConstantOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  // One element, not as many as the tensor has.
  auto scalar = RankedTensorType::get({}, getType().getElementType());
  HostTensor value = *HostTensor::fromAttr(cast<DenseElementsAttr>(getValue()).resizeSplat(scalar));
  Type type = computeType(getType().getElementType());
  OpBuilder &b = emitter.builder;
  TypedAttr attr = value.isFloat() ? TypedAttr(b.getFloatAttr(type, value.f[0]))
                                   : TypedAttr(b.getIntegerAttr(type, value.i[0]));
  return arith::ConstantOp::create(b, getLoc(), attr);
}

Value IotaOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  OpBuilder &b = emitter.builder;
  Type to = computeType(getType().getElementType());
  Type integer = isa<FloatType>(to) ? Type(b.getI64Type()) : to;
  Value index = arith::IndexCastOp::create(b, getLoc(), integer, indices[getDim()]);
  if (isa<FloatType>(to))
    index = arith::SIToFPOp::create(b, getLoc(), to, index);
  return emitter.round(getType(), index);
}

Value ReshapeOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  IndexMath math{emitter.builder, getLoc()};
  ArrayRef<int64_t> from = getInput().getType().getShape(), to = getType().getShape();
  SmallVector<Value> inputIndices(from.size());
  // Walk blocks of dimensions whose products agree, so that untouched dimensions need no division.
  int64_t i = static_cast<int64_t>(from.size()) - 1, o = static_cast<int64_t>(to.size()) - 1;
  while (i >= 0 || o >= 0) {
    int64_t iEnd = i, oEnd = o, iSize = i >= 0 ? from[i] : 1, oSize = o >= 0 ? to[o] : 1;
    while (iSize != oSize && (i > 0 || o > 0)) {
      if (iSize < oSize && i > 0)
        iSize *= from[--i];
      else if (o > 0)
        oSize *= to[--o];
      else
        iSize *= from[--i];
    }
    // Linear index within the block, then its digits.
    Value linear;
    for (int64_t d = std::max<int64_t>(o, 0); d <= oEnd; ++d)
      linear = linear ? math.add(math.mul(linear, to[d]), indices[d]) : indices[d];
    if (!linear)
      linear = math.constant(0);
    for (int64_t d = iEnd; d >= std::max<int64_t>(i, 0); --d) {
      bool first = d == std::max<int64_t>(i, 0);
      inputIndices[d] = first ? linear : math.rem(linear, from[d]);
      linear = first ? linear : math.div(linear, from[d]);
    }
    --i;
    --o;
  }
  return emitter.operand(getInputMutable(), inputIndices);
}

Value TransposeOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  SmallVector<Value> inputIndices(indices.size());
  for (auto [i, p] : llvm::enumerate(getPermutation()))
    inputIndices[p] = indices[i];
  return emitter.operand(getInputMutable(), inputIndices);
}

Value BroadcastOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  IndexMath math{emitter.builder, getLoc()};
  SmallVector<Value> inputIndices;
  for (auto [i, dim] : llvm::enumerate(getDims()))
    inputIndices.push_back(getInput().getType().getDimSize(i) == 1 ? math.constant(0)
                                                                   : indices[dim]);
  return emitter.operand(getInputMutable(), inputIndices);
}

Value SliceOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  IndexMath math{emitter.builder, getLoc()};
  SmallVector<Value> inputIndices;
  for (auto [d, index] : llvm::enumerate(indices))
    inputIndices.push_back(math.add(math.mul(index, getStrides()[d]), getStarts()[d]));
  return emitter.operand(getInputMutable(), inputIndices);
}

Value ReverseOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  IndexMath math{emitter.builder, getLoc()};
  SmallVector<Value> inputIndices(indices);
  for (int64_t d : getDims())
    inputIndices[d] = emitter.builder.createOrFold<arith::SubIOp>(
        getLoc(), math.constant(getType().getDimSize(d) - 1), indices[d]);
  return emitter.operand(getInputMutable(), inputIndices);
}

Value PadOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  OpBuilder &b = emitter.builder;
  IndexMath math{b, getLoc()};
  SmallVector<Value> inputIndices(indices);
  Value inside;
  for (auto [d, index] : llvm::enumerate(indices)) {
    int64_t low = getLow()[d], size = getInput().getType().getDimSize(d);
    if (low == 0 && getHigh()[d] == 0)
      continue;
    // index - low wraps to a huge number below the border, so one unsigned test serves both sides.
    inputIndices[d] = math.add(index, -low);
    Value in = math.less(inputIndices[d], size);
    inside = inside ? b.createOrFold<arith::AndIOp>(getLoc(), inside, in) : in;
  }
  if (!inside)
    return emitter.operand(getInputMutable(), inputIndices);
  auto padding = [&]() -> Value {
    Type type = scalarType(getInput());
    if (auto value = dyn_cast<FloatAttr>(getPadding()))
      return arith::ConstantOp::create(b, getLoc(), b.getFloatAttr(type, value.getValueAsDouble()));
    auto value = cast<IntegerAttr>(getPadding()).getValue();
    return arith::ConstantOp::create(
        b, getLoc(), b.getIntegerAttr(type, value.sextOrTrunc(type.getIntOrFloatBitWidth())));
  };
  return choose(
      b, getLoc(), inside, scalarType(getInput()),
      [&] { return emitter.operand(getInputMutable(), inputIndices); }, padding);
}

Value ConcatOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  IndexMath math{emitter.builder, getLoc()};
  int64_t dim = getDim();
  auto inputs = getInputsMutable();
  // A chain of branches from the first input: index < end of input n ?
  std::function<Value(unsigned, int64_t)> chain = [&](unsigned n, int64_t start) -> Value {
    SmallVector<Value> inputIndices(indices);
    inputIndices[dim] = math.add(indices[dim], -start);
    OpOperand &input = inputs[n];
    if (n + 1 == inputs.size())
      return emitter.operand(input, inputIndices);
    int64_t end = start + typeOf(input.get()).getDimSize(dim);
    return choose(
        emitter.builder, getLoc(), math.less(indices[dim], end), scalarType(getResult()),
        [&] { return emitter.operand(input, inputIndices); }, [&] { return chain(n + 1, end); });
  };
  return chain(0, 0);
}

Value GatherOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  OpBuilder &b = emitter.builder;
  IndexMath math{b, getLoc()};
  int64_t axis = getAxis(), indexRank = getIndices().getType().getRank();
  Value position = math.index(emitter.operand(getIndicesMutable(), indices.slice(axis, indexRank)));
  SmallVector<Value> dataIndices(indices.take_front(axis));
  dataIndices.push_back(position);
  llvm::append_range(dataIndices, indices.drop_front(axis + indexRank));
  Value inside = math.less(position, getData().getType().getDimSize(axis));
  return readInside(b, getLoc(), inside, scalarType(getData()),
                    [&] { return emitter.operand(getDataMutable(), dataIndices); });
}

Value GatherNdOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  IndexMath math{emitter.builder, getLoc()};
  auto indexType = getIndices().getType();
  int64_t batch = getBatchDims(), outer = indexType.getRank() - 1,
          depth = indexType.getShape().back();
  SmallVector<Value> dataIndices(indices.take_front(batch));
  Value inside;
  for (int64_t n = 0; n < depth; ++n) {
    SmallVector<Value> at(indices.take_front(outer));
    at.push_back(math.constant(n));
    dataIndices.push_back(math.index(emitter.operand(getIndicesMutable(), at)));
    Value isInside = math.less(dataIndices.back(), getData().getType().getDimSize(batch + n));
    inside = inside ? math.b.createOrFold<arith::AndIOp>(getLoc(), inside, isInside) : isInside;
  }
  llvm::append_range(dataIndices, indices.drop_front(outer));
  auto read = [&] { return emitter.operand(getDataMutable(), dataIndices); };
  return inside ? readInside(math.b, getLoc(), inside, scalarType(getData()), read) : read();
}

Value GatherElementsOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  IndexMath math{emitter.builder, getLoc()};
  SmallVector<Value> dataIndices(indices);
  Value &position = dataIndices[getAxis()];
  position = math.index(emitter.operand(getIndicesMutable(), indices));
  Value inside = math.less(position, getData().getType().getDimSize(getAxis()));
  return readInside(math.b, getLoc(), inside, scalarType(getData()),
                    [&] { return emitter.operand(getDataMutable(), dataIndices); });
}

//===----------------------------------------------------------------------===//
// Rotary embedding
//===----------------------------------------------------------------------===//

Value RopeOp::emitElement(ElementEmitter &emitter, ArrayRef<Value> indices) {
  OpBuilder &b = emitter.builder;
  Location loc = getLoc();
  IndexMath math{b, loc};
  int64_t half = getCos().getType().getDimSize(2), headDim = getType().getDimSize(3);
  Value feature = indices[3];
  auto rotated = [&]() -> Value {
    Value pair, isFirst;
    if (getInterleaved()) {
      pair = math.div(feature, 2);
      isFirst = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, math.rem(feature, 2),
                                      math.constant(0));
    } else {
      pair = math.rem(feature, half);
      isFirst = math.less(feature, half);
    }
    Value batch = getCos().getType().getDimSize(0) == 1 ? math.constant(0) : indices[0];
    Value tableIndices[] = {batch, indices[2], pair};
    Value cos = emitter.operand(getCosMutable(), tableIndices);
    Value sin = emitter.operand(getSinMutable(), tableIndices);
    SmallVector<Value> first(indices), second(indices);
    first[3] = getInterleaved() ? math.mul(pair, 2) : pair;
    second[3] = getInterleaved() ? math.add(math.mul(pair, 2), 1) : math.add(pair, half);
    Value x1 = emitter.operand(getInputMutable(), first),
          x2 = emitter.operand(getInputMutable(), second);
    Value a = arith::MulFOp::create(b, loc, arith::SelectOp::create(b, loc, isFirst, x1, x2), cos);
    Value other = arith::SelectOp::create(b, loc, isFirst, arith::NegFOp::create(b, loc, x2), x1);
    Value sum = arith::AddFOp::create(b, loc, a, arith::MulFOp::create(b, loc, other, sin));
    return emitter.round(getType(), sum);
  };
  if (2 * half == headDim)
    return rotated();
  return choose(b, loc, math.less(feature, 2 * half), scalarType(getInput()), rotated,
                [&] { return emitter.operand(getInputMutable(), indices); });
}
