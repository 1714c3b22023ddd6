//===- GemmKernel.cpp - Matrix multiplication kernels ---------------------===//
//
// For each tile of the launch (GemmPlan.h):
//
//   for each block of k:
//     A's block into scratch, if it cannot be read in place (kept for the next tile where that has
//     the same rows) for each panel of B: into scratch if it is not a packed weight of the right
//     type
//       for each strip of the panel, for each tileRows rows: the register tile, into an accumulator
//       tile in scratch
//   the epilogue over the accumulator tile, row by row, and the store to C
//
// The epilogue reads the accumulators back from L1 so that it is emitted once, however large; this
// costs about 1 % at K = 512.
//
//===----------------------------------------------------------------------===//
#include "GemmPacking.h"

using namespace mlir;

namespace shardc {

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
  Value accTile;

  Value bufferA() const { return kernel.buffers.front(); }
  Value bufferB() const { return kernel.buffers[1]; }
  Value bufferC() const { return kernel.buffers.back(); }
  bool pairsInA() const { return level.dot && !level.copyA; }
  bool pairsInB() const { return spec.packedB && isPaired(spec.b.type); }
  int64_t panelUnits() const {
    return (pairsInB() ? llvm::divideCeil(spec.k, 2) : spec.k) * spec.nTile;
  }
  int64_t kUnit() const { return level.step == StepKind::Element ? 1 : 2; }

  SmallVector<MemRefType> bufferTypes();
  Value batchOffset(const GemmOperand &operand, Value batch);
  Value tile(Value index, Value cached);
  void kBlock(Value kIndex, Value batch, Value m0, Value rows, Value firstPanel, Value endPanel,
              Value fresh);
  PlacedA blockOfA(Value batch, Value m0, Value rows, Value k0, Value k, Value fresh);
  void strips(const PlacedA &a, Value b, Value bBase, Value batch, Value m0, Value rows,
              Value panel, Value slot, Value k);
  void registerTile(int64_t tileRows, const PlacedA &a, Value row, Value b, Value bBase, Value k,
                    Value acc);
  void epilogue(Value batch, Value m, Value rows, Value n, Value acc);
  void epilogueRows(Value batch, Value m, Value rows, Value n, Value acc, bool masked);
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
  accTile = e.view(kernel.scratch, plan.accOffset, plan.accType,
                   (plan.aOffset - plan.accOffset) / elementBytes(plan.accType));
  e.loop(kernel.tileBegin, kernel.tileEnd, 1, e.index(-1),
         [&](Value index, ValueRange carried) { return Emitter::Values{tile(index, carried[0])}; });
  return {spec.symbol, plan.tiles(), plan.scratchBytes};
}

/// One tile of the launch. `cached` names the block that scratch holds from the tile before; the
/// result names the one it holds now.
Value GemmBuilder::tile(Value index, Value cached) {
  Value block, group, batch;
  if (plan.rowsFastest) {
    block = e.rem(index, plan.rowBlocks);
    Value rest = e.div(index, plan.rowBlocks);
    group = e.rem(rest, plan.panelGroups);
    batch = e.div(rest, plan.panelGroups);
  } else {
    group = e.rem(index, plan.panelGroups);
    Value rest = e.div(index, plan.panelGroups);
    block = e.rem(rest, plan.rowBlocks);
    batch = e.div(rest, plan.rowBlocks);
  }
  Value key = e.div(index, plan.rowsFastest ? plan.rowBlocks : plan.panelGroups);
  Value fresh = plan.kBlocks > 1 ? Value() : e.compare(arith::CmpIPredicate::ne, key, cached);

  Value m0 = e.mul(block, plan.blockRows);
  Value rows = plan.rowBlocks == 1 ? e.index(spec.m)
                                   : e.min(e.index(plan.blockRows), e.sub(e.index(spec.m), m0));
  Value first = e.mul(group, plan.panelsPerUnit);
  Value end = plan.panelsPerUnit == 1
                  ? e.add(first, 1)
                  : e.min(e.add(first, plan.panelsPerUnit), e.index(plan.panels));
  if (plan.kBlocks == 1) {
    kBlock(e.index(0), batch, m0, rows, first, end, fresh);
    return key;
  }

  Value none = e.zero(e.vec(level.lanes, plan.accType));
  e.loop(e.index(0), e.index(plan.panelsPerUnit * spec.nTile * plan.blockRows), level.lanes,
         [&](Value i) { e.store(none, accTile, i); });
  e.loop(e.index(0), e.index(plan.kBlocks), 1,
         [&](Value k) { kBlock(k, batch, m0, rows, first, end, fresh); });
  e.loop(first, end, 1, [&](Value panel) {
    e.loop(e.index(0), stripsPerPanel(), 1, [&](Value strip) {
      Value n = e.add(e.mul(panel, spec.nTile), e.mul(strip, level.strip));
      epilogue(batch, m0, rows, n, accBase(e.sub(panel, first), strip));
    });
  });
  return key;
}

PlacedA GemmBuilder::blockOfA(Value batch, Value m0, Value rows, Value k0, Value k, Value fresh) {
  Value base = e.add(e.add(batchOffset(spec.a, batch), e.mul(m0, spec.a.rowStride)),
                     e.mul(k0, spec.a.columnStride));
  if (!level.copyA) {
    if (pairsInA())
      return {bufferA(), e.div(base, 2), spec.a.rowStride / 2, 1};
    return {bufferA(), base, spec.a.rowStride, spec.a.columnStride};
  }
  bool keep = fresh && !plan.rowsFastest;
  if (!keep)
    return copyA(e, spec, plan, level, bufferA(), base, rows, k, kernel.scratch);
  e.ifThen(fresh, [&] { copyA(e, spec, plan, level, bufferA(), base, rows, k, kernel.scratch); });
  return placeA(e, spec, plan, level, kernel.scratch);
}

