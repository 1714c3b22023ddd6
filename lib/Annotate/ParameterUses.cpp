//===- ParameterUses.cpp - What the dimensions of a weight do -------------===//

#include "ParameterUses.h"

using namespace mlir;

namespace shardc {

/// Roles of an operand's dimensions in an op that computes with weights.
static SmallVector<DimRole> rolesIn(OpOperand &operand) {
  Operation *op = operand.getOwner();
  auto type = cast<RankedTensorType>(operand.get().getType());
  SmallVector<DimRole> roles(type.getRank(), DimRole::Vector);
  if (auto einsum = dyn_cast<graph::EinsumOp>(op)) {
    auto letters = einsum.getLetters();
    StringRef mine = operand.getOperandNumber() ? letters.rhs : letters.lhs;
    StringRef other = operand.getOperandNumber() ? letters.lhs : letters.rhs;
    for (auto [d, letter] : llvm::enumerate(mine)) {
      bool inResult = letters.result.contains(letter), inOther = other.contains(letter);
      roles[d] = !inResult ? DimRole::In : inOther ? DimRole::Expert : DimRole::Out;
    }
  } else if (isa<graph::GroupedMatmulOp>(op) && operand.getOperandNumber() == 1) {
    roles = {DimRole::Expert, DimRole::Out, DimRole::In};
  } else if (isa<graph::ConvOp>(op) && operand.getOperandNumber() == 1) {
    std::fill(roles.begin(), roles.end(), DimRole::None);
    roles[0] = DimRole::Out;
    roles[1] = DimRole::In;
  }
  return roles;
}

/// Dimension of `result` that is dimension `dim` of `operand` alone, or -1.
static int64_t followDim(Operation *op, const FactorDims &from, const FactorDims &to, int64_t dim) {
  if (from[dim].size() != 1)
    return -1;
  for (auto [d, factors] : llvm::enumerate(to))
    if (factors == from[dim])
      return static_cast<int64_t>(d);
  return -1;
}

static bool isTransparent(Operation *op) {
  return isa<graph::TransposeOp, graph::CastOp, graph::BroadcastOp, graph::ReshapeOp>(op);
}

namespace {
struct Trace {
  Value value;
  SmallVector<int64_t> dims;  ///< of value, per parameter dimension
  SmallVector<DimRole> roles; ///< found on the way (Gathered)
};
} // namespace

static void visitUse(OpOperand &operand, const Trace &trace, SmallVectorImpl<Trace> &work,
                     SmallVectorImpl<ParameterUse> &uses) {
  Operation *op = operand.getOwner();
  auto gather = dyn_cast<graph::GatherOp>(op);
  bool follows = isTransparent(op) || (gather && operand.getOperandNumber() == 0);
  if (!follows) {
    ParameterUse use{&operand, trace.roles, trace.dims};
    SmallVector<DimRole> roles = rolesIn(operand);
    for (auto [param, dim] : llvm::enumerate(trace.dims))
      if (dim >= 0 && use.roles[param] == DimRole::None)
        use.roles[param] = roles[dim];
    uses.push_back(use);
    return;
  }
  ShardingRule rule = cast<graph::ShardingRuleOpInterface>(op).getShardingRule();
  Trace next{op->getResult(0), trace.dims, trace.roles};
  for (auto [param, dim] : llvm::enumerate(next.dims)) {
    if (dim < 0)
      continue;
    if (gather && dim == static_cast<int64_t>(gather.getAxis()))
      next.roles[param] = DimRole::Gathered;
    dim = followDim(op, rule.operands[operand.getOperandNumber()], rule.results[0], dim);
  }
  if (gather) // an embedding is a use by itself, whatever comes after
    uses.push_back({&operand, next.roles, trace.dims});
  if (!gather || trace.dims.size() >= 3)
    work.push_back(next);
}

SmallVector<ParameterUse> findUses(graph::ParameterOp parameter) {
  SmallVector<ParameterUse> uses;
  Trace start{parameter.getResult(), {}, {}};
  for (int64_t d = 0; d < parameter.getType().getRank(); ++d) {
    start.dims.push_back(d);
    start.roles.push_back(DimRole::None);
  }
  SmallVector<Trace> work{start};
  while (!work.empty()) {
    Trace trace = work.pop_back_val();
    for (OpOperand &operand : trace.value.getUses())
      visitUse(operand, trace, work, uses);
  }
  return uses;
}

std::optional<int64_t> findBlocks(Value value, int64_t dim, bool forward) {
  for (int steps = 0; steps < 8; ++steps) {
    Operation *op = nullptr;
    unsigned index = 0;
    if (forward) {
      for (OpOperand &use :
           value.getUses()) // the first user that says anything about the dimension
        if (auto ruled = dyn_cast<graph::ShardingRuleOpInterface>(use.getOwner())) {
          ShardingRule rule = ruled.getShardingRule();
          const std::vector<int> &factors = rule.operands[use.getOperandNumber()][dim];
          if (factors.size() > 1)
            return rule.factors[factors.front()].size;
          if (!op && use.getOwner()->getNumResults() == 1) {
            op = use.getOwner();
            index = use.getOperandNumber();
          }
        }
    } else {
      op = value.getDefiningOp();
    }
    auto ruled = dyn_cast_or_null<graph::ShardingRuleOpInterface>(op);
    if (!ruled || op->getNumResults() != 1 || (!forward && op->getNumOperands() == 0))
      return std::nullopt;
    ShardingRule rule = ruled.getShardingRule();
    const FactorDims &from = forward ? rule.operands[index] : rule.results[0];
    if (from[dim].size() > 1)
      return rule.factors[from[dim].front()].size;
    const FactorDims &to = forward ? rule.results[0] : rule.operands[0];
    dim = followDim(op, from, to, dim);
    if (dim < 0)
      return std::nullopt;
    value = forward ? op->getResult(0) : op->getOperand(0);
  }
  return std::nullopt;
}

Value linearOutput(Operation *op) {
  Value value = op->getResult(0);
  if (value.hasOneUse())
    if (auto add = dyn_cast<graph::AddOp>(*value.getUsers().begin()))
      for (Value operand : add->getOperands())
        if (auto broadcast = operand.getDefiningOp<graph::BroadcastOp>())
          if (broadcast.getInput().getDefiningOp<graph::ParameterOp>())
            return add.getResult();
  return value;
}

} // namespace shardc
