//===- GraphOps.cpp - The graph dialect: registration, builders, folds ----===//

#include "dialects/Graph/GraphDerivative.h"
#include "dialects/Graph/GraphDetail.h"
#include "dialects/Graph/HostMath.h"
#include "dialects/Graph/ScalarEmit.h"

#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

#include "dialects/Graph/GraphDialect.cpp.inc"
#include "dialects/Graph/GraphEnums.cpp.inc"
#include "dialects/Graph/GraphInterfaces.cpp.inc"

void GraphDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/Graph/GraphOps.cpp.inc"
      >();
}

Operation *GraphDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type,
                                             Location loc) {
  auto elements = dyn_cast<ElementsAttr>(value);
  if (!elements || elements.getType() != type)
    return nullptr;
  return ConstantOp::create(builder, loc, elements);
}

//===----------------------------------------------------------------------===//
// Helpers of the generated methods
//===----------------------------------------------------------------------===//

OpCost graph::detail::elementwiseCost(Operation *op, double flopsPerElement) {
  OpCost cost;
  for (Value operand : op->getOperands())
    cost.bytesRead += tensorBytes(cast<RankedTensorType>(operand.getType()));
  for (Value result : op->getResults()) {
    auto type = cast<RankedTensorType>(result.getType());
    cost.bytesWritten += tensorBytes(type);
    cost.flops += flopsPerElement * type.getNumElements();
  }
  return cost;
}

bool graph::detail::isUnsignedElement(Type tensorType) {
  Type element = cast<RankedTensorType>(tensorType).getElementType();
  return element.isUnsignedInteger() || element.isInteger(1);
}

Type graph::computeType(Type elementType) {
  if (isNarrowFloat(elementType))
    return Float32Type::get(elementType.getContext());
  if (auto integer = dyn_cast<IntegerType>(elementType))
    return IntegerType::get(elementType.getContext(), integer.getWidth());
  return elementType;
}

Value ElementEmitter::round(Type type, Value computed) {
  Type element = cast<RankedTensorType>(type).getElementType();
  if (!isNarrowFloat(element))
    return computed;
  Value narrow = arith::TruncFOp::create(builder, computed.getLoc(), element, computed);
  return arith::ExtFOp::create(builder, computed.getLoc(), computed.getType(), narrow);
}

//===----------------------------------------------------------------------===//
// Builders
//===----------------------------------------------------------------------===//

ConstantOp ConstantOp::splat(OpBuilder &b, Location loc, RankedTensorType type, double value) {
  HostTensor scalar(type.clone(ArrayRef<int64_t>()));
  std::fill(scalar.f.begin(), scalar.f.end(), value);
  std::fill(scalar.i.begin(), scalar.i.end(), static_cast<int64_t>(value));
  scalar.round();
  auto elements = cast<DenseElementsAttr>(scalar.toAttr()).resizeSplat(type);
  return ConstantOp::create(b, loc, cast<ElementsAttr>(elements));
}

RankedTensorType ParameterOp::getGlobalType() {
  auto global = (*this)->getAttrOfType<TypeAttr>(GraphDialect::kGlobalTypeAttr);
  return global ? cast<RankedTensorType>(global.getValue()) : getType();
}

RankedTensorType ParameterOp::getStoredType() {
  RankedTensorType type = getGlobalType();
  if (!getSegment())
    return type;
  SmallVector<int64_t> shape(type.getShape());
  shape[(*getSegment())[0]] = *getWhole();
  return type.clone(shape);
}

void CompareOp::build(OpBuilder &b, OperationState &state, Predicate predicate, Value lhs,
                      Value rhs) {
  auto type = cast<RankedTensorType>(lhs.getType()).clone(b.getI1Type());
  build(b, state, type, predicate, lhs, rhs);
}

void CastOp::build(OpBuilder &b, OperationState &state, Value input, Type elementType) {
  build(b, state, cast<RankedTensorType>(input.getType()).clone(elementType), input);
}

void QuantizeOp::build(OpBuilder &b, OperationState &state, Value input, Value scale,
                       Type elementType) {
  build(b, state, cast<RankedTensorType>(input.getType()).clone(elementType), input, scale);
}

void TransposeOp::build(OpBuilder &b, OperationState &state, Value input,
                        ArrayRef<int64_t> permutation) {
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<int64_t> shape;
  for (int64_t dim : permutation)
    shape.push_back(type.getDimSize(dim));
  build(b, state, type.clone(shape), input, permutation);
}

