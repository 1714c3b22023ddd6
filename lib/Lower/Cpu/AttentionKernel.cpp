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
#include "AttentionPlan.h"
#include "GemmPacking.h"
#include "VectorMath.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include <limits>
#include <numeric>

using namespace mlir;

namespace shardc {

static constexpr double kLog2E = 1.44269504088896341;

namespace {

/// The buffers, by role.
struct AttentionBuffers {
  Value q, k, v, mask, sinks, offset, lengths, out, logSumExp;
};

class AttentionBuilder {
public:
  AttentionBuilder(OpBuilder &builder, const AttentionSpec &spec, const CpuTarget &target)
      : e{builder, builder.getUnknownLoc()}, spec(spec), plan(spec), lanes(target.vectorBytes / 4),
        tileRows(llvm::divideCeil(plan.rows, llvm::divideCeil(plan.rows, maxTileRows(target, 2)))),
        f32(builder.getF32Type()) {}

  Kernel build(ModuleOp module);

private:
  Emitter e;
  const AttentionSpec &spec;
  const AttentionPlan plan;
  const int64_t lanes, tileRows;
  const Type f32;
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
  Value infinity() { return e.scalar(f32, -std::numeric_limits<double>::infinity()); }

  void loadQueries();
  std::pair<Value, Value> visibleKeys();
  void keyBlock(Value j0, Value end, Value packedEnd);
  void pack(const AttentionOperand &operand, bool isKey, Value j0, Value count, Value panelBase);
  void multiply(Value a, int64_t aRow, Value b, Value panelBase, int64_t bSteps, Value steps,
                Value c, int64_t cRow, int64_t columns, bool accumulate);
  void maximumOfRow(Value row, Value j0);
  void rescaleFactors();
  Value finiteBase(Value maximum);
  void weightsOfRow(Value row);
  SmallVector<Value> visibleScores(Value row, Value j0);
  Value maskVector(Value row, Value j, Value visible);
  void finish();
};

KernelBody AttentionBuilder::begin(ModuleOp module) {
  SmallVector<MemRefType> types;
  SmallVector<Value *> slots;
  auto buffer = [&](Value &slot, int64_t count, Type type) {
    types.push_back(MemRefType::get({count}, type));
    slots.push_back(&slot);
  };
  auto operand = [&](Value &slot, const AttentionOperand &o, int64_t heads, int64_t rows,
                     int64_t columns, Type type) {
    buffer(slot,
           (spec.batch - 1) * o.batch + (heads - 1) * o.head + (rows - 1) * o.row +
               (columns - 1) * o.column + 1,
           type);
  };
  operand(buffers.q, spec.q, spec.queryHeads, spec.queries, spec.dim, spec.q.type);
  operand(buffers.k, spec.k, spec.keyHeads, spec.keys, spec.dim, spec.k.type);
  operand(buffers.v, spec.v, spec.keyHeads, spec.keys, spec.valueDim, spec.v.type);
  if (spec.mask) // a bool is a byte
    operand(buffers.mask, *spec.mask, spec.queryHeads, spec.queries, spec.keys,
            spec.mask->type.isInteger(1) ? e.b.getI8Type() : spec.mask->type);
  if (spec.sinks)
    buffer(buffers.sinks, spec.queryHeads, spec.sinks);
  if (spec.runtimeOffset)
    buffer(buffers.offset, 1, e.b.getI64Type());
  if (spec.keyLengths)
    buffer(buffers.lengths, spec.batch, e.b.getI64Type());
  operand(buffers.out, spec.out, spec.queryHeads, spec.queries, spec.valueDim, spec.out.type);
  if (spec.logSumExp)
    buffer(buffers.logSumExp, spec.batch * spec.queryHeads * spec.queries, f32);

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
  Value zeros = e.zero(e.vec(lanes, f32));
  e.loop(rows, padded, 1, [&](Value row) { // rows that only fill the last register tile
    e.loop(e.index(0), e.index(spec.dim), 1,
           [&](Value d) { e.storeScalar(e.zero(f32), queries, e.add(e.mul(row, spec.dim), d)); });
    e.loop(e.index(0), e.index(kKeyBlock), lanes,
           [&](Value j) { e.store(zeros, scores, e.add(e.mul(row, kKeyBlock), j)); });
  });
  e.loop(e.index(0), e.mul(padded, plan.paddedDim), lanes,
         [&](Value i) { e.store(zeros, outputs, i); });
  e.loop(e.index(0), rows, 1, [&](Value row) {
    Value from = rowBase(spec.q, row), to = e.mul(row, spec.dim);
    auto copy = [&](Value d, int64_t width) {
      Value at = e.add(from, e.mul(d, spec.q.column));
      Value x = width == 1 ? e.convert(e.loadScalar(buffers.q, at), f32)
                           : e.convert(e.load(buffers.q, at, width), f32);
      double factor = spec.softCap == 0 ? spec.scale * kLog2E : spec.scale;
      Value scale = width == 1 ? e.scalar(f32, factor) : e.splat(width, f32, factor);
      Value scaled = arith::MulFOp::create(e.b, e.loc, x, scale);
      if (width == 1)
        e.storeScalar(scaled, queries, e.add(to, d));
      else
        e.store(scaled, queries, e.add(to, d));
    };
    int64_t whole = spec.q.column == 1 ? spec.dim / lanes * lanes : 0;
    e.loop(e.index(0), e.index(whole), lanes, [&](Value d) { copy(d, lanes); });
    e.loop(e.index(whole), e.index(spec.dim), 1, [&](Value d) { copy(d, 1); });
    e.store(zeros, sums, e.mul(row, lanes));
    if (!spec.sinks)
      return e.storeScalar(infinity(), maxima, row);
    Value sink = e.convert(e.loadScalar(buffers.sinks, head(row)), f32);
    e.storeScalar(arith::MulFOp::create(e.b, e.loc, sink, e.scalar(f32, kLog2E)), maxima, row);
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
    pack(spec.k, /*isKey=*/true, j0, packed, keyBase);
    pack(spec.v, /*isKey=*/false, j0, packed, valueBase);
  };
  if (plan.keepPanels)
    e.ifThen(e.compare(arith::CmpIPredicate::sge, j0, packedEnd), packBoth);
  else
    packBoth();
  multiply(queries, spec.dim, keyPanels, keyBase, spec.dim, e.index(spec.dim), scores, kKeyBlock,
           kKeyBlock, /*accumulate=*/false);
  e.loop(e.index(0), rows, 1, [&](Value row) { maximumOfRow(row, j0); });
  rescaleFactors();
  e.loop(e.index(0), rows, 1, [&](Value row) { weightsOfRow(row); });
  multiply(scores, kKeyBlock, valuePanels, valueBase, kKeyBlock, count, outputs, plan.paddedDim,
           plan.paddedDim, /*accumulate=*/true);
}

/// Panels [dim][32] of keys, or [64][32] of values.
void AttentionBuilder::pack(const AttentionOperand &operand, bool isKey, Value j0, Value count,
                            Value panelBase) {
  GemmSpec gemm;
  gemm.n = isKey ? spec.keys : spec.valueDim;
  gemm.nTile = kPanel;
  gemm.b = {
      operand.type, isKey ? operand.column : operand.row, isKey ? operand.row : operand.column, {}};
  GemmPlan gemmPlan{};
  gemmPlan.accType = f32;
  GemmLevel level{};
  level.lanes = lanes;
  e.loop(e.index(0), e.index(isKey ? kKeyBlock : plan.paddedDim), kPanel, [&](Value x) {
    Value to = e.add(panelBase, e.mul(x, isKey ? spec.dim : kKeyBlock));
    if (isKey)
      prepareB(e, gemm, gemmPlan, level, buffers.k, keyBase(operand), e.add(j0, x),
               e.index(spec.dim), keyPanels, to);
    else
      prepareB(e, gemm, gemmPlan, level, buffers.v, e.add(keyBase(operand), e.mul(j0, operand.row)),
               x, count, valuePanels, to);
  });
}

/// c (+)= a · panels, for whole register tiles of rows.
void AttentionBuilder::multiply(Value a, int64_t aRow, Value b, Value panelBase, int64_t bSteps,
                                Value steps, Value c, int64_t cRow, int64_t columns,
                                bool accumulate) {
  MicroTile tile{tileRows, 2, lanes, f32};
  int64_t strip = 2 * lanes;
  e.loop(e.index(0), e.index(columns), strip, [&](Value column) {
    Value inPanel = e.rem(column, kPanel);
    Value bBase = e.add(e.add(panelBase, e.mul(e.div(column, kPanel), bSteps * kPanel)), inPanel);
    e.loop(e.index(0), rows, tileRows, [&](Value row) {
      auto place = [&](int64_t i) {
        return e.add(e.add(e.mul(e.add(row, i / 2), cRow), column), i % 2 * lanes);
      };
      SmallVector<Value> init;
      for (int64_t i = 0; i < 2 * tileRows; ++i)
        init.push_back(accumulate ? e.load(c, place(i), lanes) : e.zero(e.vec(lanes, f32)));
      MicroOperands operands{a, e.mul(row, aRow), aRow, 1, b, bBase, kPanel};
      for (auto [i, sum] : llvm::enumerate(emitMicroLoop(e, tile, operands, steps, init)))
        e.store(sum, c, place(i));
    });
  });
}

/// Mask elements for keys j… of a row, zero where not visible.
Value AttentionBuilder::maskVector(Value row, Value j, Value visible) {
  Value at = e.add(rowBase(*spec.mask, row), e.mul(j, spec.mask->column));
  if (spec.mask->column == 0)
    return e.broadcast(lanes, e.loadScalar(buffers.mask, at));
  if (spec.mask->column == 1)
    return e.loadMasked(buffers.mask, at, lanes, visible);
  Type i32 = e.b.getI32Type();
  Value step = arith::MulIOp::create(
      e.b, e.loc, vector::StepOp::create(e.b, e.loc, e.vec(lanes, e.b.getIndexType())),
      e.broadcast(lanes, e.index(spec.mask->column)));
  Value offsets = arith::IndexCastOp::create(e.b, e.loc, e.vec(lanes, i32), step);
  VectorType type = e.vec(lanes, cast<MemRefType>(buffers.mask.getType()).getElementType());
  return vector::GatherOp::create(e.b, e.loc, type, buffers.mask, ValueRange{at}, offsets, visible,
                                  e.zero(type));
}

SmallVector<Value> AttentionBuilder::visibleScores(Value row, Value j0) {
  Type i32 = e.b.getI32Type();
  Value position = e.add(query(row), shift), zero = e.index(0), block = e.index(kKeyBlock);
  auto bound = [&](Value j) { // relative to the block, clamped so that it fits i32
    Value inside = e.max(zero, e.min(block, e.sub(j, j0)));
    return e.broadcast(lanes, arith::IndexCastOp::create(e.b, e.loc, i32, inside));
  };
  Value high = bound(spec.right ? e.min(keyEnd, e.add(position, *spec.right + 1)) : keyEnd);
  Value low = spec.left ? bound(e.add(position, -*spec.left)) : Value();
  SmallVector<Value> result;
  for (int64_t x = 0; x < kKeyBlock; x += lanes) {
    SmallVector<int32_t> numbers(lanes);
    std::iota(numbers.begin(), numbers.end(), x);
    Value lane = arith::ConstantOp::create(
        e.b, e.loc, DenseElementsAttr::get(e.vec(lanes, i32), llvm::ArrayRef<int32_t>(numbers)));
    Value visible = e.compare(arith::CmpIPredicate::slt, lane, high);
    if (low)
      visible = arith::AndIOp::create(e.b, e.loc, visible,
                                      e.compare(arith::CmpIPredicate::sge, lane, low));
    Value score = e.load(scores, e.add(e.mul(row, kKeyBlock), x), lanes);
    if (spec.softCap != 0) {
      Value small = arith::MulFOp::create(e.b, e.loc, score, e.splat(lanes, f32, 1 / spec.softCap));
      score = arith::MulFOp::create(e.b, e.loc, math::TanhOp::create(e.b, e.loc, small),
                                    e.splat(lanes, f32, spec.softCap * kLog2E));
    }
    if (spec.mask) {
      Value mask = maskVector(row, e.add(j0, x), visible);
      Type element = cast<VectorType>(mask.getType()).getElementType();
      if (isa<FloatType>(element))
        score = e.fma(e.convert(mask, f32), e.splat(lanes, f32, kLog2E), score);
      else
        visible = arith::AndIOp::create(
            e.b, e.loc, visible, e.compare(arith::CmpIPredicate::ne, mask, e.zero(mask.getType())));
    }
    result.push_back(
        arith::SelectOp::create(e.b, e.loc, visible, score, e.broadcast(lanes, infinity())));
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
  Value maximum = e.reduce(vectors.front(), [&](Value x, Value y) { return e.greater(x, y); });
  e.storeScalar(maximum, blockMaxima, row);
}

/// New maxima, and what the sums and outputs so far are worth with them: 2^(old - new).
void AttentionBuilder::rescaleFactors() {
  e.loop(e.index(0), rows, lanes, [&](Value row) { // the rows beyond are scratch that nobody reads
    Value old = e.load(maxima, row, lanes);
    Value maximum = e.greater(e.load(blockMaxima, row, lanes), old);
    e.store(maximum, maxima, row);
    Value base = finiteBase(maximum);
    e.store(base, blockMaxima, row);
    e.store(emitExp2NonPositive(e, arith::SubFOp::create(e.b, e.loc, old, base)), factors, row);
  });
}

/// Where nothing has been seen yet, 2^(-inf - 0) is zero and 2^(-inf - -inf) would not be a number.
Value AttentionBuilder::finiteBase(Value maximum) {
  Value none = arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::OEQ, maximum,
                                     e.broadcast(lanes, infinity()));
  return arith::SelectOp::create(e.b, e.loc, none, e.zero(maximum.getType()), maximum);
}

void AttentionBuilder::weightsOfRow(Value row) {
  Value base = e.broadcast(lanes, e.loadScalar(blockMaxima, row)), sum;
  for (int64_t x = 0; x < kKeyBlock; x += lanes) {
    Value at = e.add(e.mul(row, kKeyBlock), x);
    Value weight =
        emitExp2NonPositive(e, arith::SubFOp::create(e.b, e.loc, e.load(scores, at, lanes), base));
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
      e.store(arith::MulFOp::create(e.b, e.loc, e.load(outputs, at, lanes), wide), outputs, at);
    });
  });
}

