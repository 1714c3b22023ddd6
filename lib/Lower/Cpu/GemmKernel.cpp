//===- GemmKernel.cpp - Matrix multiplication kernels ---------------------===//
//
// For each tile of the launch (GemmPlan.h):
//
//   A's rows into scratch, if they cannot be read in place, and B's panels, if B is not a packed
//   weight of the right type; unless the tile before has left them there
//   for each block of k:
//     packed weights:               for each panel, for each register tile of rows
//     matrix tiles:                 the same, each register tile beside the epilogue of the last
//     through scratch:              for each register tile of rows, for each panel of the group
//       the register tile, into an accumulator tile in scratch
//   the epilogue over the accumulator tile, row by row, and the store to C
//
// The epilogue reads the accumulators back from L1 so that it is emitted once, however large; this
// costs about 1 % at K = 512.
//
//===----------------------------------------------------------------------===//
#include "GemmPacking.h"
#include "MatrixTiles.h"

using namespace mlir;

namespace shardc {

/// With fewer rows the processor's own prefetching keeps up as well: reading B is all there is.
static constexpr int64_t kMinRowsToAsk = 96;
/// So few rows need several sums over k at once to hide the latency of FMA. More of them are summed
/// in order, also in a lower last tile: a row's bits then do not depend on how many others there
/// are, so that a product may be cut into pieces (lib/Decompose).
static constexpr int64_t kMaxRowsInPhases = 4;

int64_t preferredNTile(int64_t n) { return n <= 16 ? 16 : 32; }

int64_t packedElements(int64_t k, int64_t n, int64_t nTile, Type type) {
  return llvm::divideCeil(n, nTile) * nTile * (isPaired(type) ? llvm::alignTo(k, 2) : k);
}

GemmSpec makeGemm(StringRef symbol, int64_t m, int64_t n, int64_t k, Type a, Type b, Type c,
                  bool packedB) {
  GemmSpec spec;
  spec.symbol = symbol.str();
  spec.m = m;
  spec.n = n;
  spec.k = k;
  spec.a = {a, k, 1, {}};
  spec.b = {b, n, 1, {}};
  spec.c = {c, n, 1, {}};
  spec.packedB = packedB;
  spec.nTile = preferredNTile(n);
  return spec;
}

Value EpiloguePoint::load(OpBuilder &builder, Location loc, Value buffer,
                          ValueRange indices) const {
  auto type = VectorType::get(lanes, cast<MemRefType>(buffer.getType()).getElementType());
  if (!mask)
    return vector::LoadOp::create(builder, loc, type, buffer, indices);
  Value zero = arith::ConstantOp::create(builder, loc, builder.getZeroAttr(type));
  return vector::MaskedLoadOp::create(builder, loc, type, buffer, indices, mask, zero);
}

void EpiloguePoint::store(OpBuilder &builder, Location loc, Value vector, Value buffer,
                          ValueRange indices) const {
  if (mask)
    vector::MaskedStoreOp::create(builder, loc, buffer, indices, mask, vector);
  else
    vector::StoreOp::create(builder, loc, vector, buffer, indices);
}

namespace {

/// Elements from the first to the last one of a strided operand.
int64_t span(const GemmSpec &spec, const GemmOperand &operand, int64_t rows, int64_t columns) {
  int64_t last = (rows - 1) * operand.rowStride + (columns - 1) * operand.columnStride;
  for (auto [size, stride] : llvm::zip(spec.batch, operand.batch))
    last += (size - 1) * stride;
  return last + 1;
}

class GemmBuilder {
public:
  GemmBuilder(OpBuilder &builder, const GemmSpec &spec, const CpuTarget &target)
      : e{builder, builder.getUnknownLoc()}, spec(spec), plan(planGemm(spec)),
        level(planLevel(spec, plan, target)) {}

  Kernel build(ModuleOp module);

private:
  Emitter e;
  const GemmSpec &spec;
  const GemmPlan plan;
  const GemmLevel level;
  KernelBody kernel;
  Value accTile, packedB; ///< in scratch

  /// The tile of the launch that is being emitted.
  Value batch, m0, rows, firstPanel, endPanel;

