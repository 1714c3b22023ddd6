//===- Losses.cpp - Cross entropy and negative log likelihood -------------===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

namespace {
/// Loss per position and what each position weighs.
struct Positions {
  Value loss;   ///< shape of the labels; zero where ignored
  Value weight; ///< the same shape; null: all one
};
} // namespace

/// Dimension 1 (classes) last.
static Value classesLast(NodeContext &n, Value x) {
  Shape permutation = iotaDims(0, rankOf(x));
  permutation.erase(permutation.begin() + 1);
  permutation.push_back(1);
  return n.transpose(x, permutation);
}

static LogicalResult checkLabels(NodeContext &n, Value scores, Value labels) {
  Shape shape(shapeOf(scores));
  if (shape.size() >= 2)
    shape.erase(shape.begin() + 1);
  if (rankOf(scores) >= 2 && ArrayRef(shape) == shapeOf(labels))
    return success();
  return n.error() << "labels of shape " << shapeText(shapeOf(labels))
                   << " do not fit scores of shape " << shapeText(shapeOf(scores));
}

/// What each position counts in a mean: its class's weight, zero where ignored. Null if all count
/// the same.
static FailureOr<Value> positionWeights(NodeContext &n, Value labels, Value classes, Type element) {
  bool hasIgnored = n.find("ignore_index") != nullptr;
  if (!classes && !hasIgnored)
    return Value();
  auto type = typeOf(labels).clone(element);
  Value weight = n.splat(type, 1);
  if (classes) {
    if (failed(n.checkRank(classes, 1, "weights")))
      return failure();
    weight = n.gather(classes, labels, 0); // out of range (ignored): zero
  }
  if (!hasIgnored)
    return weight;
  Value isCounted =
      n.compare(Predicate::NE, labels, n.splatLike(labels, n.getInt("ignore_index", 0)));
  return n.select(isCounted, weight, n.splat(type, 0));
}

static LogicalResult reduceLoss(NodeContext &n, Positions p) {
  StringRef reduction = n.getString("reduction", "mean");
  Value loss = p.weight ? n.binary<MulOp>(p.loss, p.weight) : p.loss;
  if (reduction == "none")
    return n.done(loss);
  Shape all = iotaDims(0, rankOf(loss));
  if (reduction == "sum")
    return n.done(n.reduce(Reduction::Sum, loss, all, false));
  if (reduction != "mean")
    return n.error() << "reduction \"" << reduction << "\" is not supported";
  if (!p.weight)
    return n.done(n.mean(loss, all, false));
  return n.done(n.create<DivOp>(n.reduce(Reduction::Sum, loss, all, false),
                                n.reduce(Reduction::Sum, p.weight, all, false)));
}

static LogicalResult importCrossEntropy(NodeContext &n) {
  Value scores = n.input(0), labels = n.input(1);
  if (failed(checkLabels(n, scores, labels)))
    return failure();
  Type element = elementOf(scores);
  FailureOr<Value> weight = positionWeights(n, labels, n.input(2), element);
  if (failed(weight))
    return failure();
  auto type = typeOf(labels).clone(element.isF64() ? element : Type(n.b.getF32Type()));
  // Without ignore_index no label is special: the smallest number is none.
  int64_t ignored =
      n.find("ignore_index") ? n.getInt("ignore_index", 0) : std::numeric_limits<int64_t>::min();
  Value loss = n.create<SoftmaxCrossEntropyOp>(type, classesLast(n, scores), labels,
                                               n.b.getI64IntegerAttr(ignored));
  if (failed(reduceLoss(n, {n.cast(loss, element), *weight})))
    return failure();
  if (!n.wants(1))
    return success();
  Value shifted = n.binary<SubOp>(scores, n.reduce(Reduction::Max, scores, {1}, true));
  Value sum = n.reduce(Reduction::Sum, n.create<ExpOp>(shifted), {1}, true);
  n.set(1, n.binary<SubOp>(shifted, n.create<LogOp>(sum)));
  return success();
}

static LogicalResult importNegativeLogLikelihood(NodeContext &n) {
  Value scores = n.input(0), labels = n.input(1);
  if (failed(checkLabels(n, scores, labels)))
    return failure();
  FailureOr<Value> weight = positionWeights(n, labels, n.input(2), elementOf(scores));
  if (failed(weight))
    return failure();
  // An ignored label may be no class at all; its position weighs nothing.
  Value safe = labels;
  if (n.find("ignore_index")) {
    Value isCounted =
        n.compare(Predicate::NE, labels, n.splatLike(labels, n.getInt("ignore_index", 0)));
    safe = n.select(isCounted, labels, n.splatLike(labels, 0));
  }
  Value index = n.insertDims(safe, {1});
  Value picked = n.create<GatherElementsOp>(typeOf(scores).clone(shapeOf(index)), scores, index, 1);
  return reduceLoss(n, {n.create<NegOp>(n.reshape(picked, shapeOf(labels))), *weight});
}

void addLosses(OperatorTable &table) {
  table["SoftmaxCrossEntropyLoss"] = {importCrossEntropy, 2};
  table["NegativeLogLikelihoodLoss"] = {importNegativeLogLikelihood, 2};
}

} // namespace shardc::importer
