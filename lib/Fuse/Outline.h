//===- Outline.h - Groups of ops to kernel functions ------------*- C++ -*-===//
#ifndef SHARDC_LIB_FUSE_OUTLINE_H
#define SHARDC_LIB_FUSE_OUTLINE_H

#include "Grouping.h"
#include "llvm/ADT/StringMap.h"

namespace shardc {

/// Creates kernel functions, one for each structure.
class KernelOutliner {
public:
  explicit KernelOutliner(mlir::ModuleOp module);

  /// Replaces every group by a call. `isParameter`: is the value a weight, whichever call of the
  /// function it is?
  void outline(mlir::func::FuncOp function, const Grouping &grouping,
               llvm::function_ref<bool(mlir::Value)> isParameter);

private:
  mlir::func::FuncOp share(mlir::func::FuncOp kernel, llvm::StringRef hint);

  mlir::ModuleOp module;
  llvm::StringMap<mlir::func::FuncOp> byStructure;
  int64_t count = 0;
};

} // namespace shardc

#endif // SHARDC_LIB_FUSE_OUTLINE_H
