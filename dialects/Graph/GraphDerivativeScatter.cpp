//===- GraphDerivativeScatter.cpp - Vector-Jacobian products of the scatters -===//
//
// Both scatters put updates into cells of a table; a gather reads them back. With `read(t)` the
// value of table t in each update's cell:
//
//   replace   the last update of a cell (in row-major order) takes all of its cotangent
//   sum       the cell's cotangent goes to all
//   max, min  to those that equal the result, in equal parts (as torch's amax)
//   prod      to each by the product of the others
//
// Updates out of range read zero and get none.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/GraphDerivative.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::graph::formula;

static Term scatterLike(ScatterElementsOp op, Combine how, Term table, Term updates) {
  Formula &f = *table.formula;
  return {&f, ScatterElementsOp::create(f.b, f.loc, table.value, op.getIndices(), updates.value,
                                        op.getAxis(), how)};
}
static Term scatterLike(ScatterNdOp op, Combine how, Term table, Term updates) {
  Formula &f = *table.formula;
  return {&f, ScatterNdOp::create(f.b, f.loc, table.value, op.getIndices(), updates.value, how)};
}
static Value gatherLike(ScatterElementsOp op, RankedTensorType type, Term table) {
  Formula &f = *table.formula;
  return GatherElementsOp::create(f.b, f.loc, type, table.value, op.getIndices(), op.getAxis());
}
static Value gatherLike(ScatterNdOp op, RankedTensorType type, Term table) {
  Formula &f = *table.formula;
  return GatherNdOp::create(f.b, f.loc, type, table.value, op.getIndices(), /*batchDims=*/0);
}

/// Cotangents of data, indices and updates.
template <typename Op> static Cotangents scatterVJP(Op op, OpBuilder &b, Value cotangent) {
  Formula f(b, op, cotangent);
  Term g = f.cotangent();
  auto updatesShape = op.getUpdates().getType().getShape();
  auto read = [&](Term table) -> Term {
    return {&f, gatherLike(op, table.type().clone(updatesShape), table)};
  };
  auto finish = [&](Term data, Term updates) {
    return SmallVector<Value>{f.finish(data), Value(), f.finish(updates)};
  };
  switch (op.getCombine()) {
  case Combine::Sum:
    return finish(g, read(g));

  case Combine::Replace: {
    // Who wins is found by numbering the updates.
    auto order = RankedTensorType::get(updatesShape, b.getI64Type());
    Term number = reshape(f.iota({order.getNumElements()}, 0), updatesShape);
    Term winners =
        scatterLike(op, Combine::Replace, f.constant(order.clone(g.shape()), -1), number);
    Term untouched =
        scatterLike(op, Combine::Replace, g, f.constant(g.type().clone(updatesShape), 0));
    return finish(untouched, where(read(winners) == number, read(g), 0));
  }
  case Combine::Max:
  case Combine::Min: {
    Term data = f.operand(0), updates = f.operand(2), result = f.result();
    Term keeps = data == result, hits = updates == read(result);
    Term share = g / scatterLike(op, Combine::Sum, indicator(keeps, g), indicator(hits, g));
    return finish(where(keeps, share, 0), where(hits, read(share), 0));
  }
  case Combine::Prod: {
    Term data = f.operand(0), updates = f.operand(2);
    Term dataIsZero = data == 0, updateIsZero = updates == 0;
    Term zeros =
        scatterLike(op, Combine::Sum, indicator(dataIsZero, g), indicator(updateIsZero, g));
    Term product =
        scatterLike(op, Combine::Prod, where(dataIsZero, 1, data), where(updateIsZero, 1, updates));
    return finish(g * productSlope(data, zeros, product),
                  read(g) * productSlope(updates, read(zeros), read(product)));
  }
  }
  return failure();
}

/// By operand number: data, indices, updates.
static bool scatterReads(Combine combine, unsigned operand) {
  return operand == 1 || (combine != Combine::Replace && combine != Combine::Sum);
}

Cotangents ScatterElementsOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  return scatterVJP(*this, b, cotangents[0]);
}
bool ScatterElementsOp::needsOperand(unsigned index) { return scatterReads(getCombine(), index); }
bool ScatterElementsOp::needsResult(unsigned) {
  return getCombine() == Combine::Max || getCombine() == Combine::Min;
}

Cotangents ScatterNdOp::buildVJP(OpBuilder &b, ValueRange cotangents) {
  return scatterVJP(*this, b, cotangents[0]);
}
bool ScatterNdOp::needsOperand(unsigned index) { return scatterReads(getCombine(), index); }
bool ScatterNdOp::needsResult(unsigned) {
  return getCombine() == Combine::Max || getCombine() == Combine::Min;
}
