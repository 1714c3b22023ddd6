//===- Quantization.cpp - Integers with scales and zero points ------------===//
//
// What a model quantizes while it runs, spelled out: y = saturate(round(x / scale) + zero) and back.
// Products of integers are exact, in i32. Weights never come here: they are floats by now
// (QuantizedWeights.cpp).
//
//===----------------------------------------------------------------------===//

#include "NodeContext.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

/// A scale or zero point in the shape of what it belongs to: one for all, one along `axis`, or one
/// for each block of `block_size` along it.
static FailureOr<Value> spread(NodeContext &n, Value v, Value x, StringRef what) {
  ArrayRef<int64_t> shape = shapeOf(x);
  if (typeOf(v).getNumElements() == 1)
    return n.broadcast(n.reshape(v, {}), {}, shape);
  FailureOr<int64_t> axis = n.axis(n.getInt("axis", 1), rankOf(x));
  if (failed(axis))
    return failure();
  if (shapeOf(v) == ArrayRef<int64_t>{shape[*axis]})
    return n.broadcast(v, {*axis}, shape);
  int64_t block = n.getInt("block_size", 0);
  bool fits = block > 0 && rankOf(v) == rankOf(x);
  for (int64_t d = 0; fits && d < rankOf(x); ++d)
    fits = shapeOf(v)[d] ==
           (d == *axis ? static_cast<int64_t>(llvm::divideCeil(shape[d], block)) : shape[d]);
  if (!fits)
    return n.error() << what << " of shape " << shapeText(shapeOf(v)) << " does not fit "
                     << shapeText(shape) << " with axis " << *axis << " and block_size " << block;
  block = std::min(block, shape[*axis]); // one for all
  Value wide = n.insertDims(v, {*axis + 1});
  Shape repeated(shapeOf(wide)), flat(shapeOf(v));
  repeated[*axis + 1] = block;
  flat[*axis] *= block;
  wide = n.reshape(n.broadcastTo(wide, repeated), flat);
  return n.slice(wide, *axis, 0, shape[*axis]);
}

/// x of floats that are whole numbers, kept within an integer type.
static FailureOr<Value> saturate(NodeContext &n, Value x, Type to) {
  auto type = dyn_cast<IntegerType>(to);
  if (!type || (type.getWidth() != 8 && type.getWidth() != 16))
    return n.error() << "quantization to " << to << " is not supported";
  double low = type.isUnsigned() ? 0 : -std::pow(2.0, type.getWidth() - 1),
         high = std::pow(2.0, type.getWidth() - (type.isUnsigned() ? 0 : 1)) - 1;
  x = n.create<MaxOp>(x, n.splatLike(x, low));
  return n.cast(n.create<MinOp>(x, n.splatLike(x, high)), to);
}

/// round(x) + zero, saturated.
static FailureOr<Value> roundTo(NodeContext &n, Value x, Value zero, Type to) {
  Type f32 = n.b.getF32Type();
  Value y = n.cast(n.create<RoundOp>(x), f32);
  if (zero)
    y = n.create<AddOp>(y, n.cast(zero, f32));
  return saturate(n, y, to);
}

static LogicalResult importQuantize(NodeContext &n) {
  Value x = n.input(0), zero = n.input(2);
  if (!isFloat(x) && !elementOf(x).isInteger(32))
    return n.error() << "input has element type " << elementOf(x);
  FailureOr<Value> scale = spread(n, n.input(1), x, "y_scale");
  if (failed(scale))
    return failure();
  Type to = zero ? elementOf(zero) : IntegerType::get(n.b.getContext(), 8, IntegerType::Unsigned);
  if (int64_t code = n.getInt("output_dtype", 0)) {
    FailureOr<Type> given = n.elementType(code);
    if (failed(given))
      return failure();
    if (zero && *given != to)
      return n.error() << "output_dtype is " << *given << ", y_zero_point has element type " << to;
    to = *given;
  }
  if (int64_t precision = n.getInt("precision", 0)) {
    FailureOr<Type> given = n.elementType(precision);
    if (failed(given))
      return failure();
    scale = n.cast(*scale, *given);
  }
  if (zero) {
    FailureOr<Value> all = spread(n, zero, x, "y_zero_point");
    if (failed(all))
      return failure();
    zero = *all;
  }
  Value ratio = n.create<DivOp>(n.cast(x, elementOf(*scale)), *scale);
  FailureOr<Value> y = roundTo(n, ratio, zero, to);
  return failed(y) ? failure() : n.done(*y);
}

