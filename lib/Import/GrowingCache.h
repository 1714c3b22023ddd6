//===- GrowingCache.h - Caches of a fixed capacity ------------------------===//

#ifndef SHARDC_LIB_IMPORT_GROWINGCACHE_H
#define SHARDC_LIB_IMPORT_GROWINGCACHE_H

#include "GraphBuilder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace shardc::importer {

struct Model;

/// The dimension that is a cache's length, and how many entries the cache has room for.
struct CacheDim {
  llvm::StringRef name;
  int64_t capacity;
};

/// Takes away what tells attentions the length of their cache, as dimension `cacheDim` says it.
void dropCacheLengths(Model &model, llvm::StringRef cacheDim);

/// How many entries a run appends, from a model that was imported with `capacity` of them in the
/// cache already.
mlir::FailureOr<int64_t> entriesPerRun(mlir::func::FuncOp full, const CacheDim &cache);

/// Removes ops without effect or use.
void dropUnused(mlir::Block &block);

/// Fails if the model with `length` entries in its cache, `few`, is not what those with capacity -
/// step and with capacity entries say that it is.
mlir::LogicalResult checkShortCache(mlir::func::FuncOp near, mlir::func::FuncOp full,
                                    mlir::func::FuncOp few, const CacheDim &cache, int64_t step,
                                    int64_t length);

/// Makes `main`, imported with capacity - step entries in the cache, a program for any number of
/// them up to that: input `cache.name` is the number. `full` is the same model with `capacity`
/// entries; neither is folded yet.
mlir::LogicalResult boundCache(mlir::func::FuncOp main, mlir::func::FuncOp full,
                               const CacheDim &cache, int64_t step);

/// Marks an argument of the imported function with the dimension that is the cache's length.
inline constexpr llvm::StringLiteral kCacheDimAttr = "graph.cache_dim";

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_GROWINGCACHE_H
