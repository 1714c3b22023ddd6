//===- Float8Product.cpp - Products of 8-bit floats on GPUs ---------------===//
#include "shardc/Lower/Float8Product.h"
#include "shardc/Support/ElementBytes.h"

using namespace mlir;

namespace shardc {

std::optional<Float8Product> matchFloat8Product(graph::EinsumOp op) {
  if (!isFloat8(op.getLhs().getType()) || !isFloat8(op.getRhs().getType()) || !op->hasOneUse())
    return std::nullopt;
  // Of the gradients' type no two are multiplied.
  if (isa<Float8E5M2Type>(op.getLhs().getType().getElementType()) &&
      isa<Float8E5M2Type>(op.getRhs().getType().getElementType()))
    return std::nullopt;
  Float8Product product;
  product.scaled = dyn_cast<graph::MulOp>(*op->user_begin());
  if (!product.scaled)
    return std::nullopt;
  Value factor =
      product.scaled.getLhs() == op.getResult() ? product.scaled.getRhs() : product.scaled.getLhs();
  product.spread = factor.getDefiningOp<graph::BroadcastOp>();
  if (product.spread)
    product.unit = product.spread.getInput().getDefiningOp<graph::MulOp>();
  if (!product.unit || !product.spread->hasOneUse() || !product.unit->hasOneUse() ||
      product.unit.getType().getRank() != 0)
    return std::nullopt;
  if (product.scaled->hasOneUse())
    if (auto cast = dyn_cast<graph::CastOp>(*product.scaled->user_begin()))
      if (isa<Float16Type, BFloat16Type>(cast.getType().getElementType()))
        product.rounded = cast;
  return product;
}

bool fitFloat8(const GemmSpec &spec) {
  return spec.batch.empty() && spec.k % 16 == 0 && spec.n % 16 == 0 && spec.c.columnStride == 1;
}

} // namespace shardc
