//===- ScatterSumKernel.cpp - Sums of slices into rows --------------------===//
//
// The gradient of a lookup: result row i is the sum of the updates whose index is i. Who owns an
// element of the result looks for its updates in their order, so that every sum has one order
// whatever the threads.
//
// A tile owns rows, and sums of 16-bit floats are f32 in scratch until they are whole: a frequent
// word's would stop growing.
//
//===----------------------------------------------------------------------===//
#include "KernelLowering.h"
#include "Reductions.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

class ScatterSumBuilder {
public:
  ScatterSumBuilder(CpuLowering &lowering, ScatterSumOp op)
      : lowering(lowering), op(op), emitter(lowering.builder, lowering.loc()), e(emitter.e),
        body(lowering.begin(0)), element(op.getType().getElementType()),
        computed(computeType(element)), size(op.getType().getDimSize(op.getAxis())),
        count(op.getIndices().getType().getNumElements()) {
    ArrayRef<int64_t> shape = op.getType().getShape();
    outer = ShapedType::getNumElements(shape.take_front(op.getAxis()));
    inner = ShapedType::getNumElements(shape.drop_front(op.getAxis() + 1));
    lowering.bindArguments(emitter, body);
    updates = body.buffers[cast<BlockArgument>(op.getUpdates()).getArgNumber()];
    result = lowering.resultBuffer(body, 0);
  }

  Kernel build();

private:
  Kernel byRows(int64_t blockRows, Value sums, bool inPlace);
  Value rowOf(Value n);
  void add(Value sums, Type type, Value at, Value from);

  CpuLowering &lowering;
  ScatterSumOp op;
  BodyEmitter emitter;
  Emitter &e;
  KernelBody body;
  Type element, computed;
  int64_t size, count, outer, inner;
  Value updates, result;
};

} // namespace

/// The row of the n-th update; beyond the result for one that is dropped.
Value ScatterSumBuilder::rowOf(Value n) {
  Value row = emitter.element(op.getIndices(),
                              emitter.delinearize(n, op.getIndices().getType().getShape()));
  return e.b.createOrFold<arith::IndexCastOp>(e.loc, e.b.getIndexType(), row);
}

void ScatterSumBuilder::add(Value sums, Type type, Value at, Value from) {
  Value old = emitter.load(sums, type, at), update = emitter.load(updates, element, from);
  emitter.store(combineScalars(e, Combine::Sum, old, update, element), sums, type, at);
}

Kernel ScatterSumBuilder::byRows(int64_t blockRows, Value sums, bool inPlace) {
  int64_t blocks = llvm::divideCeil(size, blockRows);
  Type type = inPlace ? element : computed;
  return lowering.forEach(e, body, outer * blocks, blockRows * inner + count, [&](Value item) {
    Value o = e.div(item, blocks), first = e.mul(e.rem(item, blocks), blockRows);
    Value rows = e.min(e.index(blockRows), e.sub(e.index(size), first));
    Value begin = e.mul(e.add(e.mul(o, size), first), inner), elements = e.mul(rows, inner);
    Value base = inPlace ? begin : e.index(0), zero = e.scalar(computed, 0);
    e.loop(e.index(0), elements, 1,
           [&](Value i) { emitter.store(zero, sums, type, e.add(base, i)); });
    e.loop(e.index(0), e.index(count), 1, [&](Value n) {
      Value row = e.sub(rowOf(n), first);
      e.ifThen(e.compare(arith::CmpIPredicate::ult, row, rows), [&] {
        Value from = e.mul(e.add(e.mul(o, count), n), inner);
        Value to = e.add(base, e.mul(row, inner));
        e.loop(e.index(0), e.index(inner), 1,
               [&](Value c) { add(sums, type, e.add(to, c), e.add(from, c)); });
      });
    });
    if (!inPlace)
      e.loop(e.index(0), elements, 1, [&](Value i) {
        emitter.store(emitter.load(sums, computed, i), result, element, e.add(begin, i));
      });
  });
}

Kernel ScatterSumBuilder::build() {
  if (outer * size * inner == 0)
    return lowering.forEach(e, body, 0, 1, [](Value) {});
  constexpr int64_t kBlockElements = 16384; // stay in cache while updates are added
  int64_t blockRows = std::clamp<int64_t>(kBlockElements / inner, 1, size);
  bool inPlace = !isa<FloatType>(element) || element == computed;
  int64_t scratchBytes = inPlace ? 0 : blockRows * inner * elementBytes(computed);
  CpuLowering::setScratch(body, scratchBytes);
  Value sums = inPlace ? result : e.view(body.scratch, 0, computed, blockRows * inner);
  Kernel kernel = byRows(blockRows, sums, inPlace);
  kernel.scratchBytes = scratchBytes;
  return kernel;
}

KernelResult lowerScatterSum(CpuLowering &lowering, ScatterSumOp op) {
  if (op != &lowering.function.getBody().front().front() ||
      op->getNextNode() != lowering.terminator())
    return op->emitOpError() << "is in a kernel with other ops, it has to be alone";
  return ScatterSumBuilder(lowering, op).build();
}

} // namespace shardc
