//===- CudaCalls.h - How a kernel function runs on a GPU --------*- C++ -*-===//
//
// The "kernels" of program.json (docs/contracts.md §6) as plain data.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_CUDACALLS_H
#define SHARDC_LOWER_CUDACALLS_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/JSON.h"
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace shardc {

/// What a call works on: a buffer of the kernel function (arguments, then results), or a place in
/// the scratch area, which is the kernel's until it ends.
struct CudaArgument {
  int64_t buffer = -1;  ///< number, or -1: in the scratch area
  int64_t scratch = -1; ///< bytes from its start

  static CudaArgument ofBuffer(int64_t number) { return {number, -1}; }
  static CudaArgument ofScratch(int64_t bytes) { return {-1, bytes}; }
};

/// A generated kernel. All its parameters are addresses.
struct CudaLaunch {
  std::string symbol;
  int64_t blocks = 1, threads = 1;
  int64_t sharedBytes = 0; ///< dynamic shared memory
  llvm::SmallVector<CudaArgument> arguments{};
};

/// Strides in elements; a row or a column has neighbours one apart.
struct CudaMatrix {
  CudaArgument argument;
  std::string dtype;
  int64_t row = 1, column = 1;
  llvm::SmallVector<int64_t> batch{};
  std::optional<CudaArgument> scale =
      std::nullopt; ///< of 8-bit floats: what a unit is worth, one f32
};

/// D[b, m, n] = A[b, m, k] · B[b, k, n] (+ C[b, m, n]) by cuBLASLt. C lies as D does; it may be D.
struct CudaGemm {
  llvm::SmallVector<int64_t> batch;
  int64_t m = 0, n = 0, k = 0;
  CudaMatrix a, b, d;
  std::optional<CudaArgument> c = std::nullopt;
  std::string compute = "f32", epilogue = "none";
  std::optional<CudaArgument> bias = std::nullopt; ///< written by the gradients of a bias
  std::optional<CudaArgument> aux = std::nullopt;  ///< what GELU was applied to, written as D is
};

/// Zeros.
struct CudaMemset {
  CudaArgument argument;
  int64_t bytes = 0;
};

using CudaCall = std::variant<CudaLaunch, CudaGemm, CudaMemset>;

/// How a kernel function is executed: calls in this order, with `scratchBytes` to share.
struct CudaKernel {
  std::string name;
  std::vector<CudaCall> calls;
  /// Executed instead where cuBLASLt has no algorithm for one of the calls; may be empty.
  std::vector<CudaCall> otherwise{};
  int64_t scratchBytes = 0;
};

/// Offsets of tensors in the scratch area are multiples of this.
inline constexpr int64_t kCudaAlignment = 256;

void forEachArgument(CudaCall &call, llvm::function_ref<void(CudaArgument &)> visit);
/// docs/contracts.md §6.
llvm::json::Object kernelJson(const CudaKernel &kernel);

} // namespace shardc

#endif // SHARDC_LOWER_CUDACALLS_H
