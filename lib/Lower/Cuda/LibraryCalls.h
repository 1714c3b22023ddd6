//===- LibraryCalls.h - What libraries do on GPUs ---------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H
#define SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H

#include "shardc/Lower/CudaKernels.h"

namespace shardc {

bool isLibraryCall(mlir::Operation *anchor);
/// The record of a kernel function around `anchor`; what the library cannot do is generated into
/// `kernels`.
mlir::FailureOr<CudaKernel> libraryCall(mlir::func::FuncOp function, mlir::Operation *anchor,
                                        mlir::gpu::GPUModuleOp kernels);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H
