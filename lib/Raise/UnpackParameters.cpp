//===- UnpackParameters.cpp - Separate products for the pieces of packed weights -===//
//
// Input: a product with a packed weight, sliced into what the pieces give (q, k, v; gate, up).
// Output: one product a piece, each with its segment of the parameter, so that a split of one piece
// is not a split of its neighbours:
//
//   %w = graph.parameter "c_attn.weight" : [64, 192]
//   %y = graph.einsum "bsk,kn->bsn" %x, %w
//   %k = graph.slice %y [0, 0, 64]
//     =>
//   %w = graph.parameter "c_attn.weight" segment [1, 64, 64] of 192
//   %k = graph.einsum "bsk,kn->bsn" %x, %w
//
// 1. A value is unpacked if all its uses are slices along one dimension that do not overlap. (What
//    it is computed from may have other uses; a product that does is computed for its pieces
//    again.)
// 2. The slice moves up: through bias additions and other elementwise ops, transposes, reshapes
//    that keep the dimension or split it with the piece outermost, to the weight of an einsum or
//    grouped_matmul, and into the parameter.
//
// Limits: pieces within heads (each head's q, k, v beside each other) stay packed: heads shard well
// as they are. A parameter has one segment.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Match.h"
#include "shardc/Raise/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"

namespace shardc {
#define GEN_PASS_DEF_UNPACKPARAMETERSPASS
#include "lib/Raise/Passes.h.inc"
} // namespace shardc

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

/// Elements [start, start + size) along a dimension.
struct Piece {
  int64_t dim, start, size;
};

RankedTensorType pieceType(Value value, Piece piece) {
  SmallVector<int64_t> shape(getShape(value));
  shape[piece.dim] = piece.size;
  return getType(value).clone(shape);
}

/// The piece that a slice is, if it cuts one dimension without strides.
std::optional<Piece> pieceOf(SliceOp op) {
  std::optional<Piece> piece;
  for (int64_t dim = 0, rank = op.getType().getRank(); dim < rank; ++dim) {
    if (op.getStrides()[dim] != 1)
      return std::nullopt;
    if (op.getType().getDimSize(dim) == getShape(op.getInput())[dim])
      continue;
    if (piece)
      return std::nullopt;
    piece = Piece{dim, op.getStarts()[dim], op.getType().getDimSize(dim)};
  }
  return piece;
}

//===----------------------------------------------------------------------===//
// Where a piece comes from
//===----------------------------------------------------------------------===//

/// The piece of a reshape's input: the dimension is kept, or it is the outermost part of an input
/// dimension.
std::optional<Piece> pieceOfInput(ReshapeOp op, Piece piece) {
  ArrayRef<int64_t> from = getShape(op.getInput()), to = op.getType().getShape();
  int64_t before = 1, reached = 1;
  for (int64_t size : to.take_front(piece.dim))
    before *= size;
  for (auto [dim, size] : llvm::enumerate(from)) {
    if (reached == before && size % to[piece.dim] == 0) {
      int64_t inner = size / to[piece.dim];
      return Piece{static_cast<int64_t>(dim), piece.start * inner, piece.size * inner};
    }
    reached *= size;
  }
  return std::nullopt;
}

/// The piece of a broadcast's input; dim -1 if the broadcast repeats along the dimension.
Piece pieceOfInput(BroadcastOp op, Piece piece) {
  for (auto [input, result] : llvm::enumerate(op.getDims()))
    if (result == piece.dim && getShape(op.getInput())[input] != 1)
      return {static_cast<int64_t>(input), piece.start, piece.size};
  return {-1, 0, 0};
}

