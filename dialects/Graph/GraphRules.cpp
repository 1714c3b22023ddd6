//===- GraphRules.cpp - Factors of the ops that are not elementwise -------===//
//
// Which tensor dimensions go together, for Propagate and Partition. A dimension that is left out of
// a rule is not sharded by it; NeedReplication says that the op must see the dimension whole.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDetail.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

namespace {
/// Builder of an op's rule. Factors of size 1 are left out: nothing can be cut there.
class RuleBuilder {
public:
  explicit RuleBuilder(Operation *op)
      : rule(shapesOf(op->getOperands()), shapesOf(op->getResults())) {}

  /// Appends a factor (as the next more minor one) to the given dimension of each operand and
  /// result; -1 where a tensor does not have it.
  void add(int64_t size, const std::vector<int64_t> &operandDims,
           const std::vector<int64_t> &resultDims, FactorKind kind = FactorKind::PassThrough,
           ReduceKind reduce = ReduceKind::Sum) {
    rule.addFactor({operandDims.begin(), operandDims.end()}, {resultDims.begin(), resultDims.end()},
                   size, kind, reduce);
  }
  /// Pending sums of all operands may pass through.
  void setLinear() { rule.setLinear(); }

  ShardingRule build() {
    Result<ShardingRule> built = rule.build();
    assert(built && "the rule of a verified op is well formed");
    return *built;
  }

  ShardingRuleBuilder rule;

private:
  static std::vector<Shape> shapesOf(ValueRange values) {
    std::vector<Shape> shapes;
    for (Value value : values)
      shapes.emplace_back(typeOf(value).getShape().begin(), typeOf(value).getShape().end());
    return shapes;
  }
};
} // namespace

ShardingRule graph::detail::pointwiseRule(Operation *op) {
  RuleBuilder rule(op);
  rule.rule.addPointwise();
  auto cast = dyn_cast<CastOp>(op);
  // The terms of a pending sum may be converted one by one: a rank's term is rounded as a product's
  // result would be.
  bool isFloatCast = cast && isa<FloatType>(typeOf(cast.getInput()).getElementType()) &&
                     isa<FloatType>(typeOf(cast).getElementType()) &&
                     typeOf(cast).getElementType().getIntOrFloatBitWidth() > 8;
  if (isa<AddOp, SubOp, NegOp>(op) || isFloatCast)
    rule.setLinear();
  return rule.build();
}

/// The same dimension everywhere; those in `whole` need replication.
static ShardingRule sameDims(Operation *op, ArrayRef<int64_t> whole) {
  RuleBuilder rule(op);
  for (auto [dim, size] : llvm::enumerate(typeOf(op->getOperand(0)).getShape())) {
    int64_t d = static_cast<int64_t>(dim);
    rule.add(size, std::vector<int64_t>(op->getNumOperands(), d),
             std::vector<int64_t>(op->getNumResults(), d),
             llvm::is_contained(whole, d) ? FactorKind::NeedReplication : FactorKind::PassThrough);
  }
  return rule.build();
}

//===----------------------------------------------------------------------===//
// Sources
//===----------------------------------------------------------------------===//

ShardingRule ParameterOp::getShardingRule() { return graph::detail::pointwiseRule(*this); }
// A constant is cut like any other value: each device keeps its part.
ShardingRule ConstantOp::getShardingRule() { return graph::detail::pointwiseRule(*this); }

ShardingRule IotaOp::getShardingRule() {
  RuleBuilder rule(*this);
  for (auto [dim, size] : llvm::enumerate(getType().getShape()))
    rule.add(size, {}, {static_cast<int64_t>(dim)});
  return rule.build();
}

//===----------------------------------------------------------------------===//
// Views and movement
//===----------------------------------------------------------------------===//

ShardingRule ReshapeOp::getShardingRule() {
  RuleBuilder rule(*this);
  rule.rule.addReshape();
  rule.setLinear();
  return rule.build();
}

ShardingRule TransposeOp::getShardingRule() {
  RuleBuilder rule(*this);
  for (auto [d, p] : llvm::enumerate(getPermutation()))
    rule.add(getType().getDimSize(d), {p}, {static_cast<int64_t>(d)});
  rule.setLinear();
  return rule.build();
}

ShardingRule BroadcastOp::getShardingRule() {
  RuleBuilder rule(*this);
  for (int64_t d = 0; d < getType().getRank(); ++d) {
    const int64_t *at = llvm::find(getDims(), d);
    int64_t inputDim = at == getDims().end() ? -1 : at - getDims().begin();
    if (inputDim >= 0 && getInput().getType().getDimSize(inputDim) != getType().getDimSize(d))
      inputDim = -1;
    rule.add(getType().getDimSize(d), {inputDim}, {d});
  }
  rule.setLinear();
  return rule.build();
}

