//===- KernelSpec.h - What a CPU kernel is ----------------------*- C++ -*-===//
//
// A kernel in MLIR is an ordinary function over flat buffers and a range of independent tiles:
//
//     func.func @k(%buffer0: memref<…>, …, %begin: index, %end: index, %scratch: memref<Nxi8>)
//     attributes {shardc.kernel}
//
// in upstream dialects only. The object emitter turns it into the C ABI of docs/contracts.md §4, so
// that nothing before it knows pointers. Buffers are static identity-layout memrefs; the element
// type is the kernel's choice of view.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_KERNELSPEC_H
#define SHARDC_LOWER_KERNELSPEC_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "shardc/Support/ElementBytes.h"
#include "llvm/Support/Error.h"
#include <string>

namespace shardc {

/// The discardable attribute that marks a function as a kernel.
inline constexpr llvm::StringLiteral kKernelAttr = "shardc.kernel";

/// An ISA level. Everything that a bundle shares between levels (tiles, scratch bytes, weight
/// layouts) must not depend on it.
struct CpuTarget {
  std::string name;         ///< as given: "x86-64-v4+amx-bf16"
  std::string cpu;          ///< LLVM's name: "x86-64-v4"
  std::string features;     ///< LLVM's feature string: "+amx-tile,…"
  int64_t vectorBytes = 32; ///< widest vector register
  bool avx512 = false;      ///< 32 registers and masks
  bool bf16Round = false;   ///< vcvtneps2bf16
  bool bf16Dot = false;     ///< vdpbf16ps, where it is faster than f32
  bool amx = false;         ///< tdpbf16ps on matrix tiles

  /// Parses "x86-64-v3", "x86-64-v4", "x86-64-v4+avx512bf16", "x86-64-v4+amx-bf16" or "native".
  static llvm::Expected<CpuTarget> parse(llvm::StringRef text);
  /// Whether this process can run code for the level. Linux is asked for the tiles' registers,
  /// which a process does not have by default.
  bool runsOnHost() const;
};

/// What the command list needs to know of a kernel; the same for every level.
struct Kernel {
  std::string symbol;
  int64_t tiles = 1;
  int64_t scratchBytes = 0; ///< per thread
};

/// A kernel under construction; its arguments are ready to use and the builder stands before the
/// return.
struct KernelBody {
  mlir::func::FuncOp function;
  llvm::SmallVector<mlir::Value> buffers;
  mlir::Value tileBegin, tileEnd; ///< index
  mlir::Value scratch;            ///< memref<bytes x i8>, 64-byte aligned
};

/// Appends an empty kernel to `module` and moves `builder` into it.
KernelBody beginKernel(mlir::OpBuilder &builder, mlir::ModuleOp module, llvm::StringRef symbol,
                       llvm::ArrayRef<mlir::MemRefType> buffers, int64_t scratchBytes);

/// Loads every dialect that kernels are written in.
void loadKernelDialects(mlir::MLIRContext &context);

} // namespace shardc

#endif // SHARDC_LOWER_KERNELSPEC_H
