//===- AttentionPlan.cpp - How attention is cut up ------------------------===//
#include "AttentionPlan.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace shardc {

static constexpr int64_t kMaxRows = 84; ///< queries of a tile: a multiple of 14 and of 6
static constexpr int64_t kWantedTiles = 32;
static constexpr int64_t kKeptBytes = 1024 * 1024; ///< panels of one head that may stay in scratch

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
  // A transposition stores whole squares: room for the last one's overhang.
  kOffset = place(kKeyBlock * spec.dim * panelBlocks + kMaxLanes * kPanel);
  vOffset = place(kKeyBlock * paddedDim * panelBlocks + kMaxLanes * kPanel);
  scoreOffset = place(paddedRows * kKeyBlock);
  outOffset = place(paddedRows * paddedDim);
  maxOffset = place(paddedRows);
  blockMaxOffset = place(paddedRows);
  factorOffset = place(paddedRows);
  sumOffset = place(paddedRows * kMaxLanes);
  scratchBytes = next;
}

LogicalResult verifyAttention(ModuleOp module, const AttentionSpec &spec) {
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
  if (spec.out.column != 1)
    return error() << "the result's columns have stride " << spec.out.column
                   << ", must be contiguous";
  return success();
}

} // namespace shardc
