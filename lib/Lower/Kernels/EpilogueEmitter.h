//===- EpilogueEmitter.h - Elementwise ops on accumulators ------*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_KERNELS_EPILOGUEEMITTER_H
#define SHARDC_LIB_LOWER_KERNELS_EPILOGUEEMITTER_H

#include "BodyEmitter.h"
#include "shardc/Lower/EinsumPlan.h"

namespace shardc {

/// The elementwise ops from a contraction's result to the kernel's result, as vector code.
class EpilogueEmitter {
public:
  /// `extra`: tensors (arguments of the kernel function) that the ops read, in the order of the
  /// generated kernel's extra buffers.
  EpilogueEmitter(graph::EinsumOp op, const EinsumPlan &plan, mlir::Value result,
                  llvm::ArrayRef<mlir::Value> extra);
  mlir::Value operator()(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value accumulator,
                         const EpiloguePoint &point) const;

private:
  Emitter::Values indicesAt(BodyEmitter &emitter, const EpiloguePoint &point) const;

  graph::EinsumOp op;
  mlir::Value result;
  llvm::SmallVector<mlir::Value> extra;
  int64_t columnDim; ///< of the result: where the vectors lie
  llvm::SmallVector<int64_t> batch,
      batchRows;   ///< sizes, and rows of the result that a step of each batch dimension skips
  int64_t rowStep; ///< … and a step of m
};

} // namespace shardc

#endif // SHARDC_LIB_LOWER_KERNELS_EPILOGUEEMITTER_H
