//===- GraphFloat8.cpp - Tensors of 8-bit floats with a scale -------------===//
//
// Current scaling, the recipe of NVIDIA's Transformer Engine for one scale a tensor:
//
//     amax = max |x|      scale = largest(f8) / amax      q = f8(x * scale)      unit = 1 / scale
//
// The maximum is of the whole tensor, so that a cut tensor's numbers are those of the whole one.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDerivative.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::graph::formula;

/// The least maximum that is scaled by: a tensor of zeros has a scale too, and the units of two
/// tensors a product.
static constexpr double kLeastMaximum = 0x1p-60;

double graph::largestOf(Type floatType) {
  return APFloat::getLargest(cast<FloatType>(floatType).getFloatSemantics()).convertToDouble();
}

Quantized graph::quantize(OpBuilder &b, Location loc, Value value, Type element) {
  auto type = cast<RankedTensorType>(value.getType());
  Value amax = AbsOp::create(b, loc, value);
  // Along rows first: one reduction of everything would be one thread's work.
  if (type.getRank() > 1)
    amax = ReduceOp::create(b, loc, Reduction::Max, amax, ArrayRef<int64_t>{type.getRank() - 1});
  amax = ReduceOp::create(
      b, loc, Reduction::Max, amax,
      llvm::to_vector(llvm::seq<int64_t>(0, cast<RankedTensorType>(amax.getType()).getRank())));
  auto scalar = RankedTensorType::get({}, b.getF32Type());
  amax = castTo(b, loc, amax, b.getF32Type());
  amax = MaxOp::create(b, loc, amax, ConstantOp::splat(b, loc, scalar, kLeastMaximum));
  Value scale = DivOp::create(b, loc, ConstantOp::splat(b, loc, scalar, largestOf(element)), amax);
  Value unit = ReciprocalOp::create(b, loc, scale);
  Value spread = broadcastScalar(b, loc, scale, type.getShape());
  return {QuantizeOp::create(b, loc, value, spread, element), unit};
}

/// The result's reader says in which type the cotangent is.
Cotangents QuantizeOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  return SmallVector<Value>{
      b.createOrFold<CastOp>(getLoc(), cotangents[0], getInput().getType().getElementType()),
      Value()};
}
