//===- CudaKernels.h - Kernel functions of graph ops to PTX -----*- C++ -*-===//
//
// The same functions that Fuse makes for CPUs (LowerKernels.h), for NVIDIA GPUs. A kernel is either
// generated, as a `gpu.func` over flat buffers (arguments, then results), or a call of a library:
// contractions are cuBLASLt's, attention and expert matrix multiplications are recorded with what a
// library needs to know.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_CUDAKERNELS_H
#define SHARDC_LOWER_CUDAKERNELS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <optional>
#include <string>

namespace shardc {

struct CudaTarget {
  std::string arch;     ///< "sm_90a"
  std::string features; ///< the PTX version that knows it

  static llvm::Expected<CudaTarget> parse(llvm::StringRef text);
};

/// One generated kernel. Buffers are its only parameters.
struct CudaLaunch {
  std::string symbol;
  int64_t blocks = 1, threads = 1;
};

/// How a kernel function is executed: by a library, by a generated kernel, or by one after the
/// other.
struct CudaKernel {
  std::string name;
  std::string
      library; ///< gemm, attention, attention_grad, grouped_gemm, grouped_gemm_grad, or empty
  llvm::json::Object call; ///< what the library needs to know
  std::optional<CudaLaunch> launch;
  int64_t scratchBytes = 0; ///< a buffer between the two, numbered behind arguments and results
  llvm::SmallVector<int64_t> buffers{}; ///< of the launch; empty: arguments, then results
};

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