void AttentionBuilder::finish() {
  e.loop(e.index(0), rows, 1, [&](Value row) {
    Value zero = e.scalar(f32, 0);
    Value sum = e.reduce(e.load(sums, e.mul(row, lanes), lanes),
                         [&](Value x, Value y) { return arith::AddFOp::create(e.b, e.loc, x, y); });
    Value any = arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::UNE, sum,
                                      zero); // and NaN stays NaN
    Value inverse = arith::DivFOp::create(e.b, e.loc, e.scalar(f32, 1), sum);
    Value wide = e.broadcast(lanes, arith::SelectOp::create(e.b, e.loc, any, inverse, zero));
    Value from = e.mul(row, plan.paddedDim), to = rowBase(spec.out, row);
    auto result = [&](Value d) {
      Value scaled =
          arith::MulFOp::create(e.b, e.loc, e.load(outputs, e.add(from, d), lanes), wide);
      return e.convert(scaled, spec.out.type);
    };
    int64_t whole = spec.valueDim / lanes * lanes;
    e.loop(e.index(0), e.index(whole), lanes,
           [&](Value d) { e.store(result(d), buffers.out, e.add(to, d)); });
    if (whole < spec.valueDim) {
      Value d = e.index(whole);
      e.storeMasked(result(d), buffers.out, e.add(to, d),
                    e.mask(lanes, e.index(spec.valueDim - whole)));
    }
    if (!spec.logSumExp)
      return;
    Value log = math::LogOp::create(
        e.b, e.loc, arith::SelectOp::create(e.b, e.loc, any, sum, e.scalar(f32, 1)));
    Value value =
        math::FmaOp::create(e.b, e.loc, e.loadScalar(maxima, row), e.scalar(f32, 1 / kLog2E), log);
    Value at =
        e.add(e.mul(e.add(e.mul(batch, spec.queryHeads), head(row)), spec.queries), query(row));
    e.storeScalar(arith::SelectOp::create(e.b, e.loc, any, value, infinity()), buffers.logSumExp,
                  at);
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
