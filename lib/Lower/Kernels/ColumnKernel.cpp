//===- ColumnKernel.cpp - Reductions that keep the last dimension ---------===//
//
// The gradient of a bias or of a norm's weight: sums over all tokens, for each feature. A tile has
// a block of neighbouring results. It goes through the reduced elements in memory order, and adds a
// piece of each to a block of sums, which stays in cache. Sums of a few elements are made first and
// then added up, so that rounding errors do not grow with the number of tokens:
//
//     for i in reduced by 64: part = 0; for j in i .. i + 64: for c in block: part[c] += x[j, c];
//     sums += part
//
// A result's order of summation does not depend on the number of threads. Elementwise ops behind it
// are done on each sum (a gradient that is widened, or added to what is there).
//
//===----------------------------------------------------------------------===//
#include "KernelLowering.h"
#include "Reductions.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {

/// Results of a tile, and elements of a partial sum.
static constexpr int64_t kBlock = 64, kDepth = 64;

int64_t lastDim(ArrayRef<int64_t> shape) {
  int64_t dim = static_cast<int64_t>(shape.size()) - 1;
  while (dim >= 0 && shape[dim] == 1)
    --dim;
  return dim;
}

bool isColumnReduction(Operation *op) {
  auto reduce = dyn_cast<ReduceOp>(op);
  if (!reduce ||
      reduce.getType().getElementType().isInteger(1)) // bits have no accumulator in memory
    return false;
  int64_t last = lastDim(reduce.getInput().getType().getShape());
  return last >= 0 && !reduce.getDims().empty() && !llvm::is_contained(reduce.getDims(), last);
}

namespace {

class ColumnBuilder {
public:
  ColumnBuilder(KernelLowering &lowering, ReduceOp op)
      : lowering(lowering), op(op), emitter(lowering.builder, lowering.loc()), e(emitter.e),
        shape(op.getInput().getType().getShape()), last(lastDim(shape)) {
    for (int64_t d = 0, rank = shape.size(); d < rank; ++d)
      if (llvm::is_contained(op.getDims(), d))
        reduced.push_back(d);
      else if (d < last)
        outer.push_back(d);
  }
  Kernel build();

private:
  using Values = Emitter::Values;

  int64_t count(ArrayRef<int64_t> dims) const {
    int64_t product = 1;
    for (int64_t d : dims)
      product *= shape[d];
    return product;
  }
  void emitBlock(Value item);
  void forReduced(ArrayRef<int64_t> dims, llvm::function_ref<void()> inner);

  KernelLowering &lowering;
  ReduceOp op;
  BodyEmitter emitter;
  Emitter &e;
  ArrayRef<int64_t> shape;
  int64_t last;
  SmallVector<int64_t> outer,
      reduced; ///< kept dimensions before the last, and those that disappear
  KernelBody body;
  Value sums, part;
  Values at; ///< indices of the current element
};

} // namespace

void ColumnBuilder::forReduced(ArrayRef<int64_t> dims, llvm::function_ref<void()> inner) {
  if (dims.empty())
    return inner();
  e.loop(e.index(0), e.index(shape[dims.front()]), 1, [&](Value i) {
    at[dims.front()] = i;
    forReduced(dims.drop_front(), inner);
  });
}

void ColumnBuilder::emitBlock(Value item) {
  auto type = op.getType();
  Type element = type.getElementType(), computed = computeType(element);
  bool isUnsigned = element.isUnsignedInteger();
  int64_t blocks = llvm::divideCeil(shape[last], kBlock);
  SmallVector<int64_t> outerSizes;
  for (int64_t d : outer)
    outerSizes.push_back(shape[d]);
  Values outerIndices = emitter.delinearize(e.div(item, blocks), outerSizes);
  Value begin = e.mul(e.rem(item, blocks), kBlock);
  Value size = e.min(e.sub(e.index(shape[last]), begin), e.index(kBlock));
  at.assign(shape.size(), e.index(0));
  for (auto [d, index] : llvm::zip(outer, outerIndices))
    at[d] = index;

  auto forBlock = [&](llvm::function_ref<void(Value)> each) { e.loop(e.index(0), size, 1, each); };
  auto add = [&](Value x, Value to, Value c) {
    e.storeScalar(reduceScalars(e, op.getKind(), e.loadScalar(to, c), x, isUnsigned), to, c);
  };
  Value neutral = neutralScalar(e, op.getKind(), computed, isUnsigned),
        depth = e.index(shape[reduced.back()]);
  forBlock([&](Value c) { e.storeScalar(neutral, sums, c); });
  forReduced(ArrayRef(reduced).drop_back(), [&] {
    e.loop(e.index(0), depth, kDepth, [&](Value first) {
      forBlock([&](Value c) { e.storeScalar(neutral, part, c); });
      e.loop(first, e.min(e.add(first, kDepth), depth), 1, [&](Value i) {
        at[reduced.back()] = i;
        forBlock([&](Value c) {
          at[last] = e.add(begin, c);
          add(emitter.element(op.getInput(), at), part, c);
        });
      });
      forBlock([&](Value c) { add(e.loadScalar(part, c), sums, c); });
    });
  });
  forBlock([&](Value c) {
    at[last] = e.add(begin, c);
    Values kept;
    for (auto [d, index] : llvm::enumerate(at))
      if (!llvm::is_contained(reduced, static_cast<int64_t>(d)))
        kept.push_back(index);
    Value sum = emitter.round(type, e.loadScalar(sums, c)), result = lowering.results()[0];
    emitter.bind(op.getResult(), [=](ArrayRef<Value>) { return sum; });
    emitter.store(emitter.element(result, kept), lowering.resultBuffer(body, 0),
                  tensorType(result).getElementType(), emitter.offset(type.getShape(), kept));
  });
}

Kernel ColumnBuilder::build() {
  Type computed = computeType(op.getType().getElementType());
  int64_t rowBytes = kBlock * elementBytes(computed), scratchBytes = 2 * rowBytes;
  body = lowering.begin(scratchBytes);
  lowering.bindArguments(emitter, body);
  sums = e.view(body.scratch, 0, computed, kBlock);
  part = e.view(body.scratch, rowBytes, computed, kBlock);
  int64_t items = count(outer) * llvm::divideCeil(shape[last], kBlock),
          work = count(reduced) * std::min(shape[last], kBlock);
  Kernel kernel = lowering.forEach(e, body, items, work, [&](Value item) { emitBlock(item); });
  kernel.scratchBytes = scratchBytes;
  return kernel;
}

KernelResult lowerColumnKernel(KernelLowering &lowering) {
  for (auto op : lowering.function.getOps<ReduceOp>())
    return ColumnBuilder(lowering, op).build();
  return failure();
}

} // namespace shardc
