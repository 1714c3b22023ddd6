//===- AttentionGradKernel.cpp - Gradients of attention -------------------===//
//
// A tile of the launch is one key head with all the query heads that read it:
//
//   1. Keys and values as panels (to multiply queries and cotangents with), keys as rows; dk = dv =
//      0.
//   2. For each query head, for each block of queries, whose rows of scores fit L2:
//      S = Q·Kᵀ, dP = G·Vᵀ; row by row P = softmax(S), D = Σ P·dP, dS = P·(dP - D);
//      dq = dS·K, dv += Pᵀ·G, dk += dSᵀ·Q. Of each product only the register tiles that hold a
//      visible score.
//   3. dk and dv are rounded and stored.
//
// After Dao, "FlashAttention-2" (2023), with all keys of a block of queries at once: so the softmax
// needs no second pass over them, nothing is saved in the forward pass, and the order of all sums
// is fixed. All arithmetic is f32, scores are in units of log 2.
//
//===----------------------------------------------------------------------===//
#include "AttentionParts.h"
#include "MicroKernel.h"
#include "VectorMath.h"

using namespace mlir;

namespace shardc {

namespace {

class AttentionGradBuilder : AttentionParts {
public:
  AttentionGradBuilder(OpBuilder &builder, const AttentionGradSpec &spec, const CpuTarget &target)
      : AttentionParts(builder, spec.attention, target), grad(spec), plan(spec.attention),
        maxRows(maxTileRows(target, 2)), tileRows(std::min(plan.rows, maxRows)), strip(2 * lanes) {}

  Kernel build(ModuleOp module);

private:
  const AttentionGradSpec &grad;
  const AttentionGradPlan plan;
  const int64_t maxRows;  ///< of a register tile; tiles of keys have so many
  const int64_t tileRows; ///< … tiles of queries
  const int64_t strip;    ///< columns of a register tile
  Value q, k, v, mask, sinks, cotangent, dq, dk, dv, dsinks; ///< buffers
  Value queries, cotangents, keyPanels, valuePanels,
      keyRows;       ///< in scratch, as are all that follow
  Value scores;      ///< products, scores, then weights
  Value weightGrads; ///< dP, then dS
  Value slopes;      ///< of the cap, for one row
  Value dqs, dks, dvs, dsinkSums;

  /// What is being emitted.
  Value batch, keyHead, head, member;
  Value firstQuery, rows;   ///< of the block
  Value firstKey, endKey;   ///< that some query of the block sees; firstKey is the first of a panel
  Value width, paddedWidth; ///< columns of the block; up to the end of the last register tile

  Value base(const AttentionOperand &operand, Value head, Value row) {
    return e.add(e.add(e.mul(batch, operand.batch), e.mul(head, operand.head)),
                 e.mul(row, operand.row));
  }
  Value roundUp(Value x, int64_t y) { return e.mul(e.div(e.add(x, y - 1), y), y); }

