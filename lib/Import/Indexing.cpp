//===- Indexing.cpp - Gathers and scatters --------------------------------===//
//
// ONNX counts negative indices from the end, graph does not. Lookups in a weight table stay as they
// are: torch's embedding takes indices from 0 only, and a vocabulary-sharded table needs the plain
// form.
//
//===----------------------------------------------------------------------===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

static LogicalResult importGather(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1);
  FailureOr<int64_t> axis = n.axis(n.getInt("axis", 0), rankOf(data));
  if (failed(axis))
    return failure();
  bool isTable = data.getDefiningOp<ParameterOp>() && rankOf(data) == 2 && *axis == 0;
  if (!isTable)
    indices = n.positiveIndices(indices, shapeOf(data)[*axis]);
  return n.done(n.gather(data, indices, *axis));
}

static LogicalResult importGatherElements(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1);
  FailureOr<int64_t> axis = n.axis(n.getInt("axis", 0), rankOf(data));
  if (failed(axis))
    return failure();
  indices = n.positiveIndices(indices, shapeOf(data)[*axis]);
  return n.done(
      n.create<GatherElementsOp>(typeOf(data).clone(shapeOf(indices)), data, indices, *axis));
}

/// Index tuples: each coordinate counts from the end of its own dimension.
static Value positiveTuples(NodeContext &n, Value indices, ArrayRef<int64_t> sizes) {
  Value safe = n.positiveIndices(indices, 0);
  if (safe == indices)
    return indices;
  Value isNegative = n.compare(Predicate::LT, indices, n.splatLike(indices, 0));
  return n.select(isNegative, n.binary<AddOp>(indices, n.cast(n.ints(sizes), elementOf(indices))),
                  indices);
}

static LogicalResult checkTuples(NodeContext &n, Value data, Value indices, int64_t batch) {
  if (rankOf(indices) < 1 || batch < 0 || batch >= rankOf(indices) || batch > rankOf(data) ||
      batch + shapeOf(indices).back() > rankOf(data))
    return n.error() << "indices of shape " << shapeText(shapeOf(indices)) << " with " << batch
                     << " batch dimensions do not fit data of shape " << shapeText(shapeOf(data));
  return success();
}

static LogicalResult importGatherNd(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1);
  int64_t batch = n.getInt("batch_dims", 0);
  if (failed(checkTuples(n, data, indices, batch)))
    return failure();
  int64_t depth = shapeOf(indices).back();
  indices = positiveTuples(n, indices, shapeOf(data).slice(batch, depth));
  Shape shape(shapeOf(indices).drop_back());
  llvm::append_range(shape, shapeOf(data).drop_front(batch + depth));
  // Tuples of one coordinate along the first dimension are a plain lookup.
  if (depth == 1 && batch == 0)
    return n.done(n.gather(data, n.reshape(indices, shapeOf(indices).drop_back()), 0));
  return n.done(n.create<GatherNdOp>(typeOf(data).clone(shape), data, indices, batch));
}

static FailureOr<Combine> combineOf(NodeContext &n) {
  StringRef name = n.getString("reduction", "none");
  std::optional<Combine> combine = llvm::StringSwitch<std::optional<Combine>>(name)
                                       .Case("none", Combine::Replace)
                                       .Case("add", Combine::Sum)
                                       .Case("mul", Combine::Prod)
                                       .Case("max", Combine::Max)
                                       .Case("min", Combine::Min)
                                       .Default(std::nullopt);
  if (!combine)
    return n.error() << "reduction \"" << name << "\" is not supported";
  return *combine;
}

static LogicalResult importScatterElements(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1), updates = n.input(2);
  FailureOr<int64_t> axis = n.axis(n.getInt("axis", 0), rankOf(data));
  FailureOr<Combine> combine = combineOf(n);
  if (failed(axis) || failed(combine))
    return failure();
  indices = n.positiveIndices(indices, shapeOf(data)[*axis]);
  return n.done(
      n.create<ScatterElementsOp>(data.getType(), data, indices, updates, *axis, *combine));
}

static LogicalResult importScatterNd(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1), updates = n.input(2);
  FailureOr<Combine> combine = combineOf(n);
  if (failed(combine) || failed(checkTuples(n, data, indices, 0)))
    return failure();
  indices = positiveTuples(n, indices, shapeOf(data).take_front(shapeOf(indices).back()));
  return n.done(n.create<ScatterNdOp>(data.getType(), data, indices, updates, *combine));
}

