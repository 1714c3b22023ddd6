//===- EpilogueEmitter.cpp - Elementwise ops on accumulators --------------===//
//
// Index lambdas give scalar code. Here they are emitted once, for the first lane, into a block of
// their own, where accumulators and loads are only marked; then the block is copied as vector code:
// marks become the accumulators, vector loads or broadcast scalars, constants become splats, index
// arithmetic stays as it is, and everything else has vector operands (arith and math ops are
// elementwise).
//
//===----------------------------------------------------------------------===//
#include "EpilogueEmitter.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace shardc {

EpilogueEmitter::EpilogueEmitter(graph::EinsumOp op, const EinsumPlan &plan, Value result,
                                 ArrayRef<Value> extra)
    : op(op), result(result), extra(extra), columnDim(op.getLetters().result.find(plan.n.back())),
      batch(plan.spec.batch) {
  for (int64_t stride : plan.spec.c.batch)
    batchRows.push_back(stride / plan.spec.n);
  rowStep = plan.spec.c.rowStride / plan.spec.n;
}

/// Indices into the result of the first lane.
Emitter::Values EpilogueEmitter::indicesAt(BodyEmitter &emitter, const EpiloguePoint &point) const {
  Emitter &e = emitter.e;
  Value row = e.mul(point.m, rowStep);
  Emitter::Values digits = emitter.delinearize(point.batch, batch);
  for (auto [digit, rows] : llvm::zip(digits, batchRows))
    row = e.add(row, e.mul(digit, rows));
  ArrayRef<int64_t> shape = cast<RankedTensorType>(result.getType()).getShape();
  Emitter::Values indices = emitter.delinearize(row, shape.take_front(columnDim));
  indices.push_back(point.n);
  indices.resize(shape.size(), e.index(0));
  return indices;
}

Value EpilogueEmitter::operator()(OpBuilder &builder, Location loc, Value accumulator,
                                  const EpiloguePoint &point) const {
  Block scalars;
  OpBuilder scalarBuilder(builder.getContext());
  scalarBuilder.setInsertionPointToEnd(&scalars);
  BodyEmitter emitter(scalarBuilder, loc);
  struct Load {
    Value buffer, tensor;
    bool isVector;
  };
  DenseMap<Operation *, Load> loads;
  auto mark = [&](Type type, ValueRange operands) {
    return UnrealizedConversionCastOp::create(scalarBuilder, loc, type, operands);
  };
  Value contraction = graph::EinsumOp(op).getResult();
  Type computed =
      graph::computeType(cast<RankedTensorType>(contraction.getType()).getElementType());
  Operation *accumulatorMark = nullptr;
  emitter.bind(contraction, [&](ArrayRef<Value>) {
    auto marked = mark(computed, {});
    accumulatorMark = marked;
    return emitter.round(contraction.getType(), marked.getResult(0));
  });
  for (auto [tensor, buffer] : llvm::zip(extra, point.extra)) {
    Value source = tensor, memory = buffer;
    emitter.bind(source, [&, source, memory](ArrayRef<Value> indices) {
      auto type = cast<RankedTensorType>(source.getType());
      auto marked =
          mark(graph::computeType(type.getElementType()), emitter.offset(type.getShape(), indices));
      bool isVector = false;
      for (auto [index, size] : llvm::zip(indices, type.getShape()))
        isVector |= index == point.n && size != 1;
      loads[marked] = {memory, source, isVector};
      return marked.getResult(0);
    });
  }
  Value scalar = emitter.element(result, indicesAt(emitter, point));

  Emitter e{builder, loc};
  IRMapping map;
  for (Operation &op : scalars) {
    if (&op == accumulatorMark) {
      map.map(op.getResult(0), e.convert(accumulator, computed));
    } else if (auto load = loads.find(&op); load != loads.end()) {
      Value at = map.lookupOrDefault(op.getOperand(0));
      Type type = op.getResult(0).getType();
      Value vector =
          load->second.isVector
              ? e.convert(point.load(builder, loc, load->second.buffer, at), type)
              : e.broadcast(point.lanes, e.convert(e.loadScalar(load->second.buffer, at), type));
      map.map(op.getResult(0), vector);
    } else if (auto constant = dyn_cast<arith::ConstantOp>(op);
               constant && isa<FloatType>(constant.getType())) {
      map.map(op.getResult(0), e.splat(point.lanes, constant.getType(),
                                       cast<FloatAttr>(constant.getValue()).getValueAsDouble()));
    } else if (llvm::any_of(op.getOperands(), [&](Value v) {
                 return isa<VectorType>(map.lookupOrDefault(v).getType());
               })) {
      OperationState state(loc, op.getName());
      for (Value operand : op.getOperands())
        state.addOperands(map.lookupOrDefault(operand));
      for (Type type : op.getResultTypes())
        state.addTypes(e.vec(point.lanes, type));
      state.addAttributes(op.getAttrs());
      Operation *copy = builder.create(state);
      map.map(op.getResults(), copy->getResults());
    } else {
      builder.clone(op, map);
    }
  }
  Value vector = map.lookup(scalar);
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(scalars)))
    op.erase();
  return vector;
}

} // namespace shardc
