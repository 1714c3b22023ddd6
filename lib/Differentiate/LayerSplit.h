//===- LayerSplit.h - A layer function and its backward twin --------------===//

#ifndef SHARDC_LIB_DIFFERENTIATE_LAYERSPLIT_H
#define SHARDC_LIB_DIFFERENTIATE_LAYERSPLIT_H

#include "Cotangents.h"

namespace shardc {

enum class Checkpoint { None, Selective, Full };

/// A layer for one set of active arguments and results with a cotangent.
struct LayerSplit {
  mlir::func::FuncOp forward;   ///< the layer's results, then what is kept
  mlir::func::FuncOp recompute; ///< (arguments, kept) -> what is missing; null: nothing is
  mlir::func::FuncOp backward;  ///< (sources) -> cotangents of the active arguments that have one
  struct Source {
    enum Kind { Argument, Kept, Recomputed, Cotangent } kind;
    unsigned
        index; ///< of the layer's argument, the kept or recomputed value, or the layer's result
  };
  llvm::SmallVector<Source> recomputeSources, backwardSources;
  llvm::SmallVector<unsigned>
      gradientArguments; ///< which argument each result of `backward` belongs to
  unsigned results = 0;  ///< of the layer itself
};

/// Makes the functions beside `layer`, which stays. `active`: arguments to differentiate by;
/// `seeded`: results that have a cotangent.
mlir::FailureOr<LayerSplit> splitLayer(mlir::func::FuncOp layer, llvm::ArrayRef<bool> active,
                                       llvm::ArrayRef<bool> seeded, Checkpoint checkpoint,
                                       mlir::SymbolTable &symbols);

} // namespace shardc

#endif // SHARDC_LIB_DIFFERENTIATE_LAYERSPLIT_H
