//===- CudaLowering.h - One kernel function on a grid of threads -*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CUDA_CUDALOWERING_H
#define SHARDC_LIB_LOWER_CUDA_CUDALOWERING_H

#include "lib/Lower/Kernels/KernelLowering.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "shardc/Lower/CudaKernels.h"
#include "shardc/Support/ElementBytes.h"

namespace shardc {

inline constexpr int64_t kWarp = 32;
/// Enough to fill any GPU several times over; a bigger grid has more work for each thread instead.
inline constexpr int64_t kMaxBlocks = 16384;

/// A buffer of one of the kernels that a function takes.
struct CudaBuffer {
  CudaArgument argument;
  mlir::MemRefType type;
  bool isWritten = false;

  int64_t bytes() const { return type.getNumElements() * elementBytes(type.getElementType()); }
};

/// A kernel as `gpu.func`. The grid is one-dimensional.
struct CudaLowering : KernelLowering {
  CudaLowering(mlir::func::FuncOp function, mlir::OpBuilder &builder,
               mlir::gpu::GPUModuleOp kernels)
      : KernelLowering(function, builder, {}), kernels(kernels) {}

  /// The kernel over all buffers of the function.
  KernelBody begin(int64_t scratchBytes) override;
  /// A kernel over these buffers, where one function takes several.
  KernelBody beginKernel(llvm::StringRef name, llvm::ArrayRef<mlir::MemRefType> buffers,
                         llvm::function_ref<bool(unsigned)> isWritten);
  KernelBody beginKernel(llvm::StringRef name, llvm::ArrayRef<CudaBuffer> buffers);
  /// The buffer of an argument, or of a value that is a result.
  CudaBuffer bufferOf(mlir::Value value);
  /// The call of the kernel that was begun last, with the buffers that it was begun with.
  CudaLaunch launch();
  /// Items go to neighbouring threads.
  Kernel forEach(Emitter &e, KernelBody &body, int64_t count, int64_t work,
                 llvm::function_ref<void(mlir::Value)> item) override;

  void setGrid(int64_t blocks, int64_t threads);
  mlir::Value blockIndex() {
    return mlir::gpu::BlockIdOp::create(builder, loc(), mlir::gpu::Dimension::x);
  }
  mlir::Value threadIndex() {
    return mlir::gpu::ThreadIdOp::create(builder, loc(), mlir::gpu::Dimension::x);
  }
  mlir::Value sharedMemory(mlir::Type type, int64_t count);
  void barrier() { mlir::gpu::BarrierOp::create(builder, loc()); }

  /// Elements that a thread moves at once: sixteen bytes of the narrowest tensor, if `size` can be
  /// divided so.
  int64_t vectorOf(int64_t size);

  mlir::gpu::GPUModuleOp kernels;
  mlir::gpu::GPUFuncOp kernel;
  int64_t blocks = 1, threads = 1;
  llvm::SmallVector<CudaArgument> launchArguments; ///< of the kernel that was begun last
};

void lowerElementGrid(CudaLowering &lowering);
void lowerRowGrid(CudaLowering &lowering);
void lowerColumnGrid(CudaLowering &lowering);
/// A running sum, top-k or arg-reduction along rows of some length; false if it is something else.
bool lowerScanGrid(CudaLowering &lowering, mlir::Operation *op);
/// Any scatter.
mlir::FailureOr<CudaKernel> lowerScatterGrid(CudaLowering &lowering, mlir::Operation *op);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_CUDALOWERING_H
