//===- TilePipeline.h - Tiles that arrive while others are used -*- C++ -*-===//
#ifndef SHARDC_LIB_LOWER_CUDA_TILEPIPELINE_H
#define SHARDC_LIB_LOWER_CUDA_TILEPIPELINE_H

#include "WarpTile.h"

namespace shardc {

/// Two tiles a step, of the operands of a product; the next steps' are under way.
class TilePipeline {
public:
  using Value = mlir::Value;
  using Values = Emitter::Values;

  struct Shape {
    int64_t rows, columns;
  };

  /// `stages` steps have a place each, as far as shared memory beside `taken` bytes allows it.
  TilePipeline(CudaLowering &lowering, Emitter &e, WarpTile &warp, Shape first, Shape second,
               int64_t stages, int64_t taken = 0);

  /// Calls `body` for each of `count` steps; `copy` begins to fill a step's tiles.
  Values
  run(Value count, llvm::ArrayRef<Value> carried,
      llvm::function_ref<void(Value step, const SharedTile &first, const SharedTile &second)> copy,
      llvm::function_ref<Values(Value step, mlir::ValueRange carried, const SharedTile &first,
                                const SharedTile &second)>
          body);

private:
  CudaLowering &lowering;
  Emitter &e;
  WarpTile &warp;
  Shape firstShape, secondShape;
  int64_t stages;
  SharedTile first, second;
};

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CUDA_TILEPIPELINE_H