  KernelBody begin(ModuleOp module);
  void keyHeadOfBatch();
  void block();
  std::pair<Value, Value> keysSeen(Value first, Value count);
  std::pair<Value, Value> rowsThatSee(Value column, int64_t count);
  void loadQueries();
  void products(Value a, int64_t aRow, Value panels, int64_t depth, Value c);
  void softmaxOfRow(Value row);
  void queryGradients();
  void keyGradients(Value a, Value b, int64_t bRow, Value c);
};

KernelBody AttentionGradBuilder::begin(ModuleOp module) {
  SmallVector<MemRefType> types;
  SmallVector<Value *> slots;
  auto buffer = [&](Value &slot, MemRefType type) {
    types.push_back(type);
    slots.push_back(&slot);
  };
  buffer(q, bufferOf(spec.q, spec.queryHeads, spec.queries, spec.dim));
  buffer(k, bufferOf(spec.k, spec.keyHeads, spec.keys, spec.dim));
  buffer(v, bufferOf(spec.v, spec.keyHeads, spec.keys, spec.valueDim));
  if (spec.mask)
    buffer(mask, bufferOf(*spec.mask, spec.queryHeads, spec.queries, spec.keys));
  if (spec.sinks)
    buffer(sinks, MemRefType::get({spec.queryHeads}, spec.sinks));
  buffer(cotangent, bufferOf(spec.out, spec.queryHeads, spec.queries, spec.valueDim));
  buffer(dq, bufferOf(grad.dq, spec.queryHeads, spec.queries, spec.dim));
  buffer(dk, bufferOf(grad.dk, spec.keyHeads, spec.keys, spec.dim));
  buffer(dv, bufferOf(grad.dv, spec.keyHeads, spec.keys, spec.valueDim));
  if (spec.sinks)
    buffer(dsinks, MemRefType::get({spec.queryHeads}, spec.sinks));
  KernelBody kernel = beginKernel(e.b, module, spec.symbol, types, plan.scratchBytes);
  for (auto [slot, value] : llvm::zip(slots, kernel.buffers))
    *slot = value;
  auto view = [&](int64_t offset, int64_t end) {
    return e.view(kernel.scratch, offset, f32, (end - offset) / 4);
  };
  queries = view(plan.qOffset, plan.gOffset);
  cotangents = view(plan.gOffset, plan.keyPanelOffset);
  keyPanels = view(plan.keyPanelOffset, plan.valuePanelOffset);
  valuePanels = view(plan.valuePanelOffset, plan.keyRowOffset);
  keyRows = view(plan.keyRowOffset, plan.scoreOffset);
  scores = view(plan.scoreOffset, plan.weightGradOffset);
  weightGrads = view(plan.weightGradOffset, plan.slopeOffset);
  slopes = view(plan.slopeOffset, plan.dqOffset);
  dqs = view(plan.dqOffset, plan.dkOffset);
  dks = view(plan.dkOffset, plan.dvOffset);
  dvs = view(plan.dvOffset, plan.dsinkOffset);
  dsinkSums = view(plan.dsinkOffset, plan.scratchBytes);
  return kernel;
}

Kernel AttentionGradBuilder::build(ModuleOp module) {
  OpBuilder::InsertionGuard guard(e.b);
  KernelBody kernel = begin(module);
  e.loop(kernel.tileBegin, kernel.tileEnd, 1, [&](Value index) {
    keyHead = e.rem(index, spec.keyHeads);
    Value firstBatch = e.mul(e.div(index, spec.keyHeads), plan.batchesPerTile);
    Value one = e.index(0), group = e.index(plan.group);
    if (!spec.sinks) {
      batch = firstBatch;
      return keyHeadOfBatch();
    }
    e.loop(one, group, 1, [&](Value h) { e.storeScalar(e.scalar(f32, 0), dsinkSums, h); });
    e.loop(firstBatch, e.add(firstBatch, plan.batchesPerTile), 1, [&](Value b) {
      batch = b;
      keyHeadOfBatch();
    });
    e.loop(one, group, 1, [&](Value h) {
      e.storeScalar(e.convert(e.loadScalar(dsinkSums, h), spec.sinks), dsinks,
                    e.add(e.mul(keyHead, plan.group), h));
    });
  });
  return {spec.symbol, plan.tiles, plan.scratchBytes};
}

void AttentionGradBuilder::keyHeadOfBatch() {
  Value zero = e.index(0), keys = e.index(spec.keys);
  Value keyBase = base(spec.k, keyHead, zero), valueBase = base(spec.v, keyHead, zero);
  e.loop(zero, keys, kPanel, [&](Value j) {
    pack(spec.k.type, spec.k.column, spec.k.row, spec.keys, k, keyBase, j, e.index(spec.dim),
         keyPanels, e.mul(j, spec.dim));
    pack(spec.v.type, spec.v.column, spec.v.row, spec.keys, v, valueBase, j, e.index(spec.valueDim),
         valuePanels, e.mul(j, spec.valueDim));
  });
  // What pads the last dimension must be numbers, since it is multiplied.
  if (spec.dim != plan.paddedDim)
    clear(keyRows, zero, e.index(spec.keys * plan.paddedDim));
  e.loop(zero, keys, 1, [&](Value j) {
    copyRow(k, e.add(keyBase, e.mul(j, spec.k.row)), spec.k.column, spec.dim, 1, keyRows,
            e.mul(j, plan.paddedDim));
  });
  int64_t rowsToClear = spec.keys + kMaxTileRows; // the last register tile reaches beyond
  clear(dks, zero, e.index(rowsToClear * plan.paddedDim));
  clear(dvs, zero, e.index(rowsToClear * plan.paddedValueDim));

  e.loop(zero, e.index(plan.group), 1, [&](Value h) {
    member = h;
    head = e.add(e.mul(keyHead, plan.group), h);
    e.loop(zero, e.index(spec.queries), plan.rows, [&](Value first) {
      firstQuery = first;
      block();
    });
  });

  // Queries were scaled, for scores in units of log 2.
  Value dkScale = e.scalar(f32, spec.softCap == 0 ? 1 / kLog2E : 1);
  e.loop(zero, keys, 1, [&](Value j) {
    storeRow(dks, e.mul(j, plan.paddedDim), dkScale, spec.dim, dk, base(grad.dk, keyHead, j));
    storeRow(dvs, e.mul(j, plan.paddedValueDim), e.scalar(f32, 1), spec.valueDim, dv,
             base(grad.dv, keyHead, j));
  });
}

/// The keys that some of `count` queries from row `first` of the block on can see: [first, second).
std::pair<Value, Value> AttentionGradBuilder::keysSeen(Value first, Value count) {
  Value zero = e.index(0), begin = zero, end = e.index(spec.keys);
  Value position = e.add(e.add(firstQuery, first), spec.offset);
  if (spec.left)
    begin = e.min(end, e.max(zero, e.add(position, -*spec.left)));
  if (spec.right)
    end = e.max(zero, e.min(end, e.add(e.add(position, count), *spec.right)));
  return {begin, e.max(begin, end)};
}

/// The rows of the block that can see some of `count` keys from `column` on: [first, second).
std::pair<Value, Value> AttentionGradBuilder::rowsThatSee(Value column, int64_t count) {
  Value zero = e.index(0), begin = zero, end = rows;
  // Position of the first key, seen from the first query.
  Value key = e.sub(e.add(e.add(firstKey, column), -spec.offset), firstQuery);
  if (spec.right)
    begin = e.min(rows, e.max(zero, e.add(key, -*spec.right)));
  if (spec.left)
    end = e.min(rows, e.max(begin, e.add(key, count + *spec.left)));
  return {begin, end};
}

void AttentionGradBuilder::block() {
  rows = e.min(e.index(plan.rows), e.sub(e.index(spec.queries), firstQuery));
  std::tie(firstKey, endKey) = keysSeen(e.index(0), rows);
  firstKey = e.roundDown(firstKey, kPanel);
  width = e.sub(endKey, firstKey);
  paddedWidth = roundUp(width, maxRows);
  loadQueries();
  products(queries, plan.paddedDim, keyPanels, spec.dim, scores);
  products(cotangents, plan.paddedValueDim, valuePanels, spec.valueDim, weightGrads);
  e.loop(e.index(0), rows, 1, [&](Value row) { softmaxOfRow(row); });
  queryGradients();
  keyGradients(scores, cotangents, plan.paddedValueDim, dvs);
  keyGradients(weightGrads, queries, plan.paddedDim, dks);
}

void AttentionGradBuilder::loadQueries() {
  auto load = [&](Value source, const AttentionOperand &operand, int64_t columns, int64_t padded,
                  double scale, Value target) {
    Value end = roundUp(rows, tileRows);
    // The rows that only fill the last register tile, and the columns of the last strip.
    clear(target, columns == padded ? e.mul(rows, padded) : e.index(0), e.mul(end, padded));
    e.loop(e.index(0), rows, 1, [&](Value row) {
      copyRow(source, base(operand, head, e.add(firstQuery, row)), operand.column, columns, scale,
              target, e.mul(row, padded));
    });
  };
  load(q, spec.q, spec.dim, plan.paddedDim, queryScale(), queries);
  load(cotangent, spec.out, spec.valueDim, plan.paddedValueDim, 1, cotangents);
}

/// c = a · panels, where a row sees a key.
void AttentionGradBuilder::products(Value a, int64_t aRow, Value panels, int64_t depth, Value c) {
  e.loop(e.index(0), width, strip, [&](Value column) {
    Value key = e.add(firstKey, column), inPanel = e.rem(key, kPanel);
    Value bBase = e.add(e.mul(e.sub(key, inPanel), depth), inPanel);
    auto [begin, end] = rowsThatSee(column, strip);
    e.loop(e.roundDown(begin, tileRows), end, tileRows, [&](Value row) {
      registerTile(tileRows, {a, e.mul(row, aRow), aRow, 1, panels, bBase, kPanel, e.index(depth),
                              c, e.add(e.mul(row, plan.columns), column), plan.columns,
                              /*accumulate=*/false});
    });
  });
}

/// From products to weights, and from their gradients to those of the scores; zero where nothing is
/// visible.
void AttentionGradBuilder::softmaxOfRow(Value row) {
  Value query = e.add(firstQuery, row), start = e.mul(row, plan.columns);
  auto [firstSeen, endSeen] = keysSeen(row, e.index(1));
  Value low, high = columnBound(e.sub(endSeen, firstKey), plan.columns);
  if (spec.left)
    low = columnBound(e.sub(firstSeen, firstKey), plan.columns);
  // Whole vectors around the columns that are seen.
  Value begin = e.roundDown(e.sub(e.max(firstSeen, firstKey), firstKey), lanes);
  Value end = roundUp(e.max(begin, e.sub(e.max(endSeen, firstKey), firstKey)), lanes);

  Value sink, nothing = e.broadcast(lanes, minusInfinity());
  if (spec.sinks)
    sink = multiply(e.convert(e.loadScalar(sinks, head), f32), e.scalar(f32, kLog2E));
  Value highest =
      e.loop(begin, end, lanes, nothing, [&](Value x, ValueRange carried) {
         Value maskAt, slope, at = e.add(start, x);
         if (spec.mask)
           maskAt =
               e.add(base(*spec.mask, head, query), e.mul(e.add(firstKey, x), spec.mask->column));
         Value s =
             score(e.load(scores, at, lanes), visibleLanes(x, low, high), mask, maskAt, &slope);
         e.store(s, scores, at);
         if (slope)
           e.store(slope, slopes, x);
         return Emitter::Values{e.greater(s, carried[0])};
       }).front();
  Value maximum = maximumOfLanes(highest);
  if (spec.sinks)
    maximum = e.greater(maximum, sink);
  Value base = finiteBase(maximum), wideBase = e.broadcast(lanes, base);

  Value zeros = e.zero(e.vec(lanes, f32));
  Emitter::Values sums =
      e.loop(begin, end, lanes, {zeros, zeros}, [&](Value x, ValueRange carried) {
        Value at = e.add(start, x);
        Value weight = emitExp2NonPositive(e, subtract(e.load(scores, at, lanes), wideBase));
        e.store(weight, scores, at);
        return Emitter::Values{arith::AddFOp::create(e.b, e.loc, carried[0], weight),
                               e.fma(weight, e.load(weightGrads, at, lanes), carried[1])};
      });
  Value sum = sumOfLanes(sums[0]), sinkWeight;
  if (spec.sinks) {
    sinkWeight = emitExp2NonPositive(e, subtract(sink, base));
    sum = arith::AddFOp::create(e.b, e.loc, sum, sinkWeight);
  }
  Value inverse = inverseOrZero(sum), mean = multiply(sumOfLanes(sums[1]), inverse);
  Value wideInverse = e.broadcast(lanes, inverse), wideMean = e.broadcast(lanes, mean);
  if (spec.sinks) {
    Value share = multiply(multiply(sinkWeight, inverse), mean);
    e.storeScalar(subtract(e.loadScalar(dsinkSums, member), share), dsinkSums, member);
  }

  e.loop(begin, end, lanes, [&](Value x) {
    Value at = e.add(start, x), weight = multiply(e.load(scores, at, lanes), wideInverse);
    Value ds = multiply(weight, subtract(e.load(weightGrads, at, lanes), wideMean));
    if (spec.softCap != 0)
      ds = multiply(ds, e.load(slopes, x, lanes));
    e.store(weight, scores, at);
    e.store(ds, weightGrads, at);
  });
  // Register tiles of keys reach further than one row sees.
  for (Value buffer : {scores, weightGrads}) {
    clear(buffer, start, e.add(start, begin));
    clear(buffer, e.add(start, end), e.add(start, paddedWidth));
  }
}

/// dq = dS · K, rounded and stored.
void AttentionGradBuilder::queryGradients() {
  e.loop(e.index(0), rows, tileRows, [&](Value row) {
    auto [first, end] = keysSeen(row, e.min(e.index(tileRows), e.sub(rows, row)));
    first = e.max(first, firstKey);
    e.loop(e.index(0), e.index(plan.paddedDim), strip, [&, first = first, end = end](Value d) {
      Value from = e.add(e.mul(row, plan.columns), e.sub(first, firstKey));
      registerTile(tileRows, {weightGrads, from, plan.columns, 1, keyRows,
                              e.add(e.mul(first, plan.paddedDim), d), plan.paddedDim,
                              e.max(e.index(0), e.sub(end, first)), dqs,
                              e.add(e.mul(row, plan.paddedDim), d), plan.paddedDim,
                              /*accumulate=*/false});
    });
  });
  e.loop(e.index(0), rows, 1, [&](Value row) {
    storeRow(dqs, e.mul(row, plan.paddedDim), e.scalar(f32, spec.scale), spec.dim, dq,
             base(grad.dq, head, e.add(firstQuery, row)));
  });
}

/// c += aᵀ · b, a register tile of keys at a time, over the rows that see one of them.
void AttentionGradBuilder::keyGradients(Value a, Value b, int64_t bRow, Value c) {
  e.loop(e.index(0), width, maxRows, [&](Value column) {
    auto [first, end] = rowsThatSee(column, maxRows);
    e.loop(e.index(0), e.index(bRow), strip, [&, first = first, end = end](Value d) {
      registerTile(maxRows, {a, e.add(e.mul(first, plan.columns), column), 1, plan.columns, b,
                             e.add(e.mul(first, bRow), d), bRow, e.sub(end, first), c,
                             e.add(e.mul(e.add(firstKey, column), bRow), d), bRow,
                             /*accumulate=*/true});
    });
  });
}

} // namespace

FailureOr<Kernel> buildAttentionGrad(OpBuilder &builder, ModuleOp module,
                                     const AttentionGradSpec &spec, const CpuTarget &target) {
  if (failed(verifyAttentionGrad(module, spec)))
    return failure();
  return AttentionGradBuilder(builder, spec, target).build(module);
}

} // namespace shardc
