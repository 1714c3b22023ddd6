//===- BoundedOps.cpp - Ops on a cache of any length ----------------------===//
//
// What becomes of each op (GrowingCache.cpp): constants that depend on the length, appending, and
// ops along the cache's dimension.
//
//===----------------------------------------------------------------------===//

#include "CacheBounder.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

bool isCache(Value value, int64_t dim) {
  auto argument = dyn_cast<BlockArgument>(value);
  auto function =
      argument ? cast<func::FuncOp>(argument.getOwner()->getParentOp()) : func::FuncOp();
  auto marked = function
                    ? function.getArgAttrOfType<IntegerAttr>(argument.getArgNumber(), kCacheDimAttr)
                    : IntegerAttr();
  return marked && marked.getInt() == dim;
}

/// `concat(cache, new)`
bool isAppend(Operation *op) {
  auto concat = dyn_cast<ConcatOp>(op);
  return concat && concat.getInputs().size() == 2 &&
         isCache(concat.getInputs()[0], concat.getDim());
}

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

/// 0, step, 2 step, … from each constant's first element: a range, of which only the end or the
/// start grows.
LogicalResult CacheBounder::boundSequence(ConstantOp op, const HostTensor &values,
                                          const HostTensor &others) {
  auto isRange = [](const HostTensor &t, int64_t delta) {
    for (int64_t k = 1; k < t.size(); ++k)
      if (t.i[k] - t.i[k - 1] != delta)
        return false;
    return true;
  };
  int64_t delta = values.size() > 1 ? values.i[1] - values.i[0] : others.i[1] - others.i[0];
  if (values.rank() != 1 || !isRange(values, delta) || !isRange(others, delta) ||
      values.i[0] != others.i[0])
    return mlir::emitError(op.getLoc()) << "is a constant of shape " << shapeText(values.shape())
                                        << " that grows with the cache, and no range";
  GraphBuilder g = at(op);
  Value range = g.iota(values.shape(), 0, values.type.getElementType());
  if (delta != 1)
    range = g.binary<MulOp>(range, static_cast<double>(delta));
  if (values.i[0] != 0)
    range = g.binary<AddOp>(range, static_cast<double>(values.i[0]));
  grown.insert({range, 0});
  op.getResult().replaceAllUsesWith(range);
  return success();
}

