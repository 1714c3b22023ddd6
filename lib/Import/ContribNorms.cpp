//===- ContribNorms.cpp - Norms of onnxruntime's own domain ---------------===//
//
// A norm behind a residual sum, of which both results are used; the sum of a BERT's embeddings and
// its norm.
//
//===----------------------------------------------------------------------===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

/// Scales and shifts are vectors along the last dimension.
static LogicalResult checkVector(NodeContext &n, Value v, Value x, StringRef what) {
  if (!v || shapeOf(v) == shapeOf(x).take_back())
    return success();
  return n.error() << what << " of shape " << shapeText(shapeOf(v))
                   << " does not fit input of shape " << shapeText(shapeOf(x));
}

/// x + v, where v broadcasts to x's shape.
static FailureOr<Value> addTo(NodeContext &n, Value x, Value v, StringRef what) {
  if (!v)
    return x;
  std::optional<Shape> shape = broadcastShapes(shapeOf(x), shapeOf(v));
  if (!shape || *shape != shapeOf(x))
    return n.error() << what << " of shape " << shapeText(shapeOf(v))
                     << " does not broadcast to input of shape " << shapeText(shapeOf(x));
  return n.binary<AddOp>(x, v);
}

/// Outputs 1 and 2 (saved statistics) are onnxruntime's for training; its own kernels leave them
/// out too.
static LogicalResult importSkipNorm(NodeContext &n, Value beta, Value bias, bool isRms) {
  Value x = n.input(0), gamma = n.input(2);
  if (rankOf(x) < 2)
    return n.error() << "input has shape " << shapeText(shapeOf(x)) << ", expected rank 2 or 3";
  FailureOr<Value> skipped = addTo(n, x, n.input(1), "skip");
  if (failed(skipped) || failed(checkVector(n, gamma, x, "gamma")) ||
      failed(checkVector(n, beta, x, "beta")))
    return failure();
  FailureOr<Value> sum = addTo(n, *skipped, bias, "bias");
  if (failed(sum))
    return failure();
  FloatAttr epsilon = n.b.getF64FloatAttr(n.getFloat("epsilon", 1e-12));
  IntegerAttr normDims = n.b.getI64IntegerAttr(1);
  n.set(0, isRms ? Value(n.create<RmsNormOp>(x.getType(), *sum, gamma, epsilon, normDims))
                 : n.create<LayerNormOp>(x.getType(), *sum, gamma, beta, epsilon, normDims));
  n.set(3, *sum);
  return success();
}

static LogicalResult importSkipLayerNorm(NodeContext &n) {
  return importSkipNorm(n, n.input(3), n.input(4), /*isRms=*/false);
}
static LogicalResult importSkipRmsNorm(NodeContext &n) {
  return importSkipNorm(n, Value(), n.input(3), /*isRms=*/true);
}

/// Rows of a table for [batch, sequence] indices.
static FailureOr<Value> lookUp(NodeContext &n, Value table, Value ids, StringRef what) {
  if (failed(n.checkRank(table, 2, what)))
    return failure();
  return n.gather(table, ids, 0);
}

static LogicalResult importEmbedNorm(NodeContext &n) {
  Value ids = n.input(0), segments = n.input(1), word = n.input(2), position = n.input(3),
        segment = n.input(4), mask = n.input(7), positions = n.input(8);
  if (failed(n.checkRank(ids, 2, "input_ids")))
    return failure();
  for (unsigned i : {2, 3, 5, 6})
    if (!n.input(i))
      return n.error() << "needs input " << i;
  if (!segments != !segment)
    return n.error() << "has only one of segment_ids and segment_embedding";
  if (!positions)
    positions = n.iota({1, shapeOf(ids)[1]}, 1, n.b.getI64Type());
  FailureOr<Value> sum = lookUp(n, word, ids, "word_embedding"),
                   place = lookUp(n, position, positions, "position_embedding");
  if (failed(sum) || failed(place))
    return failure();
  sum = addTo(n, *sum, *place, "position_embedding");
  if (succeeded(sum) && segments) {
    FailureOr<Value> kind = lookUp(n, segment, segments, "segment_embedding");
    if (failed(kind))
      return failure();
    sum = addTo(n, *sum, *kind, "segment_embedding");
  }
  if (failed(sum) || failed(checkVector(n, n.input(5), *sum, "gamma")) ||
      failed(checkVector(n, n.input(6), *sum, "beta")))
    return failure();
  n.set(0, n.create<LayerNormOp>(sum->getType(), *sum, n.input(5), n.input(6),
                                 n.b.getF64FloatAttr(n.getFloat("epsilon", 1e-12)),
                                 n.b.getI64IntegerAttr(1)));
  if (n.wants(1)) { // how many words there are: zeros if nothing says it
    Type i32 = n.b.getI32Type();
    auto type = RankedTensorType::get({shapeOf(ids)[0]}, i32);
    if (mask && shapeOf(mask) != shapeOf(ids))
      return n.error() << "mask has shape " << shapeText(shapeOf(mask)) << ", input_ids "
                       << shapeText(shapeOf(ids));
    n.set(1, mask ? n.reduce(Reduction::Sum,
                             n.cast(n.compare(Predicate::EQ, mask, n.splatLike(mask, 1)), i32), {1},
                             false)
                  : n.splat(type, 0));
  }
  n.set(2, *sum);
  return success();
}

void addContribNorms(OperatorTable &table) {
  static const Settings epsilon{{"epsilon"}, {}, {}, {}},
      embed{{"epsilon", "mask_index_type"}, {}, {}, {}},
      rms{{"axis", "epsilon", "stash_type"}, {}, {}, {}};
  auto add = [&](StringRef name, Operator op) { table[operatorKey(kContribDomain, name)] = op; };
  add("SkipLayerNormalization", {importSkipLayerNorm, 3, &epsilon});
  add("SkipSimplifiedLayerNormalization", {importSkipRmsNorm, 3, &epsilon});
  add("EmbedLayerNormalization", {importEmbedNorm, 1, &embed});
  // onnxruntime has it in the standard's domain too, which does not know it.
  add("SimplifiedLayerNormalization", {importRmsNorm, 2, &rms});
  table["SimplifiedLayerNormalization"] = {importRmsNorm, 2, &rms};
}

} // namespace shardc::importer
