//===- AttentionKernel.cpp - Attention without a score matrix -------------===//
//
// A tile of the launch is one head (or one group of heads that share keys, where all its queries
// fit) and a block of queries:
//
//   1. The queries, scaled, in f32; running maximum -inf (or the sink) and sum 0 (or 1); output 0.
//   2. For each block of keys that any of the queries can see:
//      scores = Q·Kᵀ; hide, maximum of each row; factors that rescale what was summed before, for
//      many rows at once; weights; output += P·V.
//   3. Output divided by the sum, rounded once; the log-sum-exp.
//
// After Dao et al., "FlashAttention-2" (2023). All arithmetic is f32, scores are in units of log 2.
// Keys and values are copied (and transposed) into panels; where several tiles in turn share them
// and they fit L2, they are kept from tile to tile.
//
//===----------------------------------------------------------------------===//
#include "AttentionParts.h"
#include "MicroKernel.h"
#include "VectorMath.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;

namespace shardc {

namespace {

/// The buffers, by role.
struct AttentionBuffers {
  Value q, k, v, mask, sinks, offset, lengths, out, logSumExp;
};

class AttentionBuilder : AttentionParts {
public:
  AttentionBuilder(OpBuilder &builder, const AttentionSpec &spec, const CpuTarget &target)
      : AttentionParts(builder, spec, target), plan(spec),
        tileRows(llvm::divideCeil(plan.rows, llvm::divideCeil(plan.rows, maxTileRows(target, 2)))) {
  }

  Kernel build(ModuleOp module);

private:
  const AttentionPlan plan;
  const int64_t tileRows;
  AttentionBuffers buffers;
  Value queries, keyPanels, valuePanels, scores, outputs; ///< views of scratch
  Value maxima, blockMaxima, factors; ///< per row; maxima over all keys seen, over this block's
  Value sums;                         ///< per row `lanes` partial sums of weights

  /// The tile being emitted.
  Value batch, keyHead, firstHead, firstQuery, rows;
  Value keyEnd, shift; ///< keys of this batch; position of query 0

  KernelBody begin(ModuleOp module);
  void tile(Value index);
  Value head(Value row) {
    return plan.mergeHeads ? e.add(firstHead, e.div(row, spec.queries)) : firstHead;
  }
  Value query(Value row) {
    return plan.mergeHeads ? e.rem(row, spec.queries) : e.add(firstQuery, row);
  }
  Value rowBase(const AttentionOperand &operand, Value row) {
    return e.add(e.add(e.mul(batch, operand.batch), e.mul(head(row), operand.head)),
                 e.mul(query(row), operand.row));
  }
  Value keyBase(const AttentionOperand &operand) {
    return e.add(e.mul(batch, operand.batch), e.mul(keyHead, operand.head));
  }

