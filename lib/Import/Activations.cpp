//===- Activations.cpp - Activation functions, spelled out where graph has no op of their own -===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

/// `x` where x is positive, `negative` elsewhere.
static Value positiveOr(NodeContext &n, Value x, Value negative) {
  return n.select(n.compare(Predicate::GT, x, n.splatLike(x, 0)), x, negative);
}

/// alpha * (exp(min(x, 0) / divisor) - 1): the minimum keeps the unused branch finite.
static Value scaledExpm1(NodeContext &n, Value x, double alpha, double divisor) {
  Value negative = n.create<MinOp>(x, n.splatLike(x, 0));
  if (divisor != 1)
    negative = n.binary<DivOp>(negative, divisor);
  Value expm1 = n.binary<SubOp>(n.create<ExpOp>(negative), 1.0);
  return alpha == 1 ? expm1 : n.binary<MulOp>(expm1, alpha);
}

static LogicalResult importRelu(NodeContext &n) { return n.done(n.create<ReluOp>(n.input(0))); }
static LogicalResult importSoftplus(NodeContext &n) {
  return n.done(n.create<SoftplusOp>(n.input(0)));
}

static LogicalResult importGelu(NodeContext &n) {
  StringRef approximate = n.getString("approximate", "none");
  if (approximate == "tanh")
    return n.done(n.create<GeluTanhOp>(n.input(0)));
  if (approximate == "none")
    return n.done(n.create<GeluOp>(n.input(0)));
  return n.error() << "approximate \"" << approximate << "\" is neither none nor tanh";
}

static LogicalResult importSwish(NodeContext &n) {
  double alpha = n.getFloat("alpha", 1);
  if (alpha == 1)
    return n.done(n.create<SiluOp>(n.input(0)));
  Value gate = n.create<SigmoidOp>(n.binary<MulOp>(n.input(0), alpha));
  return n.done(n.create<MulOp>(n.input(0), gate));
}

static LogicalResult importElu(NodeContext &n) {
  Value x = n.input(0);
  return n.done(positiveOr(n, x, scaledExpm1(n, x, n.getFloat("alpha", 1), 1)));
}

static LogicalResult importCelu(NodeContext &n) {
  Value x = n.input(0);
  double alpha = n.getFloat("alpha", 1);
  return n.done(positiveOr(n, x, scaledExpm1(n, x, alpha, alpha)));
}

static LogicalResult importSelu(NodeContext &n) {
  Value x = n.input(0);
  double alpha = n.getFloat("alpha", 1.67326319217681884765625),
         gamma = n.getFloat("gamma", 1.05070102214813232421875);
  return n.done(n.binary<MulOp>(positiveOr(n, x, scaledExpm1(n, x, alpha, 1)), gamma));
}

static LogicalResult importLeakyRelu(NodeContext &n) {
  Value x = n.input(0);
  return n.done(n.select(n.compare(Predicate::GE, x, n.splatLike(x, 0)), x,
                         n.binary<MulOp>(x, n.getFloat("alpha", 0.01))));
}

static LogicalResult importPRelu(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<Value> scaled = n.checkedBinary<MulOp>(x, n.input(1));
  if (failed(scaled))
    return failure();
  return n.done(n.select(n.compare(Predicate::GE, x, n.splatLike(x, 0)), x, *scaled));
}

static LogicalResult importThresholdedRelu(NodeContext &n) {
  Value x = n.input(0);
  Value above = n.compare(Predicate::GT, x, n.splatLike(x, n.getFloat("alpha", 1)));
  return n.done(n.select(above, x, n.splatLike(x, 0)));
}

static Value hardSigmoid(NodeContext &n, Value x, double alpha, double beta) {
  Value line = n.binary<AddOp>(n.binary<MulOp>(x, alpha), beta);
  return n.create<MinOp>(n.create<MaxOp>(line, n.splatLike(x, 0)), n.splatLike(x, 1));
}

static LogicalResult importHardSigmoid(NodeContext &n) {
  return n.done(hardSigmoid(n, n.input(0), n.getFloat("alpha", 0.2), n.getFloat("beta", 0.5)));
}

static LogicalResult importHardSwish(NodeContext &n) {
  return n.done(n.create<MulOp>(n.input(0), hardSigmoid(n, n.input(0), 1.0 / 6, 0.5)));
}

static LogicalResult importMish(NodeContext &n) {
  return n.done(n.create<MulOp>(n.input(0), n.create<TanhOp>(n.create<SoftplusOp>(n.input(0)))));
}

static LogicalResult importSoftsign(NodeContext &n) {
  return n.done(n.create<DivOp>(n.input(0), n.binary<AddOp>(n.create<AbsOp>(n.input(0)), 1.0)));
}

static LogicalResult importShrink(NodeContext &n) {
  Value x = n.input(0), zero = n.splatLike(x, 0);
  double lambda = n.getFloat("lambd", 0.5), bias = n.getFloat("bias", 0);
  Value high =
      n.select(n.compare(Predicate::GT, x, n.splatLike(x, lambda)), n.binary<SubOp>(x, bias), zero);
  return n.done(n.select(n.compare(Predicate::LT, x, n.splatLike(x, -lambda)),
                         n.binary<AddOp>(x, bias), high));
}

/// Inference: nothing is dropped.
static LogicalResult importDropout(NodeContext &n) {
  if (n.input(2)) {
    FailureOr<int64_t> training = n.constantInt(2);
    if (failed(training))
      return failure();
    if (*training)
      return n.error() << "training mode is not supported";
  }
  n.set(0, n.input(0));
  if (n.wants(1))
    n.set(1, n.splat(typeOf(n.input(0)).clone(n.b.getI1Type()), 1));
  return success();
}

void addActivations(OperatorTable &table) {
  table["Relu"] = {importRelu};
  table["Softplus"] = {importSoftplus};
  table["Gelu"] = {importGelu};
  table["Swish"] = {importSwish};
  table["Elu"] = {importElu};
  table["Celu"] = {importCelu};
  table["Selu"] = {importSelu};
  table["LeakyRelu"] = {importLeakyRelu};
  table["PRelu"] = {importPRelu, 2};
  table["ThresholdedRelu"] = {importThresholdedRelu};
  table["HardSigmoid"] = {importHardSigmoid};
  table["HardSwish"] = {importHardSwish};
  table["Mish"] = {importMish};
  table["Softsign"] = {importSoftsign};
  table["Shrink"] = {importShrink};
  table["Dropout"] = {importDropout};
}

} // namespace shardc::importer
