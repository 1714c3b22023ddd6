//===- Shape.cpp - Views, concatenation, repetition, borders --------------===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

static LogicalResult importReshape(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<Shape> given = n.constantInts(1);
  if (failed(given))
    return failure();
  Shape shape = *given;
  int64_t inferred = -1, known = 1, total = typeOf(x).getNumElements();
  for (auto [d, size] : llvm::enumerate(shape)) {
    if (size == 0 && !n.getInt("allowzero", 0)) {
      if (static_cast<int64_t>(d) >= rankOf(x))
        return n.error() << "dimension " << d << " of shape " << shapeText(*given)
                         << " copies from input shape " << shapeText(shapeOf(x))
                         << ", which has no such dimension";
      size = shapeOf(x)[d];
    }
    if (size < -1 || (size == -1 && inferred >= 0))
      return n.error() << "shape " << shapeText(*given) << " is not a shape";
    if (size == -1)
      inferred = d;
    else if (llvm::MulOverflow(known, size, known))
      return n.error() << "shape " << shapeText(*given) << " is too large";
  }
  if (inferred >= 0 && known != 0 && total % known == 0)
    shape[inferred] = total / known;
  else if (inferred >= 0 || known != total)
    return n.error() << "input of shape " << shapeText(shapeOf(x)) << " has " << total
                     << " elements, shape " << shapeText(*given)
                     << (inferred >= 0 ? " divides them by " : " has ") << known;
  return n.done(n.reshape(x, shape));
}

static LogicalResult importTranspose(NodeContext &n) {
  Value x = n.input(0);
  int64_t rank = rankOf(x);
  Shape permutation = n.getInts("perm").value_or(Shape());
  if (permutation.empty())
    for (int64_t d = rank - 1; d >= 0; --d)
      permutation.push_back(d);
  Shape sorted = permutation;
  llvm::sort(sorted);
  if (sorted != iotaDims(0, rank))
    return n.error() << "perm " << shapeText(permutation) << " is not a permutation of " << rank
                     << " dimensions";
  return n.done(n.transpose(x, permutation));
}

static LogicalResult importSqueeze(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<std::optional<Shape>> given = n.axesOf("axes", 1);
  if (failed(given))
    return failure();
  FailureOr<Shape> dims =
      *given ? n.axes(**given, rankOf(x)) : FailureOr<Shape>(iotaDims(0, rankOf(x)));
  if (failed(dims))
    return failure();
  Shape shape;
  for (auto [d, size] : llvm::enumerate(shapeOf(x))) {
    bool isNamed = llvm::is_contained(*dims, static_cast<int64_t>(d));
    if (isNamed && *given && size != 1)
      return n.error() << "cannot squeeze dimension " << d << " of size " << size;
    if (!isNamed || size != 1)
      shape.push_back(size);
  }
  return n.done(n.reshape(x, shape));
}

static LogicalResult importUnsqueeze(NodeContext &n) {
  FailureOr<std::optional<Shape>> given = n.axesOf("axes", 1);
  if (failed(given))
    return failure();
  if (!*given)
    return n.error() << "has no axes";
  FailureOr<Shape> dims = n.axes(**given, rankOf(n.input(0)) + (*given)->size());
  return failed(dims) ? failure() : n.done(n.insertDims(n.input(0), *dims));
}

static LogicalResult importFlatten(NodeContext &n) {
  Value x = n.input(0);
  int64_t rank = rankOf(x), axis = n.getInt("axis", 1);
  if (axis < -rank || axis > rank)
    return n.error() << "axis " << axis << " is outside the rank " << rank;
  Shape shape{1, 1};
  for (auto [d, size] : llvm::enumerate(shapeOf(x)))
    shape[static_cast<int64_t>(d) >= (axis < 0 ? axis + rank : axis)] *= size;
  return n.done(n.reshape(x, shape));
}

static LogicalResult importExpand(NodeContext &n) {
  FailureOr<Shape> given = n.constantInts(1);
  if (failed(given) || failed(n.countElements(*given)))
    return failure();
  std::optional<Shape> shape = broadcastShapes(shapeOf(n.input(0)), *given);
  if (!shape)
    return n.error() << "input of shape " << shapeText(shapeOf(n.input(0)))
                     << " does not broadcast with " << shapeText(*given);
  return n.done(n.broadcastTo(n.input(0), *shape));
}

