//===- RowKernel.cpp - Reductions and normalisations ----------------------===//
//
// A row kernel holds ops of class Row over the same rows, with element ops before, between and after them. Rows are independent; for
// each row:
//
//   1. For each row op in order: one pass over the row computes the statistics (and what else the op needs). The op's input is kept
//      where computing it again would cost more than reading it: in the result that it is anyway, or in a scratch row.
//   2. From then on elements of the op's result are index lambdas of the statistics and the kept row.
//   3. Results that are still missing are written in a last pass.
//
// Every member's shape is [rows..., columns...] or [rows...], possibly with different leading dimensions of equal product (Fuse sees to
// that); only an op that is alone may reduce dimensions that are not the last ones.
//
//===----------------------------------------------------------------------===//
#include "KernelLowering.h"
#include "Reductions.h"
#include "dialects/Graph/ScalarEmit.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

/// Dimensions of a full tensor that number the rows, and those within one.
struct RowSpace {
  SmallVector<int64_t> shape, rowDims, columnDims;

  RowSpace(ArrayRef<int64_t> shape, ArrayRef<int64_t> columns) : shape(shape), columnDims(columns) {
    for (int64_t d = 0; d < static_cast<int64_t>(shape.size()); ++d)
      if (!llvm::is_contained(columnDims, d))
        rowDims.push_back(d);
  }
  SmallVector<int64_t> sizes(ArrayRef<int64_t> dims) const {
    SmallVector<int64_t> result;
    for (int64_t d : dims)
      result.push_back(shape[d]);
    return result;
  }
  int64_t rows() const { return ShapedType::getNumElements(sizes(rowDims)); }
  int64_t columns() const { return ShapedType::getNumElements(sizes(columnDims)); }
};

SmallVector<int64_t> lastDims(int64_t rank, int64_t count) {
  return llvm::to_vector(llvm::seq<int64_t>(rank - count, rank));
}

/// The row space of a row op's input.
RowSpace spaceOf(Operation *op) {
  ArrayRef<int64_t> shape = tensorType(op->getOperand(0)).getShape();
  int64_t rank = shape.size();
  if (auto reduce = dyn_cast<ReduceOp>(op)) {
    SmallVector<int64_t> dims(reduce.getDims());
    llvm::sort(dims);
    return {shape, dims};
  }
  if (auto softmax = dyn_cast<SoftmaxOp>(op))
    return {shape, {static_cast<int64_t>(softmax.getDim())}};
  if (auto norm = dyn_cast<RmsNormOp>(op))
    return {shape, lastDims(rank, norm.getNormDims())};
  return {shape, lastDims(rank, cast<LayerNormOp>(op).getNormDims())};
}

class RowBuilder {
public:
  explicit RowBuilder(KernelLowering &lowering)
      : lowering(lowering), emitter(lowering.builder, lowering.loc()), e(emitter.e) {
    for (Operation &op : lowering.function.getBody().front().without_terminator())
      if (cast<LoweringOpInterface>(&op).getLoweringClass() == LoweringClass::Row)
        rowOps.push_back(&op);
    space.emplace(spaceOf(rowOps.front()));
    rows = space->rows();
    columns = space->columns();
  }

  Kernel build();

private:
  using Values = Emitter::Values;
  /// Body of a pass: the column as indices and as a number, and the carried values.
  using PassBody = llvm::function_ref<Values(ArrayRef<Value> indices, Value column, ValueRange carried)>;

  RowSpace spaceFor(Value full);
  Values indicesOf(const RowSpace &space, ArrayRef<Value> columnIndices);
  Values pass(Value full, ValueRange init, PassBody body);
  Values passDims(const RowSpace &space, ArrayRef<int64_t> sizes, Values outer, ValueRange init, PassBody body);
  Value columnOf(const RowSpace &space, ArrayRef<Value> indices);

  double flops(Value value, int depth = 0);
  bool isWorthKeeping(Value value);
  Value newScratchRow(Type type);
  Values inputPass(Value input, ValueRange init, llvm::function_ref<Values(Value x, Value column, ValueRange)> body);
  void bindRowScalar(Value result, Value scalar) {
    emitter.bind(result, [=](ArrayRef<Value>) { return scalar; });
  }
  Value accumulate(Value acc, Value x) { return reduceScalars(e, Reduction::Sum, acc, x, /*isUnsigned=*/false); }