/// The weight that a product's dimension comes from, and the piece of it.
std::optional<std::pair<OpOperand *, Piece>> pieceOfWeight(Operation *op, Piece piece) {
  if (auto product = dyn_cast<GroupedMatmulOp>(op))
    return piece.dim == 1 ? std::optional(std::make_pair(&product.getWeightMutable(), piece))
                          : std::nullopt;
  auto einsum = cast<EinsumOp>(op);
  EinsumOp::Letters letters = einsum.getLetters();
  char letter = letters.result[piece.dim];
  size_t lhs = letters.lhs.find(letter), rhs = letters.rhs.find(letter);
  if ((lhs == StringRef::npos) == (rhs == StringRef::npos))
    return std::nullopt;
  bool isRhs = lhs == StringRef::npos;
  Piece ofWeight{static_cast<int64_t>(isRhs ? rhs : lhs), piece.start, piece.size};
  return std::make_pair(&op->getOpOperand(isRhs), ofWeight);
}

/// The parameter behind transposes, reshapes and casts.
ParameterOp parameterBehind(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (auto parameter = dyn_cast<ParameterOp>(op))
      return parameter;
    if (!isa<TransposeOp, ReshapeOp, CastOp>(op))
      return {};
    value = op->getOperand(0);
  }
  return {};
}

/// Whether a value can be computed for one piece alone. `isProduct` becomes true where a
/// parameter's product is met.
bool canTake(Value value, Piece piece, bool &isProduct) {
  Operation *op = value.getDefiningOp();
  if (splatValue(value))
    return true;
  if (!op)
    return false;
  if (auto parameter = dyn_cast<ParameterOp>(op))
    return !parameter.getSegment() || (*parameter.getSegment())[0] == piece.dim;
  if (auto transpose = dyn_cast<TransposeOp>(op))
    return canTake(transpose.getInput(),
                   {transpose.getPermutation()[piece.dim], piece.start, piece.size}, isProduct);
  if (auto reshape = dyn_cast<ReshapeOp>(op)) {
    std::optional<Piece> input = pieceOfInput(reshape, piece);
    return input && canTake(reshape.getInput(), *input, isProduct);
  }
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Piece input = pieceOfInput(broadcast, piece);
    return input.dim < 0 || canTake(broadcast.getInput(), input, isProduct);
  }
  if (isa<EinsumOp, GroupedMatmulOp>(op)) {
    auto weight = pieceOfWeight(op, piece);
    bool ignored = false;
    if (!weight || !parameterBehind(weight->first->get()) ||
        !canTake(weight->first->get(), weight->second, ignored))
      return false;
    return isProduct = true;
  }
  return op->hasTrait<OpTrait::Elementwise>() &&
         llvm::all_of(op->getOperands(),
                      [&](Value operand) { return canTake(operand, piece, isProduct); });
}

//===----------------------------------------------------------------------===//
// Emission
//===----------------------------------------------------------------------===//

/// An inline value cut to a piece.
ElementsAttr cutValue(ElementsAttr value, Piece piece, RankedTensorType type) {
  FailureOr<HostTensor> whole = HostTensor::fromAttr(value);
  if (failed(whole))
    return {};
  HostTensor part(type);
  SmallVector<int64_t> strides = rowMajorStrides(whole->shape());
  forEachIndex(type.getShape(), [&](ArrayRef<int64_t> index, int64_t at) {
    int64_t from = piece.start * strides[piece.dim];
    for (auto [i, stride] : llvm::zip_equal(index, strides))
      from += i * stride;
    part.copyElement(at, *whole, from);
  });
  return part.toAttr();
}

Value takeParameter(ParameterOp op, Piece piece, OpBuilder &b) {
  int64_t whole = op.getSegment() ? *op.getWhole() : op.getType().getDimSize(piece.dim);
  int64_t start = piece.start + (op.getSegment() ? (*op.getSegment())[1] : 0);
  RankedTensorType type = pieceType(op, piece);
  ElementsAttr value = op.getValue() ? cutValue(*op.getValue(), piece, type) : ElementsAttr();
  auto segment = ParameterOp::create(b, op.getLoc(), type, op.getNameAttr(),
                                     b.getDenseI64ArrayAttr({piece.dim, start, piece.size}),
                                     b.getI64IntegerAttr(whole), value);
  for (NamedAttribute attr : op->getDiscardableAttrs())
    segment->setDiscardableAttr(attr.getName(), attr.getValue());
  return segment;
}

