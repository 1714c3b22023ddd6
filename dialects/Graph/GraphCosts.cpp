//===- GraphCosts.cpp - FLOPs and bytes of the ops that are not elementwise -===//

#include "dialects/Graph/GraphDetail.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

static double elements(Value value) {
  return cast<RankedTensorType>(value.getType()).getNumElements();
}

template <typename Op> static OpCost contractionCost(Op op) {
  OpCost cost = graph::detail::elementwiseCost(op, 0);
  llvm::SmallString<16> seen;
  cost.flops = 2;
  EinsumLetters letters = op.getLetters();
  for (char letter : (letters.lhs + letters.rhs).str())
    if (seen.find(letter) == StringRef::npos) {
      seen.push_back(letter);
      cost.flops *= op.getLetterSize(letter);
    }
  return cost;
}
OpCost EinsumOp::getCost() { return contractionCost(*this); }
OpCost ScaledEinsumOp::getCost() { return contractionCost(*this); }

OpCost GroupedMatmulOp::getCost() {
  OpCost cost = graph::detail::elementwiseCost(*this, 2.0 * getInput().getType().getDimSize(1));
  return cost;
}

OpCost GroupedMatmulGradOp::getCost() {
  OpCost cost = graph::detail::elementwiseCost(*this, 0);
  cost.flops = 2.0 * elements(getInput()) * getCotangent().getType().getDimSize(1);
  return cost;
}

OpCost ConvOp::getCost() {
  auto weight = getWeight().getType();
  return graph::detail::elementwiseCost(*this,
                                        2.0 * weight.getNumElements() / weight.getDimSize(0));
}

/// One operation for each element read.
static OpCost perInput(Operation *op, double flops) {
  OpCost cost = graph::detail::elementwiseCost(op, 0);
  cost.flops = flops * elements(op->getOperand(0));
  return cost;
}

OpCost ScatterSumOp::getCost() { return perInput(*this, 1); }
OpCost ReduceOp::getCost() { return perInput(*this, 1); }
OpCost ArgReduceOp::getCost() { return perInput(*this, 1); }
OpCost CumsumOp::getCost() { return perInput(*this, 1); }
OpCost SoftmaxOp::getCost() { return perInput(*this, 12); }
OpCost RmsNormOp::getCost() { return perInput(*this, 4); }
OpCost LayerNormOp::getCost() { return perInput(*this, 8); }
OpCost RopeOp::getCost() { return perInput(*this, 3); }
OpCost SoftmaxCrossEntropyOp::getCost() { return perInput(*this, 10); }

OpCost TopKOp::getCost() { return perInput(*this, getValues().getType().getDimSize(getDim())); }

/// `flops(D, Dv)` for each score that is computed; of a causal square, half of them.
template <typename Op>
static OpCost attentionCost(Op op, llvm::function_ref<double(double, double)> flops) {
  OpCost cost = graph::detail::elementwiseCost(op, 0);
  auto q = op.getQuery().getType(), v = op.getValue().getType();
  double scores = static_cast<double>(q.getNumElements()) / q.getDimSize(3) * v.getDimSize(2);
  cost.flops = scores * flops(q.getDimSize(3), v.getDimSize(3));
  if (op.getCausal() && !op.getWindow() && q.getDimSize(2) == v.getDimSize(2))
    cost.flops /= 2;
  return cost;
}

OpCost AttentionOp::getCost() {
  return attentionCost(*this,
                       [](double dim, double valueDim) { return 2 * dim + 2 * valueDim + 12; });
}

OpCost AttentionGradOp::getCost() { // scores, dP; dquery, dkey, dvalue
  return attentionCost(*this,
                       [](double dim, double valueDim) { return 6 * dim + 4 * valueDim + 18; });
}
