//===- GroupedKernel.cpp - Products of rows by groups ---------------------===//
//
// A tile of the launch is one group and some panels of the result's columns; one more tile writes
// the rows of no group. For each tile:
//
//   1. The rows of the group are listed.
//   2. The panels of the group's matrix go through scratch.
//   3. For each block of the list: its rows into scratch, unless the tile before has left them
//      there; for each register tile of rows, for each panel: the product, stored row by row.
//
// The gradient of the weight sums over the rows: a tile is a group and a block of its matrix, and
// the list is walked in chunks, of which both operands go through scratch.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/GroupedKernel.h"
#include "GemmPacking.h"

using namespace mlir;

namespace shardc {

static constexpr int64_t kPanelWidth = 32;
static constexpr int64_t kMaxTile = 14;          ///< rows of a register tile at any level
static constexpr int64_t kRowBytes = 640 * 1024; ///< a block of rows stays in L2
static constexpr int64_t kChunk = 512;    ///< rows that are summed at a time, in the gradient
static constexpr int64_t kGradRows = 336; ///< of a block of the gradient: a multiple of 14 and of 6

namespace {

/// What both kernels do.
class GroupedBase {
public:
  GroupedBase(OpBuilder &builder, const GroupedSpec &spec, const CpuTarget &target)
      : e{builder, builder.getUnknownLoc()}, spec(spec),
        accType(spec.type.isF64() ? spec.type : Type(builder.getF32Type())),
        accBytes(elementBytes(accType)), lanes(target.vectorBytes / accBytes), strip(2 * lanes),
        tileRows(maxTileRows(target, 2)) {
    gemmPlan.accType = accType;
    level.lanes = lanes;
    level.tileRows = tileRows;
  }

protected:
  Emitter e;
  const GroupedSpec &spec;
  const Type accType;
  const int64_t accBytes, lanes, strip, tileRows;
  GemmPlan gemmPlan{};
  GemmLevel level{};
  KernelBody kernel;
  Value list; ///< rows of the group, then how many

  static MemRefType flat(int64_t count, Type type) { return MemRefType::get({count}, type); }
  Value groupsBuffer() { return kernel.buffers[2]; }
  Value groupOf(Value row) {
    Value group = e.loadScalar(groupsBuffer(), row);
    return arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), group);
  }
  Value listed(Value i) {
    return arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), e.loadScalar(list, i));
  }
  Value count() { return listed(e.index(spec.rows)); }
  Value toI64(Value index) {
    return arith::IndexCastOp::create(e.b, e.loc, e.b.getI64Type(), index);
  }
  void listRows(Value group);
  Emitter::Values multiply(Value a, Value aBase, int64_t aRow, int64_t aStep, Value b, Value bBase,
                           Value steps, ValueRange init);
  void storeRow(Value acc, Value from, Value column, int64_t columns, Value buffer, Value to);
};

void GroupedBase::listRows(Value group) {
  Value rows =
      e.loop(e.index(0), e.index(spec.rows), 1, e.index(0), [&](Value t, ValueRange found) {
         e.storeScalar(toI64(t), list, found[0]);
         Value isOurs = e.equal(groupOf(t), group);
         Value next = e.add(found[0], 1);
         return Emitter::Values{arith::SelectOp::create(e.b, e.loc, isOurs, next, found[0])};
       }).front();
  e.storeScalar(toI64(rows), list, e.index(spec.rows));
}

Emitter::Values GroupedBase::multiply(Value a, Value aBase, int64_t aRow, int64_t aStep, Value b,
                                      Value bBase, Value steps, ValueRange init) {
  MicroTile tile{tileRows, 2, lanes, accType};
  return emitMicroLoop(e, tile, {a, aBase, aRow, aStep, b, bBase, kPanelWidth}, steps, init);
}