  void emitRow(Value r);
  void emitReduce(ReduceOp op);
  void emitSoftmax(SoftmaxOp op);
  void emitRmsNorm(RmsNormOp op);
  void emitLayerNorm(LayerNormOp op);
  void emitResults();
  KernelLowering &lowering;
  BodyEmitter emitter;
  Emitter &e;
  KernelBody body;
  SmallVector<Operation *> rowOps;
  std::optional<RowSpace> space;
  int64_t rows = 0, columns = 0, scratchBytes = 0;
  Value row;
  llvm::DenseSet<Value> stored; ///< results that are written
};

} // namespace

/// The split of a full tensor: the row op's own dims where the shape is the same, else the last dims that make a row.
RowSpace RowBuilder::spaceFor(Value full) {
  ArrayRef<int64_t> shape = tensorType(full).getShape();
  if (shape == ArrayRef<int64_t>(space->shape))
    return *space;
  int64_t count = 0, product = 1, rank = shape.size();
  while (count < rank && (product < columns || shape[rank - 1 - count] == 1) && product != columns)
    product *= shape[rank - 1 - count++];
  return {shape, lastDims(rank, count)};
}

Emitter::Values RowBuilder::indicesOf(const RowSpace &space, ArrayRef<Value> columnIndices) {
  Values indices(space.shape.size());
  Values rowIndices = emitter.delinearize(row, space.sizes(space.rowDims));
  for (auto [d, index] : llvm::zip(space.rowDims, rowIndices))
    indices[d] = index;
  for (auto [d, index] : llvm::zip(space.columnDims, columnIndices))
    indices[d] = index;
  return indices;
}

Value RowBuilder::columnOf(const RowSpace &space, ArrayRef<Value> indices) {
  SmallVector<Value> own;
  for (int64_t d : space.columnDims)
    own.push_back(indices[d]);
  return emitter.offset(space.sizes(space.columnDims), own);
}

/// LLVM would choose how many partial sums a loop has by what else is in it, and a row's statistics would change with what it is fused with.
static void fixLanes(Operation *loop) {
  constexpr int kLanes = 16, kInterleave = 2;
  Builder b(loop->getContext());
  auto vectorize = LLVM::LoopVectorizeAttr::get(b.getContext(), b.getBoolAttr(false), {}, {}, b.getI32IntegerAttr(kLanes), {}, {}, {});
  auto interleave = LLVM::LoopInterleaveAttr::get(b.getContext(), b.getI32IntegerAttr(kInterleave));
  loop->setAttr("loop_annotation", LLVM::LoopAnnotationAttr::get(b.getContext(), {}, vectorize, interleave, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}));
}

Emitter::Values RowBuilder::passDims(const RowSpace &space, ArrayRef<int64_t> sizes, Values outer, ValueRange init, PassBody body) {
  if (sizes.empty()) {
    Values indices = indicesOf(space, outer);
    return body(indices, columnOf(space, indices), init);
  }
  auto next = [&](Value i, ValueRange carried) {
    Values indices = outer;
    indices.push_back(i);
    return passDims(space, sizes.drop_front(), indices, carried, body);
  };
  if (sizes.front() == 1)
    return next(e.index(0), init);
  Values results = e.loop(e.index(0), e.index(sizes.front()), 1, init, next);
  if (!results.empty() && sizes.size() == 1)
    fixLanes(results.front().getDefiningOp());
  return results;
}

Emitter::Values RowBuilder::pass(Value full, ValueRange init, PassBody body) {
  RowSpace own = spaceFor(full);
  indicesOf(own, Values(own.columnDims.size(), e.index(0))); // the row's digits, outside of the loop
  return passDims(own, own.sizes(own.columnDims), {}, init, body);
}

/// Work to compute one element again, counting a load as one.
double RowBuilder::flops(Value value, int depth) {
  if (emitter.isBound(value) || !value.getDefiningOp() || depth > 8)
    return 1;
  Operation *op = value.getDefiningOp();
  if (isa<graph::ConstantOp>(op))
    return 0;
  double cost = isa<GatherOp, GatherNdOp, ConcatOp, PadOp>(op) ? 4 : 0;
  if (auto costs = dyn_cast<CostOpInterface>(op))
    cost += costs.getCost().flops / std::max<double>(1, tensorType(value).getNumElements());
  for (Value operand : op->getOperands())
    cost += flops(operand, depth + 1);
  return cost;
}

bool RowBuilder::isWorthKeeping(Value value) {
  if (emitter.isBound(value))
    return false;
  return llvm::is_contained(lowering.results(), value) || flops(value) > 2;
}

Value RowBuilder::newScratchRow(Type type) {
  int64_t offset = scratchBytes;
  scratchBytes = llvm::alignTo(scratchBytes + columns * elementBytes(type), 64);
  return e.view(body.scratch, offset, type, columns);
}