static LogicalResult importConcat(NodeContext &n) {
  SmallVector<Value> values = n.allInputs();
  FailureOr<int64_t> dim = n.axis(n.getInt("axis", 0), rankOf(values[0]));
  if (failed(dim))
    return failure();
  for (Value v : values) {
    bool fits = rankOf(v) == rankOf(values[0]);
    for (int64_t d = 0; fits && d < rankOf(v); ++d)
      fits = d == *dim || shapeOf(v)[d] == shapeOf(values[0])[d];
    if (!fits)
      return n.error() << "shapes " << shapeText(shapeOf(values[0])) << " and "
                       << shapeText(shapeOf(v)) << " differ outside dimension " << *dim;
  }
  // An empty part says nothing, and evaluators and kernels need not know of it.
  SmallVector<Value> parts = llvm::to_vector(
      llvm::make_filter_range(values, [&](Value v) { return shapeOf(v)[*dim] != 0; }));
  return n.done(parts.empty() ? values[0] : n.concat(parts, *dim));
}

/// Sizes from input 1 or attribute `split`, or equal parts (the last one smaller).
static FailureOr<Shape> splitSizes(NodeContext &n, int64_t size) {
  FailureOr<std::optional<Shape>> given = n.axesOf("split", 1);
  if (failed(given))
    return failure();
  if (*given) {
    int64_t sum = 0;
    for (int64_t part : **given)
      sum = part < 0 ? -1 : sum + part;
    if (sum != size || (*given)->size() != n.outputs.size())
      return n.error() << "parts " << shapeText(**given) << " do not make up " << n.outputs.size()
                       << " outputs of size " << size;
    return **given;
  }
  int64_t parts = n.getInt("num_outputs", n.outputs.size());
  if (parts < 1 || parts != static_cast<int64_t>(n.outputs.size()))
    return n.error() << "num_outputs is " << parts << ", the node has " << n.outputs.size()
                     << " outputs";
  int64_t each = (size + parts - 1) / parts;
  Shape sizes;
  for (int64_t p = 0; p < parts; ++p)
    sizes.push_back(std::max<int64_t>(0, std::min(each, size - p * each)));
  return sizes;
}

