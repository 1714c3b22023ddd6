//===- RowEmitter.cpp - Reductions and normalisations of one row ----------===//
#include "RowEmitter.h"
#include "Reductions.h"
#include "dialects/Graph/ScalarEmit.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

static SmallVector<int64_t> lastDims(int64_t rank, int64_t count) {
  return llvm::to_vector(llvm::seq<int64_t>(rank - count, rank));
}

/// The row space of a row op's input.
static RowSpace spaceOf(Operation *op) {
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
  if (isa<SoftmaxCrossEntropyOp>(op))
    return {shape, {rank - 1}};
  return {shape, lastDims(rank, cast<LayerNormOp>(op).getNormDims())};
}

RowEmitter::RowEmitter(KernelLowering &lowering)
    : lowering(lowering), emitter(lowering.builder, lowering.loc()), e(emitter.e) {
  for (Operation &op : lowering.function.getBody().front().without_terminator())
    if (cast<LoweringOpInterface>(&op).getLoweringClass() == LoweringClass::Row ||
        isa<SoftmaxCrossEntropyOp>(&op))
      rowOps.push_back(&op);
  space.emplace(spaceOf(rowOps.front()));
  rows = space->rows();
  columns = space->columns();
}

/// The split of a full tensor: the row op's own dims where the shape is the same, else the last
/// dims that make a row.
RowSpace RowEmitter::spaceFor(Value full) {
  ArrayRef<int64_t> shape = tensorType(full).getShape();
  if (shape == ArrayRef<int64_t>(space->shape))
    return *space;
  int64_t count = 0, product = 1, rank = shape.size();
  while (count < rank && (product < columns || shape[rank - 1 - count] == 1) && product != columns)
    product *= shape[rank - 1 - count++];
  return {shape, lastDims(rank, count)};
}

Emitter::Values RowEmitter::indicesOf(const RowSpace &space, ArrayRef<Value> columnIndices) {
  Values indices(space.shape.size());
  Values rowIndices = emitter.delinearize(row, space.sizes(space.rowDims));
  for (auto [d, index] : llvm::zip(space.rowDims, rowIndices))
    indices[d] = index;
  for (auto [d, index] : llvm::zip(space.columnDims, columnIndices))
    indices[d] = index;
  return indices;
}

Value RowEmitter::columnOf(const RowSpace &space, ArrayRef<Value> indices) {
  SmallVector<Value> own;
  for (int64_t d : space.columnDims)
    own.push_back(indices[d]);
  return emitter.offset(space.sizes(space.columnDims), own);
}