/// A pass over the (computed) elements of a row op's input, which keeps them if that is worth it.
Emitter::Values RowBuilder::inputPass(Value input, ValueRange init, llvm::function_ref<Values(Value, Value, ValueRange)> body) {
  bool keep = isWorthKeeping(input);
  auto result = llvm::find(lowering.results(), input);
  bool isResult = keep && result != lowering.results().end();
  Type element = tensorType(input).getElementType();
  Value buffer;
  if (isResult)
    buffer = lowering.resultBuffer(this->body, result - lowering.results().begin());
  else if (keep)
    buffer = newScratchRow(memoryType(element));
  ArrayRef<int64_t> shape = tensorType(input).getShape();
  Values carried = pass(input, init, [&](ArrayRef<Value> indices, Value column, ValueRange carried) {
    Value x = emitter.element(input, indices);
    if (keep)
      emitter.store(x, buffer, element, isResult ? emitter.offset(shape, indices) : column);
    return body(x, column, carried);
  });
  if (isResult) {
    emitter.bindBuffer(input, buffer);
    stored.insert(input);
  } else if (keep) {
    RowSpace own = spaceFor(input);
    emitter.bind(input, [=](ArrayRef<Value> indices) { return emitter.load(buffer, element, columnOf(own, indices)); });
  }
  return carried;
}

void RowBuilder::emitReduce(ReduceOp op) {
  Type element = op.getType().getElementType(), type = computeType(element);
  bool isUnsigned = element.isUnsignedInteger() || element.isInteger(1);
  Reduction kind = op.getKind();
  Values result = inputPass(op.getInput(), neutralScalar(e, kind, type, isUnsigned), [&](Value x, Value, ValueRange carried) {
    return Values{reduceScalars(e, kind, carried[0], x, isUnsigned)};
  });
  bindRowScalar(op.getResult(), emitter.round(op.getType(), result[0]));
}

void RowBuilder::emitSoftmax(SoftmaxOp op) {
  Type type = computeType(op.getType().getElementType());
  Value input = op.getInput();
  Value highest = inputPass(input, e.scalar(type, -std::numeric_limits<double>::infinity()), [&](Value x, Value, ValueRange carried) {
    return Values{arith::MaximumFOp::create(e.b, e.loc, carried[0], x)};
  })[0];
  Value kept = newScratchRow(type);
  Value sum = pass(input, e.scalar(type, 0), [&](ArrayRef<Value> indices, Value column, ValueRange carried) {
    Value shifted = arith::SubFOp::create(e.b, e.loc, emitter.element(input, indices), highest);
    Value power = math::ExpOp::create(e.b, e.loc, shifted);
    e.storeScalar(power, kept, column);
    return Values{accumulate(carried[0], power)};
  })[0];
  Value scale = arith::DivFOp::create(e.b, e.loc, e.scalar(type, 1), sum);
  RowSpace own = spaceFor(input);
  emitter.bind(op.getResult(), [=](ArrayRef<Value> indices) mutable {
    Value power = e.loadScalar(kept, columnOf(own, indices));
    return emitter.round(op.getType(), arith::MulFOp::create(e.b, e.loc, power, scale));
  });
}

void RowBuilder::emitRmsNorm(RmsNormOp op) {
  Type type = computeType(op.getType().getElementType());
  Value input = op.getInput();
  Value squares = inputPass(input, e.scalar(type, 0), [&](Value x, Value, ValueRange carried) {
    return Values{accumulate(carried[0], arith::MulFOp::create(e.b, e.loc, x, x))};
  })[0];
  Value mean = arith::MulFOp::create(e.b, e.loc, squares, e.scalar(type, 1.0 / columns));
  Value scale = scalar::rsqrt(e.b, e.loc, arith::AddFOp::create(e.b, e.loc, mean, e.scalar(type, op.getEpsilon().convertToDouble())));
  emitter.bind(op.getResult(), [=](ArrayRef<Value> indices) mutable {
    Value y = arith::MulFOp::create(e.b, e.loc, emitter.element(input, indices), scale);
    if (op.getWeight())
      y = arith::MulFOp::create(e.b, e.loc, y, e.convert(emitter.element(op.getWeight(), indices.take_back(op.getNormDims())), type));
    return emitter.round(op.getType(), y);
  });
}

