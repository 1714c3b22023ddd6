//===- GemmPlan.cpp - How a matrix multiplication is cut up ---------------===//
#include "GemmPlan.h"
#include "MatrixTiles.h"
#include "shardc/Support/ElementBytes.h"
#include "llvm/Support/MathExtras.h"
#include <numeric>

using namespace mlir;

namespace shardc {

/// k of one block: a panel of 32 columns is then at most 320 KiB. Where B goes through scratch, a
/// register tile's rows are then 24 KiB, half of L1.
static constexpr int64_t kMaxKBytes = 2560 * 4;
static constexpr int64_t kMaxKBytesScratch = 640 * 4;
/// … for matrix tiles: a panel of 32 columns of bf16 is 32 KiB and stays in L1.
static constexpr int64_t kMaxKTiles = 512;
/// A's block may take this much of L2.
static constexpr int64_t kBlockBytes = 640 * 1024;
/// Panels that are kept for other tiles may come from L3.
static constexpr int64_t kKeptBytes = 8 * 1024 * 1024;
/// A block of rows that share the copies of panels.
static constexpr int64_t kMinCopiedRows = 96;
/// Row blocks are multiples of the tile rows of every level: 12, 6, and 32 of matrix tiles.
static constexpr int64_t kRowUnit = 12, kRowUnitTiles = 96;
/// Fewer rows leave matrix tiles empty; what counts then is to read B once.
static constexpr int64_t kMinRowsTiles = 7;
/// So many columns pay for a copy of A with a kinder stride.
static constexpr int64_t kMinColumnsTiles = 128;
/// Enough tiles for the threads of a big socket to share evenly.
static constexpr int64_t kWantedTiles = 64;
/// … where copies are made for each range of tiles.
static constexpr int64_t kWantedTilesScratch = 16;

static Type accumulatorType(const GemmSpec &spec) {
  Type a = spec.a.type, b = spec.b.type, c = spec.c.type;
  if (!isa<FloatType>(a))
    return c;
  if (a.isF64() || b.isF64() || c.isF64())
    return Float64Type::get(c.getContext());
  return Float32Type::get(c.getContext());
}

/// So few rows are one register tile at every level, so that pairs are converted in registers.
static int64_t maxRowsAtEveryLevel() { return 6; }

static bool canDot(const GemmSpec &spec) {
  return spec.a.type.isBF16() && spec.b.type.isBF16() && accumulatorType(spec).isF32();
}

/// Whether a level with matrix tiles uses them. Packed weights are read in place: k ends with a
/// tile.
static bool canTile(const GemmSpec &spec) {
  return canDot(spec) && spec.m >= kMinRowsTiles && (!spec.packedB || spec.k % kTileK == 0);
}

/// Rows a multiple of 4 KiB apart fall into one set of L1 and evict each other.
static bool rowsCollide(const GemmSpec &spec) {
  return spec.m > 8 && spec.a.rowStride * elementBytes(spec.a.type) % 4096 == 0;
}

static bool mustCopyA(const GemmSpec &spec, Type accType, bool dot, bool pairsInB) {
  // With groups of panels rows are read too rarely for a copy to pay.
  bool isSlow = spec.packedB && rowsCollide(spec);
  if (dot) {
    auto odd = [](int64_t stride) { return stride % 2 != 0; };
    return spec.a.columnStride != 1 || odd(spec.k) || odd(spec.a.rowStride) ||
           llvm::any_of(spec.a.batch, odd) || isSlow;
  }
  if (spec.a.type != accType || (pairsInB && spec.k % 2 != 0))
    return true;
  return spec.m > 4 && (spec.a.columnStride != 1 || isSlow);
}

/// Rows an odd number of lines apart lie in different sets of the caches. Others reach two thirds
/// of the matrix unit's speed, and reading them unaligned costs as much.
static bool isOddLines(const GemmSpec &spec) {
  return spec.a.rowStride * elementBytes(spec.a.type) % 128 == 64;
}

static bool mustCopyAForTiles(const GemmSpec &spec) {
  auto odd = [](int64_t stride) { return stride % 2 != 0; };
  return spec.a.columnStride != 1 || spec.k % kTileK != 0 || odd(spec.a.rowStride) ||
         llvm::any_of(spec.a.batch, odd) || (spec.m > kTileSide && spec.m % kTileSide != 0) ||
         rowsCollide(spec) || (spec.n >= kMinColumnsTiles && !isOddLines(spec));
}

static bool mustPrepareB(const GemmSpec &spec, Type accType, bool dot) {
  return !spec.packedB || (!dot && spec.b.type != accType);
}

/// Rows of a block of A and panels of a group of B, so that copies are few and tiles are enough;
/// and what of them is kept for other tiles.
static void cutRowsAndColumns(const GemmSpec &spec, GemmPlan &plan, bool copyA, bool prepareB) {
  bool tiles = canTile(spec);
  int64_t rowBytes =
      (prepareB ? spec.k : plan.kBlock) * elementBytes(tiles ? spec.a.type : plan.accType);
  const int64_t unit = tiles ? kRowUnitTiles : kRowUnit, minRows = std::max<int64_t>(48, unit),
                minCopied = tiles ? 2 * unit : kMinCopiedRows;
  int64_t rows = (tiles ? 2 * kBlockBytes : kBlockBytes) / rowBytes / unit * unit;
  int64_t wantedTiles = prepareB ? kWantedTilesScratch : kWantedTiles, maxRows = 384;
  auto groupOf = [&](int64_t panels) { return std::min(plan.panels, panels); };
  plan.order = TileOrder::GroupsFastest;
  if (!prepareB) {
    plan.panelsPerUnit = plan.kBlocks == 1 ? 1 : groupOf(4);
  } else if (!copyA) {
    // Rows are read in place, once for each group. Nothing is done again for another block of them.
    plan.order = TileOrder::RowsFastest;
    plan.panelsPerUnit = groupOf(4);
    maxRows = minRows;
  } else if (rows >= minCopied) {
    plan.panelsPerUnit = groupOf(2);
  } else { // k is so long that A's rows do not fit: they are copied for each group
    plan.order = TileOrder::RowsFastest;
    plan.panelsPerUnit = groupOf(tiles ? 16 : 8);
    maxRows = rows = minCopied;
  }
  rows = std::clamp<int64_t>(rows, minRows, maxRows);
  plan.panelGroups = llvm::divideCeil(plan.panels, plan.panelsPerUnit);
  int64_t wantedBlocks = llvm::divideCeil(wantedTiles, plan.batchCount * plan.panelGroups);
  int64_t evenRows = llvm::alignTo(llvm::divideCeil(spec.m, wantedBlocks), unit);
  rows = std::min(rows, std::max<int64_t>(evenRows, minRows));
  // Blocks of one height, so that threads have the same work.
  int64_t blocks = llvm::divideCeil(spec.m, rows);
  plan.blockRows = std::min<int64_t>(spec.m, llvm::alignTo(llvm::divideCeil(spec.m, blocks), unit));
  plan.rowBlocks = llvm::divideCeil(spec.m, plan.blockRows);
  plan.accRows = canTile(spec) ? llvm::alignTo(plan.blockRows, 2 * kTileSide) : plan.blockRows;

  plan.keepA = copyA && plan.order == TileOrder::GroupsFastest &&
               (plan.kBlocks == 1 || plan.blockRows * rowBytes <= 2 * kBlockBytes);
  int64_t group = plan.panelsPerUnit * spec.nTile * rowBytes;
  plan.groupsKept = !prepareB || plan.rowBlocks == 1       ? 0
                    : plan.order == TileOrder::RowsFastest ? 1
                                                           : plan.panelGroups;
  if (plan.groupsKept * group > kKeptBytes)
    plan.groupsKept = 0;
}

GemmPlan planGemm(const GemmSpec &spec) {
  GemmPlan plan;
  plan.accType = accumulatorType(spec);
  plan.batchCount =
      std::accumulate(spec.batch.begin(), spec.batch.end(), int64_t(1), std::multiplies<>());
  plan.panels = llvm::divideCeil(spec.n, spec.nTile);
  int64_t accBytes = elementBytes(plan.accType);
  bool prepareB = mustPrepareB(spec, plan.accType, false);
  bool tiles = canTile(spec);
  int64_t maxK = tiles ? kMaxKTiles : (prepareB ? kMaxKBytesScratch : kMaxKBytes) / accBytes;
  plan.kBlocks = llvm::divideCeil(spec.k, maxK);
  plan.kBlock =
      plan.kBlocks == 1 ? spec.k : llvm::alignTo(llvm::divideCeil(spec.k, plan.kBlocks), kTileK);
  plan.kBlocks = llvm::divideCeil(spec.k, plan.kBlock);

  bool pairsInB = spec.packedB && isPaired(spec.b.type);
  bool copyA = mustCopyA(spec, plan.accType, false, pairsInB) ||
               (canDot(spec) && mustCopyA(spec, plan.accType, true, pairsInB)) ||
               (tiles && mustCopyAForTiles(spec));
  cutRowsAndColumns(spec, plan, copyA, prepareB);

  // With blocks of k, matrix tiles store one register tile more: what they hold at the beginning.
  int64_t accElements = 2 * kTileSide * spec.nTile;
  if (plan.kBlocks > 1)
    accElements += plan.panelsPerUnit * spec.nTile * plan.accRows;
  plan.accOffset = 0;
  plan.aOffset = llvm::alignTo(accElements * accBytes, 64);
  int64_t aBytes = copyA ? blockElementsOfA(plan) * (plan.keepA ? plan.kBlocks : 1) * accBytes : 0;
  plan.bOffset = plan.aOffset + llvm::alignTo(aBytes, 64);
  bool inRegisters = spec.packedB && isPaired(spec.b.type) && plan.accType.isF32() &&
                     spec.m <= maxRowsAtEveryLevel();
  int64_t bBytes = prepareB && !inRegisters
                       ? panelElementsOfB(spec, plan) * plan.panelsPerUnit *
                             std::max<int64_t>(1, plan.groupsKept * plan.kBlocks) * accBytes
                       : 0;
  plan.scratchBytes = plan.bOffset + llvm::alignTo(bBytes, 64);
  return plan;
}

int64_t blockElementsOfA(const GemmPlan &plan) {
  return (llvm::alignTo(plan.blockRows, 16) + 16) * (llvm::alignTo(plan.kBlock, 16) + 32);
}

int64_t panelElementsOfB(const GemmSpec &spec, const GemmPlan &plan) {
  return llvm::alignTo(plan.kBlock + 1, 32) * spec.nTile;
}

GemmLevel planLevel(const GemmSpec &spec, const GemmPlan &plan, const CpuTarget &target) {
  GemmLevel level;
  level.tiles = target.amx && canTile(spec);
  level.dot = level.tiles || (target.bf16Dot && canDot(spec));
  level.lanes = target.vectorBytes / elementBytes(plan.accType);
  level.lanes = std::min(level.lanes, spec.nTile);
  // With 16 registers one or two rows leave room for whole panels, which are then read in one
  // stream.
  level.strip = std::min((!target.avx512 && spec.m <= 2 ? 4 : 2) * level.lanes, spec.nTile);
  int64_t maxRows = maxTileRows(target, level.strip / level.lanes);
  if (plan.rowBlocks > 1)
    level.tileRows = std::min(maxRows, kRowUnit); // divides blockRows
  else
    level.tileRows = llvm::divideCeil(spec.m, llvm::divideCeil(spec.m, maxRows));

  if (level.tiles) {
    level.tileRows = spec.m <= kTileSide ? spec.m : 2 * kTileSide;
    level.copyA = mustCopyAForTiles(spec);
    level.prepareB = !spec.packedB;
    level.step = StepKind::DotPair;
    return level;
  }
  bool pairs = spec.packedB && isPaired(spec.b.type) && !level.dot;
  level.copyA = mustCopyA(spec, plan.accType, level.dot, pairs);
  level.prepareB = mustPrepareB(spec, plan.accType, level.dot);
  level.step = level.dot ? StepKind::DotPair : StepKind::Element;
  // Few rows meet each panel: converting in registers (two operations for bf16, more for f16) is
  // cheaper than through scratch.
  if (pairs && plan.accType.isF32() && spec.m <= level.tileRows * (spec.b.type.isBF16() ? 2 : 1)) {
    level.step = StepKind::ConvertPair;
    level.prepareB = false;
  }
  return level;
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

static bool isSupported(Type type) {
  return type.isF64() || type.isF32() || type.isF16() || type.isBF16() || isFloat8(type) ||
         type.isSignlessInteger(8) || type.isSignlessInteger(16) || type.isSignlessInteger(32) ||
         type.isSignlessInteger(64);
}

LogicalResult verifyGemm(ModuleOp module, const GemmSpec &spec) {
  auto error = [&] {
    return module.emitError() << "matrix multiplication \"" << spec.symbol << "\": ";
  };
  if (spec.m < 1 || spec.n < 1 || spec.k < 1)
    return error() << "sizes m=" << spec.m << ", n=" << spec.n << ", k=" << spec.k
                   << " must be positive";
  for (const GemmOperand *operand : {&spec.a, &spec.b, &spec.c}) {
    if (!operand->type || !isSupported(operand->type))
      return error() << "unsupported element type " << operand->type;
    if (operand->batch.size() != spec.batch.size())
      return error() << "an operand has " << operand->batch.size() << " batch strides for "
                     << spec.batch.size() << " batch dimensions";
    if (isa<FloatType>(operand->type) != isa<FloatType>(spec.c.type))
      return error() << "operands of types " << operand->type << " and " << spec.c.type
                     << " cannot be mixed";
    if (operand->rowStride < 0 || operand->columnStride < 0 ||
        llvm::any_of(operand->batch, [](int64_t s) { return s < 0; }))
      return error() << "negative strides are not supported";
  }
  if (llvm::any_of(spec.batch, [](int64_t size) { return size < 1; }))
    return error() << "batch sizes must be positive";
  if (spec.c.columnStride != 1)
    return error() << "the result's columns have stride " << spec.c.columnStride
                   << ", must be contiguous";
  if (spec.nTile != 16 && spec.nTile != 32)
    return error() << "panel width " << spec.nTile << ", must be 16 or 32";
  return success();
}

} // namespace shardc
