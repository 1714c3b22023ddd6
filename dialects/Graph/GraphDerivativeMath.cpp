//===- GraphDerivativeMath.cpp - Vector-Jacobian products: contractions, reductions, scans -===//

#include "dialects/Graph/GraphDerivative.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::graph::formula;

//===----------------------------------------------------------------------===//
// Contraction
//===----------------------------------------------------------------------===//

/// The cotangent of the operand with dimensions `wanted`: `contract` contracts the result's
/// cotangent with the other operand.
template <typename Op>
static Value contractBack(OpBuilder &b, Op op, RankedTensorType type, StringRef otherLetters,
                          StringRef wanted,
                          llvm::function_ref<Value(RankedTensorType, StringRef)> contract) {
  StringRef result = op.getLetters().result;
  // A letter that only this operand has was summed over: all along it have the same cotangent.
  std::string letters;
  SmallVector<int64_t> sizes, shape, dims;
  for (auto [d, letter] : llvm::enumerate(wanted)) {
    shape.push_back(op.getLetterSize(letter));
    if (!result.contains(letter) && !otherLetters.contains(letter))
      continue;
    letters += letter;
    sizes.push_back(shape.back());
    dims.push_back(d);
  }
  std::string spec = result.str() + "," + otherLetters.str() + "->" + letters;
  Value product = contract(type.clone(sizes), spec);
  return b.createOrFold<BroadcastOp>(op.getLoc(), type.clone(shape), product,
                                     b.getDenseI64ArrayAttr(dims));
}

Cotangents EinsumOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  if (!isa<FloatType>(getLhs().getType().getElementType()) ||
      getLhs().getType().getElementType() != getType().getElementType())
    return emitOpError() << "of " << getLhs().getType().getElementType()
                         << " has no derivative; what is quantized to be multiplied is "
                            "graph.scaled_einsum";
  Letters letters = getLetters();
  auto back = [&](Value other, StringRef otherLetters, StringRef wanted) {
    auto contract = [&](RankedTensorType type, StringRef spec) -> Value {
      return EinsumOp::create(b, getLoc(), type, spec, cotangents[0], other);
    };
    return contractBack(b, *this, getType(), otherLetters, wanted, contract);
  };
  return SmallVector<Value>{back(getRhs(), letters.rhs, letters.lhs),
                            back(getLhs(), letters.lhs, letters.rhs)};
}

Cotangents ScaledEinsumOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Quantized cotangent = quantize(b, getLoc(), cotangents[0], getGradient());
  EinsumLetters letters = getLetters();
  auto back = [&](Quantized other, StringRef otherLetters, StringRef wanted) {
    auto contract = [&](RankedTensorType type, StringRef spec) -> Value {
      return ScaledEinsumOp::create(b, getLoc(), type, spec, cotangent.tensor, other.tensor,
                                    cotangent.unit, other.unit, getGradient());
    };
    return contractBack(b, *this, getType(), otherLetters, wanted, contract);
  };
  // In the type that the result has: where lhs and rhs came from it is that of what was quantized.
  return SmallVector<Value>{back({getRhs(), getRhsScale()}, letters.rhs, letters.lhs),
                            back({getLhs(), getLhsScale()}, letters.lhs, letters.rhs), Value(),
                            Value()};
}

/// Rows times the transposed matrices of their groups.
static Value multiplyBack(OpBuilder &b, Location loc, Value rows, Value weight, Value groups,
                          int64_t blocks) {
  Value transposed = TransposeOp::create(b, loc, weight, ArrayRef<int64_t>{0, 2, 1});
  auto type = cast<RankedTensorType>(rows.getType());
  int64_t columns = cast<RankedTensorType>(weight.getType()).getDimSize(2);
  return GroupedMatmulOp::create(b, loc, type.clone({type.getDimSize(0), columns}), rows,
                                 transposed, groups, blocks);
}

Cotangents GroupedMatmulOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Value g = cotangents[0];
  return SmallVector<Value>{multiplyBack(b, getLoc(), g, getWeight(), getGroups(), getBlocks()),
                            GroupedMatmulGradOp::create(b, getLoc(), getWeight().getType(),
                                                        getInput(), g, getGroups(), getBlocks()),
                            Value()};
}

Cotangents GroupedMatmulGradOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Value c = cotangents[0];
  return SmallVector<Value>{multiplyBack(b, getLoc(), getCotangent(), c, getGroups(), getBlocks()),
                            GroupedMatmulOp::create(b, getLoc(), getCotangent().getType(),
                                                    getInput(), c, getGroups(), getBlocks()),
                            Value()};
}

//===----------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------===//

static SmallVector<int64_t> joined(std::initializer_list<int64_t> head, ArrayRef<int64_t> tail) {
  SmallVector<int64_t> shape(head);
  llvm::append_range(shape, tail);
  return shape;
}

/// [head permutation..., the dimensions after it]
static Term transposeHead(Term x, ArrayRef<int64_t> head) {
  SmallVector<int64_t> permutation(head);
  for (int64_t d = head.size(), rank = x.shape().size(); d < rank; ++d)
    permutation.push_back(d);
  return transpose(x, permutation);
}

/// `size` elements of each spatial dimension from `starts`; zeros behind the end.
static Term window(Term x, ArrayRef<int64_t> starts, ArrayRef<int64_t> sizes) {
  SmallVector<int64_t> low(2, 0), high(2, 0), begin(2, 0), ones(x.shape().size(), 1),
      shape(x.shape().take_front(2));
  for (auto [d, start] : llvm::enumerate(starts)) {
    int64_t there = x.shape()[d + 2], first = std::min(start, there);
    begin.push_back(first);
    shape.push_back(std::min(sizes[d], there - first));
    low.push_back(0);
    high.push_back(sizes[d] - shape.back());
  }
  return pad(slice(x, begin, ones, shape), low, high);
}

