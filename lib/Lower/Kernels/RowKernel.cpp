//===- RowKernel.cpp - Row kernels of CPUs --------------------------------===//
//
// A tile is some rows, a pass a loop over the columns (RowEmitter.h). A row's sum has 32 partial
// sums, of every 32nd column, that are added up at the end: the order does not depend on what the
// op is fused with, or a recomputed value would differ from the saved one, and each step on all of
// them is vector code, whatever LLVM thinks of the loop around.
//
//===----------------------------------------------------------------------===//
#include "Reductions.h"
#include "RowEmitter.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

class RowBuilder : public RowEmitter {
public:
  using RowEmitter::RowEmitter;
  Kernel build();

private:
  using PassBody = llvm::function_ref<void(ArrayRef<Value> indices, Value column)>;
  /// Loops over the innermost of the column dimensions, which has this size.
  using InnerLoop = llvm::function_ref<void(int64_t size, llvm::function_ref<void(Value)> body)>;

  Value reducePass(Value full, Reduction kind, Type type, bool isUnsigned,
                   llvm::function_ref<Value(ArrayRef<Value>, Value)> term) override;
  void eachPass(Value full, PassBody body) override;
  Value newScratchRow(Type type) override { return newScratch(type, columns); }
  Value newScratch(Type type, int64_t count);
  void forColumns(Value full, InnerLoop loop, PassBody body);

  int64_t scratchBytes = 0;
};

} // namespace

/// The innermost of the column dimensions that is more than one.
static size_t innerColumn(ArrayRef<int64_t> sizes) {
  size_t inner = sizes.empty() ? 0 : sizes.size() - 1;
  while (inner > 0 && sizes[inner] == 1)
    --inner;
  return inner;
}

void RowBuilder::forColumns(Value full, InnerLoop loop, PassBody body) {
  RowSpace own = spaceFor(full);
  indicesOf(own,
            Values(own.columnDims.size(), e.index(0))); // the row's digits, outside of the loop
  SmallVector<int64_t> sizes = own.sizes(own.columnDims);
  size_t inner = innerColumn(sizes);
  Values at(sizes.size(), e.index(0));
  std::function<void(size_t)> nest = [&](size_t d) {
    auto next = [&](Value i) {
      if (d < sizes.size())
        at[d] = i;
      if (d < inner)
        return nest(d + 1);
      Values indices = indicesOf(own, at);
      body(indices, columnOf(own, indices));
    };
    if (d >= inner)
      loop(sizes.empty() ? 1 : sizes[d], next);
    else
      e.loop(e.index(0), e.index(sizes[d]), 1, next);
  };
  nest(0);
}

void RowBuilder::eachPass(Value full, PassBody body) {
  auto loop = [&](int64_t size, llvm::function_ref<void(Value)> each) {
    if (size == 1)
      return each(e.index(0));
    e.loop(e.index(0), e.index(size), 1, each);
  };
  forColumns(full, loop, body);
}

Value RowBuilder::reducePass(Value full, Reduction kind, Type type, bool isUnsigned,
                             llvm::function_ref<Value(ArrayRef<Value>, Value)> term) {
  RowSpace own = spaceFor(full);
  SmallVector<int64_t> sizes = own.sizes(own.columnDims);
  int64_t size = sizes.empty() ? 1 : sizes[innerColumn(sizes)], lanes = size >= 64   ? 32
                                                                        : size >= 16 ? 8
                                                                                     : 1;
  Value sums = newScratch(memoryType(type), lanes), lane;
  e.loop(e.index(0), e.index(lanes), 1,
         [&](Value l) { emitter.store(neutralScalar(e, kind, type, isUnsigned), sums, type, l); });
  auto loop = [&](int64_t size, llvm::function_ref<void(Value)> each) {
    Value whole = e.index(size / lanes * lanes);
    e.loop(e.index(0), whole, lanes, [&](Value first) {
      e.loop(e.index(0), e.index(lanes), 1, [&](Value l) {
        lane = l;
        each(e.add(first, l));
      });
    });
    e.loop(whole, e.index(size), 1, [&](Value i) {
      lane = e.sub(i, whole);
      each(i);
    });
  };
  forColumns(full, loop, [&](ArrayRef<Value> indices, Value column) {
    Value at = lane, x = term(indices, column);
    emitter.store(reduceScalars(e, kind, emitter.load(sums, type, at), x, isUnsigned), sums, type,
                  at);
  });
  if (lanes == 1)
    return emitter.load(sums, type, e.index(0));
  Value result = reduceLanes(e, kind, e.load(sums, e.index(0), lanes), isUnsigned);
  return type.isInteger(1)
             ? e.compare(arith::CmpIPredicate::ne, result, e.scalar(result.getType(), 0))
             : result;
}

Value RowBuilder::newScratch(Type type, int64_t count) {
  int64_t offset = scratchBytes;
  scratchBytes = llvm::alignTo(scratchBytes + count * elementBytes(type), 64);
  return e.view(body.scratch, offset, type, count);
}

Kernel RowBuilder::build() {
  body = lowering.begin(0); // how much scratch it takes is known afterwards
  lowering.bindArguments(emitter, body);
  Kernel kernel = lowering.forEach(e, body, rows, columns, [&](Value r) { emitRow(r); });
  CpuLowering::setScratch(body, scratchBytes);
  kernel.scratchBytes = scratchBytes;
  return kernel;
}

KernelResult lowerRowKernel(KernelLowering &lowering) { return RowBuilder(lowering).build(); }

} // namespace shardc