/// One strip of a row of `columns`, rounded.
void GroupedBase::storeRow(Value acc, Value from, Value column, int64_t columns, Value buffer,
                           Value to) {
  for (int64_t x = 0; x < strip; x += lanes) {
    Value sum = e.convert(e.load(acc, e.add(from, x), lanes), spec.type);
    Value at = e.add(column, x);
    if (columns % kPanelWidth == 0)
      e.store(sum, buffer, e.add(to, at));
    else
      e.storeMasked(sum, buffer, e.add(to, at), e.mask(lanes, e.sub(e.index(columns), at)));
  }
}

//===----------------------------------------------------------------------===//
// The product
//===----------------------------------------------------------------------===//

class GroupedBuilder : GroupedBase {
public:
  using GroupedBase::GroupedBase;
  Kernel build(ModuleOp module);

private:
  const int64_t panels = llvm::divideCeil(spec.n, kPanelWidth);
  const int64_t panelsPerTile = std::min<int64_t>(panels, 4);
  const int64_t panelGroups = llvm::divideCeil(panels, panelsPerTile);
  const int64_t blockRows =
      std::min(spec.rows, std::clamp<int64_t>(kRowBytes / (spec.k * accBytes), 42, 336));
  const int64_t rowStride = llvm::alignTo(spec.k, 16) + 16;
  const int64_t panelElements = llvm::alignTo(spec.k + 1, 32) * kPanelWidth;
  Value rowsOfA, packedB, acc; ///< in scratch

  Value tile(Value index, Value cached);
  void fillRows(Value first, Value rows);
  void fillPanels(Value group, Value firstPanel, Value endPanel);
  void multiplyBlock(Value first, Value rows, Value firstPanel, Value endPanel);
  void clearOtherRows();
};

Kernel GroupedBuilder::build(ModuleOp module) {
  OpBuilder::InsertionGuard guard(e.b);
  int64_t weights = (spec.groups - 1) * spec.groupStride + (spec.n - 1) * spec.nStride +
                    (spec.k - 1) * spec.kStride + 1;
  int64_t aOffset = llvm::alignTo((spec.rows + 1) * 8, 64);
  int64_t bOffset = aOffset + llvm::alignTo((blockRows + kMaxTile) * rowStride * accBytes, 64);
  int64_t accOffset = bOffset + panelsPerTile * panelElements * accBytes;
  int64_t end = accOffset + kMaxTile * kPanelWidth * accBytes;
  kernel = beginKernel(e.b, module, spec.symbol,
                       {flat(spec.rows * spec.k, spec.type), flat(weights, spec.type),
                        flat(spec.rows, spec.groupType), flat(spec.rows * spec.n, spec.type)},
                       end);
  list = e.view(kernel.scratch, 0, e.b.getI64Type(), spec.rows + 1);
  auto view = [&](int64_t from, int64_t to) {
    return e.view(kernel.scratch, from, accType, (to - from) / accBytes);
  };
  rowsOfA = view(aOffset, bOffset);
  packedB = view(bOffset, accOffset);
  acc = view(accOffset, end);
  int64_t tiles = spec.groups * panelGroups + 1;
  e.loop(kernel.tileBegin, kernel.tileEnd, 1, e.index(-1),
         [&](Value index, ValueRange cached) { return Emitter::Values{tile(index, cached[0])}; });
  return {spec.symbol, tiles, end};
}

