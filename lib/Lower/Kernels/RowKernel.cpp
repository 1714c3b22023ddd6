//===- RowKernel.cpp - Row kernels of CPUs --------------------------------===//
//
// A tile is some rows, a pass a loop over the columns (RowEmitter.h).
//
//===----------------------------------------------------------------------===//
#include "Reductions.h"
#include "RowEmitter.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

class RowBuilder : public RowEmitter {
public:
  using RowEmitter::RowEmitter;
  Kernel build();

private:
  /// Body of a pass: the column as indices and as a number, and the carried values.
  using PassBody = llvm::function_ref<Values(ArrayRef<Value> indices, Value column, ValueRange carried)>;

  Value reducePass(Value full, Reduction kind, Type type, bool isUnsigned, llvm::function_ref<Value(ArrayRef<Value>, Value)> term) override;
  void eachPass(Value full, llvm::function_ref<void(ArrayRef<Value>, Value)> body) override;
  Value newScratchRow(Type type) override;
  Values pass(Value full, ValueRange init, PassBody body);
  Values passDims(const RowSpace &space, ArrayRef<int64_t> sizes, Values outer, ValueRange init, PassBody body);

  int64_t scratchBytes = 0;
};

} // namespace

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

Value RowBuilder::reducePass(Value full, Reduction kind, Type type, bool isUnsigned, llvm::function_ref<Value(ArrayRef<Value>, Value)> term) {
  return pass(full, neutralScalar(e, kind, type, isUnsigned), [&](ArrayRef<Value> indices, Value column, ValueRange carried) {
    return Values{reduceScalars(e, kind, carried[0], term(indices, column), isUnsigned)};
  })[0];
}

void RowBuilder::eachPass(Value full, llvm::function_ref<void(ArrayRef<Value>, Value)> body) {
  pass(full, {}, [&](ArrayRef<Value> indices, Value column, ValueRange) {
    body(indices, column);
    return Values{};
  });
}

Value RowBuilder::newScratchRow(Type type) {
  int64_t offset = scratchBytes;
  scratchBytes = llvm::alignTo(scratchBytes + columns * elementBytes(type), 64);
  return e.view(body.scratch, offset, type, columns);
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