/// `value` for one piece alone; canTake said that it can be.
Value take(Value value, Piece piece, OpBuilder &b) {
  Operation *op = value.getDefiningOp();
  RankedTensorType type = pieceType(value, piece);
  if (auto splat = splatValue(value))
    return ConstantOp::splat(b, op->getLoc(), type, *splat);
  if (auto parameter = dyn_cast<ParameterOp>(op))
    return takeParameter(parameter, piece, b);
  IRMapping mapping;
  if (auto transpose = dyn_cast<TransposeOp>(op)) {
    Piece input{transpose.getPermutation()[piece.dim], piece.start, piece.size};
    mapping.map(transpose.getInput(), take(transpose.getInput(), input, b));
  } else if (auto reshape = dyn_cast<ReshapeOp>(op)) {
    mapping.map(reshape.getInput(), take(reshape.getInput(), *pieceOfInput(reshape, piece), b));
  } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    if (Piece input = pieceOfInput(broadcast, piece); input.dim >= 0)
      mapping.map(broadcast.getInput(), take(broadcast.getInput(), input, b));
  } else if (isa<EinsumOp, GroupedMatmulOp>(op)) {
    auto [weight, ofWeight] = *pieceOfWeight(op, piece);
    mapping.map(weight->get(), take(weight->get(), ofWeight, b));
  } else {
    for (Value operand : op->getOperands())
      mapping.map(operand, take(operand, piece, b));
  }
  Operation *clone = b.clone(*op, mapping);
  clone->getResult(0).setType(type);
  return clone->getResult(0);
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

/// The slices of a packed product, or nothing: every use a slice along one dimension, none
/// overlapping.
SmallVector<std::pair<SliceOp, Piece>> matchPacked(Value value) {
  SmallVector<std::pair<SliceOp, Piece>> slices;
  for (Operation *user : value.getUsers()) {
    auto slice = dyn_cast<SliceOp>(user);
    std::optional<Piece> piece = slice ? pieceOf(slice) : std::nullopt;
    if (!piece || (!slices.empty() && slices[0].second.dim != piece->dim))
      return {};
    slices.emplace_back(slice, *piece);
  }
  llvm::sort(slices, [](auto &a, auto &b) { return a.second.start < b.second.start; });
  for (size_t i = 1; i < slices.size(); ++i)
    if (slices[i - 1].second.start + slices[i - 1].second.size > slices[i].second.start)
      return {};
  for (auto &[slice, piece] : slices) {
    bool isProduct = false;
    if (!canTake(value, piece, isProduct) || !isProduct)
      return {};
  }
  return slices;
}

/// Erases an op and what only it used.
void eraseDead(Operation *op) {
  if (!op || !op->use_empty())
    return;
  SmallVector<Value> operands(op->getOperands());
  op->erase();
  for (Value operand : operands)
    eraseDead(operand.getDefiningOp());
}

struct UnpackParametersPass : public shardc::impl::UnpackParametersPassBase<UnpackParametersPass> {
  using UnpackParametersPassBase::UnpackParametersPassBase;

  void runOnOperation() override {
    // A value is seen once, through its first slice.
    SmallVector<Value> packed;
    getOperation()->walk([&](SliceOp slice) {
      if (!llvm::is_contained(packed, slice.getInput()))
        packed.push_back(slice.getInput());
    });
    for (Value value : packed)
      for (auto &[slice, piece] : matchPacked(value)) {
        OpBuilder b(slice);
        slice.replaceAllUsesWith(take(value, piece, b));
        eraseDead(slice);
      }
  }
};

} // namespace