/// A convolution of group, strides, padding and dilation, as large as these make it.
static Term convolve(Term x, Term w, ArrayRef<int64_t> strides, ArrayRef<int64_t> low,
                     ArrayRef<int64_t> high, ArrayRef<int64_t> dilations, int64_t group) {
  Formula &f = *x.formula;
  SmallVector<int64_t> shape = {x.shape()[0], w.shape()[0]};
  for (size_t d = 0; d < strides.size(); ++d) {
    int64_t reach = (w.shape()[d + 2] - 1) * dilations[d] + 1;
    shape.push_back((x.shape()[d + 2] + low[d] + high[d] - reach) / strides[d] + 1);
  }
  return {&f, ConvOp::create(f.b, f.loc, x.type().clone(shape), x.value, w.value, strides, low,
                             high, dilations, group)};
}

Cotangents ConvOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  Term x = f.operand(0), w = f.operand(1), g = f.cotangent();
  ArrayRef<int64_t> inSpatial = x.shape().drop_front(2), kernel = w.shape().drop_front(2);
  int64_t batch = x.shape()[0], channels = x.shape()[1], outputs = w.shape()[0],
          groups = getGroup();
  int64_t in = channels / groups, out = outputs / groups, spatial = inSpatial.size();
  SmallVector<int64_t> ones(spatial, 1), zeros(spatial, 0), reach, strides = {1, 1}, spatialDims;
  llvm::append_range(strides, getStrides());
  for (int64_t d = 0; d < spatial; ++d) {
    reach.push_back((kernel[d] - 1) * getDilations()[d]);
    spatialDims.push_back(d + 2);
  }

  // Input: every position meets every tap again, from the other side. The cotangent with zeros
  // between the strides, convolved with the reversed filters, channels and outputs of a group
  // exchanged.
  Term flipped = {&f, ReverseOp::create(b, getLoc(), w.value.getType(), w.value, spatialDims)};
  flipped = reshape(flipped, joined({groups, out, in}, kernel));
  flipped = reshape(transposeHead(flipped, {0, 2, 1}), joined({channels, out}, kernel));
  Term full = convolve(dilate(g, strides), flipped, ones, reach, reach, getDilations(), groups);
  Term dx = window(full, getPadLow(), inSpatial);

  // Weight: a tap sums over batch and positions, which is a convolution with batch and channels
  // exchanged, strides and dilations too. [N, G*C] becomes [C, G*N], so that the groups stay
  // together.
  Term turned = reshape(x, joined({batch, groups, in}, inSpatial));
  turned = reshape(transposeHead(turned, {2, 1, 0}), joined({in, groups * batch}, inSpatial));
  Term filters = transposeHead(g, {1, 0});
  Term taps =
      convolve(turned, filters, getDilations(), getPadLow(), getPadHigh(), getStrides(), groups);
  Term dw = window(transposeHead(taps, {1, 0}), zeros, kernel);
  return SmallVector<Value>{f.finish(dx), f.finish(dw)};
}

//===----------------------------------------------------------------------===//
// Reductions and scans
//===----------------------------------------------------------------------===//

Cotangents ReduceOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  Formula f(b, *this, cotangents[0]);
  Dims shape = getInput().getType().getShape();
  SmallVector<int64_t> kept = otherDims(shape.size(), getDims());
  auto back = [&](Term x) { return spread(x, shape, kept); };
  switch (getKind()) {
  case Reduction::Sum: // nothing is rounded: 16-bit floats stay as they are
    return SmallVector<Value>{back({&f, cotangents[0]}).value};
  case Reduction::Max:
  case Reduction::Min: {
    // Equal parts to all that equal the result, as torch's amax.
    Term g = f.cotangent(), hit = f.operand(0) == back(f.result());
    Term share = g / sum(indicator(hit, g), getDims());
    return SmallVector<Value>{f.finish(where(hit, back(share), 0))};
  }
  case Reduction::Prod: {
    Term g = f.cotangent(), x = f.operand(0), isZero = x == 0;
    Term zeros = sum(indicator(isZero, g), getDims());
    Term product = {
        &f, ReduceOp::create(b, getLoc(), Reduction::Prod, where(isZero, 1, x).value, getDims())};
    return SmallVector<Value>{f.finish(back(g) * productSlope(x, back(zeros), back(product)))};
  }
  case Reduction::And:
  case Reduction::Or:
    break; // of integers
  }
  return SmallVector<Value>(1);
}

bool ReduceOp::needsOperand(unsigned) {
  return getKind() == Reduction::Max || getKind() == Reduction::Min || getKind() == Reduction::Prod;
}
bool ReduceOp::needsResult(unsigned) {
  return getKind() == Reduction::Max || getKind() == Reduction::Min;
}

Cotangents ArgReduceOp::buildVJP(OpBuilder &, ValueRange) { return SmallVector<Value>(1); }

Cotangents CumsumOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  return SmallVector<Value>{CumsumOp::create(b, getLoc(), getType(), cotangents[0], getDim(),
                                             getExclusive(), !getReverse())};
}

Cotangents TopKOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  // Each value came from a place of its own: the sum adds to zeros.
  Value zeros = ConstantOp::splat(b, getLoc(), getInput().getType(), 0);
  return SmallVector<Value>{ScatterElementsOp::create(b, getLoc(), zeros, getIndices(),
                                                      cotangents[0], getDim(), Combine::Sum)};
}