/// `cached` is the group whose rows are in scratch, all of them; the result the one of now.
Value GroupedBuilder::tile(Value index, Value cached) {
  Value group = e.div(index, panelGroups), isLast = e.equal(group, e.index(spec.groups));
  Value isNew = e.compare(arith::CmpIPredicate::ne, group, cached);
  e.ifThenElse(
      isLast, [&] { clearOtherRows(); },
      [&] {
        e.ifThen(isNew, [&] { listRows(group); });
        Value rows = count(), firstPanel = e.mul(e.rem(index, panelGroups), panelsPerTile);
        Value endPanel = e.min(e.add(firstPanel, panelsPerTile), e.index(panels));
        e.ifThen(e.less(e.index(0), rows), [&] { fillPanels(group, firstPanel, endPanel); });
        Value mustFill = arith::OrIOp::create(e.b, e.loc, isNew, e.less(e.index(blockRows), rows));
        e.loop(e.index(0), rows, blockRows, [&](Value first) {
          Value height = e.min(e.index(blockRows), e.sub(rows, first));
          e.ifThen(mustFill, [&] { fillRows(first, height); });
          multiplyBlock(first, height, firstPanel, endPanel);
        });
      });
  Value fits = e.compare(arith::CmpIPredicate::sle, count(), e.index(blockRows));
  return arith::SelectOp::create(e.b, e.loc, fits, group, e.index(-1));
}

void GroupedBuilder::fillRows(Value first, Value rows) {
  GemmSpec gemm;
  gemm.k = spec.k;
  gemm.a = {spec.type, spec.k, 1, {}};
  e.loop(e.index(0), rows, 1, [&](Value r) {
    Value from = e.mul(listed(e.add(first, r)), spec.k);
    copyA(e, gemm, gemmPlan, level, kernel.buffers[0], from, e.index(1), e.index(spec.k),
          {rowsOfA, e.mul(r, rowStride), rowStride, rowStride, 1});
  });
}

void GroupedBuilder::fillPanels(Value group, Value firstPanel, Value endPanel) {
  GemmSpec gemm;
  gemm.n = spec.n;
  gemm.nTile = kPanelWidth;
  gemm.b = {spec.type, spec.kStride, spec.nStride, {}};
  e.loop(firstPanel, endPanel, 1, [&](Value panel) {
    prepareB(e, gemm, gemmPlan, level, kernel.buffers[1], e.mul(group, spec.groupStride),
             e.mul(panel, kPanelWidth), e.index(spec.k), packedB,
             e.mul(e.sub(panel, firstPanel), panelElements));
  });
}

void GroupedBuilder::multiplyBlock(Value first, Value rows, Value firstPanel, Value endPanel) {
  SmallVector<Value> zeros(2 * tileRows, e.zero(e.vec(lanes, accType)));
  // The last register tile's missing rows are whatever scratch holds; nobody stores them.
  e.loop(e.index(0), rows, tileRows, [&](Value row) {
    Value height = e.min(e.index(tileRows), e.sub(rows, row));
    e.loop(firstPanel, endPanel, 1, [&](Value panel) {
      Value base = e.mul(e.sub(panel, firstPanel), panelElements);
      e.loop(e.index(0), e.index(kPanelWidth), strip, [&](Value x) {
        auto sums = multiply(rowsOfA, e.mul(row, rowStride), rowStride, 1, packedB, e.add(base, x),
                             e.index(spec.k), zeros);
        for (auto [i, sum] : llvm::enumerate(sums))
          e.store(sum, acc, e.index(i * lanes));
        e.loop(e.index(0), height, 1, [&](Value r) {
          Value to = e.mul(listed(e.add(e.add(first, row), r)), spec.n);
          storeRow(acc, e.mul(r, strip), e.add(e.mul(panel, kPanelWidth), x), spec.n,
                   kernel.buffers[3], to);
        });
      });
    });
  });
}

void GroupedBuilder::clearOtherRows() {
  e.loop(e.index(0), e.index(spec.rows), 1, [&](Value t) {
    Value inside = e.compare(arith::CmpIPredicate::ult, groupOf(t), e.index(spec.groups));
    e.ifThenElse(
        inside, [] {},
        [&] {
          e.loop(e.index(0), e.index(spec.n), 1, [&](Value n) {
            e.storeScalar(e.zero(spec.type), kernel.buffers[3], e.add(e.mul(t, spec.n), n));
          });
        });
  });
  e.storeScalar(e.scalar(e.b.getI64Type(), 0), list, e.index(spec.rows));
}

