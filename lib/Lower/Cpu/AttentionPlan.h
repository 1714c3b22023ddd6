//===- AttentionPlan.h - How attention is cut up ----------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CPU_ATTENTIONPLAN_H
#define SHARDC_LIB_LOWER_CPU_ATTENTIONPLAN_H

#include "shardc/Lower/AttentionKernel.h"

namespace shardc {

inline constexpr int64_t kKeyBlock = 64; ///< keys at a time
inline constexpr int64_t kPanel = 32;    ///< columns of a packed panel
inline constexpr int64_t kMaxLanes = 16;
/// Packing transposes whole squares, of pairs where elements have 16 bits: floats that it may write
/// behind a panel.
inline constexpr int64_t kSquareRoom = 2 * kMaxLanes * kPanel;
inline constexpr int64_t kMaxTileRows = 14; ///< of a register tile

/// What is the same for all levels: rows of a tile and where things lie in scratch.
struct AttentionPlan {
  int64_t group;   ///< query heads per key head
  bool mergeHeads; ///< a tile holds all queries of all heads of a group
  int64_t rows, blocks, paddedRows, paddedDim;
  bool keepPanels;     ///< all panels of a key head stay in scratch for the tiles that follow
  int64_t panelBlocks; ///< blocks of keys that scratch has room for
  int64_t qOffset, kOffset, vOffset, scoreOffset, outOffset, maxOffset, blockMaxOffset,
      factorOffset, sumOffset, scratchBytes;
  int64_t tiles;

  explicit AttentionPlan(const AttentionSpec &spec);
};

/// … and for the gradient. A tile is one key head; its query heads are done block by block.
struct AttentionGradPlan {
  int64_t group;          ///< query heads per key head
  int64_t batchesPerTile; ///< all of them, if the gradient of the sinks is a sum over them
  int64_t rows, paddedRows;
  int64_t paddedDim, paddedValueDim;
  int64_t columns; ///< row stride of the scores of a block of queries
  int64_t qOffset, gOffset, keyPanelOffset, valuePanelOffset, keyRowOffset, scoreOffset,
      weightGradOffset, slopeOffset, dqOffset, dkOffset, dvOffset, dsinkOffset, scratchBytes;
  int64_t tiles;

  explicit AttentionGradPlan(const AttentionSpec &spec);
};

mlir::LogicalResult verifyAttention(mlir::ModuleOp module, const AttentionSpec &spec);
mlir::LogicalResult verifyAttentionGrad(mlir::ModuleOp module, const AttentionGradSpec &spec);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_ATTENTIONPLAN_H