  void loadQueries();
  std::pair<Value, Value> visibleKeys();
  void keyBlock(Value j0, Value end, Value packedEnd);
  void packBlock(bool isKey, Value j0, Value count, Value panelBase);
  void multiplyBlock(Value a, int64_t aRow, Value b, Value panelBase, int64_t bSteps, Value steps,
                     Value c, int64_t cRow, int64_t columns, bool accumulate);
  void maximumOfRow(Value row, Value j0);
  void rescaleFactors();
  void weightsOfRow(Value row);
  SmallVector<Value> visibleScores(Value row, Value j0);
  void finish();
};

KernelBody AttentionBuilder::begin(ModuleOp module) {
  SmallVector<MemRefType> types;
  SmallVector<Value *> slots;
  auto buffer = [&](Value &slot, MemRefType type) {
    types.push_back(type);
    slots.push_back(&slot);
  };
  auto flat = [](int64_t count, Type type) { return MemRefType::get({count}, type); };
  buffer(buffers.q, bufferOf(spec.q, spec.queryHeads, spec.queries, spec.dim));
  buffer(buffers.k, bufferOf(spec.k, spec.keyHeads, spec.keys, spec.dim));
  buffer(buffers.v, bufferOf(spec.v, spec.keyHeads, spec.keys, spec.valueDim));
  if (spec.mask)
    buffer(buffers.mask, bufferOf(*spec.mask, spec.queryHeads, spec.queries, spec.keys));
  if (spec.sinks)
    buffer(buffers.sinks, flat(spec.queryHeads, spec.sinks));
  if (spec.runtimeOffset)
    buffer(buffers.offset, flat(1, e.b.getI64Type()));
  if (spec.keyLengths)
    buffer(buffers.lengths, flat(spec.batch, e.b.getI64Type()));
  buffer(buffers.out, bufferOf(spec.out, spec.queryHeads, spec.queries, spec.valueDim));
  if (spec.logSumExp)
    buffer(buffers.logSumExp, flat(spec.batch * spec.queryHeads * spec.queries, f32));

  KernelBody kernel = beginKernel(e.b, module, spec.symbol, types, plan.scratchBytes);
  for (auto [slot, value] : llvm::zip(slots, kernel.buffers))
    *slot = value;
  auto view = [&](int64_t offset, int64_t end) {
    return e.view(kernel.scratch, offset, f32, (end - offset) / 4);
  };
  queries = view(plan.qOffset, plan.kOffset);
  keyPanels = view(plan.kOffset, plan.vOffset);
  valuePanels = view(plan.vOffset, plan.scoreOffset);
  scores = view(plan.scoreOffset, plan.outOffset);
  outputs = view(plan.outOffset, plan.maxOffset);
  maxima = view(plan.maxOffset, plan.blockMaxOffset);
  blockMaxima = view(plan.blockMaxOffset, plan.factorOffset);
  factors = view(plan.factorOffset, plan.sumOffset);
  sums = view(plan.sumOffset, plan.scratchBytes);
  return kernel;
}

Kernel AttentionBuilder::build(ModuleOp module) {
  OpBuilder::InsertionGuard guard(e.b);
  KernelBody kernel = begin(module);
  auto toIndex = [&](Value i64) {
    return arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), i64);
  };
  shift = e.index(spec.offset);
  if (spec.runtimeOffset)
    shift = e.add(shift, toIndex(e.loadScalar(buffers.offset, e.index(0))));
  // Carried: the key head whose panels are in scratch, and up to which key.
  Emitter::Values nothing = {e.index(-1), e.index(0)};
  e.loop(kernel.tileBegin, kernel.tileEnd, 1, nothing, [&](Value index, ValueRange carried) {
    Value rest = e.div(index, plan.blocks);
    firstQuery = e.mul(e.rem(index, plan.blocks), plan.mergeHeads ? 0 : plan.rows);
    int64_t heads = plan.mergeHeads ? spec.keyHeads : spec.queryHeads;
    Value head = e.rem(rest, heads);
    batch = e.div(rest, heads);
    keyHead = plan.mergeHeads ? head : e.div(head, plan.group);
    firstHead = plan.mergeHeads ? e.mul(head, plan.group) : head;
    rows = plan.blocks == 1 ? e.index(plan.rows)
                            : e.min(e.index(plan.rows), e.sub(e.index(spec.queries), firstQuery));
    keyEnd = e.index(spec.keys);
    if (spec.keyLengths)
      keyEnd = e.max(e.index(0), e.min(keyEnd, toIndex(e.loadScalar(buffers.lengths, batch))));
    loadQueries();
    auto [begin, end] = visibleKeys();
    Value packedFor = e.add(e.mul(batch, spec.keyHeads), keyHead);
    Value same = e.equal(packedFor, carried[0]);
    Value packedEnd = arith::SelectOp::create(e.b, e.loc, same, carried[1], e.index(0));
    e.loop(begin, end, kKeyBlock, [&, end = end](Value j0) { keyBlock(j0, end, packedEnd); });
    finish();
    return Emitter::Values{packedFor, e.max(packedEnd, end)};
  });
  return {spec.symbol, plan.tiles, plan.scratchBytes};
}

void AttentionBuilder::loadQueries() {
  Value padded = e.mul(e.div(e.add(rows, tileRows - 1), tileRows), tileRows);
  e.loop(rows, padded, 1, [&](Value row) { // rows that only fill the last register tile
    e.loop(e.index(0), e.index(spec.dim), 1,
           [&](Value d) { e.storeScalar(e.zero(f32), queries, e.add(e.mul(row, spec.dim), d)); });
    clear(scores, e.mul(row, kKeyBlock), e.mul(e.add(row, 1), kKeyBlock));
  });
  clear(outputs, e.index(0), e.mul(padded, plan.paddedDim));
  e.loop(e.index(0), rows, 1, [&](Value row) {
    copyRow(buffers.q, rowBase(spec.q, row), spec.q.column, spec.dim, queryScale(), queries,
            e.mul(row, spec.dim));
    e.store(e.zero(e.vec(lanes, f32)), sums, e.mul(row, lanes));
    if (!spec.sinks)
      return e.storeScalar(minusInfinity(), maxima, row);
    Value sink = e.convert(e.loadScalar(buffers.sinks, head(row)), f32);
    e.storeScalar(multiply(sink, e.scalar(f32, kLog2E)), maxima, row);
    e.storeScalar(e.scalar(f32, 1), sums, e.mul(row, lanes));
  });
}

