//===- ScatterGrid.cpp - Scatters, every update at once -------------------===//
//
// Updates that meet have one order, the one of their places, and nothing is added atomically:
//
//   copy    the result begins as the data (not if it is there already), or as zeros
//   links   each update looks for those with the same index: whether it is the first of them, and
//           which is next
//   apply   the first one of each index goes through the others, for each element of a slice
//
// Indices out of range are of no update.
//
//===----------------------------------------------------------------------===//
#include "CudaLowering.h"
#include "lib/Lower/Kernels/Reductions.h"

using namespace mlir;
using namespace shardc::graph;

namespace shardc {
namespace {

/// Of any scatter: `lines` of `length` updates each, which may meet only in one line; an update has
/// `outer` times `inner` elements.
struct Scatter {
  int64_t lines = 1, length = 0, outer = 1, inner = 1;
  Combine combine = Combine::Sum;
  Value data; ///< null: zeros
};

class ScatterGrid {
public:
  using Values = Emitter::Values;

  ScatterGrid(CudaLowering &lowering, Operation *op);
  FailureOr<CudaKernel> build();

private:
  void begin(StringRef suffix);
  Value in(Value tensor, ArrayRef<Value> indices) { return emitter->element(tensor, indices); }
  Value isInside(Value index, int64_t size) {
    return emitter->e.compare(arith::CmpIPredicate::ult, index, emitter->e.index(size));
  }
  Value toIndex(Value integer) {
    Emitter &e = emitter->e;
    return e.b.createOrFold<arith::IndexCastOp>(e.loc, e.b.getIndexType(), integer);
  }
  Value both(Value x, Value y) { return arith::AndIOp::create(emitter->e.b, emitter->e.loc, x, y); }
  /// Where an update goes: a row of the result, -1 if out of range.
  Value rowOf(Value line, Value position);
  Values positionOf(Value line, Value position);
  /// The element of an update, and its place in the result.
  Value update(Value outer, Value line, Value position, Value inner);
  Value place(Value outer, Value line, Value row, Value inner);

  void copy();
  void link();
  void apply();