ShardingRule SliceOp::getShardingRule() {
  SmallVector<int64_t> whole;
  for (int64_t d = 0; d < getType().getRank(); ++d)
    if (getType().getDimSize(d) != getInput().getType().getDimSize(d))
      whole.push_back(d);
  RuleBuilder rule(*this);
  for (int64_t d = 0; d < getType().getRank(); ++d) {
    if (!llvm::is_contained(whole, d)) {
      rule.add(getType().getDimSize(d), {d}, {d});
      continue;
    }
    rule.add(getInput().getType().getDimSize(d), {d}, {-1}, FactorKind::NeedReplication);
    rule.add(getType().getDimSize(d), {-1}, {d}, FactorKind::NeedReplication);
  }
  rule.setLinear();
  return rule.build();
}

ShardingRule ReverseOp::getShardingRule() { return sameDims(*this, getDims()); }

ShardingRule PadOp::getShardingRule() {
  RuleBuilder rule(*this);
  for (int64_t d = 0; d < getType().getRank(); ++d) {
    if (getLow()[d] == 0 && getHigh()[d] == 0) {
      rule.add(getType().getDimSize(d), {d}, {d});
      continue;
    }
    rule.add(getInput().getType().getDimSize(d), {d}, {-1}, FactorKind::NeedReplication);
    rule.add(getType().getDimSize(d), {-1}, {d}, FactorKind::NeedReplication);
  }
  return rule.build();
}

ShardingRule ConcatOp::getShardingRule() {
  RuleBuilder rule(*this);
  int64_t count = getInputs().size();
  for (int64_t d = 0; d < getType().getRank(); ++d) {
    if (d != static_cast<int64_t>(getDim())) {
      rule.add(getType().getDimSize(d), std::vector<int64_t>(count, d), {d});
      continue;
    }
    rule.add(getType().getDimSize(d), std::vector<int64_t>(count, -1), {d},
             FactorKind::NeedReplication);
    for (int64_t n = 0; n < count; ++n) {
      std::vector<int64_t> dims(count, -1);
      dims[n] = d;
      rule.add(typeOf(getInputs()[n]).getDimSize(d), dims, {-1}, FactorKind::NeedReplication);
    }
  }
  rule.setLinear();
  return rule.build();
}

ShardingRule GatherOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto data = getData().getType();
  int64_t axis = getAxis(), indexRank = getIndices().getType().getRank();
  for (int64_t d = 0; d < axis; ++d)
    rule.add(data.getDimSize(d), {d, -1}, {d});
  // Sharded along the gathered axis each device finds the rows that it has and zeros elsewhere
  // (Partition shifts the indices): the results sum up.
  rule.add(data.getDimSize(axis), {axis, -1}, {-1}, FactorKind::Reduction, ReduceKind::Sum);
  for (int64_t d = 0; d < indexRank; ++d)
    rule.add(getIndices().getType().getDimSize(d), {-1, d}, {axis + d});
  for (int64_t d = axis + 1; d < data.getRank(); ++d)
    rule.add(data.getDimSize(d), {d, -1}, {d + indexRank - 1});
  return rule.build();
}

ShardingRule ScatterSumOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto result = getType();
  int64_t axis = getAxis(), indexRank = getIndices().getType().getRank();
  for (int64_t d = 0; d < axis; ++d)
    rule.add(result.getDimSize(d), {d, -1}, {d});
  // Each device takes what belongs to its rows (Partition shifts the indices) and drops the rest.
  rule.add(result.getDimSize(axis), {-1, -1}, {axis});
  for (int64_t d = 0; d < indexRank; ++d)
    rule.add(getIndices().getType().getDimSize(d), {axis + d, d}, {-1}, FactorKind::Reduction,
             ReduceKind::Sum);
  for (int64_t d = axis + 1; d < result.getRank(); ++d)
    rule.add(result.getDimSize(d), {d + indexRank - 1, -1}, {d});
  return rule.build();
}

ShardingRule GatherNdOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto data = getData().getType(), indices = getIndices().getType();
  int64_t batch = getBatchDims(), outer = indices.getRank() - 1, depth = indices.getShape().back();
  for (int64_t d = 0; d < outer; ++d)
    rule.add(indices.getDimSize(d), {d < batch ? d : -1, d}, {d});
  for (int64_t d = batch; d < batch + depth; ++d)
    rule.add(data.getDimSize(d), {d, -1}, {-1}, FactorKind::NeedReplication);
  rule.add(depth, {-1, outer}, {-1}, FactorKind::NeedReplication);
  for (int64_t d = batch + depth; d < data.getRank(); ++d)
    rule.add(data.getDimSize(d), {d, -1}, {outer + d - batch - depth});
  return rule.build();
}