/// The keys that some query of the tile can see: [first, second).
std::pair<Value, Value> AttentionBuilder::visibleKeys() {
  Value zero = e.index(0), begin = zero, end = keyEnd;
  Value count = plan.mergeHeads ? e.index(spec.queries) : rows;
  Value first = e.add(firstQuery, shift);
  if (spec.left)
    begin = e.max(zero, e.add(first, -*spec.left));
  if (spec.right)
    end = e.max(zero, e.min(end, e.add(e.add(first, count), *spec.right)));
  return {begin, end};
}

void AttentionBuilder::keyBlock(Value j0, Value end, Value packedEnd) {
  // Kept panels serve later tiles, which may see more of the block: all its keys are packed.
  Value all = plan.keepPanels ? e.index(spec.keys) : end;
  Value count = e.min(e.index(kKeyBlock), e.sub(end, j0));
  Value packed = e.min(e.index(kKeyBlock), e.sub(all, j0));
  Value slot = plan.keepPanels ? j0 : e.index(0);
  Value keyBase = e.mul(slot, spec.dim), valueBase = e.mul(slot, plan.paddedDim);
  auto packBoth = [&] {
    packBlock(/*isKey=*/true, j0, packed, keyBase);
    packBlock(/*isKey=*/false, j0, packed, valueBase);
  };
  if (plan.keepPanels)
    e.ifThen(e.compare(arith::CmpIPredicate::sge, j0, packedEnd), packBoth);
  else
    packBoth();
  multiplyBlock(queries, spec.dim, keyPanels, keyBase, spec.dim, e.index(spec.dim), scores,
                kKeyBlock, kKeyBlock, /*accumulate=*/false);
  e.loop(e.index(0), rows, 1, [&](Value row) { maximumOfRow(row, j0); });
  rescaleFactors();
  e.loop(e.index(0), rows, 1, [&](Value row) { weightsOfRow(row); });
  multiplyBlock(scores, kKeyBlock, valuePanels, valueBase, kKeyBlock, count, outputs,
                plan.paddedDim, plan.paddedDim, /*accumulate=*/true);
}

/// Panels [dim][32] of keys, or [64][32] of values.
void AttentionBuilder::packBlock(bool isKey, Value j0, Value count, Value panelBase) {
  e.loop(e.index(0), e.index(isKey ? kKeyBlock : plan.paddedDim), kPanel, [&](Value x) {
    Value to = e.add(panelBase, e.mul(x, isKey ? spec.dim : kKeyBlock));
    if (isKey)
      pack(spec.k.type, spec.k.column, spec.k.row, spec.keys, buffers.k, keyBase(spec.k),
           e.add(j0, x), e.index(spec.dim), keyPanels, to);
    else
      pack(spec.v.type, spec.v.row, spec.v.column, spec.valueDim, buffers.v,
           e.add(keyBase(spec.v), e.mul(j0, spec.v.row)), x, count, valuePanels, to);
  });
}

/// c (+)= a · panels, for whole register tiles of rows.
void AttentionBuilder::multiplyBlock(Value a, int64_t aRow, Value b, Value panelBase,
                                     int64_t bSteps, Value steps, Value c, int64_t cRow,
                                     int64_t columns, bool accumulate) {
  e.loop(e.index(0), e.index(columns), 2 * lanes, [&](Value column) {
    Value inPanel = e.rem(column, kPanel);
    Value bBase = e.add(e.add(panelBase, e.mul(e.div(column, kPanel), bSteps * kPanel)), inPanel);
    e.loop(e.index(0), rows, tileRows, [&](Value row) {
      registerTile(tileRows, {a, e.mul(row, aRow), aRow, 1, b, bBase, kPanel, steps, c,
                              e.add(e.mul(row, cRow), column), cRow, accumulate});
    });
  });
}

