//===- Normalization.cpp - Layer, RMS, batch, group and instance norms ----===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

/// A scale or shift as graph wants it: the shape of the normalised dimensions, the operand's
/// element type.
static FailureOr<Value> normOperand(NodeContext &n, Value v, Value x, int64_t normDims,
                                    StringRef what) {
  if (!v)
    return v;
  ArrayRef<int64_t> shape = shapeOf(x).take_back(normDims);
  std::optional<Shape> common = broadcastShapes(shapeOf(v), shape);
  if (!common || ArrayRef(*common) != shape)
    return n.error() << what << " of shape " << shapeText(shapeOf(v)) << " does not broadcast to "
                     << shapeText(shape);
  return n.broadcastTo(v, shape);
}

/// Mean and 1 / standard deviation over dims, kept as ones, in at least f32.
static std::pair<Value, Value> statistics(NodeContext &n, Value wide, ArrayRef<int64_t> dims,
                                          double epsilon) {
  Value mean = n.mean(wide, dims, true);
  Value centred = n.binary<SubOp>(wide, mean);
  Value variance = n.mean(n.create<MulOp>(centred, centred), dims, true);
  return {mean, n.create<RsqrtOp>(n.binary<AddOp>(variance, epsilon))};
}

static Value widen(NodeContext &n, Value x) {
  return elementOf(x).isF64() ? x : n.cast(x, n.b.getF32Type());
}

static LogicalResult importLayerNorm(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<int64_t> axis = n.axis(n.getInt("axis", -1), rankOf(x));
  if (failed(axis))
    return failure();
  int64_t normDims = rankOf(x) - *axis;
  double epsilon = n.getFloat("epsilon", 1e-5);
  FailureOr<Value> weight = normOperand(n, n.input(1), x, normDims, "scale"),
                   bias = normOperand(n, n.input(2), x, normDims, "bias");
  if (failed(weight) || failed(bias))
    return failure();
  n.set(0, n.create<LayerNormOp>(x.getType(), x, *weight, *bias, n.b.getF64FloatAttr(epsilon),
                                 n.b.getI64IntegerAttr(normDims)));
  if (n.wants(1) || n.wants(2)) {
    auto [mean, scale] = statistics(n, widen(n, x), iotaDims(*axis, rankOf(x)), epsilon);
    n.set(1, mean);
    n.set(2, scale);
  }
  return success();
}

LogicalResult importRmsNorm(NodeContext &n) {
  Value x = n.input(0), scale = n.input(1);
  FailureOr<int64_t> axis = n.axis(n.getInt("axis", -1), rankOf(x));
  if (failed(axis))
    return failure();
  int64_t normDims = rankOf(x) - *axis;
  FailureOr<Value> weight = normOperand(n, scale, x, normDims, "scale");
  if (failed(weight))
    return failure();
  // A scale of another type: normalise first, then scale in that type, which is the result's.
  bool isMixed = elementOf(x) != elementOf(scale);
  Value y = n.create<RmsNormOp>(x.getType(), x, isMixed ? Value() : *weight,
                                n.b.getF64FloatAttr(n.getFloat("epsilon", 1e-5)),
                                n.b.getI64IntegerAttr(normDims));
  if (isMixed)
    y = n.binary<MulOp>(n.cast(y, elementOf(scale)), *weight);
  return n.done(y);
}

/// A vector over channels (dimension 1), widened and broadcast to the operand.
static FailureOr<Value> channelOperand(NodeContext &n, Value v, Value x, StringRef what) {
  if (shapeOf(v) != ArrayRef<int64_t>{shapeOf(x)[1]})
    return n.error() << what << " has shape " << shapeText(shapeOf(v)) << ", the input "
                     << shapeOf(x)[1] << " channels";
  return n.broadcast(n.cast(v, elementOf(x)), {1}, shapeOf(x));
}

static LogicalResult checkChannels(NodeContext &n, Value x) {
  if (rankOf(x) >= 2)
    return success();
  return n.error() << "input of shape " << shapeText(shapeOf(x)) << " has no channels";
}

