//===- CacheTail.cpp - What lies beyond a cache's length ------------------===//
//
// An exported mask compares the index of a key with that of a query: `key <= length + query`. With
// n = length + step keys, an index from n on is above every query, as query < step. That is what is
// shown here, by a bound of one side that is affine in the length, and the other side's index along
// the dimension. Where nothing can be shown the caller hides the tail itself, so that this is about
// clarity and speed, not about correctness.
//
//===----------------------------------------------------------------------===//

#include "CacheTail.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

static constexpr unsigned kMaxDepth = 16;
/// Exponentials of scores this far below the others are zero. (The lowest f16 is above: there only
/// minus infinity hides.)
static constexpr double kHidden = -1e30;

/// The dimension of operand `operand` that is dimension `dim` of result 0, whole; -1 if there is
/// none.
static int64_t operandDim(Operation *op, unsigned operand, int64_t dim) {
  ShardingRule rule = cast<ShardingRuleOpInterface>(op).getShardingRule();
  const std::vector<int> &factors = rule.results[0][dim];
  if (factors.size() != 1)
    return -1;
  for (auto [d, other] : llvm::enumerate(rule.operands[operand]))
    if (other == factors)
      return d;
  return -1;
}

/// The one value of a constant; nothing if it has several.
static std::optional<double> splatOf(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  auto dense = constant ? dyn_cast<SplatElementsAttr>(constant.getValue()) : SplatElementsAttr();
  if (!dense)
    return std::nullopt;
  if (isa<FloatType>(dense.getElementType()))
    return dense.getSplatValue<APFloat>().convertToDouble();
  APInt number = dense.getSplatValue<APInt>();
  return number.getBitWidth() == 1 ? static_cast<double>(number.getZExtValue())
                                   : static_cast<double>(number.getSExtValue());
}

static Tail tailOf(double splat) {
  return splat == 0 ? Tail::Zero : splat <= kHidden ? Tail::Hidden : Tail::Any;
}

std::optional<TailAnalysis::Affine> TailAnalysis::upperBound(Value value, unsigned depth) {
  if (value == length)
    return Affine{1, 0};
  Operation *op = value.getDefiningOp();
  if (!op || depth > kMaxDepth ||
      !isa<IntegerType>(cast<RankedTensorType>(value.getType()).getElementType()))
    return std::nullopt;
  if (auto constant = dyn_cast<ConstantOp>(op)) {
    FailureOr<HostTensor> tensor = HostTensor::fromAttr(constant.getValue());
    if (failed(tensor) || tensor->i.empty())
      return std::nullopt;
    return Affine{0, *llvm::max_element(tensor->i)};
  }
  if (auto iota = dyn_cast<IotaOp>(op))
    return Affine{0, iota.getType().getDimSize(iota.getDim()) - 1};
  if (isa<ReshapeOp, TransposeOp, BroadcastOp, SliceOp>(op))
    return upperBound(op->getOperand(0), depth + 1);
  if (auto cast = dyn_cast<CastOp>(op))
    return cast.getType().getElementType().isInteger(64) ? upperBound(cast.getInput(), depth + 1)
                                                         : std::nullopt;
  if (isa<AddOp>(op)) {
    std::optional<Affine> x = upperBound(op->getOperand(0), depth + 1),
                          y = upperBound(op->getOperand(1), depth + 1);
    return x && y ? std::optional<Affine>({x->slope + y->slope, x->offset + y->offset})
                  : std::nullopt;
  }
  if (isa<SubOp>(op)) {
    std::optional<Affine> x = upperBound(op->getOperand(0), depth + 1);
    std::optional<double> y = splatOf(op->getOperand(1));
    return x && y ? std::optional<Affine>({x->slope, x->offset - static_cast<int64_t>(*y)})
                  : std::nullopt;
  }
  return std::nullopt;
}

