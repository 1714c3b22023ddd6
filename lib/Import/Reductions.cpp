//===- Reductions.cpp - Reductions, scans, softmax ------------------------===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

namespace {
/// What a reduction needs: the operand, sorted dims, and whether they stay as ones.
struct ReduceArgs {
  Value x;
  Shape dims;
  bool keepDims;
};
} // namespace

/// Axes are an attribute before opset 13 (ReduceSum) or 18 (the others) and an input from then on;
/// absent means all, or with `noop_with_empty_axes` none.
static FailureOr<ReduceArgs> reduceArgs(NodeContext &n) {
  ReduceArgs args{n.input(0), {}, n.getInt("keepdims", 1) != 0};
  FailureOr<std::optional<Shape>> given = n.axesOf("axes", 1);
  if (failed(given))
    return failure();
  int64_t rank = rankOf(args.x);
  if (!*given || (*given)->empty()) {
    if (!n.getInt("noop_with_empty_axes", 0))
      args.dims = iotaDims(0, rank);
    return args;
  }
  FailureOr<Shape> dims = n.axes(**given, rank);
  if (failed(dims))
    return failure();
  args.dims = *dims;
  return args;
}

template <Reduction kind> static LogicalResult importReduce(NodeContext &n) {
  FailureOr<ReduceArgs> args = reduceArgs(n);
  if (failed(args))
    return failure();
  // bool: the maximum is or, the minimum is and
  Reduction actual = kind;
  if (elementOf(args->x).isInteger(1) && (kind == Reduction::Max || kind == Reduction::Min))
    actual = kind == Reduction::Max ? Reduction::Or : Reduction::And;
  return n.done(n.reduce(actual, args->x, args->dims, args->keepDims));
}

/// A reduction `after(sum(before(x)))`.
template <Value (*before)(NodeContext &, Value), Value (*after)(NodeContext &, Value)>
static LogicalResult importReduceSumOf(NodeContext &n) {
  FailureOr<ReduceArgs> args = reduceArgs(n);
  if (failed(args))
    return failure();
  return n.done(after(n, n.reduce(Reduction::Sum, before(n, args->x), args->dims, args->keepDims)));
}

static Value same(NodeContext &, Value x) { return x; }
static Value absolute(NodeContext &n, Value x) { return n.create<AbsOp>(x); }
static Value square(NodeContext &n, Value x) { return n.create<MulOp>(x, x); }
static Value root(NodeContext &n, Value x) {
  if (isFloat(x))
    return n.create<SqrtOp>(x);
  return n.cast(n.create<SqrtOp>(n.cast(x, n.b.getF64Type())), elementOf(x));
}
static Value logarithm(NodeContext &n, Value x) { return n.create<LogOp>(x); }

static LogicalResult importReduceMean(NodeContext &n) {
  FailureOr<ReduceArgs> args = reduceArgs(n);
  return failed(args) ? failure() : n.done(n.mean(args->x, args->dims, args->keepDims));
}

/// max + log(sum(exp(x - max))), with an infinite maximum replaced by zero so that no inf - inf
/// arises.
static LogicalResult importReduceLogSumExp(NodeContext &n) {
  FailureOr<ReduceArgs> args = reduceArgs(n);
  if (failed(args))
    return failure();
  Value top = n.reduce(Reduction::Max, args->x, args->dims, /*keepDims=*/true);
  auto mask = n.create<IsInfOp>(typeOf(top).clone(n.b.getI1Type()), top, true, true);
  top = n.select(mask, n.splatLike(top, 0), top);
  Value sum =
      n.reduce(Reduction::Sum, n.create<ExpOp>(n.binary<SubOp>(args->x, top)), args->dims, true);
  Value result = n.create<AddOp>(n.create<LogOp>(sum), top);
  if (args->keepDims)
    return n.done(result);
  Shape shape;
  for (int64_t d = 0; d < rankOf(result); ++d)
    if (!llvm::is_contained(args->dims, d))
      shape.push_back(shapeOf(result)[d]);
  return n.done(n.reshape(result, shape));
}

template <bool largest> static LogicalResult importArgReduce(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<int64_t> dim = n.axis(n.getInt("axis", 0), rankOf(x));
  if (failed(dim))
    return failure();
  Shape shape(shapeOf(x));
  shape.erase(shape.begin() + *dim);
  auto type = RankedTensorType::get(shape, n.b.getI64Type());
  Value result =
      n.create<ArgReduceOp>(type, largest, x, *dim, n.getInt("select_last_index", 0) != 0);
  return n.done(n.getInt("keepdims", 1) ? n.insertDims(result, {*dim}) : result);
}