static LogicalResult importBatchNorm(NodeContext &n) {
  Value x = n.input(0);
  if (failed(checkChannels(n, x)))
    return failure();
  if (n.getInt("training_mode", 0))
    return n.error() << "training mode is not supported";
  Value wide = widen(n, x);
  FailureOr<Value> scale = channelOperand(n, n.input(1), wide, "scale"),
                   shift = channelOperand(n, n.input(2), wide, "B"),
                   mean = channelOperand(n, n.input(3), wide, "mean"),
                   variance = channelOperand(n, n.input(4), wide, "var");
  if (failed(scale) || failed(shift) || failed(mean) || failed(variance))
    return failure();
  Value inverse = n.create<RsqrtOp>(n.binary<AddOp>(*variance, n.getFloat("epsilon", 1e-5)));
  Value normal = n.create<MulOp>(n.create<SubOp>(wide, *mean), inverse);
  return n.done(n.cast(n.create<AddOp>(n.create<MulOp>(normal, *scale), *shift), elementOf(x)));
}

/// Groups of channels normalised together, then scaled: over channels, or over groups (opset below
/// 21).
static LogicalResult importGroups(NodeContext &n, int64_t groups) {
  Value x = n.input(0);
  int64_t channels = shapeOf(x)[1];
  if (groups < 1 || channels % groups)
    return n.error() << groups << " groups do not divide " << channels << " channels";
  Shape grouped(shapeOf(x));
  grouped[1] = groups;
  grouped.insert(grouped.begin() + 2, channels / groups);
  Value wide = n.reshape(widen(n, x), grouped);
  auto [mean, inverse] =
      statistics(n, wide, iotaDims(2, grouped.size()), n.getFloat("epsilon", 1e-5));
  Value normal = n.reshape(n.binary<MulOp>(n.binary<SubOp>(wide, mean), inverse), shapeOf(x));
  auto perChannel = [&](Value v) {
    bool isPerGroup = shapeOf(v) == ArrayRef<int64_t>{groups} && groups != channels;
    return isPerGroup ? n.reshape(n.broadcast(v, {0}, {groups, channels / groups}), {channels}) : v;
  };
  FailureOr<Value> scale = channelOperand(n, perChannel(n.input(1)), normal, "scale"),
                   bias = channelOperand(n, perChannel(n.input(2)), normal, "bias");
  if (failed(scale) || failed(bias))
    return failure();
  return n.done(n.cast(n.create<AddOp>(n.create<MulOp>(normal, *scale), *bias), elementOf(x)));
}

static LogicalResult importGroupNorm(NodeContext &n) {
  return failed(checkChannels(n, n.input(0))) ? failure()
                                              : importGroups(n, n.getInt("num_groups", 0));
}

static LogicalResult importInstanceNorm(NodeContext &n) {
  return failed(checkChannels(n, n.input(0))) ? failure() : importGroups(n, shapeOf(n.input(0))[1]);
}

static LogicalResult importMeanVarianceNorm(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<Shape> dims = n.axes(n.getInts("axes").value_or(Shape{0, 2, 3}), rankOf(x));
  if (failed(dims))
    return failure();
  // As the standard spells it: sqrt(E[x^2] - E[x]^2) + 1e-9 below the line.
  Value mean = n.mean(x, *dims, true);
  Value variance =
      n.create<SubOp>(n.mean(n.create<MulOp>(x, x), *dims, true), n.create<MulOp>(mean, mean));
  Value deviation = n.binary<AddOp>(n.create<SqrtOp>(variance), 1e-9);
  return n.done(n.binary<DivOp>(n.binary<SubOp>(x, mean), deviation));
}

/// x over its L1 or L2 norm along an axis; a zero norm gives zero.
static LogicalResult importLpNorm(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<int64_t> dim = n.axis(n.getInt("axis", -1), rankOf(x));
  int64_t p = n.getInt("p", 2);
  if (failed(dim))
    return failure();
  if (p != 1 && p != 2)
    return n.error() << "p is " << p << ", expected 1 or 2";
  Value power = p == 1 ? n.unary<AbsOp>(x) : Value(n.create<MulOp>(x, x));
  Value norm = n.reduce(Reduction::Sum, power, {*dim}, true);
  if (p == 2)
    norm = n.create<SqrtOp>(norm);
  Value isZero = n.compare(Predicate::EQ, norm, n.splatLike(norm, 0));
  return n.done(n.select(isZero, n.splatLike(x, 0), n.binary<DivOp>(x, norm)));
}

void addNormalization(OperatorTable &table) {
  table["LayerNormalization"] = {importLayerNorm, 2};
  table["RMSNormalization"] = {importRmsNorm, 2};
  table["BatchNormalization"] = {importBatchNorm, 5};
  table["GroupNormalization"] = {importGroupNorm, 3};
  table["InstanceNormalization"] = {importInstanceNorm, 3};
  table["MeanVarianceNormalization"] = {importMeanVarianceNorm};
  table["LpNormalization"] = {importLpNorm};
}

} // namespace shardc::importer
