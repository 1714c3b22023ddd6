//===- GroupedGrid.h - Products of rows by groups ---------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CUDA_GROUPEDGRID_H
#define SHARDC_LIB_LOWER_CUDA_GROUPEDGRID_H

#include "CudaLowering.h"

namespace shardc {

/// Errors are the op's.
mlir::FailureOr<CudaKernel> lowerGroupedGrid(CudaLowering &lowering, graph::GroupedMatmulOp op);
mlir::FailureOr<CudaKernel> lowerGroupedGradGrid(CudaLowering &lowering,
                                                 graph::GroupedMatmulGradOp op);

/// The rows of each group behind each other, in their own order, and the tiles that they make. Rows
/// of no group are one group more, the last. What lies in the scratch area, all i32:
struct GroupOrder {
  static constexpr int64_t kRows = 64; ///< of a tile

  GroupOrder(mlir::MLIRContext *context, int64_t rows, int64_t groups);

  int64_t rows, groups;
  int64_t maxTiles;     ///< however the rows are distributed
  CudaBuffer order;     ///< [rows]: numbers of rows
  CudaBuffer starts;    ///< [groups + 2]: where a group's rows begin in `order`; the end
  CudaBuffer tileGroup; ///< [maxTiles]
  CudaBuffer tileFirst; ///< [maxTiles]: where its rows begin in `order`
  CudaBuffer tileCount; ///< [1]
  int64_t scratchBytes = 0;
};

/// The kernel that finds it.
CudaLaunch lowerGroupOrder(CudaLowering &lowering, const GroupOrder &order, mlir::Value groups);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_GROUPEDGRID_H