  Value bufferA() const { return kernel.buffers.front(); }
  Value bufferB() const { return kernel.buffers[1]; }
  Value bufferC() const { return kernel.buffers.back(); }
  bool pairsInA() const { return level.dot && !level.copyA; }
  bool pairsInB() const { return spec.packedB && isPaired(spec.b.type); }
  int64_t panelUnits() const {
    return (pairsInB() ? llvm::divideCeil(spec.k, 2) : spec.k) * spec.nTile;
  }
  int64_t kUnit() const { return level.tiles ? kTileK : level.step == StepKind::Element ? 1 : 2; }

  SmallVector<MemRefType> bufferTypes();
  Value batchOffset(const GemmOperand &operand, Value batch);
  Value tile(Value index, Value cached);
  void kBlock(Value kIndex);
  Value kOf(Value kIndex);
  PlacedA blockOfA(Value kIndex);
  void fillA(Value kIndex);
  void fillB(Value kIndex);
  Value panelBase(Value panel, Value kIndex) {
    return level.prepareB ? slotOfB(panel, kIndex) : sourceOfB(panel, kIndex);
  }
  Value sourceOfB(Value panel, Value kIndex);
  Value slotOfB(Value panel, Value kIndex);
  void forRegisterTiles(llvm::function_ref<void(int64_t, Value)> body);
  void multiplyStrip(const PlacedA &a, Value bBase, Value panel, Value strip, Value row,
                     int64_t tileRows, Value steps);
  void tileByTile(const PlacedA &a, Value kIndex, Value steps);
  void askForC(Value m, Value begin, Value end, Value n);
  void askForPanel(Value base, Value row, Value step);
  MicroOperands operandsAt(const PlacedA &a, Value row, Value bBase);
  void panelByPanel(const PlacedA &a, Value kIndex, Value steps);
  void rowsByRows(const PlacedA &a, Value kIndex, Value steps);
  void registerTile(int64_t tileRows, const PlacedA &a, Value row, Value bBase, Value k, Value acc);
  void epilogue(Value m, Value begin, Value end, Value n, Value acc);
  void epilogueRows(Value m, Value begin, Value end, Value n, Value acc, bool masked);
  Value accBase(Value slot, Value strip);
  Value stripsPerPanel() { return e.index(spec.nTile / level.strip); }
};

SmallVector<MemRefType> GemmBuilder::bufferTypes() {
  auto flat = [](int64_t count, Type type) { return MemRefType::get({count}, type); };
  Type i32 = e.b.getI32Type();
  int64_t aCount = span(spec, spec.a, spec.m, spec.k);
  int64_t bCount = span(spec, spec.b, spec.k, spec.n);
  if (spec.packedB) {
    int64_t sets = 1;
    for (auto [size, stride] : llvm::zip(spec.batch, spec.b.batch))
      sets += (size - 1) * stride;
    bCount = sets * plan.panels * panelUnits();
  }
  SmallVector<MemRefType> types = {pairsInA() ? flat(llvm::divideCeil(aCount, 2), i32)
                                              : flat(aCount, spec.a.type),
                                   flat(bCount, pairsInB() ? i32 : spec.b.type)};
  llvm::append_range(types, spec.extra);
  types.push_back(flat(span(spec, spec.c, spec.m, spec.n), spec.c.type));
  return types;
}

Value GemmBuilder::batchOffset(const GemmOperand &operand, Value batch) {
  Value offset = e.index(0);
  for (int64_t i = spec.batch.size() - 1; i >= 0; --i) {
    if (spec.batch[i] == 1)
      continue;
    offset = e.add(offset, e.mul(e.rem(batch, spec.batch[i]), operand.batch[i]));
    batch = e.div(batch, spec.batch[i]);
  }
  return offset;
}

Kernel GemmBuilder::build(ModuleOp module) {
  OpBuilder::InsertionGuard guard(e.b);
  kernel = beginKernel(e.b, module, spec.symbol, bufferTypes(), plan.scratchBytes);
  auto view = [&](int64_t offset, int64_t end, Type type) {
    return e.view(kernel.scratch, offset, type, (end - offset) / elementBytes(type));
  };
  accTile = view(plan.accOffset, plan.aOffset, plan.accType);
  packedB = view(plan.bOffset, plan.scratchBytes, level.dot ? e.b.getI32Type() : plan.accType);
  if (level.tiles)
    configureTiles(e, std::min(level.tileRows, kTileSide));
  e.loop(kernel.tileBegin, kernel.tileEnd, 1, e.index(-1),
         [&](Value index, ValueRange carried) { return Emitter::Values{tile(index, carried[0])}; });
  if (level.tiles)
    releaseTiles(e);
  return {spec.symbol, plan.tiles(), plan.scratchBytes};
}

/// One tile of the launch. `cached` names what scratch holds from the tile before; the result names
/// what it holds now.
Value GemmBuilder::tile(Value index, Value cached) {
  Value block, group;
  int64_t fastest = plan.rowsFastest() ? plan.rowBlocks : plan.panelGroups;
  Value key = e.div(index, fastest);
  if (plan.rowsFastest()) {
    block = e.rem(index, plan.rowBlocks);
    group = e.rem(key, plan.panelGroups);
    batch = e.div(key, plan.panelGroups);
  } else {
    group = e.rem(index, plan.panelGroups);
    block = e.rem(key, plan.rowBlocks);
    batch = e.div(key, plan.rowBlocks);
  }
  m0 = e.mul(block, plan.blockRows);
  rows = plan.rowBlocks == 1 ? e.index(spec.m)
                             : e.min(e.index(plan.blockRows), e.sub(e.index(spec.m), m0));
  firstPanel = e.mul(group, plan.panelsPerUnit);
  endPanel = plan.panelsPerUnit == 1
                 ? e.add(firstPanel, 1)
                 : e.min(e.add(firstPanel, plan.panelsPerUnit), e.index(plan.panels));

  auto forBlocksOfK = [&](llvm::function_ref<void(Value)> body) {
    if (plan.kBlocks == 1)
      body(e.index(0));
    else
      e.loop(e.index(0), e.index(plan.kBlocks), 1, body);
  };
  Value isNew = e.compare(arith::CmpIPredicate::ne, key, cached);
  if (level.copyA && plan.keepA)
    e.ifThen(isNew, [&] { forBlocksOfK([&](Value k) { fillA(k); }); });
  if (level.prepareB && plan.groupsKept > 0) {
    // All groups are there after the first round, as long as the batch is the same.
    Value isMissing = isNew;
    if (!plan.rowsFastest()) {
      Value round = e.rem(index, plan.rowBlocks * plan.panelGroups);
      Value isFirst = e.less(e.sub(index, kernel.tileBegin), e.index(plan.panelGroups));
      isMissing =
          arith::OrIOp::create(e.b, e.loc, isFirst, e.less(round, e.index(plan.panelGroups)));
    }
    e.ifThen(isMissing, [&] { forBlocksOfK([&](Value k) { fillB(k); }); });
  }
  if (plan.kBlocks == 1 || level.tiles) {
    forBlocksOfK([&](Value k) { kBlock(k); });
    return key;
  }

  Value none = e.zero(e.vec(level.lanes, plan.accType));
  e.loop(e.index(0), e.index(plan.panelsPerUnit * spec.nTile * plan.accRows), level.lanes,
         [&](Value i) { e.store(none, accTile, i); });
  forBlocksOfK([&](Value k) { kBlock(k); });
  e.loop(firstPanel, endPanel, 1, [&](Value panel) {
    e.loop(e.index(0), stripsPerPanel(), 1, [&](Value strip) {
      Value n = e.add(e.mul(panel, spec.nTile), e.mul(strip, level.strip));
      epilogue(m0, e.index(0), rows, n, accBase(e.sub(panel, firstPanel), strip));
    });
  });
  return key;
}

/// Length of a block of k.
Value GemmBuilder::kOf(Value kIndex) {
  if (spec.k % plan.kBlock == 0)
    return e.index(plan.kBlock);
  return e.min(e.index(plan.kBlock), e.sub(e.index(spec.k), e.mul(kIndex, plan.kBlock)));
}

PlacedA GemmBuilder::blockOfA(Value kIndex) {
  if (level.copyA)
    return placeA(e, spec, plan, level, kernel.scratch, kIndex);
  Value base = e.add(e.add(batchOffset(spec.a, batch), e.mul(m0, spec.a.rowStride)),
                     e.mul(e.mul(kIndex, plan.kBlock), spec.a.columnStride));
  if (pairsInA())
    return {bufferA(), e.div(base, 2), spec.a.rowStride / 2, spec.a.rowStride / 2, 1};
  return {bufferA(), base, spec.a.rowStride, spec.a.rowStride, spec.a.columnStride};
}

void GemmBuilder::fillA(Value kIndex) {
  Value base = e.add(e.add(batchOffset(spec.a, batch), e.mul(m0, spec.a.rowStride)),
                     e.mul(e.mul(kIndex, plan.kBlock), spec.a.columnStride));
  copyA(e, spec, plan, level, bufferA(), base, rows, kOf(kIndex), blockOfA(kIndex));
}

/// Element of B's buffer where a panel's block of k begins; for a plain B, the block of all
/// columns.
Value GemmBuilder::sourceOfB(Value panel, Value kIndex) {
  Value bBatch = batchOffset(spec.b, batch), k0 = e.mul(kIndex, plan.kBlock);
  if (!spec.packedB)
    return e.add(bBatch, e.mul(k0, spec.b.rowStride));
  return e.add(e.mul(e.add(e.mul(bBatch, plan.panels), panel), panelUnits()),
               e.mul(pairsInB() ? e.div(k0, 2) : k0, spec.nTile));
}

/// … and of scratch.
Value GemmBuilder::slotOfB(Value panel, Value kIndex) {
  int64_t units = panelElementsOfB(spec, plan) / (level.dot ? 2 : 1);
  if (plan.groupsKept == 0)
    return e.mul(e.sub(panel, firstPanel), units);
  int64_t kept = plan.groupsKept * plan.panelsPerUnit;
  Value slot = plan.groupsKept == 1 ? e.sub(panel, firstPanel) : panel;
  return e.mul(e.add(e.mul(kIndex, kept), slot), units);
}

void GemmBuilder::fillB(Value kIndex) {
  e.loop(firstPanel, endPanel, 1, [&](Value panel) {
    prepareB(e, spec, plan, level, bufferB(), sourceOfB(panel, kIndex), e.mul(panel, spec.nTile),
             kOf(kIndex), packedB, slotOfB(panel, kIndex),
             plan.panelsPerUnit * spec.nTile * spec.b.columnStride);
  });
}

void GemmBuilder::kBlock(Value kIndex) {
  if (level.copyA && !plan.keepA)
    fillA(kIndex);
  if (level.prepareB && plan.groupsKept == 0)
    fillB(kIndex);
  Value steps = e.div(e.add(kOf(kIndex), kUnit() - 1), kUnit());
  PlacedA a = blockOfA(kIndex);
  if (level.tiles)
    tileByTile(a, kIndex, steps);
  else if (level.prepareB)
    rowsByRows(a, kIndex, steps);
  else
    panelByPanel(a, kIndex, steps);
}

void GemmBuilder::panelByPanel(const PlacedA &a, Value kIndex, Value steps) {
  e.loop(firstPanel, endPanel, 1, [&](Value panel) {
    Value base = panelBase(panel, kIndex);
    e.loop(e.index(0), stripsPerPanel(), 1, [&](Value strip) {
      forRegisterTiles([&](int64_t tileRows, Value row) {
        multiplyStrip(a, base, panel, strip, row, tileRows, steps);
      });
    });
  });
}

void GemmBuilder::rowsByRows(const PlacedA &a, Value kIndex, Value steps) {
  forRegisterTiles([&](int64_t tileRows, Value row) {
    e.loop(firstPanel, endPanel, 1, [&](Value panel) {
      Value base = panelBase(panel, kIndex);
      e.loop(e.index(0), stripsPerPanel(), 1,
             [&](Value strip) { multiplyStrip(a, base, panel, strip, row, tileRows, steps); });
    });
  });
}

/// Calls body(rows, first row) for each register tile; the last one may be lower.
void GemmBuilder::forRegisterTiles(llvm::function_ref<void(int64_t, Value)> body) {
  int64_t remainder = spec.m % level.tileRows;
  Value full = remainder == 0 ? rows : e.roundDown(rows, level.tileRows);
  e.loop(e.index(0), full, level.tileRows, [&](Value row) { body(level.tileRows, row); });
  if (remainder != 0)
    e.ifThen(e.less(full, rows), [&] { body(remainder, full); });
}

void GemmBuilder::multiplyStrip(const PlacedA &a, Value bBase, Value panel, Value strip, Value row,
                                int64_t tileRows, Value steps) {
  Value column = e.mul(strip, level.strip);
  Value acc = plan.kBlocks == 1
                  ? e.index(0)
                  : e.add(accBase(e.sub(panel, firstPanel), strip), e.mul(row, level.strip));
  registerTile(tileRows, a, row, e.add(bBase, column), steps, acc);
  if (plan.kBlocks == 1)
    epilogue(e.add(m0, row), e.index(0), e.index(tileRows), e.add(e.mul(panel, spec.nTile), column),
             acc);
}

/// A register tile is done before the lines of C that it goes to would be here.
void GemmBuilder::askForC(Value m, Value begin, Value end, Value n) {
  Value base = e.add(batchOffset(spec.c, batch), n);
  int64_t perLine = 64 / elementBytes(spec.c.type);
  e.loop(begin, end, 1, [&](Value r) {
    for (int64_t x = 0; x < level.strip; x += perLine)
      e.prefetch(bufferC(), e.add(e.add(base, e.mul(e.add(m, r), spec.c.rowStride)), x));
  });
}

/// The same for the next panel, whose lines are shared out among the register tiles of this one
/// and their steps.
void GemmBuilder::askForPanel(Value base, Value row, Value step) {
  int64_t steps = std::max<int64_t>(1, llvm::divideCeil(plan.kBlock, kTileK) - 1);
  int64_t lines = plan.kBlock / 2 * spec.nTile / 16; // of 16 pairs
  int64_t ofTile = llvm::divideCeil(lines, llvm::divideCeil(plan.blockRows, level.tileRows));
  int64_t ofStep = llvm::divideCeil(ofTile, steps);
  Value first = e.add(e.mul(e.div(row, level.tileRows), ofTile), e.mul(step, ofStep));
  for (int64_t i = 0; i < ofStep; ++i)
    e.prefetch(level.prepareB ? packedB : bufferB(), e.add(base, e.mul(e.add(first, i), 16)));
}

/// One sequence through all panels and rows, so that the matrix unit never waits for an epilogue:
/// that of each register tile is emitted between the products of the next one.
void GemmBuilder::tileByTile(const PlacedA &a, Value kIndex, Value steps) {
  bool isWhole = plan.kBlocks == 1;
  TileSums sums{level.tileRows, level.strip, accTile};
  Value isFirstK, isLastK;
  if (!isWhole) {
    isFirstK = e.equal(kIndex, e.index(0));
    isLastK = e.equal(kIndex, e.index(plan.kBlocks - 1));
  }
  int64_t lastK = spec.k - (plan.kBlocks - 1) * plan.kBlock;
  int64_t stepsBeside = llvm::divideCeil(lastK, kTileK) - 1;
  int64_t rowsBeside = llvm::divideCeil(level.tileRows, std::max<int64_t>(stepsBeside, 1));
  // First row in C, rows that are done with this block of k, first column, and where the sums go.
  using Place = Emitter::Values;
  auto place = [&](int64_t tileRows, Value row, Value panel) -> Place {
    Value acc = isWhole
                    ? e.index(0)
                    : e.add(accBase(e.sub(panel, firstPanel), e.index(0)), e.mul(row, level.strip));
    Value done = e.index(tileRows);
    if (!isWhole)
      done = arith::SelectOp::create(e.b, e.loc, isLastK, done, e.index(0));
    return {e.add(m0, row), done, e.mul(panel, spec.nTile), acc};
  };
  auto finish = [&](const Place &last, Value begin, Value end) {
    epilogue(last[0], begin, e.min(end, last[1]), last[2], last[3]);
  };
  int64_t nextPanel = level.prepareB ? panelElementsOfB(spec, plan) / 2 : panelUnits();
  auto tile = [&](int64_t tileRows, Value row, Value panel, const Place &last) {
    Place self = place(tileRows, row, panel);
    Value b = panelBase(panel, kIndex);
    auto beside = [&](Value i) {
      Value before = e.sub(i, e.index(1));
      if (plan.blockRows >= kMinRowsToAsk)
        askForPanel(e.add(b, nextPanel), row, before);
      Value begin = e.mul(before, rowsBeside), end = e.mul(i, rowsBeside);
      finish(last, begin, end);
      askForC(self[0], begin, e.min(end, self[1]), self[2]);
    };
    emitTileLoop(e, sums, tileRows, operandsAt(a, row, b), steps, last[3],
                 isWhole ? Value() : self[3], isFirstK, beside);
    if (stepsBeside == 0)
      finish(last, e.index(0), last[1]);
    return self;
  };
  Value zero = e.index(0);
  Place last = {m0, zero, zero, isWhole ? zero : accBase(e.index(plan.panelsPerUnit), zero)};
  int64_t remainder = spec.m % level.tileRows;
  Value full = remainder == 0 ? rows : e.roundDown(rows, level.tileRows);
  last = e.loop(firstPanel, endPanel, 1, last, [&](Value panel, ValueRange before) {
    Place done = e.loop(zero, full, level.tileRows, before, [&](Value row, ValueRange before) {
      return tile(level.tileRows, row, panel, Place(before));
    });
    if (remainder == 0)
      return done;
    Value isLower = e.less(full, rows);
    e.ifThen(isLower, [&] { tile(remainder, full, panel, done); });
    for (auto [value, lower] : llvm::zip(done, place(remainder, full, panel)))
      value = arith::SelectOp::create(e.b, e.loc, isLower, lower, value);
    return done;
  });
  storeSums(e, sums, last[3]);
  finish(last, zero, last[1]);
}

Value GemmBuilder::accBase(Value slot, Value strip) {
  Value column = e.add(e.mul(slot, spec.nTile), e.mul(strip, level.strip));
  return e.mul(column, plan.accRows);
}

MicroOperands GemmBuilder::operandsAt(const PlacedA &a, Value row, Value bBase) {
  return {a.buffer,
          e.add(a.base, e.mul(row, a.tileStride)),
          a.rowStride,
          a.kStride,
          level.prepareB ? packedB : bufferB(),
          bBase,
          spec.nTile,
          !level.prepareB};
}

void GemmBuilder::registerTile(int64_t tileRows, const PlacedA &a, Value row, Value bBase,
                               Value steps, Value acc) {
  MicroTile tile{tileRows,    level.strip / level.lanes, level.lanes, plan.accType, level.step,
                 spec.b.type, spec.m > kMaxRowsInPhases};
  MicroOperands operands = operandsAt(a, row, bBase);
  auto place = [&](int64_t i) { return e.add(acc, i * level.lanes); };
  SmallVector<Value> sums;
  for (int64_t i = 0; i < tileRows * tile.vecs; ++i)
    sums.push_back(plan.kBlocks == 1 ? e.zero(e.vec(level.lanes, plan.accType))
                                     : e.load(accTile, place(i), level.lanes));
  for (auto [i, sum] : llvm::enumerate(emitMicroLoop(e, tile, operands, steps, sums)))
    e.store(sum, accTile, place(i));
}

/// Rows begin … end of the register tile at (m, n).
void GemmBuilder::epilogue(Value m, Value begin, Value end, Value n, Value acc) {
  // Matrix tiles leave the core time for masks, and every copy beside them is one more to compile.
  if (spec.n % spec.nTile == 0 || level.tiles)
    return epilogueRows(m, begin, end, n, acc, spec.n % spec.nTile != 0);
  Value inside = e.compare(arith::CmpIPredicate::sle, e.add(n, level.strip), e.index(spec.n));
  e.ifThenElse(
      inside, [&] { epilogueRows(m, begin, end, n, acc, false); },
      [&] { epilogueRows(m, begin, end, n, acc, true); });
}

void GemmBuilder::epilogueRows(Value m, Value begin, Value end, Value n, Value acc, bool masked) {
  Value cBatch = batchOffset(spec.c, batch);
  e.loop(begin, end, 1, [&](Value r) {
    for (int64_t x = 0; x < level.strip; x += level.lanes) {
      Value sum = e.load(accTile, e.add(e.add(acc, e.mul(r, level.strip)), x), level.lanes);
      EpiloguePoint point;
      point.batch = batch;
      point.m = e.add(m, r);
      point.n = e.add(n, x);
      point.lanes = level.lanes;
      point.extra = ArrayRef<Value>(kernel.buffers).drop_front(2).drop_back();
      if (masked)
        point.mask = e.mask(level.lanes, e.sub(e.index(spec.n), point.n));
      Value result = spec.epilogue ? spec.epilogue(e.b, e.loc, sum, point) : sum;
      if (!result)
        continue;
      Value at = e.add(e.add(cBatch, e.mul(point.m, spec.c.rowStride)), point.n);
      point.store(e.b, e.loc, e.convert(result, spec.c.type), bufferC(), at);
    }
  });
}

} // namespace

FailureOr<Kernel> buildGemm(OpBuilder &builder, ModuleOp module, const GemmSpec &spec,
                            const CpuTarget &target) {
  if (failed(verifyGemm(module, spec)))
    return failure();
  return GemmBuilder(builder, spec, target).build(module);
}

} // namespace shardc
