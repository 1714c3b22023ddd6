//===- Match.cpp - What the raising patterns ask of values ----------------===//

#include "lib/Raise/Match.h"

#include <cmath>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

Value OpMaker::reshape(Value value, ArrayRef<int64_t> shape) {
  return getShape(value) == shape ? value : create<ReshapeOp>(getType(value).clone(shape), value);
}

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

std::optional<HostTensor> raise::constantValue(Value value) {
  RankedTensorType type = getType(value);
  auto constant = definedBy<ConstantOp>(skipUnitReshapes(value));
  if (!constant)
    return std::nullopt;
  FailureOr<HostTensor> tensor = HostTensor::fromAttr(constant.getValue());
  if (failed(tensor))
    return std::nullopt;
  tensor->type = type;
  return std::move(*tensor);
}

/// The one number of a constant whose attribute says that it has one.
static std::optional<double> splatOf(ElementsAttr attr) {
  auto dense = dyn_cast<DenseElementsAttr>(attr);
  if (!dense || !dense.isSplat())
    return std::nullopt;
  if (isa<FloatType>(dense.getElementType()))
    return dense.getSplatValue<APFloat>().convertToDouble();
  APInt value = dense.getSplatValue<APInt>();
  if (dense.getElementType().isInteger(1) || dense.getElementType().isUnsignedInteger())
    return static_cast<double>(value.getZExtValue());
  return static_cast<double>(value.getSExtValue());
}

std::optional<double> raise::splatValue(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto constant = dyn_cast_or_null<ConstantOp>(op))
    return splatOf(constant.getValue());
  if (isa_and_nonnull<ReshapeOp, TransposeOp, BroadcastOp, SliceOp>(op))
    return splatValue(op->getOperand(0));
  auto cast = dyn_cast_or_null<CastOp>(op);
  if (!cast)
    return std::nullopt;
  std::optional<double> splat = splatValue(cast.getInput());
  Type element = cast.getType().getElementType();
  if (!splat || isa<FloatType>(element))
    return splat ? std::optional(roundToType(*splat, element)) : splat;
  return element.isInteger(1) ? *splat != 0 : std::trunc(*splat);
}

bool raise::isClose(double value, double expected, Type elementType) {
  double tolerance = elementType.isBF16() ? 1e-2 : elementType.isF16() ? 2e-3 : 1e-6;
  return std::fabs(value - expected) <= tolerance * std::fabs(expected);
}

bool raise::isSplat(Value value, double expected) {
  std::optional<double> splat = splatValue(value);
  return splat && isClose(*splat, expected, getType(value).getElementType());
}

//===----------------------------------------------------------------------===//
// Small expressions
//===----------------------------------------------------------------------===//

std::optional<Scaled> raise::matchScaled(Value value) {
  if (!isa<FloatType>(getType(value).getElementType()))
    return std::nullopt;
  if (auto neg = definedBy<NegOp>(value))
    return Scaled{neg.getInput(), -1};
  if (auto div = definedBy<DivOp>(value)) {
    std::optional<double> divisor = splatValue(div.getRhs());
    return divisor && *divisor != 0 ? std::optional(Scaled{div.getLhs(), 1 / *divisor})
                                    : std::nullopt;
  }
  auto mul = definedBy<MulOp>(value);
  if (!mul)
    return std::nullopt;
  if (auto factor = splatValue(mul.getRhs()))
    return Scaled{mul.getLhs(), *factor};
  if (auto factor = splatValue(mul.getLhs()))
    return Scaled{mul.getRhs(), *factor};
  return std::nullopt;
}

std::optional<Shifted> raise::matchShifted(Value value) {
  auto add = definedBy<AddOp>(value);
  if (!add)
    return std::nullopt;
  if (auto summand = splatValue(add.getRhs()))
    return Shifted{add.getLhs(), *summand};
  if (auto summand = splatValue(add.getLhs()))
    return Shifted{add.getRhs(), *summand};
  return std::nullopt;
}

Value raise::matchSquare(Value value) {
  if (auto pow = definedBy<PowOp>(value))
    return isSplat(pow.getRhs(), 2) ? pow.getLhs() : Value();
  auto mul = definedBy<MulOp>(value);
  return mul && mul.getLhs() == mul.getRhs() ? mul.getLhs() : Value();
}

Value raise::skipUnitReshapes(Value value) {
  auto withoutOnes = [](ArrayRef<int64_t> shape) {
    return llvm::filter_to_vector(shape, [](int64_t size) { return size != 1; });
  };
  for (;;) {
    Operation *op = value.getDefiningOp();
    // A broadcast or transpose of an equal number of elements renames unit dimensions only, if the
    // rest keeps its order.
    bool moves = isa_and_nonnull<ReshapeOp>(op) ||
                 (isa_and_nonnull<BroadcastOp>(op) &&
                  getType(value).getNumElements() == getType(op->getOperand(0)).getNumElements());
    if (!moves || withoutOnes(getShape(op->getOperand(0))) != withoutOnes(getShape(value)))
      return value;
    value = op->getOperand(0);
  }
}

Value raise::skipFloatCasts(Value value) {
  for (auto cast = definedBy<CastOp>(value);
       cast && isa<FloatType>(cast.getType().getElementType()) &&
       isa<FloatType>(cast.getInput().getType().getElementType());
       cast = definedBy<CastOp>(value))
    value = cast.getInput();
  return value;
}

std::optional<RowMean> raise::matchRowMean(Value value) {
  auto scaled = matchScaled(skipUnitReshapes(value));
  auto reduce = scaled ? definedBy<ReduceOp>(skipUnitReshapes(scaled->value)) : ReduceOp();
  if (!reduce || reduce.getKind() != Reduction::Sum)
    return std::nullopt;
  ArrayRef<int64_t> shape = reduce.getInput().getType().getShape(), dims = reduce.getDims();
  int64_t first = static_cast<int64_t>(shape.size() - dims.size()), count = 1;
  for (int64_t dim = first; dim < static_cast<int64_t>(shape.size()); ++dim) {
    if (!llvm::is_contained(dims, dim))
      return std::nullopt;
    count *= shape[dim];
  }
  if (!isClose(scaled->factor * count, 1, getType(value).getElementType()))
    return std::nullopt;
  return RowMean{reduce.getInput(), static_cast<int64_t>(dims.size())};
}
