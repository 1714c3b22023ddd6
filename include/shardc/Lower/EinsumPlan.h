//===- EinsumPlan.h - A contraction as a matrix multiplication --*- C++ -*-===//
#ifndef SHARDC_LOWER_EINSUMPLAN_H
#define SHARDC_LOWER_EINSUMPLAN_H

#include "dialects/Graph/Graph.h"
#include "shardc/Lower/GemmKernel.h"
#include "shardc/Lower/StridedView.h"

namespace shardc {

/// Which letters of a contraction are the rows, columns, sum and batch of a matrix multiplication,
/// and the sizes and strides that follow. Letters of size one are left out.
struct EinsumPlan {
  bool swapped = false; ///< A is the right operand
  std::string batch, m, n, k;
  GemmSpec spec; ///< without symbol, packing and epilogue

  /// The packing of B as a parameter: dimensions of `letters`, the letters of its own dimensions.
  struct Panels {
    llvm::SmallVector<int64_t> nDims, kDims, batchDims;
  };
  Panels panels(llvm::StringRef letters) const;
};

/// Strides of lhs, rhs and result, per letter of each. With `packed`, the operand that becomes B
/// may be in any order. nullopt if no strides of a matrix multiplication say it.
std::optional<EinsumPlan> planEinsum(graph::EinsumOp op, llvm::ArrayRef<int64_t> lhs,
                                     llvm::ArrayRef<int64_t> rhs, llvm::ArrayRef<int64_t> result,
                                     bool packed);

/// The vector that `op` adds to every row of `product`, its other operand; null if it adds
/// something else.
mlir::Value biasOf(graph::AddOp op, mlir::Value product);

/// The tensor of the result's type that `op` adds to `product`; null if it adds something else.
mlir::Value addendOf(graph::AddOp op, mlir::Value product);

/// Does `op` widen elements of 16 bits to f32?
bool isWidening(mlir::Operation *op);

/// Makes the strides such as BLAS takes them: in each matrix rows or columns are contiguous and do
/// not overlap. False if they are not.
bool fitBlas(GemmSpec &spec);

} // namespace shardc

#endif // SHARDC_LOWER_EINSUMPLAN_H