//===----------------------------------------------------------------------===//
// The gradient of the weight
//===----------------------------------------------------------------------===//

class GroupedGradBuilder : GroupedBase {
public:
  using GroupedBase::GroupedBase;
  Kernel build(ModuleOp module);

private:
  const int64_t panels = llvm::divideCeil(spec.k, kPanelWidth);
  const int64_t panelsPerTile = std::min<int64_t>(panels, 8);
  const int64_t panelGroups = llvm::divideCeil(panels, panelsPerTile);
  const int64_t blockRows = std::min(spec.n, kGradRows);
  const int64_t rowBlocks = llvm::divideCeil(spec.n, blockRows);
  const int64_t chunk = std::min(spec.rows, kChunk);
  const int64_t paddedRows = blockRows + kMaxTile;
  const int64_t panelElements = chunk * kPanelWidth;
  Value packedA, packedB, acc;          ///< in scratch
  Value n0, rows, firstPanel, endPanel; ///< of the tile

  void tile(Value index);
  int64_t tileStride() { return chunk + llvm::divideCeil(lanes, tileRows); } // room for one vector
  void fill(Value first, Value length);
  void addChunk(Value length);
  void storeBlock(Value group);
  Value accAt(Value panel, Value x, Value row) {
    Value column = e.add(e.mul(e.sub(panel, firstPanel), kPanelWidth), x);
    return e.add(e.mul(column, paddedRows), e.mul(row, strip));
  }
  void forStrips(llvm::function_ref<void(Value, Value)> body) {
    e.loop(firstPanel, endPanel, 1, [&](Value panel) {
      e.loop(e.index(0), e.index(kPanelWidth), strip, [&](Value x) { body(panel, x); });
    });
  }
};

Kernel GroupedGradBuilder::build(ModuleOp module) {
  OpBuilder::InsertionGuard guard(e.b);
  int64_t aOffset = llvm::alignTo((spec.rows + 1) * 8, 64);
  int64_t aElements = paddedRows * (chunk + kMaxTile + 16);
  int64_t bOffset = aOffset + llvm::alignTo(aElements * accBytes, 64);
  int64_t accOffset = bOffset + panelsPerTile * panelElements * accBytes;
  int64_t end = accOffset + paddedRows * panelsPerTile * kPanelWidth * accBytes;
  kernel =
      beginKernel(e.b, module, spec.symbol,
                  {flat(spec.rows * spec.k, spec.type), flat(spec.rows * spec.n, spec.type),
                   flat(spec.rows, spec.groupType), flat(spec.groups * spec.n * spec.k, spec.type)},
                  end);
  list = e.view(kernel.scratch, 0, e.b.getI64Type(), spec.rows + 1);
  auto view = [&](int64_t from, int64_t to) {
    return e.view(kernel.scratch, from, accType, (to - from) / accBytes);
  };
  packedA = view(aOffset, bOffset);
  packedB = view(bOffset, accOffset);
  acc = view(accOffset, end);
  e.loop(kernel.tileBegin, kernel.tileEnd, 1, [&](Value index) { tile(index); });
  return {spec.symbol, spec.groups * rowBlocks * panelGroups, end};
}

void GroupedGradBuilder::tile(Value index) {
  Value rest = e.div(index, panelGroups), group = e.div(rest, rowBlocks);
  firstPanel = e.mul(e.rem(index, panelGroups), panelsPerTile);
  endPanel = e.min(e.add(firstPanel, panelsPerTile), e.index(panels));
  n0 = e.mul(e.rem(rest, rowBlocks), blockRows);
  rows = e.min(e.index(blockRows), e.sub(e.index(spec.n), n0));
  listRows(group);
  Value total = count(), none = e.zero(e.vec(lanes, accType));
  e.loop(e.index(0), e.index(paddedRows * panelsPerTile * kPanelWidth), lanes,
         [&](Value i) { e.store(none, acc, i); });
  e.loop(e.index(0), total, chunk, [&](Value first) {
    Value length = e.min(e.index(chunk), e.sub(total, first));
    fill(first, length);
    addChunk(length);
  });
  storeBlock(group);
}

