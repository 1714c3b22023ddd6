//===- RowEmitter.h - Reductions and normalisations of one row --*- C++ -*-===//
//
// A row kernel holds ops of class Row over the same rows, with element ops before, between and
// after them. Rows are independent; for each row:
//
//   1. For each row op in order: one pass over the row computes the statistics (and what else the
//      op needs). The op's input is kept where computing it again would cost more than reading it:
//      in the result that it is anyway, or in a scratch row.
//   2. From then on elements of the op's result are index lambdas of the statistics and the kept
//      row.
//   3. Results that are still missing are written in a last pass.
//
// Every member's shape is [rows..., columns...] or [rows...], possibly with different leading
// dimensions of equal product (Fuse sees to that); only an op that is alone may reduce dimensions
// that are not the last ones.
//
// What the ops compute is here; how a pass goes over the columns is the target's: a loop on CPUs,
// threads of a warp or block on GPUs.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_KERNELS_ROWEMITTER_H
#define SHARDC_LIB_LOWER_KERNELS_ROWEMITTER_H

#include "KernelLowering.h"

namespace shardc {

/// Dimensions of a full tensor that number the rows, and those within one.
struct RowSpace {
  llvm::SmallVector<int64_t> shape, rowDims, columnDims;

  RowSpace(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> columns)
      : shape(shape), columnDims(columns) {
    for (int64_t d = 0; d < static_cast<int64_t>(shape.size()); ++d)
      if (!llvm::is_contained(columnDims, d))
        rowDims.push_back(d);
  }
  llvm::SmallVector<int64_t> sizes(llvm::ArrayRef<int64_t> dims) const {
    llvm::SmallVector<int64_t> result;
    for (int64_t d : dims)
      result.push_back(shape[d]);
    return result;
  }
  int64_t rows() const { return mlir::ShapedType::getNumElements(sizes(rowDims)); }
  int64_t columns() const { return mlir::ShapedType::getNumElements(sizes(columnDims)); }
};

class RowEmitter {
public:
  explicit RowEmitter(KernelLowering &lowering);
  virtual ~RowEmitter() = default;

protected:
  using Value = mlir::Value;
  using Values = Emitter::Values;

  /// The reduction of `term` over the columns of a full tensor; every executor of the row gets it.
  virtual Value
  reducePass(Value full, graph::Reduction kind, mlir::Type type, bool isUnsigned,
             llvm::function_ref<Value(llvm::ArrayRef<Value> indices, Value column)> term) = 0;
  /// Each column of a full tensor once.
  virtual void
  eachPass(Value full,
           llvm::function_ref<void(llvm::ArrayRef<Value> indices, Value column)> body) = 0;
  /// Memory for a row of what costs more than reading it.
  virtual Value newScratchRow(mlir::Type type) = 0;
  /// One executor of the row does this.
  virtual void once(llvm::function_ref<void()> body) { body(); }

  RowSpace spaceFor(Value full);
  Values indicesOf(const RowSpace &space, llvm::ArrayRef<Value> columnIndices);
  Value columnOf(const RowSpace &space, llvm::ArrayRef<Value> indices);
  void emitRow(Value row);

  KernelLowering &lowering;
  BodyEmitter emitter;
  Emitter &e;
  KernelBody body;
  std::optional<RowSpace> space;
  int64_t rows = 0, columns = 0;
  Value row;
  bool keepsRows =
      true; ///< what costs more than reading it goes to memory; if not, it is computed again

private:
  double flops(Value value, int depth = 0);
  bool isWorthKeeping(Value value);
  Value inputPass(Value input, graph::Reduction kind, mlir::Type type, bool isUnsigned,
                  llvm::function_ref<Value(Value x)> term);
  void bindRowScalar(Value result, Value scalar) {
    emitter.bind(result, [=](llvm::ArrayRef<Value>) { return scalar; });
  }

  void emitReduce(graph::ReduceOp op);
  void emitSoftmax(graph::SoftmaxOp op);
  void emitRmsNorm(graph::RmsNormOp op);
  void emitLayerNorm(graph::LayerNormOp op);
  void emitCrossEntropy(graph::SoftmaxCrossEntropyOp op);
  void emitResults();

  llvm::SmallVector<mlir::Operation *> rowOps;
  llvm::DenseSet<Value> stored; ///< results that are written
};

} // namespace shardc

#endif // SHARDC_LIB_LOWER_KERNELS_ROWEMITTER_H
