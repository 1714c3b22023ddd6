//===- GemmPlan.h - How a matrix multiplication is cut up -------*- C++ -*-===//
//
// A tile of the launch is blockRows × (panelsPerUnit · nTile) of C; within it k runs in blocks.
// Where B is a packed weight, each of its panels in turn meets all rows of A's block, which stays
// in L2, and streams. Where B goes through scratch, a group of panels stays in L2 and each register
// tile of rows, in L1, meets all of them, so that a large A is read once for each group.
//
// What goes through scratch is kept for the tiles that follow with the same rows (A) or the same
// panels (B). The plan is the same for all ISA levels, since a bundle has one command list for
// them.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_CPU_GEMMPLAN_H
#define SHARDC_LIB_LOWER_CPU_GEMMPLAN_H

#include "MicroKernel.h"
#include "shardc/Lower/GemmKernel.h"

namespace shardc {

enum class TileOrder { RowsFastest, GroupsFastest };

struct GemmPlan {
  mlir::Type accType;
  int64_t batchCount;
  int64_t blockRows, rowBlocks;
  int64_t accRows; ///< of a block, as accumulators lie: whole register tiles
  int64_t panels, panelsPerUnit, panelGroups;
  int64_t kBlock, kBlocks;
  TileOrder order;
  bool keepA;         ///< A's block stays in scratch for the tiles with the same rows
  int64_t groupsKept; ///< so many groups of panels stay: none, the last one, or all
  int64_t accOffset, aOffset, bOffset, scratchBytes;
  bool rowsFastest() const { return order == TileOrder::RowsFastest; }
  int64_t tiles() const { return batchCount * rowBlocks * panelGroups; }
};

/// What differs between levels.
struct GemmLevel {
  bool dot;             ///< operands are bf16 pairs
  bool tiles;           ///< … for matrix tiles: k is padded to whole ones
  bool copyA;           ///< A goes through scratch: converted, paired, or with a kinder row stride
  bool prepareB;        ///< B goes through scratch: converted or packed
  int64_t lanes, strip; ///< columns of the register tile
  int64_t tileRows;
  StepKind step;
};

/// Elements of the accumulator's type that one block of k takes in scratch at most.
int64_t blockElementsOfA(const GemmPlan &plan);
int64_t panelElementsOfB(const GemmSpec &spec, const GemmPlan &plan);

mlir::LogicalResult verifyGemm(mlir::ModuleOp module, const GemmSpec &spec);
GemmPlan planGemm(const GemmSpec &spec);
GemmLevel planLevel(const GemmSpec &spec, const GemmPlan &plan, const CpuTarget &target);

inline bool isPaired(mlir::Type type) { return type.isBF16() || type.isF16(); }

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_GEMMPLAN_H
