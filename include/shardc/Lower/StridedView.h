//===- StridedView.h - Transposes and reshapes as strides -------*- C++ -*-===//
//
// Contraction and attention kernels read operands and write results under any strides, so that a
// transpose beside them costs nothing.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LOWER_STRIDEDVIEW_H
#define SHARDC_LOWER_STRIDEDVIEW_H

#include "dialects/Graph/Graph.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>

namespace shardc {

/// One stride (elements) a dimension; zero where the dimension has size one or repeats.
using Strides = llvm::SmallVector<int64_t>;

/// Row-major strides of a shape.
Strides contiguousStrides(llvm::ArrayRef<int64_t> shape);
/// Strides of the same memory under another shape, if there are any.
std::optional<Strides> reshapeStrides(llvm::ArrayRef<int64_t> from, llvm::ArrayRef<int64_t> strides,
                                      llvm::ArrayRef<int64_t> to);

/// A tensor as strides over another that lies row-major in memory.
struct StridedView {
  mlir::Value base;
  Strides strides;
};
/// Goes up from `value` through transposes, reshapes and broadcasts, as long as strides can say it
/// and `mayCross` allows the op.
StridedView viewOf(
    mlir::Value value,
    llvm::function_ref<bool(mlir::Operation *)> mayCross = [](mlir::Operation *) { return true; });
/// Strides of an op's result `value` when `stored`, which is made from it by transposes and
/// reshapes of one use each, lies row-major in memory; nullopt if it cannot be said.
std::optional<Strides> stridesWhenStoredAs(mlir::Value value, mlir::Value stored);

/// First element of a slice that is contiguous in its input's memory and begins where a buffer may.
std::optional<int64_t> contiguousBegin(graph::SliceOp op);

} // namespace shardc

#endif // SHARDC_LOWER_STRIDEDVIEW_H