LogicalResult CacheBounder::boundConstant(ConstantOp op, ConstantOp other) {
  bool isGrown = op.getType() != other.getType();
  auto splat = dyn_cast<SplatElementsAttr>(op.getValue()),
       otherSplat = dyn_cast<SplatElementsAttr>(other.getValue());
  if (splat && otherSplat &&
      splat.getSplatValue<Attribute>() == otherSplat.getSplatValue<Attribute>())
    return success();
  if (!isGrown && op.getValue() == other.getValue())
    return success();
  FailureOr<HostTensor> values = HostTensor::fromAttr(op.getValue()),
                        others = HostTensor::fromAttr(other.getValue());
  if (failed(values) || failed(others))
    return failure();
  if (values->isFloat() || values->type.getElementType().isInteger(1))
    return mlir::emitError(op.getLoc()) << "is a constant of " << op.getType()
                                        << " that depends on the number of entries in the cache";
  if (isGrown)
    return boundSequence(op, *values, *others);
  HostTensor slope = *values, offset = *values;
  for (int64_t k = 0; k < values->size(); ++k) {
    int64_t difference = others->i[k] - values->i[k];
    if (difference % step)
      return mlir::emitError(op.getLoc())
             << "element " << k << " is " << values->i[k] << " with " << cache.capacity - step
             << " entries in the cache and " << others->i[k] << " with " << cache.capacity
             << ", which is not linear";
    slope.i[k] = difference / step;
    offset.i[k] = values->i[k] - slope.i[k] * (cache.capacity - step);
  }
  GraphBuilder g = at(op);
  Value number = g.cast(lengthLike(g, values->shape()), values->type.getElementType());
  if (llvm::any_of(slope.i, [](int64_t s) { return s != 1; }))
    number = g.create<MulOp>(number, g.constant(slope));
  if (llvm::any_of(offset.i, [](int64_t o) { return o != 0; }))
    number = g.create<AddOp>(number, g.constant(offset));
  op.getResult().replaceAllUsesWith(number);
  return success();
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

Value CacheBounder::isEntry(GraphBuilder &g, Value value, int64_t dim) {
  ArrayRef<int64_t> shape = shapeOf(value);
  Shape row(shape.size(), 1);
  row[dim] = shape[dim];
  Type index = builder.getI64Type();
  Value end = g.binary<AddOp>(lengthLike(g, row), static_cast<double>(step));
  return g.broadcastTo(g.compare(Predicate::LT, g.iota(row, dim, index), end), shape);
}

void CacheBounder::hide(GraphBuilder &g, OpOperand &operand, int64_t dim, double by) {
  Value value = operand.get();
  Value hidden = g.select(isEntry(g, value, dim), value, g.splatLike(value, by));
  for (int64_t d = 0; d < rankOf(value); ++d)
    if (grows(value, d))
      grown.insert({hidden, d});
  operand.set(hidden);
}

LogicalResult CacheBounder::append(ConcatOp op) {
  auto past = cast<BlockArgument>(op.getInputs()[0]);
  int64_t dim = op.getDim();
  if (!past.hasOneUse())
    return mlir::emitError(op.getLoc())
           << "input \""
           << main.getArgAttrOfType<StringAttr>(past.getArgNumber(), GraphDialect::kNameAttr)
                  .getValue()
           << "\" is used by others before entries are appended";
  Value fresh = op.getInputs()[1];
  past.setType(op.getType());
  builder.setInsertionPointToStart(&block);
  GraphBuilder shared(builder, folder, op.getLoc(),
                      StringAttr()); // of no layer: computed once for all
  Value index = shared.binary<AddOp>(shared.iota({step}, 0, builder.getI64Type()),
                                     lengthLike(shared, {step}));
  Value rows = shared.broadcast(index, {dim}, shapeOf(fresh));
  GraphBuilder g = at(op);
  auto present =
      g.create<ScatterElementsOp>(op.getType(), past, rows, fresh, dim, Combine::Replace);
  grown.insert({present, dim});
  op.getResult().replaceAllUsesWith(present);
  return success();
}

LogicalResult CacheBounder::boundAttention(AttentionOp op) {
  if (!grows(op.getKey(), 2) || !grows(op.getValue(), 2))
    return checkDims(op);
  GraphBuilder g = at(op);
  Type index = builder.getI64Type();
  int64_t queries = shapeOf(op.getQuery())[2], keys = cache.capacity;
  Value allowed, key = g.iota({1, 1, 1, keys}, 3, index);
  if (op.getCausal()) {
    int64_t offset = op.getCausalOffset(),
            slope = cast<AttentionOp>(otherOf[op]).getCausalOffset() - offset;
    if (slope != 0 && slope != step)
      return mlir::emitError(op.getLoc())
             << "attends from query " << offset << " on, or from " << offset + slope << " with "
             << step << " entries more in the cache";
    Value query =
        g.binary<AddOp>(g.iota({1, 1, queries, 1}, 2, index),
                        static_cast<double>(slope ? offset - (cache.capacity - step) : offset));
    if (slope)
      query = g.binary<AddOp>(query, lengthLike(g, {1, 1, queries, 1}));
    allowed = g.compare(Predicate::LE, key, query);
    if (op.getWindow())
      allowed = g.binary<AndOp>(
          allowed, g.compare(Predicate::GT, key,
                             g.binary<SubOp>(query, static_cast<double>(op.getWindow()))));
    op.setCausal(false);
    op.setCausalOffset(0);
    op.setWindow(0);
  } else if (op.getMask() && grows(op.getMask(), 3)) { // one of size 1 says nothing of the tail
    bool isFloatMask = isFloat(op.getMask());
    if (tails->of(op.getMask(), 3) == (isFloatMask ? Tail::Hidden : Tail::Zero))
      return success();
  }
  if (!allowed || tails->of(allowed, 3) != Tail::Zero) {
    Value entry = isEntry(g, key, 3);
    allowed = allowed ? g.binary<AndOp>(allowed, entry) : entry;
  }
  if (Value mask = op.getMask(); mask && isFloat(mask))
    allowed = g.select(allowed, mask,
                       g.splat(typeOf(mask).clone(ArrayRef<int64_t>{1, 1, 1, 1}), -INFINITY));
  else if (mask)
    allowed = g.binary<AndOp>(mask, allowed);
  op.getMaskMutable().assign(allowed);
  return success();
}

/// Where keys are contracted, one side has to be zero beyond the length; what a buffer holds there
/// is finite.
void CacheBounder::boundEinsum(EinsumOp op) {
  EinsumOp::Letters letters = op.getLetters();
  for (auto [d, letter] : llvm::enumerate(letters.lhs)) {
    size_t other = letters.rhs.find(letter);
    if (letters.result.contains(letter) || !grows(op.getLhs(), d) ||
        tails->of(op.getLhs(), d) == Tail::Zero ||
        (other != StringRef::npos && tails->of(op.getRhs(), other) == Tail::Zero))
      continue;
    GraphBuilder g = at(op);
    hide(g, op->getOpOperand(0), d, 0);
  }
}

/// Ops that treat the dimension as a batch of independent elements.
LogicalResult CacheBounder::checkDims(Operation *op) {
  auto withRule = dyn_cast<ShardingRuleOpInterface>(op);
  if (!withRule)
    return success();
  std::optional<ShardingRule> rule;
  for (auto [n, operand] : llvm::enumerate(op->getOperands()))
    for (int64_t d = 0; d < rankOf(operand); ++d) {
      if (!grows(operand, d))
        continue;
      if (!rule)
        rule = withRule.getShardingRule();
      const std::vector<int> &factors = rule->operands[n][d];
      if (factors.size() == 1 &&
          (rule->factors[factors[0]].kind == FactorKind::PassThrough || isa<EinsumOp>(op)))
        continue;
      return mlir::emitError(op->getLoc())
             << op->getName().stripDialect() << " mixes dimension " << d << " of "
             << operand.getType()
             << ", which is the cache's, with others or moves data along it; only softmax, "
                "contractions and attention may";
    }
  return success();
}

LogicalResult CacheBounder::bound(Operation *op) {
  if (auto constant = dyn_cast<ConstantOp>(op))
    return boundConstant(constant, cast<ConstantOp>(otherOf[op]));
  if (isAppend(op))
    return append(cast<ConcatOp>(op));
  if (auto attention = dyn_cast<AttentionOp>(op))
    return boundAttention(attention);
  if (auto softmax = dyn_cast<SoftmaxOp>(op);
      softmax && grows(softmax.getInput(), softmax.getDim())) {
    GraphBuilder g = at(op);
    if (tails->of(softmax.getInput(), softmax.getDim()) != Tail::Hidden)
      hide(g, op->getOpOperand(0), softmax.getDim(), -INFINITY);
    return success();
  }
  if (auto einsum = dyn_cast<EinsumOp>(op))
    boundEinsum(einsum);
  return checkDims(op);
}

} // namespace shardc::importer
