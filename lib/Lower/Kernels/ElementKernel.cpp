//===- ElementKernel.cpp - Kernels of index lambdas -----------------------===//
//
// One loop nest over the results' shape: tiles over the outer dimensions (or over pieces of the last one, if it is long), the last
// dimension innermost and free of divisions, so that LLVM vectorises it. Ops that treat all elements alike are done on the flat
// buffers as one long dimension.
//
//===----------------------------------------------------------------------===//
#include "KernelLowering.h"

using namespace mlir;

namespace shardc {

/// Does no op care where in the tensor an element is?
static bool isPositionFree(KernelLowering &lowering) {
  for (Operation &op : lowering.function.getBody().front().without_terminator())
    if (!op.hasTrait<OpTrait::Elementwise>() && !isa<graph::ConstantOp, graph::ReshapeOp>(op))
      return false;
  return true;
}

/// In flat form a tensor has one dimension and a reshape is its input.
static void bindFlat(KernelLowering &lowering, BodyEmitter &emitter, const KernelBody &body) {
  for (BlockArgument argument : lowering.function.getArguments()) {
    Value buffer = body.buffers[argument.getArgNumber()];
    Type element = tensorType(argument).getElementType();
    emitter.bind(argument, [=, &emitter](ArrayRef<Value> indices) { return emitter.load(buffer, element, indices[0]); });
  }
  lowering.function.walk([&](graph::ReshapeOp op) {
    emitter.bind(op.getResult(), [=, &emitter](ArrayRef<Value> indices) mutable { return emitter.element(op.getInput(), indices); });
  });
}

KernelResult lowerElementKernel(KernelLowering &lowering) {
  KernelBody body = lowering.begin(0);
  BodyEmitter emitter(lowering.builder, lowering.loc());
  Emitter &e = emitter.e;
  SmallVector<int64_t> shape(tensorType(lowering.results()[0]).getShape());
  bool flat = isPositionFree(lowering);
  if (flat) {
    shape = {tensorType(lowering.results()[0]).getNumElements()};
    bindFlat(lowering, emitter, body);
  } else {
    lowering.bindArguments(emitter, body);
  }
  if (shape.empty())
    shape = {1};
  int64_t inner = shape.back(), rows = 1;
  for (int64_t size : ArrayRef<int64_t>(shape).drop_back())
    rows *= size;

  auto storeAt = [&](ArrayRef<Value> outer, Value i) {
    Emitter::Values indices(outer);
    indices.push_back(i);
    Value at = emitter.offset(shape, indices);
    if (tensorType(lowering.results()[0]).getRank() == 0 && !flat)
      indices.clear();
    for (auto [n, result] : llvm::enumerate(lowering.results()))
      emitter.store(emitter.element(result, indices), lowering.resultBuffer(body, n), tensorType(result).getElementType(), at);
  };
  auto row = [&](Value r, Value begin, Value end) {
    Emitter::Values outer = emitter.delinearize(r, ArrayRef<int64_t>(shape).drop_back());
    if (inner == 1)
      return storeAt(outer, e.index(0));
    e.loop(begin, end, 1, [&](Value i) { storeAt(outer, i); });
  };
  if (inner * rows == 0)
    return Kernel{lowering.function.getSymName().str(), 0, 0};

  int64_t pieces = inner >= 2 * kTileElements ? llvm::divideCeil(inner, kTileElements) : 1;
  if (pieces > 1) {
    e.loop(body.tileBegin, body.tileEnd, 1, [&](Value tile) {
      Value begin = e.mul(e.rem(tile, pieces), kTileElements);
      Value end = e.min(e.add(begin, kTileElements), e.index(inner));
      row(rows == 1 ? e.index(0) : e.div(tile, pieces), begin, end);
    });
    return Kernel{lowering.function.getSymName().str(), rows * pieces, 0};
  }
  int64_t rowsPerTile = std::clamp<int64_t>(kTileElements / inner, 1, rows);
  Value end = e.min(e.mul(body.tileEnd, rowsPerTile), e.index(rows));
  e.loop(e.mul(body.tileBegin, rowsPerTile), end, 1, [&](Value r) { row(r, e.index(0), e.index(inner)); });
  return Kernel{lowering.function.getSymName().str(), static_cast<int64_t>(llvm::divideCeil(rows, rowsPerTile)), 0};
}

} // namespace shardc
