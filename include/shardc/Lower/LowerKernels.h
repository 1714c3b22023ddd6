//===- LowerKernels.h - Kernel functions of graph ops to code ---*- C++ -*-===//
//
// Fuse outlines kernels as `func.func private @k(…) attributes {exec.kernel}` holding graph ops.
// Each becomes one KernelSpec function: buffers are the arguments, then the results, all row-major
// unless an argument carries `exec.panels`.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_LOWERKERNELS_H
#define SHARDC_LOWER_LOWERKERNELS_H

#include "shardc/Lower/KernelSpec.h"

namespace shardc {

/// Marks a function that is one kernel.
inline constexpr llvm::StringLiteral kExecKernelAttr = "exec.kernel";
/// On a kernel's argument, a dictionary {n_dims, k_dims, batch_dims, n_tile}: a parameter that the
/// loader packs.
inline constexpr llvm::StringLiteral kPanelsAttr = "exec.panels";

/// On a kernel, an array of pairs [argument, result]: the caller gives both the same buffer. Only
/// where canRunInPlace says so.
inline constexpr llvm::StringLiteral kInPlaceAttr = "exec.in_place";

/// On a kernel for GPUs, the bytes that it takes of the scratch area.
inline constexpr llvm::StringLiteral kScratchAttr = "exec.scratch";

/// Whether `result` may have the buffer of `argument`, because every element of any result reads no
/// other element of that argument than its own, and both have elements of one width; or because it
/// is the tensor that a scatter changes. Holds for several pairs at once, if no argument or result
/// is in two of them. No other argument may have that buffer.
bool canRunInPlace(mlir::func::FuncOp kernel, unsigned argument, unsigned result);

/// Whether a kernel of index lambdas only reads each element of the argument once, where it computes
/// the same element of its results.
bool isStreamed(mlir::func::FuncOp kernel, unsigned argument);
/// Whether every result of a kernel is of index lambdas only: each element is written once.
bool isElementwise(mlir::func::FuncOp kernel);

/// A reduction that keeps the last dimension: sums over rows, for each column.
bool isColumnReduction(mlir::Operation *op);

/// Appends the code of one kernel function to `kernels`.
mlir::FailureOr<Kernel> lowerKernel(mlir::func::FuncOp function, mlir::ModuleOp kernels,
                                    const CpuTarget &target);

} // namespace shardc

#endif // SHARDC_LOWER_LOWERKERNELS_H
