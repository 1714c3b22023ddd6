//===- GemmPlan.cpp - How a matrix multiplication is cut up ---------------===//
#include "GemmPlan.h"
#include "llvm/Support/MathExtras.h"
#include <numeric>

using namespace mlir;

namespace shardc {

/// k of one block: a panel of 32 columns is then at most 320 KiB. Where B is packed for each block
/// of rows, blocks are shorter and taller, so that more rows share the packing.
static constexpr int64_t kMaxKBytes = 2560 * 4;
static constexpr int64_t kMaxKBytesPacking = 1024 * 4;
/// A's block may take this much of L2.
static constexpr int64_t kBlockBytes = 640 * 1024;
/// Row blocks are multiples of the tile rows of every level (12 or 6).
static constexpr int64_t kRowUnit = 12;
/// Enough tiles for the threads of a big socket to share evenly.
static constexpr int64_t kWantedTiles = 64;

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

static bool canDot(const GemmSpec &spec) { return spec.a.type.isBF16() && spec.b.type.isBF16(); }

/// Rows a multiple of 4 KiB apart fall into one set of L1 and evict each other.
static bool rowsCollide(const GemmSpec &spec) {
  return spec.m > 8 && spec.a.rowStride * elementBytes(spec.a.type) % 4096 == 0;
}

static bool mustCopyA(const GemmSpec &spec, Type accType, bool dot, bool pairsInB) {
  if (dot) {
    auto odd = [](int64_t stride) { return stride % 2 != 0; };
    return spec.a.columnStride != 1 || odd(spec.k) || odd(spec.a.rowStride) ||
           llvm::any_of(spec.a.batch, odd) || rowsCollide(spec);
  }
  if (spec.a.type != accType || (pairsInB && spec.k % 2 != 0))
    return true;
  return spec.m > 4 && (spec.a.columnStride != 1 || rowsCollide(spec));
}

static bool mustPrepareB(const GemmSpec &spec, Type accType, bool dot) {
  return !spec.packedB || (!dot && spec.b.type != accType);
}

GemmPlan planGemm(const GemmSpec &spec) {
  GemmPlan plan;
  plan.accType = accumulatorType(spec);
  plan.batchCount =
      std::accumulate(spec.batch.begin(), spec.batch.end(), int64_t(1), std::multiplies<>());
  plan.panels = llvm::divideCeil(spec.n, spec.nTile);
  int64_t accBytes = elementBytes(plan.accType);
  bool prepareB = mustPrepareB(spec, plan.accType, false);
  int64_t maxK = (!spec.packedB && spec.m > 96 ? kMaxKBytesPacking : kMaxKBytes) / accBytes;
  plan.kBlocks = llvm::divideCeil(spec.k, maxK);
  plan.kBlock =
      plan.kBlocks == 1 ? spec.k : llvm::alignTo(llvm::divideCeil(spec.k, plan.kBlocks), 16);
  plan.kBlocks = llvm::divideCeil(spec.k, plan.kBlock);

  int64_t rows = kBlockBytes / (plan.kBlock * accBytes) / kRowUnit * kRowUnit;
  int64_t minRows = prepareB ? 96 : 48;
  rows = std::clamp<int64_t>(rows, minRows, 384);
  int64_t wantedBlocks = llvm::divideCeil(kWantedTiles, plan.batchCount * plan.panels);
  int64_t evenRows = llvm::alignTo(llvm::divideCeil(spec.m, wantedBlocks), kRowUnit);
  rows = std::min(rows, std::max(evenRows, minRows));
  plan.blockRows = std::min(rows, spec.m);
  plan.rowBlocks = llvm::divideCeil(spec.m, plan.blockRows);

  bool pairsInB = spec.packedB && isPaired(spec.b.type);
  bool copyA = mustCopyA(spec, plan.accType, false, pairsInB) ||
               (canDot(spec) && mustCopyA(spec, plan.accType, true, pairsInB));
  plan.rowsFastest = prepareB && !copyA && plan.kBlocks == 1;
  // With several blocks of k nothing is kept between tiles, so that a tile has to be large enough
  // to pay for the copies.
  plan.panelsPerUnit = plan.kBlocks == 1 ? 1 : std::min<int64_t>(plan.panels, 4);
  plan.panelGroups = llvm::divideCeil(plan.panels, plan.panelsPerUnit);

  int64_t accRows = plan.kBlocks == 1 ? 24 : plan.blockRows;
  plan.accOffset = 0;
  plan.aOffset = llvm::alignTo(plan.panelsPerUnit * spec.nTile * accRows * accBytes, 64);
  int64_t aBytes =
      copyA ? llvm::alignTo(plan.blockRows, 16) * (llvm::alignTo(plan.kBlock, 16) + 32) * accBytes
            : 0;
  plan.bOffset = plan.aOffset + llvm::alignTo(aBytes, 64);
  bool inRegisters = spec.packedB && isPaired(spec.b.type) && plan.accType.isF32() &&
                     spec.m <= maxRowsAtEveryLevel();
  int64_t bBytes =
      prepareB && !inRegisters ? llvm::alignTo(plan.kBlock + 1, 16) * spec.nTile * accBytes : 0;
  plan.scratchBytes = plan.bOffset + llvm::alignTo(bBytes, 64);
  return plan;
}

GemmLevel planLevel(const GemmSpec &spec, const GemmPlan &plan, const CpuTarget &target) {
  GemmLevel level;
  level.dot = target.bf16Dot && canDot(spec);
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
  return type.isF64() || type.isF32() || type.isF16() || type.isBF16() ||
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
