//===- CudaKernels.h - Kernel functions of graph ops to PTX -----*- C++ -*-===//
//
// The same functions that Fuse makes for CPUs (LowerKernels.h), for NVIDIA GPUs. Each becomes a
// list of calls (docs/contracts.md §6): generated kernels, `gpu.func`s over flat buffers, and
// matrix multiplications of cuBLASLt.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_CUDAKERNELS_H
#define SHARDC_LOWER_CUDAKERNELS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "shardc/Lower/CudaCalls.h"
#include "llvm/Support/Error.h"
#include <string>

namespace shardc {

struct CudaTarget {
  std::string name;     ///< as given: "sm_90a", or "compute_90": PTX for it and what comes later
  std::string arch;     ///< "sm_90a"
  std::string features; ///< the PTX version that knows it

  bool isPtx() const { return name != arch; }

  static llvm::Expected<CudaTarget> parse(llvm::StringRef text);
};

/// On a kernel function that was lowered: what a user may want to know of it.
inline constexpr llvm::StringLiteral kNoteAttr = "exec.note";
/// Visits these notes, once for each place in the model ("model.layers.0.mlp.up_proj") that calls
/// such a kernel.
void forEachNote(
    mlir::ModuleOp module,
    llvm::function_ref<void(mlir::Location, llvm::StringRef path, llvm::StringRef note)> visit);

/// Lowers one kernel function; generated code is appended to `kernels`.
mlir::FailureOr<CudaKernel> lowerCudaKernel(mlir::func::FuncOp function,
                                            mlir::gpu::GPUModuleOp kernels);

/// Dialects and interfaces that compileToPtx needs.
void registerCudaDialects(mlir::DialectRegistry &registry);

/// The PTX of all kernels of a detached module, which is consumed. An error names what PTX cannot
/// express without a library of NVIDIA's.
llvm::Expected<std::string> compileToPtx(mlir::gpu::GPUModuleOp kernels, const CudaTarget &target);

/// What ptxas says of one kernel.
struct PtxasReport {
  int64_t registers = 0, spillBytes = 0, sharedBytes = 0;
};

struct Cubin {
  std::string image;
  llvm::StringMap<PtxasReport> kernels;
};

/// The ptxas of a toolkit (a folder with bin/ptxas), or of $CUDA_ROOT, $CUDA_HOME, $CUDA_PATH,
/// PATH, /usr/local/cuda; empty if there is none.
std::string findPtxas(llvm::StringRef toolkit);
llvm::Expected<Cubin> compileToCubin(llvm::StringRef ptx, const CudaTarget &target,
                                     llvm::StringRef ptxas);

} // namespace shardc

#endif // SHARDC_LOWER_CUDAKERNELS_H