void RowBuilder::emitLayerNorm(LayerNormOp op) {
  Type type = computeType(op.getType().getElementType());
  Value input = op.getInput();
  Value perColumn = e.scalar(type, 1.0 / columns);
  Value sum = inputPass(input, e.scalar(type, 0), [&](Value x, Value, ValueRange carried) {
    return Values{accumulate(carried[0], x)};
  })[0];
  Value mean = arith::MulFOp::create(e.b, e.loc, sum, perColumn);
  // Two passes: the difference of large squares would lose the variance.
  Value squares = pass(input, e.scalar(type, 0), [&](ArrayRef<Value> indices, Value, ValueRange carried) {
    Value x = arith::SubFOp::create(e.b, e.loc, emitter.element(input, indices), mean);
    return Values{accumulate(carried[0], arith::MulFOp::create(e.b, e.loc, x, x))};
  })[0];
  Value variance = arith::MulFOp::create(e.b, e.loc, squares, perColumn);
  Value scale = scalar::rsqrt(e.b, e.loc, arith::AddFOp::create(e.b, e.loc, variance, e.scalar(type, op.getEpsilon().convertToDouble())));
  emitter.bind(op.getResult(), [=](ArrayRef<Value> indices) mutable {
    Value y = arith::SubFOp::create(e.b, e.loc, emitter.element(input, indices), mean);
    y = arith::MulFOp::create(e.b, e.loc, y, scale);
    ArrayRef<Value> own = indices.take_back(op.getNormDims());
    if (op.getWeight())
      y = arith::MulFOp::create(e.b, e.loc, y, e.convert(emitter.element(op.getWeight(), own), type));
    if (op.getBias())
      y = arith::AddFOp::create(e.b, e.loc, y, e.convert(emitter.element(op.getBias(), own), type));
    return emitter.round(op.getType(), y);
  });
}

/// What no pass has written yet: full results of one shape share a pass, row results are one element.
void RowBuilder::emitResults() {
  SmallVector<unsigned> full;
  for (auto [n, result] : llvm::enumerate(lowering.results())) {
    if (stored.contains(result))
      continue;
    auto type = tensorType(result);
    if (type.getNumElements() == rows * columns && !(columns == 1 && isa_and_nonnull<ReduceOp>(result.getDefiningOp()))) {
      full.push_back(n);
      continue;
    }
    Value scalar = emitter.element(result, emitter.delinearize(row, type.getShape()));
    emitter.store(scalar, lowering.resultBuffer(body, n), type.getElementType(), row);
  }
  while (!full.empty()) {
    Value first = lowering.results()[full.front()];
    pass(first, {}, [&](ArrayRef<Value> indices, Value, ValueRange) {
      for (unsigned n : full) {
        Value result = lowering.results()[n];
        auto type = tensorType(result);
        if (type.getShape() == tensorType(first).getShape())
          emitter.store(emitter.element(result, indices), lowering.resultBuffer(body, n), type.getElementType(),
                        emitter.offset(type.getShape(), indices));
      }
      return Values{};
    });
    llvm::erase_if(full, [&](unsigned n) {
      return tensorType(lowering.results()[n]).getShape() == tensorType(first).getShape();
    });
  }
}

void RowBuilder::emitRow(Value r) {
  row = r;
  for (Operation *op : rowOps) {
    if (auto reduce = dyn_cast<ReduceOp>(op))
      emitReduce(reduce);
    else if (auto softmax = dyn_cast<SoftmaxOp>(op))
      emitSoftmax(softmax);
    else if (auto norm = dyn_cast<RmsNormOp>(op))
      emitRmsNorm(norm);
    else
      emitLayerNorm(cast<LayerNormOp>(op));
  }
  emitResults();
}

Kernel RowBuilder::build() {
  int64_t perTile = std::clamp<int64_t>(kTileElements / std::max<int64_t>(columns, 1), 1, std::max<int64_t>(rows, 1));
  body = lowering.begin(0); // how much scratch it takes is known afterwards
  lowering.bindArguments(emitter, body);
  Value end = e.min(e.mul(body.tileEnd, perTile), e.index(rows));
  e.loop(e.mul(body.tileBegin, perTile), end, 1, [&](Value r) { emitRow(r); });
  body.scratch.setType(MemRefType::get({std::max<int64_t>(scratchBytes, 1)}, e.b.getI8Type()));
  SmallVector<Type> inputs(body.function.getArgumentTypes());
  inputs.back() = body.scratch.getType();
  body.function.setType(e.b.getFunctionType(inputs, {}));
  return {lowering.function.getSymName().str(), static_cast<int64_t>(llvm::divideCeil(rows, perTile)), scratchBytes};
}

KernelResult lowerRowKernel(KernelLowering &lowering) { return RowBuilder(lowering).build(); }

} // namespace shardc