SmallVector<Value> AttentionBuilder::visibleScores(Value row, Value j0) {
  Value position = e.add(query(row), shift);
  auto bound = [&](Value j) { return columnBound(e.sub(j, j0), kKeyBlock); };
  Value high = bound(spec.right ? e.min(keyEnd, e.add(position, *spec.right + 1)) : keyEnd);
  Value low = spec.left ? bound(e.add(position, -*spec.left)) : Value();
  SmallVector<Value> result;
  for (int64_t x = 0; x < kKeyBlock; x += lanes) {
    Value product = e.load(scores, e.add(e.mul(row, kKeyBlock), x), lanes), maskAt;
    if (spec.mask)
      maskAt = e.add(rowBase(*spec.mask, row), e.mul(e.add(j0, x), spec.mask->column));
    result.push_back(score(product, visibleLanes(e.index(x), low, high), buffers.mask, maskAt));
  }
  return result;
}

void AttentionBuilder::maximumOfRow(Value row, Value j0) {
  SmallVector<Value> vectors = visibleScores(row, j0);
  for (auto [i, score] : llvm::enumerate(vectors))
    e.store(score, scores, e.add(e.mul(row, kKeyBlock), i * lanes));
  while (vectors.size() > 1) { // a power of two
    for (size_t i = 0; i < vectors.size() / 2; ++i)
      vectors[i] = e.greater(vectors[2 * i], vectors[2 * i + 1]);
    vectors.resize(vectors.size() / 2);
  }
  e.storeScalar(maximumOfLanes(vectors.front()), blockMaxima, row);
}

/// New maxima, and what the sums and outputs so far are worth with them: 2^(old - new).
void AttentionBuilder::rescaleFactors() {
  e.loop(e.index(0), rows, lanes, [&](Value row) { // the rows beyond are scratch that nobody reads
    Value old = e.load(maxima, row, lanes);
    Value maximum = e.greater(e.load(blockMaxima, row, lanes), old);
    e.store(maximum, maxima, row);
    Value base = finiteBase(maximum);
    e.store(base, blockMaxima, row);
    e.store(emitExp2NonPositive(e, subtract(old, base)), factors, row);
  });
}

void AttentionBuilder::weightsOfRow(Value row) {
  Value base = e.broadcast(lanes, e.loadScalar(blockMaxima, row)), sum;
  for (int64_t x = 0; x < kKeyBlock; x += lanes) {
    Value at = e.add(e.mul(row, kKeyBlock), x);
    Value weight = emitExp2NonPositive(e, subtract(e.load(scores, at, lanes), base));
    e.store(weight, scores, at);
    sum = sum ? Value(arith::AddFOp::create(e.b, e.loc, sum, weight)) : weight;
  }
  Value factor = e.loadScalar(factors, row), wide = e.broadcast(lanes, factor),
        sumAt = e.mul(row, lanes);
  e.store(e.fma(e.load(sums, sumAt, lanes), wide, sum), sums, sumAt);
  Value changed =
      arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::UNE, factor, e.scalar(f32, 1));
  e.ifThen(changed, [&] {
    Value from = e.mul(row, plan.paddedDim);
    e.loop(e.index(0), e.index(plan.paddedDim), lanes, [&](Value d) {
      Value at = e.add(from, d);
      e.store(multiply(e.load(outputs, at, lanes), wide), outputs, at);
    });
  });
}

void AttentionBuilder::finish() {
  e.loop(e.index(0), rows, 1, [&](Value row) {
    Value sum = sumOfLanes(e.load(sums, e.mul(row, lanes), lanes));
    storeRow(outputs, e.mul(row, plan.paddedDim), inverseOrZero(sum), spec.valueDim, buffers.out,
             rowBase(spec.out, row));
    if (!spec.logSumExp)
      return;
    Value any = arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::UNE, sum, e.scalar(f32, 0));
    Value log = math::LogOp::create(
        e.b, e.loc, arith::SelectOp::create(e.b, e.loc, any, sum, e.scalar(f32, 1)));
    Value value =
        math::FmaOp::create(e.b, e.loc, e.loadScalar(maxima, row), e.scalar(f32, 1 / kLog2E), log);
    Value at =
        e.add(e.mul(e.add(e.mul(batch, spec.queryHeads), head(row)), spec.queries), query(row));
    e.storeScalar(arith::SelectOp::create(e.b, e.loc, any, value, minusInfinity()),
                  buffers.logSumExp, at);
  });
}

} // namespace

FailureOr<Kernel> buildAttention(OpBuilder &builder, ModuleOp module, const AttentionSpec &spec,
                                 const CpuTarget &target) {
  if (failed(verifyAttention(module, spec)))
    return failure();
  return AttentionBuilder(builder, spec, target).build(module);
}

} // namespace shardc