/// Work to compute one element again, counting a load as one.
double RowEmitter::flops(Value value, int depth) {
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

bool RowEmitter::isWorthKeeping(Value value) {
  if (emitter.isBound(value))
    return false;
  return llvm::is_contained(lowering.results(), value) || flops(value) > 2;
}

/// A pass over the (computed) elements of a row op's input, which keeps them if that is worth it.
Value RowEmitter::inputPass(Value input, Reduction kind, Type type, bool isUnsigned,
                            llvm::function_ref<Value(Value)> term) {
  bool keep = keepsRows && isWorthKeeping(input);
  auto result = llvm::find(lowering.results(), input);
  bool isResult = keep && result != lowering.results().end();
  Type element = tensorType(input).getElementType();
  Value buffer;
  if (isResult)
    buffer = lowering.resultBuffer(body, result - lowering.results().begin());
  else if (keep)
    buffer = newScratchRow(memoryType(element));
  ArrayRef<int64_t> shape = tensorType(input).getShape();
  Value reduced =
      reducePass(input, kind, type, isUnsigned, [&](ArrayRef<Value> indices, Value column) {
        Value x = emitter.element(input, indices);
        if (buffer)
          emitter.store(x, buffer, element, isResult ? emitter.offset(shape, indices) : column);
        return term(x);
      });
  if (isResult) {
    emitter.bindBuffer(input, buffer);
    stored.insert(input);
  } else if (buffer) {
    RowSpace own = spaceFor(input);
    emitter.bind(input, [=](ArrayRef<Value> indices) {
      return emitter.load(buffer, element, columnOf(own, indices));
    });
  }
  return reduced;
}

void RowEmitter::emitReduce(ReduceOp op) {
  Type element = op.getType().getElementType(), type = computeType(element);
  bool isUnsigned = element.isUnsignedInteger() || element.isInteger(1);
  Value result =
      inputPass(op.getInput(), op.getKind(), type, isUnsigned, [](Value x) { return x; });
  bindRowScalar(op.getResult(), emitter.round(op.getType(), result));
}

void RowEmitter::emitSoftmax(SoftmaxOp op) {
  Type type = computeType(op.getType().getElementType());
  Value input = op.getInput();
  Value highest = inputPass(input, Reduction::Max, type, false, [](Value x) { return x; });
  Value kept = keepsRows ? newScratchRow(type) : Value();
  auto power = [=](ArrayRef<Value> indices) -> Value {
    Value shifted = arith::SubFOp::create(e.b, e.loc, emitter.element(input, indices), highest);
    return math::ExpOp::create(e.b, e.loc, shifted);
  };
  Value sum =
      reducePass(input, Reduction::Sum, type, false, [&](ArrayRef<Value> indices, Value column) {
        Value x = power(indices);
        if (kept)
          e.storeScalar(x, kept, column);
        return x;
      });
  Value scale = arith::DivFOp::create(e.b, e.loc, e.scalar(type, 1), sum);
  RowSpace own = spaceFor(input);
  emitter.bind(op.getResult(), [=](ArrayRef<Value> indices) mutable {
    Value x = kept ? e.loadScalar(kept, columnOf(own, indices)) : power(indices);
    return emitter.round(op.getType(), arith::MulFOp::create(e.b, e.loc, x, scale));
  });
}

void RowEmitter::emitRmsNorm(RmsNormOp op) {
  Type type = computeType(op.getType().getElementType());
  Value input = op.getInput();
  Value squares = inputPass(input, Reduction::Sum, type, false,
                            [&](Value x) { return arith::MulFOp::create(e.b, e.loc, x, x); });
  Value mean = arith::MulFOp::create(e.b, e.loc, squares, e.scalar(type, 1.0 / columns));
  Value scale = scalar::rsqrt(
      e.b, e.loc,
      arith::AddFOp::create(e.b, e.loc, mean, e.scalar(type, op.getEpsilon().convertToDouble())));
  emitter.bind(op.getResult(), [=](ArrayRef<Value> indices) mutable {
    Value y = arith::MulFOp::create(e.b, e.loc, emitter.element(input, indices), scale);
    if (op.getWeight())
      y = arith::MulFOp::create(
          e.b, e.loc, y,
          e.convert(emitter.element(op.getWeight(), indices.take_back(op.getNormDims())), type));
    return emitter.round(op.getType(), y);
  });
}

void RowEmitter::emitLayerNorm(LayerNormOp op) {
  Type type = computeType(op.getType().getElementType());
  Value input = op.getInput();
  Value perColumn = e.scalar(type, 1.0 / columns);
  Value sum = inputPass(input, Reduction::Sum, type, false, [](Value x) { return x; });
  Value mean = arith::MulFOp::create(e.b, e.loc, sum, perColumn);
  // Two passes: the difference of large squares would lose the variance.
  Value squares =
      reducePass(input, Reduction::Sum, type, false, [&](ArrayRef<Value> indices, Value) {
        Value x = arith::SubFOp::create(e.b, e.loc, emitter.element(input, indices), mean);
        return arith::MulFOp::create(e.b, e.loc, x, x);
      });
  Value variance = arith::MulFOp::create(e.b, e.loc, squares, perColumn);
  Value scale =
      scalar::rsqrt(e.b, e.loc,
                    arith::AddFOp::create(e.b, e.loc, variance,
                                          e.scalar(type, op.getEpsilon().convertToDouble())));
  emitter.bind(op.getResult(), [=](ArrayRef<Value> indices) mutable {
    Value y = arith::SubFOp::create(e.b, e.loc, emitter.element(input, indices), mean);
    y = arith::MulFOp::create(e.b, e.loc, y, scale);
    ArrayRef<Value> own = indices.take_back(op.getNormDims());
    if (op.getWeight())
      y = arith::MulFOp::create(e.b, e.loc, y,
                                e.convert(emitter.element(op.getWeight(), own), type));
    if (op.getBias())
      y = arith::AddFOp::create(e.b, e.loc, y, e.convert(emitter.element(op.getBias(), own), type));
    return emitter.round(op.getType(), y);
  });
}

/// One loss a row: log of the sum of powers, minus the label's logit.
void RowEmitter::emitCrossEntropy(SoftmaxCrossEntropyOp op) {
  Value logits = op.getLogits();
  Type type = computeType(tensorType(logits).getElementType());
  Value highest = inputPass(logits, Reduction::Max, type, false, [](Value x) { return x; });
  Value sum = reducePass(logits, Reduction::Sum, type, false, [&](ArrayRef<Value> indices, Value) {
    Value shifted = arith::SubFOp::create(e.b, e.loc, emitter.element(logits, indices), highest);
    return math::ExpOp::create(e.b, e.loc, shifted);
  });
  auto labels = op.getLabels().getType();
  Values at = emitter.delinearize(row, labels.getShape());
  Value label = emitter.element(op.getLabels(), at);
  Value ignored = e.equal(label, e.scalar(label.getType(), op.getIgnoreIndex()));
  Value position = e.b.createOrFold<arith::IndexCastOp>(e.loc, e.b.getIndexType(), label);
  Value inside = e.compare(arith::CmpIPredicate::ult, position, e.index(columns));
  // A label outside of the vocabulary is an error of the caller's; reading there must not be one of
  // ours.
  at.push_back(arith::SelectOp::create(e.b, e.loc, inside, position, e.index(0)));
  Value chosen = emitter.element(logits, at);
  Value loss = arith::SubFOp::create(
      e.b, e.loc, arith::AddFOp::create(e.b, e.loc, math::LogOp::create(e.b, e.loc, sum), highest),
      chosen);
  loss = arith::SelectOp::create(e.b, e.loc, inside, loss,
                                 e.scalar(type, std::numeric_limits<double>::quiet_NaN()));
  loss = arith::SelectOp::create(e.b, e.loc, ignored, e.scalar(type, 0), loss);
  bindRowScalar(op.getResult(), e.convert(loss, computeType(op.getType().getElementType())));
}

/// What no pass has written yet: full results of one shape share a pass, row results are one
/// element.
void RowEmitter::emitResults() {
  SmallVector<unsigned> full;
  for (auto [n, result] : llvm::enumerate(lowering.results())) {
    if (stored.contains(result))
      continue;
    auto type = tensorType(result);
    if (type.getNumElements() == rows * columns &&
        !(columns == 1 &&
          isa_and_nonnull<ReduceOp, SoftmaxCrossEntropyOp>(result.getDefiningOp()))) {
      full.push_back(n);
      continue;
    }
    Value scalar = emitter.element(result, emitter.delinearize(row, type.getShape()));
    once([&, n = n] {
      emitter.store(scalar, lowering.resultBuffer(body, n), type.getElementType(), row);
    });
  }
  while (!full.empty()) {
    Value first = lowering.results()[full.front()];
    eachPass(first, [&](ArrayRef<Value> indices, Value) {
      for (unsigned n : full) {
        Value result = lowering.results()[n];
        auto type = tensorType(result);
        if (type.getShape() == tensorType(first).getShape())
          emitter.store(emitter.element(result, indices), lowering.resultBuffer(body, n),
                        type.getElementType(), emitter.offset(type.getShape(), indices));
      }
    });
    llvm::erase_if(full, [&](unsigned n) {
      return tensorType(lowering.results()[n]).getShape() == tensorType(first).getShape();
    });
  }
}

void RowEmitter::emitRow(Value r) {
  row = r;
  for (Operation *op : rowOps) {
    if (auto reduce = dyn_cast<ReduceOp>(op))
      emitReduce(reduce);
    else if (auto softmax = dyn_cast<SoftmaxOp>(op))
      emitSoftmax(softmax);
    else if (auto norm = dyn_cast<RmsNormOp>(op))
      emitRmsNorm(norm);
    else if (auto loss = dyn_cast<SoftmaxCrossEntropyOp>(op))
      emitCrossEntropy(loss);
    else
      emitLayerNorm(cast<LayerNormOp>(op));
  }
  emitResults();
}

} // namespace shardc
