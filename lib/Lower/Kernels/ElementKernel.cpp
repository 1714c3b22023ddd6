//===- ElementKernel.cpp - Kernels of index lambdas -----------------------===//
//
// One loop nest over the results' shape: tiles over the outer dimensions (or over pieces of the
// last one, if it is long), the last dimension innermost and free of divisions, so that LLVM
// vectorises it. Ops that treat all elements alike are done on the flat buffers as one long
// dimension. Where an op changes its rule along the last dimension (the halves of a rotary
// embedding, the pieces of a concatenation) the inner loop is cut, so that the choice has one
// outcome in each piece and goes away.
//
//===----------------------------------------------------------------------===//
#include "KernelLowering.h"
#include <set>

using namespace mlir;

namespace shardc {

bool isPositionFree(KernelLowering &lowering) {
  for (Operation &op : lowering.function.getBody().front().without_terminator())
    if (!op.hasTrait<OpTrait::Elementwise>() && !isa<graph::ConstantOp, graph::ReshapeOp>(op))
      return false;
  return true;
}

void bindFlat(KernelLowering &lowering, BodyEmitter &emitter, const KernelBody &body) {
  for (BlockArgument argument : lowering.function.getArguments()) {
    Value buffer = body.buffers[argument.getArgNumber()];
    Type element = tensorType(argument).getElementType();
    emitter.bind(argument, [=, &emitter](ArrayRef<Value> indices) {
      return emitter.load(buffer, element, indices[0]);
    });
  }
  lowering.function.walk([&](graph::ReshapeOp op) {
    emitter.bind(op.getResult(), [=, &emitter](ArrayRef<Value> indices) mutable {
      return emitter.element(op.getInput(), indices);
    });
  });
}

SmallVector<int64_t> cutsOf(KernelLowering &lowering, int64_t inner) {
  std::set<int64_t> cuts = {0, inner};
  auto add = [&](int64_t at) {
    if (at > 0 && at < inner)
      cuts.insert(at);
  };
  lowering.function.walk([&](Operation *op) {
    auto type = op->getNumResults() ? dyn_cast<RankedTensorType>(op->getResult(0).getType())
                                    : RankedTensorType();
    if (!type || type.getRank() == 0 || type.getShape().back() != inner)
      return;
    int64_t last = type.getRank() - 1;
    if (auto rope = dyn_cast<graph::RopeOp>(op)) {
      int64_t half = rope.getCos().getType().getShape().back();
      if (!rope.getInterleaved())
        add(half);
      add(2 * half);
    } else if (auto concat = dyn_cast<graph::ConcatOp>(op)) {
      int64_t at = 0;
      if (static_cast<int64_t>(concat.getDim()) == last)
        for (Value input : concat.getInputs())
          add(at += tensorType(input).getShape().back());
    } else if (auto pad = dyn_cast<graph::PadOp>(op)) {
      add(pad.getLow()[last]);
      add(inner - pad.getHigh()[last]);
    }
  });
  if (cuts.size() > 9) // pieces too short to be worth their code
    cuts = {0, inner};
  return SmallVector<int64_t>(cuts.begin(), cuts.end());
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

  SmallVector<int64_t> cuts = flat ? SmallVector<int64_t>{0, inner} : cutsOf(lowering, inner);
  auto storeAt = [&](ArrayRef<Value> outer, Value i) {
    Emitter::Values indices(outer);
    indices.push_back(i);
    Value at = emitter.offset(shape, indices);
    if (tensorType(lowering.results()[0]).getRank() == 0 && !flat)
      indices.clear();
    Emitter::Values
        elements; // all of them before the first is stored: it may be in place of an argument
    for (Value result : lowering.results())
      elements.push_back(emitter.element(result, indices));
    for (auto [n, result] : llvm::enumerate(lowering.results()))
      emitter.store(elements[n], lowering.resultBuffer(body, n),
                    tensorType(result).getElementType(), at);
  };
  auto row = [&](Value r, Value begin, Value end) {
    Emitter::Values outer = emitter.delinearize(r, ArrayRef<int64_t>(shape).drop_back());
    if (inner == 1)
      return storeAt(outer, e.index(0));
    if (Emitter::constant(begin) != 0 || Emitter::constant(end) != inner) // a piece of a long row
      return e.loop(begin, end, 1, [&](Value i) { storeAt(outer, i); });
    for (size_t n = 0; n + 1 < cuts.size(); ++n)
      e.loop(e.index(cuts[n]), e.index(cuts[n + 1]), 1, [&](Value i) { storeAt(outer, i); });
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
  e.loop(e.mul(body.tileBegin, rowsPerTile), end, 1,
         [&](Value r) { row(r, e.index(0), e.index(inner)); });
  return Kernel{lowering.function.getSymName().str(),
                static_cast<int64_t>(llvm::divideCeil(rows, rowsPerTile)), 0};
}

} // namespace shardc
