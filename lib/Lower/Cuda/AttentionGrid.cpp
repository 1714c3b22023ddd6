//===- AttentionGrid.cpp - What attention kernels share -------------------===//
#include "AttentionGrid.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace mlir;

namespace shardc {

static constexpr int64_t kMaxHeadSize = 256;
static const double kLog2E = std::log2(std::exp(1.0));

std::string AttentionGrid::reasonAgainst(const AttentionSpec &spec) {
  Type type = spec.q.type;
  for (const AttentionOperand *other : {&spec.k, &spec.v, &spec.out})
    if (other->type != type)
      return llvm::formatv("has operands of type {0} and {1}", type, other->type);
  if (type.isF64())
    return "has no kernel for f64 on GPUs";
  for (int64_t size : {spec.dim, spec.valueDim})
    if (size > kMaxHeadSize)
      return llvm::formatv("has heads of size {0}, more than {1}", size, kMaxHeadSize);
  return "";
}

AttentionGrid::Value AttentionGrid::takeBlock(Value block, int64_t blocksPerHead) {
  Value head = e.div(block, blocksPerHead);
  batch = e.div(head, spec.keyHeads);
  keyHead = e.rem(head, spec.keyHeads);
  return e.rem(block, blocksPerHead);
}

AttentionGrid::Query AttentionGrid::queryAt(Value row, bool isInside) {
  Value exists = isInside ? Value() : e.compare(arith::CmpIPredicate::ult, row, e.index(rows));
  Value head = e.add(e.mul(keyHead, members), members == 1 ? e.index(0) : e.div(row, spec.queries));
  return {head, members == 1 ? row : e.rem(row, spec.queries), exists};
}

RowPlace AttentionGrid::place(const AttentionOperand &operand, const Query &query) {
  Value start = e.add(e.mul(batch, operand.batch), e.mul(query.head, operand.head));
  return {e.add(start, e.mul(query.number, operand.row)), query.exists};
}

RowPlace AttentionGrid::keyPlace(const AttentionOperand &operand, Value key, bool isInside) {
  Value start = e.add(e.mul(batch, operand.batch), e.mul(keyHead, operand.head));
  return {e.add(start, e.mul(key, operand.row)),
          isInside ? Value() : e.compare(arith::CmpIPredicate::ult, key, e.index(spec.keys))};
}

GlobalRows AttentionGrid::source(Value buffer, const AttentionOperand &operand, int64_t columns) {
  int64_t stride = columns == 1 ? 1 : operand.column;
  return {buffer, columns, stride,
          movableVector(operand.type, columns, stride, {operand.batch, operand.head, operand.row})};
}

AttentionGrid::Value AttentionGrid::statistic(const Query &query) {
  Value row = e.add(e.mul(batch, spec.queryHeads), query.head);
  return e.add(e.mul(row, spec.queries), query.number);
}

AttentionGrid::Range AttentionGrid::queriesOf(Value first, Value last) {
  if (members == 1)
    return {first, last};
  // Rows of several heads: any query.
  Value isOne = e.equal(e.div(first, spec.queries), e.div(last, spec.queries));
  return {select(isOne, e.rem(first, spec.queries), e.index(0)),
          select(isOne, e.rem(last, spec.queries), e.index(spec.queries - 1))};
}

AttentionGrid::Range AttentionGrid::keysFor(const Range &queries) {
  Range keys{e.index(0), e.index(spec.keys)};
  if (spec.right) {
    Value end = e.add(queries.last, spec.offset + *spec.right + 1);
    keys.last = e.min(keys.last, e.max(end, e.index(0)));
  }
  if (spec.left)
    keys.first = e.max(e.index(0), e.add(queries.first, spec.offset - *spec.left));
  return keys;
}

AttentionGrid::Range AttentionGrid::queriesFor(const Range &keys) {
  Range queries{e.index(0), e.index(spec.queries)};
  if (spec.right)
    queries.first = e.max(e.index(0), e.add(keys.first, -spec.offset - *spec.right));
  if (spec.left) {
    Value end = e.add(keys.last, *spec.left - spec.offset + 1);
    queries.last = e.min(queries.last, e.max(end, e.index(0)));
  }
  return queries;
}

AttentionGrid::Value AttentionGrid::seeAll(const Range &queries, const Range &keys) {
  Value all;
  if (spec.right)
    all = e.compare(arith::CmpIPredicate::sle, keys.last,
                    e.add(queries.first, spec.offset + *spec.right));
  if (spec.left)
    all = both(all, e.compare(arith::CmpIPredicate::sge, keys.first,
                              e.add(queries.last, spec.offset - *spec.left)));
  return all;
}

AttentionGrid::Value AttentionGrid::sees(Value query, Value key) {
  return seeAll({query, query}, {key, key});
}

AttentionGrid::Score AttentionGrid::score(WarpTile &warp, Value product, Value mask,
                                          const Query &query, Value key, Value inside,
                                          bool wantsSlope) {
  Score score;
  if (spec.softCap != 0) {
    // c·tanh(s / c), whose derivative is 1 - tanh².
    Value t = warp.tanh(times(product, f32(spec.scale / spec.softCap)));
    score.value = times(t, f32(spec.softCap * kLog2E));
    if (wantsSlope)
      score.slope = times(minus(f32(1), times(t, t)), f32(spec.scale));
  } else {
    score.value = times(product, f32(spec.scale * kLog2E));
    if (wantsSlope)
      score.slope = f32(spec.scale);
  }
  if (!spec.mask)
    return score;
  Value at = e.add(place(*spec.mask, query).offset, e.mul(key, spec.mask->column));
  Value x = e.loadScalar(mask, inside ? select(inside, at, e.index(0)) : at);
  if (isa<FloatType>(x.getType())) {
    x = e.convert(x, e.b.getF32Type());
    // What is hidden so is hidden, whatever the product.
    Value sum = plus(score.value, logit(x));
    score.value = select(isEqual(x, hidden()), hidden(), sum);
  } else {
    Value isHidden = e.equal(x, e.zero(x.getType()));
    score.value = select(isHidden, hidden(), score.value);
  }
  return score;
}

AttentionGrid::Value AttentionGrid::logit(Value x) { return times(x, f32(kLog2E)); }

AttentionGrid::Values
AttentionGrid::hidePartly(ArrayRef<Value> scores, const Range &queries, const Range &keys,
                          bool isRagged,
                          llvm::function_ref<std::pair<Value, Value>(int64_t)> placeOf) {
  Value whole = seeAll(queries, keys);
  if (isRagged)
    whole = both(whole, e.less(keys.last, e.index(spec.keys)));
  if (!whole)
    return Values(scores);
  SmallVector<Type> types(ValueRange(scores).getTypes());
  auto branch = scf::IfOp::create(e.b, e.loc, types, whole, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(e.b);
  e.b.setInsertionPointToStart(branch.thenBlock());
  scf::YieldOp::create(e.b, e.loc, scores);
  e.b.setInsertionPointToStart(branch.elseBlock());
  Values checked;
  for (auto [n, score] : llvm::enumerate(scores)) {
    auto [query, key] = placeOf(n);
    Value visible = sees(query, key);
    if (isRagged)
      visible = both(visible, e.less(key, e.index(spec.keys)));
    checked.push_back(select(visible, score, hidden()));
  }
  scf::YieldOp::create(e.b, e.loc, checked);
  return Values(branch.getResults());
}

AttentionGrid::Value AttentionGrid::greatestOf(WarpTile &warp, ArrayRef<Value> scores,
                                               bool isHigh) {
  Value mine;
  for (auto [n, score] : llvm::enumerate(scores))
    if (WarpTile::isHigh(n) == isHigh)
      mine = mine ? greatest(mine, score) : score;
  return warp.overRow(mine, [&](Value x, Value y) { return greatest(x, y); });
}

AttentionGrid::Value AttentionGrid::sink(WarpTile &warp, Value sinks, const Query &query) {
  Value head = query.exists ? select(query.exists, query.head, e.index(0)) : query.head;
  return logit(warp.load(sinks, head));
}

} // namespace shardc
