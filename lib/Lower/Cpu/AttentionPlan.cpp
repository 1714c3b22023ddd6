//===- AttentionPlan.cpp - How attention is cut up ------------------------===//
#include "AttentionPlan.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace shardc {

static constexpr int64_t kMaxRows = 84; ///< queries of a tile: a multiple of 14 and of 6
static constexpr int64_t kWantedTiles = 32;
static constexpr int64_t kKeptBytes = 1024 * 1024; ///< panels of one head that may stay in scratch
/// Scores and their gradients of one block of queries. Beyond, a block has half the rows.
static constexpr int64_t kGradRowBytes = 8 * 1024 * 1024;

AttentionPlan::AttentionPlan(const AttentionSpec &spec) {
  group = spec.queryHeads / spec.keyHeads;
  mergeHeads = group > 1 && group * spec.queries <= kMaxRows;
  int64_t heads = spec.batch * (mergeHeads ? spec.keyHeads : spec.queryHeads);
  int64_t wanted =
      heads * llvm::divideCeil(spec.queries, kMaxRows) < kWantedTiles ? kMaxRows / 2 : kMaxRows;
  blocks = mergeHeads ? 1 : llvm::divideCeil(spec.queries, wanted);
  rows = mergeHeads ? group * spec.queries : llvm::divideCeil(spec.queries, blocks);
  blocks = mergeHeads ? 1 : llvm::divideCeil(spec.queries, rows);
  tiles = heads * blocks;
  paddedRows = llvm::alignTo(rows + 14, kMaxLanes);
  paddedDim = llvm::alignTo(spec.valueDim, kPanel);
  int64_t keyBlocks = llvm::divideCeil(spec.keys, kKeyBlock);
  bool shared = !mergeHeads && group * blocks > 1;
  keepPanels =
      shared && !spec.left && keyBlocks * kKeyBlock * (spec.dim + paddedDim) * 4 <= kKeptBytes;
  panelBlocks = keepPanels ? keyBlocks : 1;
  int64_t next = 0;
  auto place = [&](int64_t floats) {
    return std::exchange(next, next + int64_t(llvm::alignTo(floats * 4, 64)));
  };
  qOffset = place(paddedRows * spec.dim);
  kOffset = place(kKeyBlock * spec.dim * panelBlocks + kSquareRoom);
  vOffset = place(kKeyBlock * paddedDim * panelBlocks + kSquareRoom);
  scoreOffset = place(paddedRows * kKeyBlock);
  outOffset = place(paddedRows * paddedDim);
  maxOffset = place(paddedRows);
  blockMaxOffset = place(paddedRows);
  factorOffset = place(paddedRows);
  sumOffset = place(paddedRows * kMaxLanes);
  scratchBytes = next;
}

AttentionGradPlan::AttentionGradPlan(const AttentionSpec &spec) {
  group = spec.queryHeads / spec.keyHeads;
  batchesPerTile = spec.sinks ? spec.batch : 1;
  tiles = spec.keyHeads * (spec.batch / batchesPerTile);
  paddedDim = llvm::alignTo(spec.dim, kPanel);
  paddedValueDim = llvm::alignTo(spec.valueDim, kPanel);
  for (rows = std::min(spec.queries, kMaxRows);; rows = kMaxRows / 2) {
    int64_t width = spec.keys;
    if (spec.left && spec.right)
      width = std::min(width, std::max<int64_t>(0, rows + *spec.left + *spec.right));
    // Blocks of columns begin and end at panels, the last register tile may reach beyond, and rows
    // a multiple of 4 KiB apart would fall into one set of L1.
    columns = llvm::alignTo(width, kPanel) + 2 * kPanel + kMaxLanes;
    if (rows <= kMaxRows / 2 || 2 * 4 * rows * columns <= kGradRowBytes)
      break;
  }
  paddedRows = rows + kMaxTileRows;
  int64_t keys = llvm::alignTo(spec.keys, kPanel) + kMaxTileRows, next = 0;
  auto place = [&](int64_t floats) {
    return std::exchange(next, next + int64_t(llvm::alignTo(floats * 4, 64)));
  };
  qOffset = place(paddedRows * paddedDim);
  gOffset = place(paddedRows * paddedValueDim);
  keyPanelOffset = place(keys * spec.dim + kSquareRoom);
  valuePanelOffset = place(keys * spec.valueDim + kSquareRoom);
  keyRowOffset = place(keys * paddedDim);
  scoreOffset = place(paddedRows * columns);
  weightGradOffset = place(paddedRows * columns);
  slopeOffset = place(spec.softCap == 0 ? 0 : columns);
  dqOffset = place(paddedRows * paddedDim);
  dkOffset = place(keys * paddedDim);
  dvOffset = place(keys * paddedValueDim);
  dsinkOffset = place(spec.sinks ? group : 0);
  scratchBytes = next;
}

/// What the gradient asks for as well.
static LogicalResult verifyOperands(ModuleOp module, const AttentionSpec &spec) {
  auto error = [&] { return module.emitError() << "attention \"" << spec.symbol << "\": "; };
  if (std::min({spec.batch, spec.queryHeads, spec.keyHeads, spec.queries, spec.keys, spec.dim,
                spec.valueDim}) < 1)
    return error() << "sizes must be positive";
  if (spec.queryHeads % spec.keyHeads != 0)
    return error() << spec.queryHeads << " query heads are not a multiple of " << spec.keyHeads
                   << " key heads";
  auto isFloat = [](Type type) { return type && (type.isF32() || type.isBF16() || type.isF16()); };
  for (const AttentionOperand *operand : {&spec.q, &spec.k, &spec.v, &spec.out})
    if (!isFloat(operand->type))
      return error() << "unsupported element type " << operand->type;
  if (spec.sinks && !isFloat(spec.sinks))
    return error() << "unsupported type of sinks " << spec.sinks;
  if (spec.mask && !isFloat(spec.mask->type) && !spec.mask->type.isSignlessInteger(8) &&
      !spec.mask->type.isSignlessInteger(1))
    return error() << "unsupported type of the mask " << spec.mask->type;
  return success();
}

LogicalResult verifyAttention(ModuleOp module, const AttentionSpec &spec) {
  if (failed(verifyOperands(module, spec)))
    return failure();
  if (spec.out.column != 1)
    return module.emitError() << "attention \"" << spec.symbol
                              << "\": the result's columns have stride " << spec.out.column
                              << ", must be contiguous";
  return success();
}

LogicalResult verifyAttentionGrad(ModuleOp module, const AttentionGradSpec &spec) {
  const AttentionSpec &attention = spec.attention;
  if (failed(verifyOperands(module, attention)))
    return failure();
  auto error = [&] {
    return module.emitError() << "gradient of attention \"" << attention.symbol << "\": ";
  };
  if (attention.logSumExp || attention.runtimeOffset || attention.keyLengths)
    return error() << "log-sum-exp, run-time offset and key lengths are not supported";
  std::pair<const AttentionOperand &, Type> results[] = {
      {spec.dq, attention.q.type}, {spec.dk, attention.k.type}, {spec.dv, attention.v.type}};
  for (auto [result, type] : results) {
    if (result.type != type)
      return error() << "a gradient has type " << result.type << ", expected " << type;
    if (result.column != 1)
      return error() << "a gradient's columns have stride " << result.column
                     << ", must be contiguous";
  }
  return success();
}

} // namespace shardc