std::optional<int64_t> TailAnalysis::indexOffset(Value value, int64_t dim, unsigned depth) {
  Operation *op = value.getDefiningOp();
  if (!op || depth > kMaxDepth)
    return std::nullopt;
  if (auto iota = dyn_cast<IotaOp>(op))
    return static_cast<int64_t>(iota.getDim()) == dim ? std::optional<int64_t>(0) : std::nullopt;
  if (isa<ReshapeOp, TransposeOp, BroadcastOp, CastOp>(op)) {
    int64_t from = operandDim(op, 0, dim);
    return from < 0 ? std::nullopt : indexOffset(op->getOperand(0), from, depth + 1);
  }
  if (isa<AddOp>(op))
    for (unsigned side : {0, 1})
      if (std::optional<double> number = splatOf(op->getOperand(1 - side)))
        if (std::optional<int64_t> offset = indexOffset(op->getOperand(side), dim, depth + 1))
          return *offset + static_cast<int64_t>(*number);
  return std::nullopt;
}

bool TailAnalysis::isFalseBeyond(CompareOp op, int64_t dim, unsigned depth) {
  Value index = op.getLhs(), bound = op.getRhs();
  bool isStrict = op.getPredicate() == Predicate::LT || op.getPredicate() == Predicate::GT;
  if (op.getPredicate() == Predicate::GE || op.getPredicate() == Predicate::GT)
    std::swap(index, bound);
  else if (op.getPredicate() != Predicate::LE && op.getPredicate() != Predicate::LT)
    return false;
  // From length + step + offset <= index and bound <= slope * length + limit, with length >= 0.
  std::optional<int64_t> offset = indexOffset(index, dim, depth + 1);
  std::optional<Affine> limit = upperBound(bound, depth + 1);
  return offset && limit && limit->slope >= 0 && limit->slope <= 1 &&
         limit->offset < step + *offset + isStrict;
}

Tail TailAnalysis::of(Value value, int64_t dim, unsigned depth) {
  Operation *op = value.getDefiningOp();
  if (!op || depth > kMaxDepth)
    return Tail::Any;
  if (std::optional<double> splat = splatOf(value))
    return tailOf(*splat);
  if (auto it = known.find({value, dim}); it != known.end())
    return it->second;
  Tail tail = compute(op, dim, depth);
  return known[{value, dim}] = tail;
}

Tail TailAnalysis::compute(Operation *op, int64_t dim, unsigned depth) {
  auto operand = [&](unsigned n) -> Tail {
    Value from = op->getOperand(n);
    if (std::optional<double> splat = splatOf(from))
      return tailOf(*splat);
    int64_t fromDim = operandDim(op, n, dim);
    return fromDim < 0 ? Tail::Any : of(from, fromDim, depth + 1);
  };
  auto isEither = [&](Tail tail) { return operand(0) == tail || operand(1) == tail; };
  if (auto compare = dyn_cast<CompareOp>(op))
    return isFalseBeyond(compare, dim, depth) ? Tail::Zero : Tail::Any;
  if (isa<ReshapeOp, TransposeOp, BroadcastOp, CastOp>(op))
    return operand(0);
  if (isa<AndOp, MulOp>(op))
    return isEither(Tail::Zero) ? Tail::Zero : Tail::Any;
  if (isa<AddOp>(op))
    return isEither(Tail::Hidden)     ? Tail::Hidden
           : operand(0) == Tail::Zero ? operand(1)
                                      : Tail::Any;
  if (isa<SelectOp>(op))
    return operand(0) == Tail::Zero || operand(1) == operand(2) ? operand(2) : Tail::Any;
  if (auto softmax = dyn_cast<SoftmaxOp>(op))
    return static_cast<int64_t>(softmax.getDim()) == dim &&
                   of(softmax.getInput(), dim, depth + 1) == Tail::Hidden
               ? Tail::Zero
               : Tail::Any;
  return Tail::Any;
}

} // namespace shardc::importer
