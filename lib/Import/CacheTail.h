//===- CacheTail.h - What lies beyond a cache's length --------------------===//

#ifndef SHARDC_LIB_IMPORT_CACHETAIL_H
#define SHARDC_LIB_IMPORT_CACHETAIL_H

#include "dialects/Graph/Graph.h"

namespace shardc::importer {

/// What is known of the elements whose index along a dimension is not below length + step.
enum class Tail {
  Any,
  Zero,   ///< zero or false
  Hidden, ///< minus infinity, or so low that the exponential is zero beside any real score
};

/// Finds it from the ops that compute a value: masks are comparisons of indices with the position.
class TailAnalysis {
public:
  /// `length`: the number of entries in the cache, a scalar; a run appends `step`.
  TailAnalysis(mlir::Value length, int64_t step) : length(length), step(step) {}

  Tail of(mlir::Value value, int64_t dim) { return of(value, dim, 0); }

private:
  Tail of(mlir::Value value, int64_t dim, unsigned depth);
  Tail compute(mlir::Operation *op, int64_t dim, unsigned depth);
  /// slope * length + offset
  struct Affine {
    int64_t slope, offset;
  };
  /// Not less than any element.
  std::optional<Affine> upperBound(mlir::Value value, unsigned depth);
  /// The offset, if every element is its index along dim plus at least that.
  std::optional<int64_t> indexOffset(mlir::Value value, int64_t dim, unsigned depth);
  bool isFalseBeyond(graph::CompareOp op, int64_t dim, unsigned depth);

  mlir::Value length;
  int64_t step;
  llvm::DenseMap<std::pair<mlir::Value, int64_t>, Tail> known;
};

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_CACHETAIL_H
