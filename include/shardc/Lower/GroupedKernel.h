//===- GroupedKernel.h - Products of rows by groups -------------*- C++ -*-===//
//
// Mixture of experts: each row has a group, and meets the matrix of its group only.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_GROUPEDKERNEL_H
#define SHARDC_LOWER_GROUPEDKERNEL_H

#include "shardc/Lower/KernelSpec.h"

namespace shardc {

/// result[t, n] = sum over k of input[t, k] · weight[groups[t], n, k], and zero for rows of no
/// group.
struct GroupedSpec {
  std::string symbol;
  int64_t rows = 0, groups = 0, n = 0, k = 0;
  mlir::Type type;      ///< of input, weight and result: f32, bf16, f16 or f64
  mlir::Type groupType; ///< any integer; a number outside [0, groups) is no group
  int64_t groupStride = 0, nStride = 0, kStride = 1; ///< of weight; all else is row-major
};

/// Appends the kernel; buffers: input, weight, groups, result.
mlir::FailureOr<Kernel> buildGrouped(mlir::OpBuilder &builder, mlir::ModuleOp module,
                                     const GroupedSpec &spec, const CpuTarget &target);

/// Appends the kernel of the weight's gradient, result[g, n, k] = sum over rows t of group g of
/// cotangent[t, n] · input[t, k]. Strides are not looked at. Buffers: input, cotangent, groups,
/// result.
mlir::FailureOr<Kernel> buildGroupedGrad(mlir::OpBuilder &builder, mlir::ModuleOp module,
                                         const GroupedSpec &spec, const CpuTarget &target);

} // namespace shardc

#endif // SHARDC_LOWER_GROUPEDKERNEL_H
