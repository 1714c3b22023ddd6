//===- LibraryCalls.h - What libraries do on GPUs ---------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H
#define SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H

#include "dialects/Graph/Graph.h"
#include "shardc/Lower/CudaKernels.h"

namespace shardc {

/// Is it a matrix multiplication that cuBLASLt takes?
bool isLibraryCall(graph::EinsumOp op);
/// The kernel function around it; what the library cannot do is generated into `kernels`.
mlir::FailureOr<CudaKernel> libraryCall(mlir::func::FuncOp function, graph::EinsumOp op,
                                        mlir::gpu::GPUModuleOp kernels);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H
