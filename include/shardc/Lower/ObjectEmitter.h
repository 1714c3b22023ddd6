//===- ObjectEmitter.h - Kernels in MLIR to a shared object -----*- C++ -*-===//
#ifndef SHARDC_LOWER_OBJECTEMITTER_H
#define SHARDC_LOWER_OBJECTEMITTER_H

#include "shardc/Lower/KernelSpec.h"
#include "llvm/ADT/SmallVector.h"

namespace shardc {

struct EmitOptions {
  int threads = 2; ///< code generation threads; kernels are dealt out by size
};

struct EmitStatistics {
  double lowerMs = 0;      ///< MLIR to the LLVM dialect
  double codegenMs = 0;    ///< wall time of translation, O3 and instruction selection
  double codegenCpuMs = 0; ///< the same as processor time, over all threads
  double linkMs = 0;
  int64_t kernels = 0;
  int64_t codeBytes = 0;
};

/// Turns a module of kernels (KernelSpec.h) into a shared object for one ISA level. The module is
/// consumed: it is left in the LLVM dialect.
class ObjectEmitter {
public:
  explicit ObjectEmitter(CpuTarget target, EmitOptions options = {})
      : target(std::move(target)), options(options) {}

  /// Relocatable objects in memory, at most one per thread; the first defines `shardrt_abi`.
  llvm::Expected<llvm::SmallVector<llvm::SmallVector<char, 0>>> emitObjects(mlir::ModuleOp module);
  /// Emits and links with lld; `path` is written atomically.
  llvm::Error emitSharedObject(mlir::ModuleOp module, llvm::StringRef path);

  const EmitStatistics &statistics() const { return stats; }

private:
  CpuTarget target;
  EmitOptions options;
  EmitStatistics stats;
};

/// Lowers kernels in upstream dialects to the LLVM dialect with the kernel ABI (first half of the
/// emitter; for tests and dumps).
llvm::Error lowerKernelsToLLVM(mlir::ModuleOp module, const CpuTarget &target);

/// A loaded shared object, for tests, benchmarks and constant folding by compiled code.
class KernelLibrary {
public:
  using Function = void (*)(void *const *buffers, int64_t tileBegin, int64_t tileEnd,
                            void *scratch);

  static llvm::Expected<KernelLibrary> open(llvm::StringRef path);
  /// Emits `module` to a temporary file and opens it.
  static llvm::Expected<KernelLibrary> compile(mlir::ModuleOp module, const CpuTarget &target,
                                               EmitStatistics *stats = nullptr);
  KernelLibrary(KernelLibrary &&other) : handle(other.handle) { other.handle = nullptr; }
  KernelLibrary(const KernelLibrary &) = delete;
  ~KernelLibrary();

  /// Null if there is no such kernel.
  Function find(llvm::StringRef symbol) const;

private:
  explicit KernelLibrary(void *handle) : handle(handle) {}
  void *handle;
};

} // namespace shardc

#endif // SHARDC_LOWER_OBJECTEMITTER_H
