//===- GraphEvaluate.cpp - Reference evaluation: sources, comparison, conversion -===//
//
// The ops that neither move elements (GraphEvaluateShape.cpp) nor compute over dimensions
// (GraphEvaluateMath.cpp, GraphEvaluateBlocks.cpp). The other elementwise ops are one-liners of
// GraphElementwise.td.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDetail.h"
#include "dialects/Graph/HostMath.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using graph::detail::Evaluated;

//===----------------------------------------------------------------------===//
// Sources
//===----------------------------------------------------------------------===//

static Evaluated evaluateAttr(Operation *op, ElementsAttr attr) {
  FailureOr<HostTensor> tensor = HostTensor::fromAttr(attr);
  if (failed(tensor))
    return op->emitOpError() << "has a value of a form that cannot be read";
  return SmallVector<HostTensor>{std::move(*tensor)};
}

Evaluated ParameterOp::evaluate(ArrayRef<HostTensor>) {
  if (!getValue())
    return emitOpError() << "\"" << getName() << "\" has no inline value";
  if (getGlobalType() != getType())
    return emitOpError() << "\"" << getName() << "\" is a shard, whose value differs by device";
  return evaluateAttr(*this, *getValue());
}

Evaluated ConstantOp::evaluate(ArrayRef<HostTensor>) { return evaluateAttr(*this, getValue()); }

Evaluated IotaOp::evaluate(ArrayRef<HostTensor>) {
  HostTensor result(getType());
  int64_t size = getType().getDimSize(getDim()),
          stride = rowMajorStrides(getType().getShape())[getDim()];
  for (int64_t n = 0; n < result.size(); ++n) {
    int64_t index = n / stride % size;
    if (result.isFloat())
      result.f[n] = static_cast<double>(index);
    else
      result.i[n] = index;
  }
  result.round();
  return SmallVector<HostTensor>{std::move(result)};
}

//===----------------------------------------------------------------------===//
// Comparison and choice
//===----------------------------------------------------------------------===//

template <typename T> static bool holds(Predicate predicate, T x, T y) {
  switch (predicate) {
  case Predicate::EQ:
    return x == y;
  case Predicate::NE:
    return x != y;
  case Predicate::LT:
    return x < y;
  case Predicate::LE:
    return x <= y;
  case Predicate::GT:
    return x > y;
  case Predicate::GE:
    return x >= y;
  }
  return false;
}

Evaluated CompareOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  const HostTensor &x = operands[0], &y = operands[1];
  bool isUnsigned = graph::detail::isUnsignedElement(x.type);
  Predicate predicate = getPredicate();
  for (size_t n = 0; n < x.f.size(); ++n)
    result.i[n] = holds(predicate, x.f[n], y.f[n]);
  for (size_t n = 0; n < x.i.size(); ++n)
    result.i[n] = isUnsigned ? holds(predicate, host::u(x.i[n]), host::u(y.i[n]))
                             : holds(predicate, x.i[n], y.i[n]);
  return SmallVector<HostTensor>{std::move(result)};
}

Evaluated SelectOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  for (int64_t n = 0; n < result.size(); ++n)
    result.copyElement(n, operands[0].i[n] ? operands[1] : operands[2], n);
  return SmallVector<HostTensor>{std::move(result)};
}

/// Elements of a float tensor as bool, by `test`.
template <typename Fn>
static Evaluated testEach(RankedTensorType type, const HostTensor &x, Fn test) {
  HostTensor result(type);
  for (int64_t n = 0; n < result.size(); ++n)
    result.i[n] = test(x.f[n]);
  return SmallVector<HostTensor>{std::move(result)};
}

Evaluated IsNanOp::evaluate(ArrayRef<HostTensor> operands) {
  return testEach(getType(), operands[0], [](double x) { return std::isnan(x); });
}

Evaluated IsInfOp::evaluate(ArrayRef<HostTensor> operands) {
  return testEach(getType(), operands[0], [&](double x) {
    return std::isinf(x) && (x > 0 ? getPositive() : getNegative());
  });
}

//===----------------------------------------------------------------------===//
// Conversion
//===----------------------------------------------------------------------===//

/// Toward zero. C++ leaves what does not fit undefined: saturate, and NaN is zero.
static int64_t floatToInt(double x, Type element) {
  constexpr double kTwo63 = 9223372036854775808.0;
  if (element.isInteger(1))
    return x != 0;
  if (std::isnan(x))
    return 0;
  if (element.isUnsignedInteger(64) && x >= kTwo63)
    return x >= 2 * kTwo63 ? int64_t(-1) : host::s(static_cast<uint64_t>(x));
  if (x >= kTwo63)
    return std::numeric_limits<int64_t>::max();
  return x <= -kTwo63 ? std::numeric_limits<int64_t>::min() : static_cast<int64_t>(x);
}

/// Directly to f32, or a 64-bit integer would be rounded twice.
static double intToFloat(int64_t x, bool isUnsigned, Type element) {
  if (element.isF32())
    return isUnsigned ? static_cast<float>(host::u(x)) : static_cast<float>(x);
  return isUnsigned ? static_cast<double>(host::u(x)) : static_cast<double>(x);
}

/// What lies beyond the largest number of a float type, infinities too, becomes that number.
static void saturate(HostTensor &tensor) {
  double largest = largestOf(tensor.type.getElementType());
  for (double &x : tensor.f)
    if (!std::isnan(x))
      x = std::clamp(x, -largest, largest);
}

Evaluated CastOp::evaluate(ArrayRef<HostTensor> operands) {
  const HostTensor &x = operands[0];
  HostTensor result(getType());
  Type element = getType().getElementType();
  bool isUnsigned = graph::detail::isUnsignedElement(x.type), toBool = element.isInteger(1);
  for (int64_t n = 0; n < result.size(); ++n) {
    if (result.isFloat())
      result.f[n] = x.isFloat() ? x.f[n] : intToFloat(x.i[n], isUnsigned, element);
    else if (x.isFloat())
      result.i[n] = floatToInt(x.f[n], element);
    else
      result.i[n] = toBool ? x.i[n] != 0 : x.i[n];
  }
  if (getSaturate())
    saturate(result);
  result.round();
  return SmallVector<HostTensor>{std::move(result)};
}

Evaluated QuantizeOp::evaluate(ArrayRef<HostTensor> operands) {
  HostTensor result(getType());
  for (int64_t n = 0; n < result.size(); ++n)
    result.f[n] = static_cast<float>(static_cast<float>(operands[0].f[n]) * operands[1].f[n]);
  saturate(result);
  result.round();
  return SmallVector<HostTensor>{std::move(result)};
}