ShardingRule GatherElementsOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto data = getData().getType(), indices = getIndices().getType();
  for (int64_t d = 0; d < data.getRank(); ++d) {
    if (d == static_cast<int64_t>(getAxis())) {
      rule.add(data.getDimSize(d), {d, -1}, {-1}, FactorKind::NeedReplication);
      rule.add(indices.getDimSize(d), {-1, d}, {d});
    } else if (data.getDimSize(d) == indices.getDimSize(d)) {
      rule.add(data.getDimSize(d), {d, d}, {d});
    } else {
      rule.add(data.getDimSize(d), {d, -1}, {-1}, FactorKind::NeedReplication);
      rule.add(indices.getDimSize(d), {-1, d}, {d}, FactorKind::NeedReplication);
    }
  }
  return rule.build();
}

ShardingRule ScatterElementsOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto data = getData().getType(), indices = getIndices().getType();
  for (int64_t d = 0; d < data.getRank(); ++d) {
    bool same = d != static_cast<int64_t>(getAxis()) && data.getDimSize(d) == indices.getDimSize(d);
    if (same) {
      rule.add(data.getDimSize(d), {d, d, d}, {d});
      continue;
    }
    rule.add(data.getDimSize(d), {d, -1, -1}, {d}, FactorKind::NeedReplication);
    rule.add(indices.getDimSize(d), {-1, d, d}, {-1}, FactorKind::NeedReplication);
  }
  return rule.build();
}

ShardingRule ScatterNdOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto data = getData().getType(), indices = getIndices().getType();
  int64_t outer = indices.getRank() - 1, depth = indices.getShape().back();
  for (int64_t d = 0; d < outer; ++d)
    rule.add(indices.getDimSize(d), {-1, d, d}, {-1}, FactorKind::NeedReplication);
  rule.add(depth, {-1, outer, -1}, {-1}, FactorKind::NeedReplication);
  for (int64_t d = 0; d < data.getRank(); ++d) {
    if (d < depth)
      rule.add(data.getDimSize(d), {d, -1, -1}, {d}, FactorKind::NeedReplication);
    else
      rule.add(data.getDimSize(d), {d, -1, outer + d - depth}, {d});
  }
  return rule.build();
}

//===----------------------------------------------------------------------===//
// Contraction, reduction, scans
//===----------------------------------------------------------------------===//

/// `scales` operands of rank 0 follow the two factors.
template <typename Op> static ShardingRule contractionRule(Op op, unsigned scales) {
  RuleBuilder rule(op);
  EinsumLetters letters = op.getLetters();
  auto at = [](StringRef names, char letter) -> int64_t {
    size_t found = names.find(letter);
    return found == StringRef::npos ? -1 : static_cast<int64_t>(found);
  };
  std::string seen;
  for (char letter : (letters.result + letters.lhs + letters.rhs).str()) {
    if (seen.find(letter) != std::string::npos)
      continue;
    seen += letter;
    int64_t out = at(letters.result, letter);
    std::vector<int64_t> dims = {at(letters.lhs, letter), at(letters.rhs, letter)};
    dims.resize(2 + scales, -1);
    rule.add(op.getLetterSize(letter), dims, {out},
             out < 0 ? FactorKind::Reduction : FactorKind::PassThrough);
  }
  return rule.build();
}

ShardingRule EinsumOp::getShardingRule() { return contractionRule(*this, 0); }
ShardingRule ScaledEinsumOp::getShardingRule() { return contractionRule(*this, 2); }

ShardingRule GroupedMatmulOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto x = getInput().getType(), w = getWeight().getType();
  int64_t blocks = getBlocks();
  rule.add(blocks, {0, 0, 0}, {0});
  rule.add(x.getDimSize(0) / blocks, {0, -1, 0}, {0});
  rule.add(w.getDimSize(1), {-1, 1, -1}, {1});
  rule.add(x.getDimSize(1), {1, 2, -1}, {-1}, FactorKind::Reduction);
  // Experts on different devices: foreign groups give zero rows, the results sum up.
  rule.add(w.getDimSize(0) / blocks, {-1, 0, -1}, {-1}, FactorKind::Reduction);
  return rule.build();
}