/// A chunk of both operands: cotangents as register tiles [row of the chunk][column], inputs as
/// panels.
void GroupedGradBuilder::fill(Value first, Value length) {
  GemmSpec gemm;
  gemm.k = 1;
  gemm.n = spec.k;
  gemm.nTile = kPanelWidth;
  gemm.a = {spec.type, 1, spec.n, {}};
  gemm.b = {spec.type, spec.k, 1, {}};
  Value one = e.index(1);
  e.loop(e.index(0), length, 1, [&](Value i) {
    Value t = listed(e.add(first, i));
    copyA(e, gemm, gemmPlan, level, kernel.buffers[1], e.add(e.mul(t, spec.n), n0), rows, one,
          {packedA, e.mul(i, tileRows), tileStride(), 1, tileRows});
    e.loop(firstPanel, endPanel, 1, [&](Value panel) {
      prepareB(e, gemm, gemmPlan, level, kernel.buffers[0], e.mul(t, spec.k),
               e.mul(panel, kPanelWidth), one, packedB,
               e.add(e.mul(e.sub(panel, firstPanel), panelElements), e.mul(i, kPanelWidth)));
    });
  });
}

void GroupedGradBuilder::addChunk(Value length) {
  e.loop(e.index(0), rows, tileRows, [&](Value row) {
    forStrips([&](Value panel, Value x) {
      Value at = accAt(panel, x, row);
      SmallVector<Value> sums;
      for (int64_t i = 0; i < 2 * tileRows; ++i)
        sums.push_back(e.load(acc, e.add(at, i * lanes), lanes));
      Value base = e.add(e.mul(e.sub(panel, firstPanel), panelElements), x);
      auto added =
          multiply(packedA, e.mul(row, tileStride()), 1, tileRows, packedB, base, length, sums);
      for (auto [i, sum] : llvm::enumerate(added))
        e.store(sum, acc, e.add(at, i * lanes));
    });
  });
}

void GroupedGradBuilder::storeBlock(Value group) {
  e.loop(e.index(0), rows, 1, [&](Value row) {
    Value to = e.mul(e.add(e.mul(group, spec.n), e.add(n0, row)), spec.k);
    forStrips([&](Value panel, Value x) {
      storeRow(acc, accAt(panel, x, row), e.add(e.mul(panel, kPanelWidth), x), spec.k,
               kernel.buffers[3], to);
    });
  });
}

} // namespace

static LogicalResult verifyGrouped(ModuleOp module, const GroupedSpec &spec) {
  auto error = [&] { return module.emitError() << "grouped product \"" << spec.symbol << "\": "; };
  if (std::min({spec.rows, spec.groups, spec.n, spec.k}) < 1)
    return error() << "sizes rows=" << spec.rows << ", groups=" << spec.groups << ", n=" << spec.n
                   << ", k=" << spec.k << " must be positive";
  if (!spec.type.isF32() && !spec.type.isF64() && !spec.type.isBF16() && !spec.type.isF16())
    return error() << "unsupported element type " << spec.type;
  return success();
}

FailureOr<Kernel> buildGrouped(OpBuilder &builder, ModuleOp module, const GroupedSpec &spec,
                               const CpuTarget &target) {
  if (failed(verifyGrouped(module, spec)))
    return failure();
  return GroupedBuilder(builder, spec, target).build(module);
}

FailureOr<Kernel> buildGroupedGrad(OpBuilder &builder, ModuleOp module, const GroupedSpec &spec,
                                   const CpuTarget &target) {
  if (failed(verifyGrouped(module, spec)))
    return failure();
  return GroupedGradBuilder(builder, spec, target).build(module);
}

} // namespace shardc
