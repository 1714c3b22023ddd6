//===- CutOps.cpp - Which ops are done piece by piece ---------------------===//
//
//   1. Products that read what is gathered, and what lies between.
//   2. Products that make what is reduced, and the sums between. If their rows come from products
//      of (1) through elementwise ops (a gated activation), so are those: what one gather brings
//      goes through to the reduce-scatter piece by piece.
//   3. Elementwise ops behind a product, which Fuse makes its epilogue: while each has one use.
//   4. Elementwise ops all readers of which are done piece by piece.
//
//===----------------------------------------------------------------------===//
#include "Sites.h"

using namespace mlir;

namespace shardc {

CutOps::CutOps(func::FuncOp function, ArrayRef<const Site *> sites)
    : sites(sites), tokens(sites.front()->tokens) {
  findReached();
  for (const Site *site : sites) {
    if (!site->isGather()) {
      addSum(site->op->getOperand(0));
      continue;
    }
    for (Operation *product : site->products) {
      cut.insert(product);
      addReached(product->getOperand(*tokenOperand(product, tokens)));
    }
  }
  addEpilogues();
  addOperands(function);
  ops.assign(cut.begin(), cut.end());
  llvm::sort(ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
}

void CutOps::findReached() {
  SmallVector<Value> work;
  for (const Site *site : sites)
    if (site->isGather())
      work.push_back(site->op->getResult(0));
  reached.insert(work.begin(), work.end());
  while (!work.empty())
    for (OpOperand &use : work.pop_back_val().getUses()) {
      Operation *user = use.getOwner();
      if ((isTokenwise(user, tokens) || tokenOperand(user, tokens) == use.getOperandNumber()) &&
          reached.insert(user->getResult(0)).second)
        work.push_back(user->getResult(0));
    }
}

bool CutOps::comesFromProduct(Value value) {
  auto [known, isNew] = isFromProduct.try_emplace(value, false);
  Operation *op = value.getDefiningOp();
  if (!isNew || !op)
    return known->second;
  bool result = tokenOperand(op, tokens) ||
                (isTokenwise(op, tokens) && llvm::any_of(op->getOperands(), [&](Value operand) {
                   return comesFromProduct(operand);
                 }));
  return isFromProduct[value] = result;
}

/// What is reduced: elementwise ops down to products.
void CutOps::addSum(Value value) {
  if (!comesFromProduct(value))
    return;
  Operation *op = value.getDefiningOp();
  if (!cut.insert(op))
    return;
  if (std::optional<unsigned> own = tokenOperand(op, tokens))
    return addReached(op->getOperand(*own));
  for (Value operand : op->getOperands())
    addSum(operand);
}

/// What lies between a gather and an op that is cut.
void CutOps::addReached(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op || !reached.contains(value) || isa<shard::AllGatherOp>(op) || !cut.insert(op))
    return;
  if (std::optional<unsigned> own = tokenOperand(op, tokens))
    return addReached(op->getOperand(*own));
  for (Value operand : op->getOperands())
    addReached(operand);
}

void CutOps::addEpilogues() {
  SmallVector<Operation *> products;
  llvm::copy_if(cut, std::back_inserter(products),
                [&](Operation *op) { return tokenOperand(op, tokens).has_value(); });
  for (Operation *op : products)
    for (Value value = op->getResult(0); value.hasOneUse();) {
      Operation *next = *value.user_begin();
      if (!isTokenwise(next, tokens))
        break;
      cut.insert(next);
      value = next->getResult(0);
    }
}

void CutOps::addOperands(func::FuncOp function) {
  auto isReadInPieces = [&](OpOperand &use) {
    Operation *user = use.getOwner();
    return cut.contains(user) &&
           (isTokenwise(user, tokens) || tokenOperand(user, tokens) == use.getOperandNumber());
  };
  for (Operation &op : llvm::reverse(function.getBody().front()))
    if (isTokenwise(&op, tokens) && !op.use_empty() && llvm::all_of(op.getUses(), isReadInPieces))
      cut.insert(&op);
}

} // namespace shardc