static LogicalResult importDequantize(NodeContext &n) {
  Value x = n.input(0), zero = n.input(2);
  FailureOr<Value> scale = spread(n, n.input(1), x, "x_scale");
  if (failed(scale))
    return failure();
  Type element = elementOf(*scale);
  if (int64_t code = n.getInt("output_dtype", 0)) {
    FailureOr<Type> given = n.elementType(code);
    if (failed(given))
      return failure();
    element = *given;
  }
  Type wide = element.isF64() ? element : Type(n.b.getF32Type());
  Value y = n.cast(x, wide);
  if (zero) {
    FailureOr<Value> all = spread(n, zero, x, "x_zero_point");
    if (failed(all))
      return failure();
    y = n.create<SubOp>(y, n.cast(*all, wide));
  }
  return n.done(n.cast(n.create<MulOp>(y, n.cast(*scale, wide)), element));
}

/// One scale for a whole tensor, of its range and zero.
static LogicalResult importDynamicQuantize(NodeContext &n) {
  Value x = n.input(0);
  Type u8 = IntegerType::get(n.b.getContext(), 8, IntegerType::Unsigned);
  Shape dims = iotaDims(0, rankOf(x));
  Value high = n.reduce(Reduction::Max, x, dims, false),
        low = n.reduce(Reduction::Min, x, dims, false);
  high = n.create<MaxOp>(high, n.splatLike(high, 0));
  low = n.create<MinOp>(low, n.splatLike(low, 0));
  Value scale = n.binary<DivOp>(n.create<SubOp>(high, low), 255.0);
  // Of nothing but zeros the scale is one, as onnxruntime has it.
  scale = n.select(n.compare(Predicate::EQ, scale, n.splatLike(scale, 0)), n.splatLike(scale, 1),
                   scale);
  Value minus = n.create<SubOp>(n.splatLike(low, 0), n.create<DivOp>(low, scale));
  FailureOr<Value> zero = roundTo(n, minus, Value(), u8);
  if (failed(zero))
    return failure();
  FailureOr<Value> y =
      roundTo(n, n.binary<DivOp>(x, scale), n.broadcast(*zero, {}, shapeOf(x)), u8);
  if (failed(y))
    return failure();
  n.set(0, *y);
  n.set(1, scale);
  n.set(2, *zero);
  return success();
}

/// The operand of a product less its zero point, in i32: one, or one for each of its rows (the left
/// operand) or columns.
static FailureOr<Value> centred(NodeContext &n, Value v, Value zero, bool isLeft) {
  Type i32 = n.b.getI32Type();
  Value wide = n.cast(v, i32);
  if (!zero)
    return wide;
  zero = n.cast(zero, i32);
  int64_t rank = rankOf(v), dim = rank - (isLeft ? 2 : 1);
  if (typeOf(zero).getNumElements() == 1)
    zero = n.broadcast(n.reshape(zero, {}), {}, shapeOf(v));
  else if (dim >= 0 && shapeOf(zero) == ArrayRef<int64_t>{shapeOf(v)[dim]})
    zero = n.broadcast(zero, {dim}, shapeOf(v));
  else
    return n.error() << "zero point of shape " << shapeText(shapeOf(zero))
                     << " does not fit an operand of shape " << shapeText(shapeOf(v));
  return Value(n.create<SubOp>(wide, zero));
}

static FailureOr<Value> integerProduct(NodeContext &n, Value a, Value aZero, Value b, Value bZero) {
  if (rankOf(a) < 2 || rankOf(b) < 2 || rankOf(a) > kMaxProductRank ||
      rankOf(b) > kMaxProductRank || shapeOf(a).back() != shapeOf(b)[rankOf(b) - 2] ||
      !broadcastShapes(shapeOf(a).drop_back(2), shapeOf(b).drop_back(2)))
    return n.error() << "operands of shapes " << shapeText(shapeOf(a)) << " and "
                     << shapeText(shapeOf(b)) << " do not multiply";
  FailureOr<Value> left = centred(n, a, aZero, true), right = centred(n, b, bZero, false);
  if (failed(left) || failed(right))
    return failure();
  return n.matmul(*left, *right);
}

static LogicalResult importMatMulInteger(NodeContext &n) {
  FailureOr<Value> y = integerProduct(n, n.input(0), n.input(2), n.input(1), n.input(3));
  return failed(y) ? failure() : n.done(*y);
}

/// The weights of these are gone, or the reason was told.
static LogicalResult importPacked(NodeContext &n) {
  return n.error() << "is supported in the main graph only";
}

void addQuantization(OperatorTable &table) {
  table["QuantizeLinear"] = {importQuantize, 2};
  table["DequantizeLinear"] = {importDequantize, 2};
  table["DynamicQuantizeLinear"] = {importDynamicQuantize, 1};
  table["MatMulInteger"] = {importMatMulInteger, 2};
  for (StringRef name : {"QuantizeLinear", "DequantizeLinear"})
    table[operatorKey(kContribDomain, name)] = table[name];
  table[operatorKey(kContribDomain, "MatMulNBits")] = {importPacked, 3};
  table[operatorKey(kContribDomain, "GatherBlockQuantized")] = {importPacked, 3};
}

} // namespace shardc::importer