static LogicalResult importCumSum(NodeContext &n) {
  FailureOr<int64_t> given = n.constantInt(1);
  if (failed(given))
    return failure();
  FailureOr<int64_t> dim = n.axis(*given, rankOf(n.input(0)));
  if (failed(dim))
    return failure();
  return n.done(n.create<CumsumOp>(n.input(0).getType(), n.input(0), *dim,
                                   n.getInt("exclusive", 0) != 0, n.getInt("reverse", 0) != 0));
}

static LogicalResult importTopK(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<int64_t> dim = n.axis(n.getInt("axis", -1), rankOf(x));
  FailureOr<int64_t> k = n.version < 10 ? FailureOr<int64_t>(n.getInt("k", 0)) : n.constantInt(1);
  if (failed(dim) || failed(k))
    return failure();
  Shape shape(shapeOf(x));
  if (*k < 0 || *k > shape[*dim])
    return n.error() << "k " << *k << " exceeds the size " << shape[*dim] << " of dimension "
                     << *dim;
  shape[*dim] = *k;
  auto op = n.create<TopKOp>(typeOf(x).clone(shape), RankedTensorType::get(shape, n.b.getI64Type()),
                             x, *dim, n.getInt("largest", 1) != 0);
  n.set(0, op.getValues());
  n.set(1, op.getIndices());
  return success();
}

//===----------------------------------------------------------------------===//
// Softmax and its relatives
//===----------------------------------------------------------------------===//

/// Before opset 13 they work on the operand flattened to two dimensions at the axis; `body` gets
/// operand and dim.
static LogicalResult importAlongAxis(NodeContext &n,
                                     llvm::function_ref<Value(Value, int64_t)> body) {
  Value x = n.input(0);
  bool flattens = n.version < 13;
  FailureOr<int64_t> dim = n.axis(n.getInt("axis", flattens ? 1 : -1), rankOf(x));
  if (failed(dim))
    return failure();
  if (!flattens || *dim == rankOf(x) - 1)
    return n.done(body(x, *dim));
  int64_t rows = 1, columns = 1;
  for (auto [d, size] : llvm::enumerate(shapeOf(x)))
    (static_cast<int64_t>(d) < *dim ? rows : columns) *= size;
  return n.done(n.reshape(body(n.reshape(x, {rows, columns}), 1), shapeOf(x)));
}

static LogicalResult importSoftmax(NodeContext &n) {
  return importAlongAxis(
      n, [&](Value x, int64_t dim) -> Value { return n.create<SoftmaxOp>(x.getType(), x, dim); });
}

static LogicalResult importLogSoftmax(NodeContext &n) {
  return importAlongAxis(n, [&](Value x, int64_t dim) -> Value {
    Value shifted = n.binary<SubOp>(x, n.reduce(Reduction::Max, x, {dim}, true));
    Value sum = n.reduce(Reduction::Sum, n.create<ExpOp>(shifted), {dim}, true);
    return n.binary<SubOp>(shifted, n.create<LogOp>(sum));
  });
}

/// One at the first maximum.
static LogicalResult importHardmax(NodeContext &n) {
  return importAlongAxis(n, [&](Value x, int64_t dim) -> Value {
    Shape shape(shapeOf(x));
    shape.erase(shape.begin() + dim);
    auto type = RankedTensorType::get(shape, n.b.getI64Type());
    Value at = n.insertDims(n.create<ArgReduceOp>(type, true, x, dim, false), {dim});
    Value isTop = n.compare(Predicate::EQ, n.iota(shapeOf(x), dim, n.b.getI64Type()), at);
    return n.cast(isTop, elementOf(x));
  });
}

void addReductions(OperatorTable &table) {
  table["ReduceSum"] = {importReduce<Reduction::Sum>};
  table["ReduceProd"] = {importReduce<Reduction::Prod>};
  table["ReduceMax"] = {importReduce<Reduction::Max>};
  table["ReduceMin"] = {importReduce<Reduction::Min>};
  table["ReduceMean"] = {importReduceMean};
  table["ReduceL1"] = {importReduceSumOf<absolute, same>};
  table["ReduceL2"] = {importReduceSumOf<square, root>};
  table["ReduceSumSquare"] = {importReduceSumOf<square, same>};
  table["ReduceLogSum"] = {importReduceSumOf<same, logarithm>};
  table["ReduceLogSumExp"] = {importReduceLogSumExp};
  table["ArgMax"] = {importArgReduce<true>};
  table["ArgMin"] = {importArgReduce<false>};
  table["CumSum"] = {importCumSum, 2};
  table["TopK"] = {importTopK};
  table["Softmax"] = {importSoftmax};
  table["LogSoftmax"] = {importLogSoftmax};
  table["Hardmax"] = {importHardmax};
}

} // namespace shardc::importer