  CudaLowering &lowering;
  Operation *op;
  Scatter scatter;
  RankedTensorType type, indices;
  SmallVector<CudaBuffer> buffers; ///< of the function, then whether an update is first, and next
  std::optional<BodyEmitter> emitter;
  KernelBody body;
  int64_t scratchBytes = 0;
};

} // namespace

ScatterGrid::ScatterGrid(CudaLowering &lowering, Operation *op)
    : lowering(lowering), op(op), type(tensorType(op->getResult(0))),
      indices(tensorType(op->getOperand(1))) {
  ArrayRef<int64_t> shape = type.getShape(), at = indices.getShape();
  if (auto elements = dyn_cast<ScatterElementsOp>(op)) {
    scatter.length = at[elements.getAxis()];
    scatter.lines = scatter.length ? indices.getNumElements() / scatter.length : 0;
    scatter.combine = elements.getCombine();
    scatter.data = elements.getData();
  } else if (auto points = dyn_cast<ScatterNdOp>(op)) {
    scatter.length = ShapedType::getNumElements(at.drop_back());
    scatter.inner = ShapedType::getNumElements(shape.drop_front(at.back()));
    scatter.combine = points.getCombine();
    scatter.data = points.getData();
  } else {
    int64_t axis = cast<ScatterSumOp>(op).getAxis();
    scatter.length = indices.getNumElements();
    scatter.outer = ShapedType::getNumElements(shape.take_front(axis));
    scatter.inner = ShapedType::getNumElements(shape.drop_front(axis + 1));
  }
  for (Value argument : lowering.function.getArguments())
    buffers.push_back(lowering.bufferOf(argument));
  for (auto [argument, result] : lowering.inPlace)
    buffers[argument].isWritten = true;
  buffers.push_back(lowering.bufferOf(lowering.results()[0]));
  auto numbers =
      MemRefType::get({scatter.lines * scatter.length}, IntegerType::get(op->getContext(), 32));
  for (int64_t n = 0; n < 2 && scatter.length > 1; ++n) {
    buffers.push_back({CudaArgument::ofScratch(scratchBytes), numbers, true});
    scratchBytes += llvm::alignTo(buffers.back().bytes(), kCudaAlignment);
  }
}

void ScatterGrid::begin(StringRef suffix) {
  std::string name = (lowering.function.getSymName() + suffix).str();
  body = lowering.beginKernel(name, buffers);
  lowering.shareBuffers(body);
  emitter.emplace(lowering.builder, lowering.loc());
  lowering.bindArguments(*emitter, body);
}

/// Indices into the tensor of indices.
Emitter::Values ScatterGrid::positionOf(Value line, Value position) {
  if (auto elements = dyn_cast<ScatterElementsOp>(op)) {
    int64_t axis = elements.getAxis();
    SmallVector<int64_t> others(indices.getShape());
    others.erase(others.begin() + axis);
    Values at = emitter->delinearize(line, others);
    at.insert(at.begin() + axis, position);
    return at;
  }
  bool isPoints = isa<ScatterNdOp>(op);
  return emitter->delinearize(position, indices.getShape().drop_back(isPoints));
}

Value ScatterGrid::rowOf(Value line, Value position) {
  Emitter &e = emitter->e;
  Values at = positionOf(line, position);
  Value row, inside;
  if (isa<ScatterNdOp>(op)) {
    row = e.index(0);
    for (int64_t d = 0, depth = indices.getShape().back(); d < depth; ++d) {
      Values element(at);
      element.push_back(e.index(d));
      Value index = toIndex(in(op->getOperand(1), element));
      Value fits = isInside(index, type.getDimSize(d));
      inside = inside ? both(inside, fits) : fits;
      row = e.add(e.mul(row, type.getDimSize(d)), index);
    }
    if (!inside)
      return row;
  } else {
    auto elements = dyn_cast<ScatterElementsOp>(op);
    int64_t axis = elements ? elements.getAxis() : cast<ScatterSumOp>(op).getAxis();
    row = toIndex(in(op->getOperand(1), at));
    inside = isInside(row, type.getDimSize(axis));
  }
  return arith::SelectOp::create(e.b, e.loc, inside, row, e.index(-1));
}

Value ScatterGrid::update(Value outer, Value line, Value position, Value inner) {
  if (isa<ScatterElementsOp>(op))
    return in(op->getOperand(2), positionOf(line, position));
  Emitter &e = emitter->e;
  Value updates = op->getOperand(isa<ScatterNdOp>(op) ? 2 : 0);
  Value row = e.add(e.mul(outer, scatter.length), position);
  Value buffer = body.buffers[cast<BlockArgument>(updates).getArgNumber()];
  return emitter->load(buffer, type.getElementType(), e.add(e.mul(row, scatter.inner), inner));
}

Value ScatterGrid::place(Value outer, Value line, Value row, Value inner) {
  Emitter &e = emitter->e;
  if (auto elements = dyn_cast<ScatterElementsOp>(op)) {
    Values at = positionOf(line, row);
    return emitter->offset(type.getShape(), at);
  }
  if (auto sum = dyn_cast<ScatterSumOp>(op))
    row = e.add(e.mul(outer, type.getDimSize(sum.getAxis())), row);
  return e.add(e.mul(row, scatter.inner), inner);
}

void ScatterGrid::copy() {
  begin("_copy");
  Emitter &e = emitter->e;
  Value source = body.buffers[cast<BlockArgument>(scatter.data).getArgNumber()],
        target = lowering.resultBuffer(body, 0);
  int64_t count = type.getNumElements(), lanes = lowering.vectorOf(count);
  lowering.forEach(e, body, count / lanes, lanes, [&](Value item) {
    Values loaded;
    for (int64_t lane = 0; lane < lanes; ++lane)
      loaded.push_back(e.loadScalar(source, e.add(e.mul(item, lanes), lane)));
    for (int64_t lane = 0; lane < lanes; ++lane)
      e.storeScalar(loaded[lane], target, e.add(e.mul(item, lanes), lane));
  });
}

void ScatterGrid::link() {
  begin("_links");
  Emitter &e = emitter->e;
  Value isFirstBuffer = body.buffers[buffers.size() - 2], nextBuffer = body.buffers.back();
  Type i32 = e.b.getI32Type();
  lowering.forEach(e, body, scatter.lines * scatter.length, scatter.length, [&](Value item) {
    Value line = e.div(item, scatter.length), mine = e.rem(item, scatter.length);
    Value row = rowOf(line, mine);
    Value none = e.index(scatter.length);
    Values found = e.loop(
        e.index(0), none, 1, {e.compare(arith::CmpIPredicate::sge, row, e.index(0)), none},
        [&](Value other, ValueRange held) {
          Value meets = e.equal(rowOf(line, other), row);
          Value isEarlier = both(meets, e.less(other, mine));
          Value isLater = both(meets, e.less(mine, other));
          Value isFirst =
              arith::SelectOp::create(e.b, e.loc, isEarlier, e.scalar(e.b.getI1Type(), 0), held[0]);
          Value next = e.min(held[1], arith::SelectOp::create(e.b, e.loc, isLater, other, none));
          return Values{isFirst, next};
        });
    e.storeScalar(arith::ExtUIOp::create(e.b, e.loc, i32, found[0]), isFirstBuffer, item);
    e.storeScalar(arith::IndexCastOp::create(e.b, e.loc, i32, found[1]), nextBuffer, item);
  });
}

void ScatterGrid::apply() {
  begin("");
  Emitter &e = emitter->e;
  Type element = type.getElementType();
  bool isLinked = scatter.length > 1;
  Value result = lowering.resultBuffer(body, 0);
  int64_t updates = scatter.lines * scatter.length;
  lowering.forEach(e, body, scatter.outer * updates * scatter.inner, 1, [&](Value item) {
    Value inner = e.rem(item, scatter.inner), number = e.div(item, scatter.inner);
    Value outer = e.div(number, updates);
    number = e.rem(number, updates);
    Value line = e.div(number, scatter.length), mine = e.rem(number, scatter.length);
    Value row = rowOf(line, mine);
    Value isFirst = e.compare(arith::CmpIPredicate::sge, row, e.index(0));
    if (isLinked) {
      Value flag = e.loadScalar(body.buffers[buffers.size() - 2], number);
      isFirst = e.compare(arith::CmpIPredicate::ne, flag, e.zero(flag.getType()));
    }
    e.ifThen(isFirst, [&] {
      Value at = place(outer, line, row, inner);
      // The last one to replace is all that counts.
      bool isReplace = scatter.combine == Combine::Replace;
      auto take = [&](Value acc, Value position) {
        Value x = update(outer, line, position, inner);
        return isReplace ? x : combineScalars(e, scatter.combine, acc, x, element);
      };
      Value acc = isReplace      ? Value()
                  : scatter.data ? emitter->load(result, element, at)
                                 : e.scalar(computeType(element), 0);
      if (!isLinked)
        return emitter->store(take(acc, mine), result, element, at);
      auto nextOf = [&](Value position) {
        Value number = e.add(e.mul(line, scatter.length), position);
        return toIndex(e.loadScalar(body.buffers.back(), number));
      };
      Value first = isReplace ? mine : take(acc, mine);
      Values start{nextOf(mine), first};
      auto walk = scf::WhileOp::create(
          e.b, e.loc, ValueRange(start).getTypes(), start,
          [&](OpBuilder &, Location, ValueRange held) {
            OpBuilder::InsertionGuard guard(e.b);
            e.b.setInsertionPointToEnd(held[0].getParentBlock());
            Value goesOn = e.less(held[0], e.index(scatter.length));
            scf::ConditionOp::create(e.b, e.loc, goesOn, held);
          },
          [&](OpBuilder &, Location, ValueRange held) {
            OpBuilder::InsertionGuard guard(e.b);
            e.b.setInsertionPointToEnd(held[0].getParentBlock());
            Value next = isReplace ? held[0] : take(held[1], held[0]);
            Value after = nextOf(held[0]);
            scf::YieldOp::create(e.b, e.loc, ValueRange{after, next});
          });
      Value last = walk.getResult(1);
      emitter->store(isReplace ? update(outer, line, last, inner) : last, result, element, at);
    });
  });
}

FailureOr<CudaKernel> ScatterGrid::build() {
  if (op->getNextNode() != lowering.terminator())
    return op->emitOpError() << "is in a kernel with other ops, it has to be alone";
  CudaKernel kernel;
  kernel.name = lowering.function.getSymName().str();
  if (type.getNumElements() == 0)
    return kernel;
  kernel.scratchBytes = scratchBytes;
  if (!scatter.data) {
    CudaBuffer &result = buffers[lowering.function.getNumArguments()];
    kernel.calls.push_back(CudaMemset{result.argument, result.bytes()});
  } else if (lowering.inPlace.empty()) {
    copy();
    kernel.calls.push_back(lowering.launch());
  }
  if (scatter.outer * scatter.lines * scatter.length * scatter.inner == 0)
    return kernel;
  if (scatter.length > 1) {
    link();
    kernel.calls.push_back(lowering.launch());
  }
  apply();
  kernel.calls.push_back(lowering.launch());
  return kernel;
}

FailureOr<CudaKernel> lowerScatterGrid(CudaLowering &lowering, Operation *op) {
  return ScatterGrid(lowering, op).build();
}

} // namespace shardc
