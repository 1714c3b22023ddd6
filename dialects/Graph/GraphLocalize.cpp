//===- GraphLocalize.cpp - What one device computes, where that is not the op itself -===//
//
// Ops with absolute positions (iota, gather, expert numbers) are shifted by the place of the
// device's part; sizes in attributes become local.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDetail.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

Value graph::broadcastScalar(OpBuilder &b, Location loc, Value scalar, ArrayRef<int64_t> shape) {
  auto type = cast<RankedTensorType>(scalar.getType());
  if (type.getShape() == shape)
    return scalar;
  return BroadcastOp::create(b, loc, type.clone(shape), scalar, b.getDenseI64ArrayAttr({}));
}

Value graph::castTo(OpBuilder &b, Location loc, Value value, Type elementType) {
  if (cast<RankedTensorType>(value.getType()).getElementType() == elementType)
    return value;
  return CastOp::create(b, loc, value, elementType);
}

Operation *graph::cloneLocal(OpBuilder &b, Operation *op, ValueRange operands, TypeRange types) {
  Operation *local = b.insert(op->clone());
  local->setOperands(operands);
  for (auto [result, type] : llvm::zip(local->getResults(), types))
    result.setType(type);
  return local;
}

/// Indices counted from `begin`. As i64: a narrow type might not hold the difference. What lies
/// before or behind this device's part is out of range, which reads zero.
static Value shiftIndices(OpBuilder &b, Location loc, Value indices, Value begin) {
  indices = castTo(b, loc, indices, b.getI64Type());
  auto shape = cast<RankedTensorType>(indices.getType()).getShape();
  return SubOp::create(b, loc, indices, broadcastScalar(b, loc, begin, shape));
}

SmallVector<Value> IotaOp::buildLocal(OpBuilder &b, ValueRange, TypeRange types, LocalPart &part) {
  auto type = cast<RankedTensorType>(types[0]);
  Value begin = part.resultBegin(0, getDim());
  if (!begin)
    return {IotaOp::create(b, getLoc(), type, getDim())};
  // In i64: the sum of two rounded f16 would not be the rounded sum.
  Value local = IotaOp::create(b, getLoc(), type.clone(b.getI64Type()), getDim());
  Value index =
      AddOp::create(b, getLoc(), local, broadcastScalar(b, getLoc(), begin, type.getShape()));
  return {castTo(b, getLoc(), index, type.getElementType())};
}

SmallVector<Value> GatherOp::buildLocal(OpBuilder &b, ValueRange operands, TypeRange types,
                                        LocalPart &part) {
  SmallVector<Value> local(operands);
  if (Value begin = part.operandBegin(0, getAxis()))
    local[1] = shiftIndices(b, getLoc(), local[1], begin);
  return cloneLocal(b, *this, local, types)->getResults();
}

SmallVector<Value> ScatterSumOp::buildLocal(OpBuilder &b, ValueRange operands, TypeRange types,
                                            LocalPart &part) {
  SmallVector<Value> local(operands);
  if (Value begin = part.resultBegin(0, getAxis()))
    local[1] = shiftIndices(b, getLoc(), local[1], begin);
  return cloneLocal(b, *this, local, types)->getResults();
}

/// Groups of a device's rows by its experts, and -1 where they are not of the row's block: the
/// local op then needs no blocks.
static Value localGroups(OpBuilder &b, Location loc, Value groups, Value begin, int64_t experts,
                         int64_t blockExperts) {
  if (begin)
    groups = shiftIndices(b, loc, groups, begin);
  int64_t blocks = experts / blockExperts;
  if (blocks <= 1)
    return groups;
  groups = castTo(b, loc, groups, b.getI64Type());
  auto type = cast<RankedTensorType>(groups.getType());
  auto constant = [&](int64_t value) { return ConstantOp::splat(b, loc, type, value); };
  Value row = IotaOp::create(b, loc, type, 0);
  Value first =
      MulOp::create(b, loc, DivOp::create(b, loc, row, constant(type.getDimSize(0) / blocks)),
                    constant(blockExperts));
  Value isBehind = CompareOp::create(b, loc, Predicate::GE, groups, first);
  Value isBefore = CompareOp::create(b, loc, Predicate::LT, groups,
                                     AddOp::create(b, loc, first, constant(blockExperts)));
  return SelectOp::create(b, loc, AndOp::create(b, loc, isBehind, isBefore), groups, constant(-1));
}

SmallVector<Value> GroupedMatmulOp::buildLocal(OpBuilder &b, ValueRange operands, TypeRange types,
                                               LocalPart &part) {
  SmallVector<Value> local(operands);
  local[2] = localGroups(b, getLoc(), local[2], part.operandBegin(1, 0),
                         cast<RankedTensorType>(local[1].getType()).getDimSize(0),
                         getWeight().getType().getDimSize(0) / getBlocks());
  auto op = cast<GroupedMatmulOp>(cloneLocal(b, *this, local, types));
  op.setBlocks(1);
  return op->getResults();
}

SmallVector<Value> GroupedMatmulGradOp::buildLocal(OpBuilder &b, ValueRange operands,
                                                   TypeRange types, LocalPart &part) {
  SmallVector<Value> local(operands);
  local[2] = localGroups(b, getLoc(), local[2], part.resultBegin(0, 0),
                         cast<RankedTensorType>(types[0]).getDimSize(0),
                         getType().getDimSize(0) / getBlocks());
  auto op = cast<GroupedMatmulGradOp>(cloneLocal(b, *this, local, types));
  op.setBlocks(1);
  return op->getResults();
}

SmallVector<Value> ConvOp::buildLocal(OpBuilder &b, ValueRange operands, TypeRange types,
                                      LocalPart &) {
  auto conv = cast<ConvOp>(cloneLocal(b, *this, operands, types));
  // Depthwise (the rule shards no other grouping): as many groups as channels.
  if (getGroup() != 1 && static_cast<int64_t>(getGroup()) == getInput().getType().getDimSize(1))
    conv.setGroup(conv.getInput().getType().getDimSize(1));
  return conv->getResults();
}
