//===- KernelLowering.h - One kernel function being lowered -----*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_KERNELS_KERNELLOWERING_H
#define SHARDC_LIB_LOWER_KERNELS_KERNELLOWERING_H

#include "BodyEmitter.h"
#include "shardc/Lower/LowerKernels.h"

namespace shardc {

/// What every kind of kernel starts from. Targets differ in how a kernel begins and in who does
/// which part of its work.
struct KernelLowering {
  KernelLowering(mlir::func::FuncOp function, mlir::OpBuilder &builder, mlir::ModuleOp module)
      : function(function), builder(builder), module(module) {}
  virtual ~KernelLowering() = default;

  mlir::func::FuncOp function;
  mlir::OpBuilder &builder;
  mlir::ModuleOp module;
  llvm::SmallDenseMap<unsigned, unsigned> inPlace{}; ///< argument to result

  mlir::Location loc() { return builder.getUnknownLoc(); }
  mlir::Operation *terminator() { return function.getBody().front().getTerminator(); }
  mlir::OperandRange results() { return terminator()->getOperands(); }

  /// Appends the kernel over all buffers.
  virtual KernelBody begin(int64_t scratchBytes) = 0;
  /// Does `count` independent items of about `work` elements each, this call's share of them.
  virtual Kernel forEach(Emitter &e, KernelBody &body, int64_t count, int64_t work,
                         llvm::function_ref<void(mlir::Value)> item) = 0;

  /// The op whose class of lowering decides how the kernel is made, the first of the strongest;
  /// null without any op.
  struct Anchor {
    graph::LoweringClass kind;
    mlir::Operation *op;
  };
  /// Fails, saying so, if an op cannot be part of a kernel.
  mlir::FailureOr<Anchor> findAnchor();
  /// Reads kInPlaceAttr; errors are the kernel's.
  mlir::LogicalResult readInPlace();
  /// Makes results that are in place of an argument that argument's buffer.
  void shareBuffers(KernelBody &body);
  /// Binds the arguments to their buffers.
  void bindArguments(BodyEmitter &emitter, const KernelBody &body);
  mlir::Value resultBuffer(const KernelBody &body, unsigned index) {
    return body.buffers[function.getNumArguments() + index];
  }
};

struct CpuLowering : KernelLowering {
  CpuLowering(mlir::func::FuncOp function, mlir::OpBuilder &builder, mlir::ModuleOp module,
              const CpuTarget &target)
      : KernelLowering(function, builder, module), target(target) {}

  /// A function over a range of tiles; results are marked as not aliased.
  KernelBody begin(int64_t scratchBytes) override;
  Kernel forEach(Emitter &e, KernelBody &body, int64_t count, int64_t work,
                 llvm::function_ref<void(mlir::Value)> item) override;
  /// A generated kernel is the last function of the module, with buffers in an order of its own:
  /// makes them this function's arguments and results. `buffers`: for each of its buffers the
  /// argument, or the value that is a result.
  void adoptBuffers(llvm::ArrayRef<mlir::Value> buffers);
  /// Gives a kernel scratch whose size was not known when it began.
  static void setScratch(KernelBody &body, int64_t bytes);

  const CpuTarget &target;
};

using KernelResult = mlir::FailureOr<Kernel>;

/// Index lambdas only.
KernelResult lowerElementKernel(KernelLowering &lowering);
/// Does no op care where in the tensor an element is?
bool isPositionFree(KernelLowering &lowering);
/// In flat form a tensor has one dimension and a reshape is its input.
void bindFlat(KernelLowering &lowering, BodyEmitter &emitter, const KernelBody &body);
/// Where along the last dimension an op of the kernel may change its rule: 0, …, `inner`. A guess
/// is enough: cutting is always correct.
llvm::SmallVector<int64_t> cutsOf(KernelLowering &lowering, int64_t inner);
/// Reductions and normalisations with what is fused around them.
KernelResult lowerRowKernel(KernelLowering &lowering);
/// A reduction that keeps the last dimension, and elementwise ops behind it.
KernelResult lowerColumnKernel(KernelLowering &lowering);
/// The last dimension in which neighbours in memory differ; -1 in a tensor of one element.
int64_t lastDim(llvm::ArrayRef<int64_t> shape);
/// A contraction.
KernelResult lowerEinsumKernel(CpuLowering &lowering);
/// … that is no matrix multiplication: each element is a sum of its own.
Kernel lowerEinsumBySums(KernelLowering &lowering, graph::EinsumOp op);
/// Attention, or its gradient.
KernelResult lowerAttentionKernel(CpuLowering &lowering);
/// A product of rows by groups, or its weight's gradient.
KernelResult lowerGroupedKernel(CpuLowering &lowering);
/// One op that fills whole buffers.
KernelResult lowerLoopKernel(KernelLowering &lowering);
/// Sums of slices into rows.
KernelResult lowerScatterSum(CpuLowering &lowering, graph::ScatterSumOp op);

inline mlir::RankedTensorType tensorType(mlir::Value value) {
  return mlir::cast<mlir::RankedTensorType>(value.getType());
}

/// Elements of work that are worth a tile of their own.
inline constexpr int64_t kTileElements = 8192;

} // namespace shardc

#endif // SHARDC_LIB_LOWER_KERNELS_KERNELLOWERING_H