static LogicalResult importSplit(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<int64_t> dim = n.axis(n.getInt("axis", 0), rankOf(x));
  if (failed(dim))
    return failure();
  FailureOr<Shape> sizes = splitSizes(n, shapeOf(x)[*dim]);
  if (failed(sizes))
    return failure();
  int64_t start = 0;
  for (auto [k, size] : llvm::enumerate(*sizes)) {
    if (n.wants(k))
      n.set(k, n.slice(x, *dim, start, size));
    start += size;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Slice
//===----------------------------------------------------------------------===//

namespace {
struct SliceArgs {
  Shape starts, ends, axes, steps;
};
} // namespace

static FailureOr<SliceArgs> sliceArgs(NodeContext &n) {
  SliceArgs args;
  if (n.version < 10) {
    args.starts = n.getInts("starts").value_or(Shape());
    args.ends = n.getInts("ends").value_or(Shape());
    args.axes = n.getInts("axes").value_or(iotaDims(0, args.starts.size()));
  } else {
    FailureOr<Shape> starts = n.constantInts(1), ends = n.constantInts(2);
    FailureOr<Shape> axes = Shape(), steps = Shape();
    if (n.input(3))
      axes = n.constantInts(3);
    if (n.input(4))
      steps = n.constantInts(4);
    if (failed(starts) || failed(ends) || failed(axes) || failed(steps))
      return failure();
    args = {*starts, *ends, n.input(3) ? *axes : iotaDims(0, starts->size()), *steps};
  }
  if (args.steps.empty())
    args.steps.assign(args.starts.size(), 1);
  if (args.ends.size() != args.starts.size() || args.axes.size() != args.starts.size() ||
      args.steps.size() != args.starts.size())
    return n.error() << "starts, ends, axes and steps have " << args.starts.size() << ", "
                     << args.ends.size() << ", " << args.axes.size() << " and " << args.steps.size()
                     << " entries";
  return args;
}

/// One dimension; a negative step reads the slice of the reversed tensor.
static FailureOr<Value> sliceDim(NodeContext &n, Value x, int64_t dim, int64_t start, int64_t end,
                                 int64_t step) {
  int64_t size = shapeOf(x)[dim];
  if (step == 0 || step == std::numeric_limits<int64_t>::min())
    return n.error() << "step " << step << " is not a step";
  auto fromEnd = [&](int64_t at) { return at < 0 ? at + size : at; };
  auto clamp = [](int64_t at, int64_t low, int64_t high) {
    return std::min(std::max(at, low), high);
  };
  if (step < 0) {
    start = clamp(fromEnd(start), -1, size - 1);
    end = clamp(fromEnd(end), -1, size - 1);
    x = n.create<ReverseOp>(x.getType(), x, ArrayRef<int64_t>{dim});
    start = size - 1 - start;
    end = size - 1 - end;
    step = -step;
  } else {
    start = clamp(fromEnd(start), 0, size);
    end = clamp(fromEnd(end), 0, size);
  }
  int64_t count = end > start ? (end - start - 1) / step + 1 : 0;
  // A step that is never taken may be any number.
  return n.slice(x, dim, count ? start : 0, count, count > 1 ? step : 1);
}

static LogicalResult importSlice(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<SliceArgs> args = sliceArgs(n);
  if (failed(args))
    return failure();
  for (size_t k = 0; k < args->starts.size(); ++k) {
    FailureOr<int64_t> dim = n.axis(args->axes[k], rankOf(x));
    if (failed(dim))
      return failure();
    FailureOr<Value> next = sliceDim(n, x, *dim, args->starts[k], args->ends[k], args->steps[k]);
    if (failed(next))
      return failure();
    x = *next;
  }
  return n.done(x);
}

//===----------------------------------------------------------------------===//
// Repetition, borders, blocks
//===----------------------------------------------------------------------===//

/// [a, b] repeated r, s times is [r, a, s, b] with new dimensions broadcast.
static LogicalResult importTile(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<Shape> repeats = n.constantInts(1);
  if (failed(repeats))
    return failure();
  if (static_cast<int64_t>(repeats->size()) != rankOf(x) ||
      llvm::any_of(*repeats, [](int64_t r) { return r < 0; }))
    return n.error() << "repeats " << shapeText(*repeats) << " do not fit rank " << rankOf(x);
  Shape wide, dims, shape;
  for (int64_t d = 0; d < rankOf(x); ++d) {
    int64_t size = shapeOf(x)[d], repeat = (*repeats)[d], product = 0;
    if (llvm::MulOverflow(size, repeat, product))
      return n.error() << "repeats " << shapeText(*repeats) << " are too large";
    if (repeat != 1)
      wide.push_back(repeat);
    dims.push_back(wide.size());
    wide.push_back(size);
    shape.push_back(product);
  }
  return n.done(n.reshape(n.broadcast(x, dims, wide), shape));
}

namespace {
struct PadArgs {
  Shape low, high; ///< per dimension; negative: cut off
};
} // namespace

static FailureOr<PadArgs> padArgs(NodeContext &n) {
  int64_t rank = rankOf(n.input(0));
  FailureOr<std::optional<Shape>> pads = n.axesOf("pads", 1);
  if (failed(pads))
    return failure();
  Shape dims = iotaDims(0, rank);
  if (n.input(3)) {
    FailureOr<Shape> given = n.constantInts(3);
    if (failed(given))
      return failure();
    dims.clear();
    for (int64_t axis : *given) {
      FailureOr<int64_t> dim = n.axis(axis, rank);
      if (failed(dim))
        return failure();
      dims.push_back(*dim);
    }
  }
  Shape values = pads->value_or(Shape());
  if (values.size() != 2 * dims.size())
    return n.error() << "has " << values.size() << " pads for " << dims.size() << " dimensions";
  PadArgs args{Shape(rank, 0), Shape(rank, 0)};
  for (auto [k, dim] : llvm::enumerate(dims)) {
    args.low[dim] = values[k];
    args.high[dim] = values[k + dims.size()];
    int64_t size = shapeOf(n.input(0))[dim];
    constexpr int64_t kMax = int64_t(1) << 40;
    if (std::abs(args.low[dim]) > kMax || std::abs(args.high[dim]) > kMax ||
        size + args.low[dim] + args.high[dim] < 0)
      return n.error() << "pads " << args.low[dim] << " and " << args.high[dim]
                       << " do not fit dimension " << dim << " of size " << size;
  }
  return args;
}

/// Where element `at` of the padded dimension comes from.
static int64_t padSource(StringRef mode, int64_t at, int64_t size) {
  if (mode == "edge")
    return std::min(std::max<int64_t>(at, 0), size - 1);
  if (mode == "wrap")
    return ((at % size) + size) % size;
  int64_t period = std::max<int64_t>(1, 2 * (size - 1)); // reflect
  int64_t folded = ((at % period) + period) % period;
  return folded < size ? folded : period - folded;
}

static LogicalResult importPad(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<PadArgs> args = padArgs(n);
  if (failed(args))
    return failure();
  StringRef mode = n.getString("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap")
    return n.error() << "mode \"" << mode << "\" is not supported";
  if (mode != "constant") {
    for (int64_t d = 0; d < rankOf(x); ++d) {
      int64_t size = shapeOf(x)[d];
      Shape sources;
      for (int64_t at = -args->low[d]; at < size + args->high[d]; ++at)
        sources.push_back(size ? padSource(mode, at, size) : 0);
      if (args->low[d] || args->high[d])
        x = n.gather(x, n.ints(sources), d);
    }
    return n.done(x);
  }
  for (int64_t d = 0; d < rankOf(x); ++d) {
    int64_t cutLow = std::max<int64_t>(0, -args->low[d]),
            cutHigh = std::max<int64_t>(0, -args->high[d]);
    int64_t start = std::min(cutLow, shapeOf(x)[d]);
    x = n.slice(x, d, start, std::max<int64_t>(0, shapeOf(x)[d] - start - cutHigh));
    args->low[d] += cutLow;
    args->high[d] += cutHigh;
  }
  double padding = n.version < 11 ? n.getFloat("value", 0) : 0;
  if (Value value = n.input(2); value && !n.folder.isConstant(value)) {
    if (typeOf(value).getNumElements() != 1)
      return n.error() << "value has shape " << shapeText(shapeOf(value)) << ", expected a scalar";
    Value inside = n.pad(n.splat(typeOf(x).clone(n.b.getI1Type()), 1), args->low, args->high, 0);
    return n.done(n.select(inside, n.pad(x, args->low, args->high, 0), n.reshape(value, {})));
  }
  if (n.input(2)) {
    FailureOr<double> given = n.constantFloat(2);
    if (failed(given))
      return failure();
    padding = *given;
  }
  return n.done(n.pad(x, args->low, args->high, padding));
}

static LogicalResult importDepthToSpace(NodeContext &n) {
  Value x = n.input(0);
  int64_t block = n.getInt("blocksize", 0);
  if (failed(n.checkRank(x, 4, "input")))
    return failure();
  ArrayRef<int64_t> s = shapeOf(x);
  if (block < 1 || block > 1 << 20 || s[1] % (block * block))
    return n.error() << "blocksize " << block << " does not divide " << s[1] << " channels";
  int64_t channels = s[1] / (block * block);
  bool isCrd = n.getString("mode", "DCR") == "CRD";
  Value wide = isCrd ? n.reshape(x, {s[0], channels, block, block, s[2], s[3]})
                     : n.reshape(x, {s[0], block, block, channels, s[2], s[3]});
  Value turned = n.transpose(wide, isCrd ? ArrayRef<int64_t>{0, 1, 4, 2, 5, 3}
                                         : ArrayRef<int64_t>{0, 3, 4, 1, 5, 2});
  return n.done(n.reshape(turned, {s[0], channels, s[2] * block, s[3] * block}));
}

static LogicalResult importSpaceToDepth(NodeContext &n) {
  Value x = n.input(0);
  int64_t block = n.getInt("blocksize", 0);
  if (failed(n.checkRank(x, 4, "input")))
    return failure();
  ArrayRef<int64_t> s = shapeOf(x);
  if (block < 1 || block > 1 << 20 || s[2] % block || s[3] % block)
    return n.error() << "blocksize " << block << " does not divide " << s[2] << " x " << s[3];
  Value wide = n.reshape(x, {s[0], s[1], s[2] / block, block, s[3] / block, block});
  return n.done(n.reshape(n.transpose(wide, {0, 3, 5, 1, 2, 4}),
                          {s[0], s[1] * block * block, s[2] / block, s[3] / block}));
}

void addShape(OperatorTable &table) {
  table["Reshape"] = {importReshape, 2};
  table["Transpose"] = {importTranspose};
  table["Squeeze"] = {importSqueeze};
  table["Unsqueeze"] = {importUnsqueeze};
  table["Flatten"] = {importFlatten};
  table["Expand"] = {importExpand, 2};
  table["Concat"] = {importConcat};
  table["Split"] = {importSplit};
  table["Slice"] = {importSlice};
  table["Tile"] = {importTile, 2};
  table["Pad"] = {importPad};
  table["DepthToSpace"] = {importDepthToSpace};
  table["SpaceToDepth"] = {importSpaceToDepth};
}

} // namespace shardc::importer
