//===- Reductions.cpp - Scalars of reductions -----------------------------===//
#include "Reductions.h"
#include "dialects/Graph/ScalarEmit.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

Value neutralScalar(Emitter &e, Reduction kind, Type type, bool isUnsigned) {
  bool isFloat = isa<FloatType>(type);
  double infinity = std::numeric_limits<double>::infinity();
  unsigned width = type.getIntOrFloatBitWidth();
  auto integer = [&](llvm::APInt value) {
    return arith::ConstantOp::create(e.b, e.loc, e.b.getIntegerAttr(type, value));
  };
  switch (kind) {
  case Reduction::Sum:
  case Reduction::Or:
    return e.scalar(type, 0);
  case Reduction::Prod:
    return e.scalar(type, 1);
  case Reduction::Max:
    if (isFloat)
      return e.scalar(type, -infinity);
    return integer(isUnsigned ? llvm::APInt(width, 0) : llvm::APInt::getSignedMinValue(width));
  case Reduction::Min:
    if (isFloat)
      return e.scalar(type, infinity);
    return integer(isUnsigned ? llvm::APInt::getMaxValue(width)
                              : llvm::APInt::getSignedMaxValue(width));
  case Reduction::And:
    return integer(llvm::APInt::getAllOnes(width));
  }
  llvm_unreachable("reduction");
}

Value reduceScalars(Emitter &e, Reduction kind, Value acc, Value x, bool isUnsigned) {
  bool isBool = x.getType().isInteger(1);
  switch (kind) {
  case Reduction::Sum:
    return isBool ? scalar::bitOr(e.b, e.loc, acc, x) : scalar::add(e.b, e.loc, acc, x);
  case Reduction::Prod:
    return isBool ? scalar::bitAnd(e.b, e.loc, acc, x) : scalar::mul(e.b, e.loc, acc, x);
  case Reduction::Max:
    return scalar::max(e.b, e.loc, acc, x, isUnsigned);
  case Reduction::Min:
    return scalar::min(e.b, e.loc, acc, x, isUnsigned);
  case Reduction::And:
    return scalar::bitAnd(e.b, e.loc, acc, x);
  case Reduction::Or:
    return scalar::bitOr(e.b, e.loc, acc, x);
  }
  llvm_unreachable("reduction");
}

Value combineScalars(Emitter &e, Combine how, Value old, Value update, Type element) {
  auto reduce = [&](Reduction kind) {
    return reduceScalars(e, kind, old, update, element.isUnsignedInteger() || element.isInteger(1));
  };
  switch (how) {
  case Combine::Replace:
    return update;
  case Combine::Sum:
    return reduce(Reduction::Sum);
  case Combine::Prod:
    return reduce(Reduction::Prod);
  case Combine::Max:
    return reduce(Reduction::Max);
  case Combine::Min:
    return reduce(Reduction::Min);
  }
  llvm_unreachable("combine");
}

Value reduceLanes(Emitter &e, Reduction kind, Value vector, bool isUnsigned) {
  bool isFloat = isa<FloatType>(cast<VectorType>(vector.getType()).getElementType());
  return e.reduce(vector, [&](Value x, Value y) -> Value {
    switch (kind) {
    case Reduction::Sum:
      return isFloat ? Value(arith::AddFOp::create(e.b, e.loc, x, y))
                     : Value(arith::AddIOp::create(e.b, e.loc, x, y));
    case Reduction::Prod:
      return isFloat ? Value(arith::MulFOp::create(e.b, e.loc, x, y))
                     : Value(arith::MulIOp::create(e.b, e.loc, x, y));
    case Reduction::Max:
      return isFloat      ? Value(arith::MaximumFOp::create(e.b, e.loc, x, y))
             : isUnsigned ? Value(arith::MaxUIOp::create(e.b, e.loc, x, y))
                          : Value(arith::MaxSIOp::create(e.b, e.loc, x, y));
    case Reduction::Min:
      return isFloat      ? Value(arith::MinimumFOp::create(e.b, e.loc, x, y))
             : isUnsigned ? Value(arith::MinUIOp::create(e.b, e.loc, x, y))
                          : Value(arith::MinSIOp::create(e.b, e.loc, x, y));
    case Reduction::And:
      return arith::AndIOp::create(e.b, e.loc, x, y);
    case Reduction::Or:
      return arith::OrIOp::create(e.b, e.loc, x, y);
    }
    llvm_unreachable("reduction");
  });
}

} // namespace shardc
