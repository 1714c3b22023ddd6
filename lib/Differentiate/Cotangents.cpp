//===- Cotangents.cpp - One block in reverse ------------------------------===//
//
//   1. Forward over the block: which values depend on a leaf.
//   2. Backward over it: an op whose results have a cotangent gives its operands theirs
//      (DerivativeOpInterface).
//
// A layout constraint holds for the cotangent too: what lies along the sequence on the way there
// comes back so (GSPMD does the same).
//
//===----------------------------------------------------------------------===//

#include "Cotangents.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace shardc {

bool isDifferentiable(Type type) { return isa<FloatType>(getElementTypeOrSelf(type)); }

Cotangents::Cotangents(OpBuilder &builder, Block &block, ArrayRef<Value> leaves)
    : builder(builder) {
  active.insert(leaves.begin(), leaves.end());
  for (Operation &op : block)
    if (llvm::any_of(op.getOperands(), [&](Value operand) { return active.contains(operand); }))
      for (Value result : op.getResults())
        if (isDifferentiable(result.getType()))
          active.insert(result);
}

void Cotangents::add(Value value, Value cotangent) {
  if (!cotangent || !active.contains(value))
    return;
  Value &sum = cotangents[value];
  sum = sum ? graph::AddOp::create(builder, cotangent.getLoc(), sum, cotangent).getResult()
            : cotangent;
}

LogicalResult Cotangents::visit(Operation *op) {
  SmallVector<Value> results;
  for (Value result : op->getResults())
    results.push_back(get(result));
  if (op->getNumOperands() == 0) // a leaf
    return success();
  if (isa<shard::ConstraintOp, shard::ReshardOp>(op)) {
    IRMapping map;
    map.map(op->getOperand(0), results[0]);
    add(op->getOperand(0), builder.clone(*op, map)->getResult(0));
    return success();
  }
  auto derivative = dyn_cast<graph::DerivativeOpInterface>(op);
  FailureOr<SmallVector<Value>> operands =
      derivative ? derivative.buildVJP(builder, results) : FailureOr<SmallVector<Value>>(failure());
  if (failed(operands))
    return op->emitOpError()
           << "has no derivative, and the loss depends on a trained parameter through it";
  for (auto [operand, cotangent] : llvm::zip_equal(op->getOperands(), *operands)) {
    // What was quantized has the cotangent of what it was before.
    auto type = cast<RankedTensorType>(operand.getType());
    bool isQuantized = type.getElementTypeBitWidth() == 8 && isDifferentiable(type);
    if (cotangent && cotangent.getType() != type &&
        !(isQuantized && cast<RankedTensorType>(cotangent.getType()).getShape() == type.getShape()))
      return op->emitOpError() << "has a derivative of type " << cotangent.getType()
                               << " for an operand of type " << operand.getType();
    add(operand, cotangent);
  }
  return success();
}

LogicalResult Cotangents::run(ArrayRef<Operation *> ops, VisitCall visitCall) {
  for (Operation *op : llvm::reverse(ops)) {
    if (llvm::none_of(op->getResults(), [&](Value result) { return cotangents.contains(result); }))
      continue;
    // The last op before: whatever is new after it was built for `op`, and is told as its module's.
    Block *block = builder.getInsertionBlock();
    Operation *before = builder.getInsertionPoint() == block->begin()
                            ? nullptr
                            : &*std::prev(builder.getInsertionPoint());
    auto call = dyn_cast<func::CallOp>(op);
    auto path = op->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr);
    if (failed(call ? visitCall(call) : visit(op)))
      return failure();
    for (auto it = before ? std::next(before->getIterator()) : block->begin();
         path && it != builder.getInsertionPoint(); ++it)
      if (!it->hasAttr(graph::GraphDialect::kPathAttr))
        it->setAttr(graph::GraphDialect::kPathAttr, path);
  }
  return success();
}

} // namespace shardc
