//===- LibraryCalls.h - What libraries do on GPUs ---------------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H
#define SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H

#include "dialects/Graph/Graph.h"
#include "shardc/Lower/CudaKernels.h"
#include "shardc/Lower/EinsumPlan.h"

namespace shardc {

/// Is it a matrix multiplication that cuBLASLt takes?
bool isLibraryCall(graph::EinsumOp op);
/// The kernel function around it; what the library cannot do is generated into `kernels`.
mlir::FailureOr<CudaKernel> libraryCall(mlir::func::FuncOp function, graph::EinsumOp op,
                                        mlir::gpu::GPUModuleOp kernels);

/// Is it a matrix multiplication of 8-bit floats? cuBLASLt takes some, with scales; the others are
/// widened.
bool isFloat8Product(graph::EinsumOp op);
mlir::FailureOr<CudaKernel> float8Call(mlir::func::FuncOp function, graph::EinsumOp op,
                                       mlir::gpu::GPUModuleOp kernels);

inline void setNote(mlir::func::FuncOp function, const llvm::Twine &note) {
  function->setAttr(kNoteAttr, mlir::StringAttr::get(function.getContext(), note));
}

/// "bf16", as program.json spells it.
std::string nameOf(mlir::Type type);
/// Number of the buffer that a value lies in: arguments, then results.
int64_t bufferOf(mlir::func::FuncOp function, mlir::Value value);
/// Strides of a contraction's result as it is stored, if only transposes and reshapes are behind it.
std::optional<Strides> storedStrides(graph::EinsumOp op);
/// A contraction of arguments as a matrix multiplication.
std::optional<EinsumPlan> planOf(graph::EinsumOp op);
/// Appends the generated kernel behind a contraction whose product is at the start of the scratch
/// area.
mlir::LogicalResult addEpilogue(CudaKernel &kernel, mlir::func::FuncOp function,
                                mlir::Value product, mlir::gpu::GPUModuleOp kernels);

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_LIBRARYCALLS_H
