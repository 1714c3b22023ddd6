//===- ContribBasics.cpp - Activations and products of onnxruntime's own domain -===//
//
// onnxruntime's optimizer writes these for what a model spells out: activations with the bias
// before them, products with a transpose or a factor.
//
//===----------------------------------------------------------------------===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

/// x, or x + input 1 if there is one: a bias along the last dimension.
static FailureOr<Value> withBias(NodeContext &n) {
  Value x = n.input(0), bias = n.input(1);
  if (!bias)
    return x;
  if (rankOf(x) < 1 || shapeOf(bias) != shapeOf(x).take_back())
    return n.error() << "bias of shape " << shapeText(shapeOf(bias))
                     << " does not fit input of shape " << shapeText(shapeOf(x));
  return n.binary<AddOp>(x, bias);
}

template <typename Op> static LogicalResult importBiasActivation(NodeContext &n) {
  FailureOr<Value> x = withBias(n);
  if (failed(x))
    return failure();
  return n.done(n.create<Op>(*x));
}

static LogicalResult importQuickGelu(NodeContext &n) {
  Value x = n.input(0);
  double alpha = n.getFloat("alpha", 1.702);
  if (alpha == 1) // what onnxruntime makes of a SiLU
    return n.done(n.create<SiluOp>(x));
  Value gate = n.create<SigmoidOp>(n.binary<MulOp>(x, alpha));
  return n.done(n.create<MulOp>(x, gate));
}

static LogicalResult importFusedGemm(NodeContext &n) {
  if (failed(importGemm(n)))
    return failure();
  Value y = n.outputs[0].value;
  StringRef activation = n.getString("activation", "");
  if (activation == "Relu")
    return n.done(n.create<ReluOp>(y));
  if (activation == "Sigmoid")
    return n.done(n.create<SigmoidOp>(y));
  if (activation == "Tanh")
    return n.done(n.create<TanhOp>(y));
  if (activation == "LeakyRelu")
    return n.done(n.select(n.compare(Predicate::GE, y, n.splatLike(y, 0)), y,
                           n.binary<MulOp>(y, n.getFloat("activation_alpha", 0.01))));
  return n.error() << "activation \"" << activation << "\" is not supported";
}

/// The operand with the permutations that transBatch (dimension 0 behind the batch dimensions) and
/// trans (the last two) stand for, in this order.
static Value transposed(NodeContext &n, Value v, bool batch, bool last) {
  Shape permutation = iotaDims(0, rankOf(v));
  if (batch) // [m, b..., k] is read as [b..., m, k]
    std::rotate(permutation.begin(), permutation.begin() + 1, permutation.end() - 1);
  if (last)
    std::swap(permutation[rankOf(v) - 1], permutation[rankOf(v) - 2]);
  return n.transpose(v, permutation);
}

static LogicalResult importFusedMatMul(NodeContext &n) {
  auto operand = [&](unsigned i, StringRef side) -> FailureOr<Value> {
    Value v = n.input(i);
    bool last = n.getInt(("trans" + side).str(), 0) != 0,
         batch = n.getInt(("transBatch" + side).str(), 0) != 0;
    // One dimension has nothing to be transposed.
    if (rankOf(v) < 1 || (batch && rankOf(v) < 3) || rankOf(v) > kMaxProductRank)
      return n.error() << "operand " << side << " of shape " << shapeText(shapeOf(v)) << " has "
                       << rankOf(v) << " dimensions";
    return rankOf(v) == 1 ? v : transposed(n, v, batch, last);
  };
  FailureOr<Value> a = operand(0, "A"), b = operand(1, "B");
  if (failed(a) || failed(b))
    return failure();
  int64_t innerA = shapeOf(*a).back(), rankB = rankOf(*b),
          innerB = rankB == 1 ? shapeOf(*b)[0] : shapeOf(*b)[rankB - 2];
  if (innerA != innerB)
    return n.error() << "A contracts size " << innerA << ", B size " << innerB;
  auto batchOf = [](Value v) { return shapeOf(v).drop_back(std::min<int64_t>(rankOf(v), 2)); };
  if (!broadcastShapes(batchOf(*a), batchOf(*b)))
    return n.error() << "batch dimensions of shapes " << shapeText(shapeOf(*a)) << " and "
                     << shapeText(shapeOf(*b)) << " do not broadcast together";
  Value y = n.matmul(*a, *b);
  double alpha = n.getFloat("alpha", 1);
  return n.done(alpha == 1 ? y : n.binary<MulOp>(y, alpha));
}

void addContribBasics(OperatorTable &table) {
  static const Settings none, alpha{{"alpha"}, {}, {}, {}},
      product{{"alpha", "transA", "transB", "transBatchA", "transBatchB"}, {}, {}, {}},
      gemm{{"alpha", "beta", "transA", "transB", "activation", "activation_alpha"},
           {},
           {"activation"},
           {}};
  auto add = [&](StringRef name, Operator op) { table[operatorKey(kContribDomain, name)] = op; };
  add("Gelu", {importBiasActivation<GeluOp>, 1, &none});
  add("BiasGelu", {importBiasActivation<GeluOp>, 2, &none});
  add("FastGelu", {importBiasActivation<GeluTanhOp>, 1, &none});
  add("QuickGelu", {importQuickGelu, 1, &alpha});
  add("FusedMatMul", {importFusedMatMul, 2, &product});
  add("FusedGemm", {importFusedGemm, 2, &gemm});
  add("TransposeMatMul", {importFusedMatMul, 2, &product});
}

} // namespace shardc::importer