ShardingRule GroupedMatmulGradOp::getShardingRule() {
  RuleBuilder rule(*this);
  int64_t blocks = getBlocks();
  rule.add(blocks, {0, 0, 0}, {0});
  rule.add(getInput().getType().getDimSize(0) / blocks, {0, 0, 0}, {-1}, FactorKind::Reduction);
  rule.add(getType().getDimSize(0) / blocks, {-1, -1, -1}, {0});
  rule.add(getType().getDimSize(1), {-1, 1, -1}, {1});
  rule.add(getType().getDimSize(2), {1, -1, -1}, {2});
  return rule.build();
}

ShardingRule ConvOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto x = getInput().getType(), w = getWeight().getType();
  rule.add(x.getDimSize(0), {0, -1}, {0});
  if (getGroup() == 1) {
    rule.add(x.getDimSize(1), {1, 1}, {-1}, FactorKind::Reduction);
    rule.add(w.getDimSize(0), {-1, 0}, {1});
  } else if (static_cast<int64_t>(getGroup()) == x.getDimSize(1) &&
             w.getDimSize(0) == x.getDimSize(1)) {
    rule.add(x.getDimSize(1), {1, 0}, {1}); // depthwise
  } else {
    rule.add(x.getDimSize(1), {1, -1}, {-1}, FactorKind::NeedReplication);
    rule.add(w.getDimSize(0), {-1, 0}, {1}, FactorKind::NeedReplication);
  }
  for (int64_t d = 2; d < x.getRank(); ++d) {
    rule.add(x.getDimSize(d), {d, -1}, {-1}, FactorKind::NeedReplication);
    rule.add(getType().getDimSize(d), {-1, -1}, {d}, FactorKind::NeedReplication);
  }
  return rule.build();
}

ShardingRule ReduceOp::getShardingRule() {
  RuleBuilder rule(*this);
  FactorKind kind = FactorKind::Reduction;
  ReduceKind reduce = ReduceKind::Sum;
  switch (getKind()) {
  case Reduction::Sum:
    break;
  case Reduction::Prod:
    reduce = ReduceKind::Prod;
    break;
  case Reduction::Max:
  case Reduction::Or:
    reduce = ReduceKind::Max;
    break;
  case Reduction::Min:
  case Reduction::And:
    reduce = ReduceKind::Min;
    break;
  }
  int64_t out = 0;
  for (int64_t d = 0; d < getInput().getType().getRank(); ++d) {
    bool reduced = llvm::is_contained(getDims(), d);
    rule.add(getInput().getType().getDimSize(d), {d}, {reduced ? -1 : out++},
             reduced ? kind : FactorKind::PassThrough, reduce);
  }
  if (getKind() == Reduction::Sum)
    rule.setLinear();
  return rule.build();
}

ShardingRule ArgReduceOp::getShardingRule() {
  RuleBuilder rule(*this);
  int64_t out = 0;
  for (int64_t d = 0; d < getInput().getType().getRank(); ++d) {
    bool reduced = d == static_cast<int64_t>(getDim());
    rule.add(getInput().getType().getDimSize(d), {d}, {reduced ? -1 : out++},
             reduced ? FactorKind::NeedReplication : FactorKind::PassThrough);
  }
  return rule.build();
}

ShardingRule CumsumOp::getShardingRule() {
  return sameDims(*this, {static_cast<int64_t>(getDim())});
}

ShardingRule TopKOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto input = getInput().getType();
  for (int64_t d = 0; d < input.getRank(); ++d) {
    if (d != static_cast<int64_t>(getDim())) {
      rule.add(input.getDimSize(d), {d}, {d, d});
      continue;
    }
    rule.add(input.getDimSize(d), {d}, {-1, -1}, FactorKind::NeedReplication);
    rule.add(getValues().getType().getDimSize(d), {-1}, {d, d}, FactorKind::NeedReplication);
  }
  return rule.build();
}

//===----------------------------------------------------------------------===//
// Normalisation and transformer blocks
//===----------------------------------------------------------------------===//

ShardingRule SoftmaxOp::getShardingRule() {
  return sameDims(*this, {static_cast<int64_t>(getDim())});
}

/// Leading dimensions pass, the normalised ones are whole; weight and bias have the latter only.
static ShardingRule normRule(Operation *op, RankedTensorType type, int64_t normDims) {
  RuleBuilder rule(op);
  int64_t leading = type.getRank() - normDims;
  for (int64_t d = 0; d < type.getRank(); ++d) {
    std::vector<int64_t> operands(op->getNumOperands(), d < leading ? -1 : d - leading);
    operands[0] = d;
    rule.add(type.getDimSize(d), operands, {d},
             d < leading ? FactorKind::PassThrough : FactorKind::NeedReplication);
  }
  return rule.build();
}

