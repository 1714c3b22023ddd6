//===- GemmPlan.h - How a matrix multiplication is cut up -------*- C++ -*-===//
//
// A tile of the launch is blockRows × (panelsPerUnit · nTile) of C. Within it k runs in blocks,
// each panel of B in turn meets all row blocks of A, so that A's block stays in L2 and a panel
// streams. The plan is the same for all ISA levels, since a bundle has one command list for them.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_CPU_GEMMPLAN_H
#define SHARDC_LIB_LOWER_CPU_GEMMPLAN_H

#include "MicroKernel.h"
#include "shardc/Lower/GemmKernel.h"

namespace shardc {

struct GemmPlan {
  mlir::Type accType;
  int64_t batchCount;
  int64_t blockRows, rowBlocks;
  int64_t panels, panelsPerUnit, panelGroups;
  int64_t kBlock, kBlocks;
  bool rowsFastest; ///< consecutive tiles share B's panel rather than A's block
  int64_t accOffset, aOffset, bOffset, scratchBytes;
  int64_t tiles() const { return batchCount * rowBlocks * panelGroups; }
};

/// What differs between levels.
struct GemmLevel {
  bool dot;             ///< bf16 pairs through vdpbf16ps
  bool copyA;           ///< A goes through scratch: converted, paired, or with a kinder row stride
  bool prepareB;        ///< B goes through scratch: converted or packed
  int64_t lanes, strip; ///< columns of the register tile
  int64_t tileRows;
  StepKind step;
};

mlir::LogicalResult verifyGemm(mlir::ModuleOp module, const GemmSpec &spec);
GemmPlan planGemm(const GemmSpec &spec);
GemmLevel planLevel(const GemmSpec &spec, const GemmPlan &plan, const CpuTarget &target);

inline bool isPaired(mlir::Type type) { return type.isBF16() || type.isF16(); }

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_GEMMPLAN_H
