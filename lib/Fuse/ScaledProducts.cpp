//===- ScaledProducts.cpp - Products of 8-bit floats in steps -------------===//
//
// Input: a function of local ops. Output: the same; graph.scaled_einsum is a contraction of 8-bit
// floats in f32, with ordinary ops behind it. Until here it was one op, so that what pends between
// devices is the rounded result.
//
//     %y = scaled_einsum %a, %b scales %s, %t   ->   %c = einsum %a, %b
//                                                    %u = mul %s, %t
//                                                    %v = mul %c, broadcast %u
//                                                    %y = cast %v
//
//===----------------------------------------------------------------------===//
#include "Grouping.h"

using namespace mlir;

namespace shardc {

void expandScaledProducts(func::FuncOp function) {
  function.walk([](graph::ScaledEinsumOp op) {
    OpBuilder builder(op);
    Location loc = op.getLoc();
    RankedTensorType sumType = op.getType().clone(builder.getF32Type());
    Value sum =
        graph::EinsumOp::create(builder, loc, sumType, op.getSpec(), op.getLhs(), op.getRhs());
    Value unit = graph::MulOp::create(builder, loc, op.getLhsScale(), op.getRhsScale());
    Value result = graph::MulOp::create(
        builder, loc, sum, graph::broadcastScalar(builder, loc, unit, sumType.getShape()));
    result = graph::castTo(builder, loc, result, op.getType().getElementType());
    for (Value made : {sum, result})
      made.getDefiningOp()->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    op->replaceAllUsesWith(ValueRange{result});
    op->erase();
  });
}

} // namespace shardc