/// The rows whose condition holds; how many is only known if the condition is.
static LogicalResult importCompress(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<Shape> condition = n.constantInts(1);
  if (failed(condition))
    return failure();
  int64_t dim = 0;
  if (n.find("axis")) {
    FailureOr<int64_t> axis = n.axis(n.getInt("axis", 0), rankOf(x));
    if (failed(axis))
      return failure();
    dim = *axis;
  } else {
    x = n.reshape(x, {typeOf(x).getNumElements()});
  }
  if (static_cast<int64_t>(condition->size()) > shapeOf(x)[dim])
    return n.error() << "condition has " << condition->size() << " elements, dimension " << dim
                     << " has size " << shapeOf(x)[dim];
  Shape rows;
  for (auto [k, keep] : llvm::enumerate(*condition))
    if (keep)
      rows.push_back(k);
  return n.done(n.gather(x, n.ints(rows), dim));
}

/// The first lengths[b] steps of each sequence reversed: position t comes from length - 1 - t if t
/// < length.
static LogicalResult importReverseSequence(NodeContext &n) {
  Value x = n.input(0), lengths = n.input(1);
  int64_t time = n.getInt("time_axis", 0), batch = n.getInt("batch_axis", 1);
  if (rankOf(x) < 2 || time + batch != 1 || time * batch != 0)
    return n.error() << "time_axis " << time << " and batch_axis " << batch << " are not 0 and 1";
  if (shapeOf(lengths) != ArrayRef<int64_t>{shapeOf(x)[batch]})
    return n.error() << "sequence_lens has shape " << shapeText(shapeOf(lengths))
                     << ", the batch has size " << shapeOf(x)[batch];
  Shape shape(shapeOf(x));
  Value step = n.iota(shape, time, n.b.getI64Type());
  Value length = n.broadcast(n.cast(lengths, n.b.getI64Type()), {batch}, shape);
  Value mirrored = n.binary<SubOp>(n.create<SubOp>(length, step), 1.0);
  Value source = n.select(n.compare(Predicate::LT, step, length), mirrored, step);
  return n.done(n.create<GatherElementsOp>(x.getType(), x, source, time));
}

/// A cache with `update` written from write_indices[b] on along the axis; circular ones wrap round.
static LogicalResult importTensorScatter(NodeContext &n) {
  Value cache = n.input(0), update = n.input(1), starts = n.input(2);
  int64_t rank = rankOf(cache);
  FailureOr<int64_t> axis = n.axis(n.getInt("axis", -2), rank);
  if (failed(axis) || failed(n.checkRank(update, rank, "update")))
    return failure();
  for (int64_t d = 0; d < rank; ++d)
    if (d == *axis ? shapeOf(update)[d] > shapeOf(cache)[d]
                   : shapeOf(update)[d] != shapeOf(cache)[d])
      return n.error() << "update of shape " << shapeText(shapeOf(update))
                       << " does not fit a cache of shape " << shapeText(shapeOf(cache))
                       << " along dimension " << *axis;
  int64_t size = shapeOf(cache)[*axis], fresh = shapeOf(update)[*axis];
  Type index = n.b.getI64Type();
  // Where in `update` each place of the cache would come from.
  Value source = n.iota(shapeOf(cache), *axis, index);
  if (starts) {
    if (*axis == 0 || shapeOf(starts) != ArrayRef<int64_t>{shapeOf(cache)[0]})
      return n.error() << "write_indices has shape " << shapeText(shapeOf(starts)) << ", the cache "
                       << shapeText(shapeOf(cache));
    source = n.create<SubOp>(source, n.broadcast(n.cast(starts, index), {0}, shapeOf(cache)));
  }
  if (n.getString("mode", "linear") == "circular")
    source = n.binary<ModOp>(source, static_cast<double>(size));
  Value isFresh = n.create<AndOp>(n.compare(Predicate::GE, source, n.splatLike(source, 0)),
                                  n.compare(Predicate::LT, source, n.splatLike(source, fresh)));
  if (fresh == 0)
    return n.done(cache);
  Value safe = n.create<MinOp>(n.create<MaxOp>(source, n.splatLike(source, 0)),
                               n.splatLike(source, fresh - 1));
  Value written = n.create<GatherElementsOp>(cache.getType(), update, safe, *axis);
  return n.done(n.select(isFresh, written, cache));
}

void addIndexing(OperatorTable &table) {
  table["Gather"] = {importGather, 2};
  table["GatherElements"] = {importGatherElements, 2};
  table["GatherND"] = {importGatherNd, 2};
  table["Scatter"] = table["ScatterElements"] = {importScatterElements, 3};
  table["ScatterND"] = {importScatterNd, 3};
  table["TensorScatter"] = {importTensorScatter, 2};
  table["Compress"] = {importCompress, 2};
  table["ReverseSequence"] = {importReverseSequence, 2};
}

} // namespace shardc::importer