ShardingRule RmsNormOp::getShardingRule() { return normRule(*this, getType(), getNormDims()); }
ShardingRule LayerNormOp::getShardingRule() { return normRule(*this, getType(), getNormDims()); }

ShardingRule RopeOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto type = getType();
  bool batched = getCos().getType().getDimSize(0) == type.getDimSize(0);
  rule.add(type.getDimSize(0), {0, batched ? 0 : -1, batched ? 0 : -1}, {0});
  rule.add(type.getDimSize(1), {1, -1, -1}, {1});
  rule.add(type.getDimSize(2), {2, 1, 1}, {2});
  rule.add(type.getDimSize(3), {3, -1, -1}, {3}, FactorKind::NeedReplication);
  rule.add(getCos().getType().getDimSize(2), {-1, 2, 2}, {-1}, FactorKind::NeedReplication);
  return rule.build();
}

namespace {
/// Where a factor of attention is: the dimension of query, key, value and result (for the gradient:
/// cotangent); of mask, where the mask has that size; of sinks.
struct AttentionDims {
  int64_t query, key, value, out, mask = -1, maskSize = 0, sinks = -1;
};
} // namespace

/// Factors of attention and of its gradient; `add` receives where each is, the kind that it has in
/// the forward op, and its size.
template <typename Op>
static void attentionFactors(Op op,
                             llvm::function_ref<void(int64_t, AttentionDims, FactorKind)> add) {
  auto q = op.getQuery().getType(), k = op.getKey().getType();
  int64_t heads = q.getDimSize(1), kvHeads = k.getDimSize(1);
  add(q.getDimSize(0), {0, 0, 0, 0, 0, q.getDimSize(0)}, FactorKind::PassThrough);
  // Query heads are (group, member); key/value heads have the group only, so that more devices than
  // key/value heads share them by sub-axes.
  add(kvHeads, {1, 1, 1, 1, 1, heads, 0}, FactorKind::PassThrough);
  add(heads / kvHeads, {1, -1, -1, 1, 1, heads, 0}, FactorKind::PassThrough);
  // Each query row needs its place in the causal order: sharded along the sequence it would need an
  // offset.
  add(q.getDimSize(2), {2, -1, -1, 2, 2, q.getDimSize(2)},
      op.getCausal() ? FactorKind::NeedReplication : FactorKind::PassThrough);
  add(k.getDimSize(2), {-1, 2, 2, -1, 3, k.getDimSize(2)}, FactorKind::NeedReplication);
  add(q.getDimSize(3), {3, 3, -1, -1}, FactorKind::NeedReplication);
  add(op.getValue().getType().getDimSize(3), {-1, -1, 3, 3}, FactorKind::PassThrough);
}

/// query, key, value, and mask and sinks if there are such.
template <typename Op>
static std::vector<int64_t> attentionOperandDims(Op op, const AttentionDims &at) {
  std::vector<int64_t> dims{at.query, at.key, at.value};
  if (op.getMask())
    dims.push_back(
        at.mask >= 0 && op.getMask().getType().getDimSize(at.mask) == at.maskSize ? at.mask : -1);
  if (op.getSinks())
    dims.push_back(at.sinks);
  return dims;
}

ShardingRule AttentionOp::getShardingRule() {
  RuleBuilder rule(*this);
  attentionFactors(*this, [&](int64_t size, AttentionDims at, FactorKind kind) {
    rule.add(size, attentionOperandDims(*this, at), {at.out}, kind);
  });
  return rule.build();
}

ShardingRule AttentionGradOp::getShardingRule() {
  RuleBuilder rule(*this);
  attentionFactors(*this, [&](int64_t size, AttentionDims at, FactorKind kind) {
    std::vector<int64_t> operands = attentionOperandDims(*this, at),
                         results{at.query, at.key, at.value};
    operands.push_back(at.out);
    if (getSinks())
      results.push_back(at.sinks);
    // A gradient is the sum over what its operand does not have: a key's over the query heads of
    // its group.
    if (kind == FactorKind::PassThrough && llvm::is_contained(results, -1))
      kind = FactorKind::Reduction;
    rule.add(size, operands, results, kind);
  });
  return rule.build();
}

ShardingRule SoftmaxCrossEntropyOp::getShardingRule() {
  RuleBuilder rule(*this);
  auto logits = getLogits().getType();
  for (int64_t d = 0; d + 1 < logits.getRank(); ++d)
    rule.add(logits.getDimSize(d), {d, d}, {d});
  rule.add(logits.getShape().back(), {logits.getRank() - 1, -1}, {-1}, FactorKind::NeedReplication);
  return rule.build();
}
