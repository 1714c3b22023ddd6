//===- KernelLowering.h - One kernel function being lowered -----*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_KERNELS_KERNELLOWERING_H
#define SHARDC_LIB_LOWER_KERNELS_KERNELLOWERING_H

#include "BodyEmitter.h"
#include "shardc/Lower/LowerKernels.h"

namespace shardc {

/// What every kind of kernel starts from.
struct KernelLowering {
  mlir::func::FuncOp function;
  mlir::OpBuilder &builder;
  mlir::ModuleOp module;
  const CpuTarget &target;

  mlir::Location loc() { return builder.getUnknownLoc(); }
  mlir::Operation *terminator() { return function.getBody().front().getTerminator(); }
  mlir::OperandRange results() { return terminator()->getOperands(); }
  llvm::SmallDenseMap<unsigned, unsigned> inPlace{}; ///< argument to result

  /// Appends the function over all buffers; results are marked as not aliased.
  KernelBody begin(int64_t scratchBytes);
  /// Reads kInPlaceAttr; errors are the kernel's.
  mlir::LogicalResult readInPlace();
  /// Makes results that are in place of an argument that argument's buffer.
  void shareBuffers(KernelBody &body);
  /// Binds the arguments to their buffers.
  void bindArguments(BodyEmitter &emitter, const KernelBody &body);
  /// A generated kernel is the last function of the module, with buffers in an order of its own: makes them this function's arguments
  /// and results. `buffers`: for each of its buffers the argument, or the value that is a result.
  void adoptBuffers(llvm::ArrayRef<mlir::Value> buffers);
  mlir::Value resultBuffer(const KernelBody &body, unsigned index) {
    return body.buffers[function.getNumArguments() + index];
  }
};

using KernelResult = mlir::FailureOr<Kernel>;

/// Index lambdas only.
KernelResult lowerElementKernel(KernelLowering &lowering);
/// Reductions and normalisations with what is fused around them.
KernelResult lowerRowKernel(KernelLowering &lowering);
/// A reduction that keeps the last dimension, and is alone.
KernelResult lowerColumnKernel(KernelLowering &lowering);
bool isColumnReduction(mlir::Operation *op);
/// A contraction.
KernelResult lowerEinsumKernel(KernelLowering &lowering);
/// Attention, or its gradient.
KernelResult lowerAttentionKernel(KernelLowering &lowering);
/// A product of rows by groups, or its weight's gradient.
KernelResult lowerGroupedKernel(KernelLowering &lowering);
/// One op that fills whole buffers.
KernelResult lowerLoopKernel(KernelLowering &lowering);

inline mlir::RankedTensorType tensorType(mlir::Value value) { return mlir::cast<mlir::RankedTensorType>(value.getType()); }

/// Elements of work that are worth a tile of their own.
inline constexpr int64_t kTileElements = 8192;

} // namespace shardc

#endif // SHARDC_LIB_LOWER_KERNELS_KERNELLOWERING_H