void GemmBuilder::kBlock(Value kIndex, Value batch, Value m0, Value rows, Value firstPanel,
                         Value endPanel, Value fresh) {
  Value k0 = e.mul(kIndex, plan.kBlock);
  bool even = spec.k % plan.kBlock == 0;
  Value k = even ? e.index(plan.kBlock) : e.min(e.index(plan.kBlock), e.sub(e.index(spec.k), k0));
  PlacedA a = blockOfA(batch, m0, rows, k0, k, fresh);
  Value bBatch = batchOffset(spec.b, batch);
  e.loop(firstPanel, endPanel, 1, [&](Value panel) {
    Value source = spec.packedB
                       ? e.add(e.mul(e.add(e.mul(bBatch, plan.panels), panel), panelUnits()),
                               e.mul(pairsInB() ? e.div(k0, 2) : k0, spec.nTile))
                       : e.add(bBatch, e.mul(k0, spec.b.rowStride));
    Value slot = e.sub(panel, firstPanel);
    if (!level.prepareB)
      return strips(a, bufferB(), source, batch, m0, rows, panel, slot, k);
    Type type = level.dot ? Type(e.b.getI32Type()) : plan.accType;
    int64_t units = llvm::alignTo(plan.kBlock + 1, 16) / (level.dot ? 2 : 1);
    Value packed = e.view(kernel.scratch, plan.bOffset, type, units * spec.nTile);
    auto fill = [&] {
      prepareB(e, spec, plan, level, bufferB(), source, e.mul(panel, spec.nTile), k, packed,
               e.index(0));
    };
    if (plan.rowsFastest)
      e.ifThen(fresh, fill);
    else
      fill();
    strips(a, packed, e.index(0), batch, m0, rows, panel, slot, k);
  });
}

Value GemmBuilder::accBase(Value slot, Value strip) {
  Value column = e.add(e.mul(slot, spec.nTile), e.mul(strip, level.strip));
  return e.mul(column, plan.blockRows);
}

void GemmBuilder::strips(const PlacedA &a, Value b, Value bBase, Value batch, Value m0, Value rows,
                         Value panel, Value slot, Value k) {
  Value steps = kUnit() == 1 ? k : e.div(e.add(k, 1), 2);
  e.loop(e.index(0), stripsPerPanel(), 1, [&](Value strip) {
    Value column = e.mul(strip, level.strip);
    Value b0 = e.add(bBase, column);
    e.loop(e.index(0), rows, level.tileRows, [&](Value row) {
      Value acc =
          plan.kBlocks == 1 ? e.index(0) : e.add(accBase(slot, strip), e.mul(row, level.strip));
      Value left = e.min(e.index(level.tileRows), e.sub(rows, row));
      int64_t remainder = spec.m % level.tileRows;
      auto full = [&] { registerTile(level.tileRows, a, row, b, b0, steps, acc); };
      auto part = [&] { registerTile(remainder, a, row, b, b0, steps, acc); };
      if (remainder == 0)
        full();
      else
        e.ifThenElse(e.equal(left, e.index(level.tileRows)), full, part);
      if (plan.kBlocks == 1)
        epilogue(batch, e.add(m0, row), left, e.add(e.mul(panel, spec.nTile), column), acc);
    });
  });
}

void GemmBuilder::registerTile(int64_t tileRows, const PlacedA &a, Value row, Value b, Value bBase,
                               Value steps, Value acc) {
  MicroTile tile{tileRows,   level.strip / level.lanes, level.lanes, plan.accType, level.step,
                 spec.b.type};
  MicroOperands operands{a.buffer,    e.add(a.base, e.mul(row, a.rowStride)),
                         a.rowStride, a.kStride,
                         b,           bBase,
                         spec.nTile,  !level.prepareB};
  auto place = [&](int64_t i) { return e.add(acc, i * level.lanes); };
  SmallVector<Value> sums;
  for (int64_t i = 0; i < tileRows * tile.vecs; ++i)
    sums.push_back(plan.kBlocks == 1 ? e.zero(e.vec(level.lanes, plan.accType))
                                     : e.load(accTile, place(i), level.lanes));
  for (auto [i, sum] : llvm::enumerate(emitMicroLoop(e, tile, operands, steps, sums)))
    e.store(sum, accTile, place(i));
}

void GemmBuilder::epilogue(Value batch, Value m, Value rows, Value n, Value acc) {
  if (spec.n % spec.nTile == 0)
    return epilogueRows(batch, m, rows, n, acc, false);
  Value inside = e.compare(arith::CmpIPredicate::sle, e.add(n, level.strip), e.index(spec.n));
  e.ifThenElse(
      inside, [&] { epilogueRows(batch, m, rows, n, acc, false); },
      [&] { epilogueRows(batch, m, rows, n, acc, true); });
}

void GemmBuilder::epilogueRows(Value batch, Value m, Value rows, Value n, Value acc, bool masked) {
  Value cBatch = batchOffset(spec.c, batch);
  e.loop(e.index(0), rows, 1, [&](Value r) {
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