void ReduceOp::build(OpBuilder &b, OperationState &state, Reduction kind, Value input,
                     ArrayRef<int64_t> dims) {
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<int64_t> shape;
  for (int64_t dim = 0; dim < type.getRank(); ++dim)
    if (!llvm::is_contained(dims, dim))
      shape.push_back(type.getDimSize(dim));
  build(b, state, type.clone(shape), kind, input, dims);
}

//===----------------------------------------------------------------------===//
// Folds and canonicalisations
//===----------------------------------------------------------------------===//

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

OpFoldResult CastOp::fold(FoldAdaptor) {
  return getInput().getType() == getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

OpFoldResult ReshapeOp::fold(FoldAdaptor) {
  return getInput().getType() == getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

OpFoldResult BroadcastOp::fold(FoldAdaptor) {
  return getInput().getType() == getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

OpFoldResult SliceOp::fold(FoldAdaptor) {
  return getInput().getType() == getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

OpFoldResult ConcatOp::fold(FoldAdaptor) {
  return getInputs().size() == 1 ? OpFoldResult(getInputs()[0]) : OpFoldResult();
}

OpFoldResult TransposeOp::fold(FoldAdaptor) {
  for (auto [i, p] : llvm::enumerate(getPermutation()))
    if (static_cast<int64_t>(i) != p)
      return {};
  return getInput();
}

namespace {

/// reshape(reshape(x)) -> reshape(x)
struct MergeReshapes : OpRewritePattern<ReshapeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ReshapeOp op, PatternRewriter &rewriter) const override {
    auto inner = op.getInput().getDefiningOp<ReshapeOp>();
    if (!inner)
      return rewriter.notifyMatchFailure(op, "input is not a reshape");
    rewriter.modifyOpInPlace(op, [&] { op.getInputMutable().assign(inner.getInput()); });
    return success();
  }
};

/// transpose(transpose(x)) -> transpose(x)
struct MergeTransposes : OpRewritePattern<TransposeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(TransposeOp op, PatternRewriter &rewriter) const override {
    auto inner = op.getInput().getDefiningOp<TransposeOp>();
    if (!inner)
      return rewriter.notifyMatchFailure(op, "input is not a transpose");
    SmallVector<int64_t> permutation;
    for (int64_t p : op.getPermutation())
      permutation.push_back(inner.getPermutation()[p]);
    rewriter.replaceOpWithNewOp<TransposeOp>(op, inner.getInput(), permutation);
    return success();
  }
};

/// einsum "ab,bc" of a transposed operand -> einsum with that operand's letters permuted
struct FoldTransposeIntoEinsum : OpRewritePattern<EinsumOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(EinsumOp op, PatternRewriter &rewriter) const override {
    EinsumOp::Letters letters = op.getLetters();
    for (unsigned n = 0; n < 2; ++n) {
      auto transpose = op->getOperand(n).getDefiningOp<TransposeOp>();
      if (!transpose)
        continue;
      StringRef old = n ? letters.rhs : letters.lhs;
      std::string permuted(old.size(), ' ');
      for (auto [i, p] : llvm::enumerate(transpose.getPermutation()))
        permuted[p] = old[i];
      std::string spec =
          (n ? letters.lhs.str() + "," + permuted : permuted + "," + letters.rhs.str());
      spec += "->" + letters.result.str();
      rewriter.modifyOpInPlace(op, [&] {
        op.setSpec(spec);
        op->setOperand(n, transpose.getInput());
      });
      return success();
    }
    return rewriter.notifyMatchFailure(op, "no operand is a transpose");
  }
};

} // namespace

void ReshapeOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<MergeReshapes>(context);
}
void TransposeOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<MergeTransposes>(context);
}
void EinsumOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<FoldTransposeIntoEinsum>(context);
}

EinsumLetters EinsumLetters::of(StringRef spec) {
  auto [inputs, result] = spec.split("->");
  auto [lhs, rhs] = inputs.split(",");
  return {lhs, rhs, result};
}

template <typename Op> static int64_t letterSize(Op op, char letter) {
  EinsumLetters letters = op.getLetters();
  size_t at = letters.lhs.find(letter);
  if (at != StringRef::npos)
    return op.getLhs().getType().getDimSize(at);
  return op.getRhs().getType().getDimSize(letters.rhs.find(letter));
}
int64_t EinsumOp::getLetterSize(char letter) { return letterSize(*this, letter); }
int64_t ScaledEinsumOp::getLetterSize(char letter) { return letterSize(*this, letter); }

#define GET_OP_CLASSES
#include "dialects/Graph/GraphOps.cpp.inc"
