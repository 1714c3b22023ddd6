//===- CacheBounder.h - One import made to hold for every length of a cache -===//

#ifndef SHARDC_LIB_IMPORT_CACHEBOUNDER_H
#define SHARDC_LIB_IMPORT_CACHEBOUNDER_H

#include "CacheTail.h"
#include "GrowingCache.h"

namespace shardc::importer {

/// `concat(cache, new)`
bool isAppend(mlir::Operation *op);
bool isCache(mlir::Value value, int64_t dim);

class CacheBounder {
public:
  CacheBounder(mlir::func::FuncOp main, mlir::func::FuncOp full, const CacheDim &cache,
               int64_t step)
      : main(main), full(full), cache(cache), step(step), block(main.getBody().front()),
        builder(main.getContext()), folder(0) {}

  mlir::LogicalResult run();

private:
  /// A dimension of a value that has the cache's length.
  using Dim = std::pair<mlir::Value, int64_t>;

  mlir::LogicalResult compare(mlir::Operation *op, mlir::Operation *other);
  mlir::LogicalResult findGrown(mlir::Value value, mlir::Value other, mlir::Location loc);
  bool grows(mlir::Value value, int64_t dim) const { return grown.contains({value, dim}); }
  mlir::LogicalResult bound(mlir::Operation *op);
  mlir::LogicalResult boundConstant(graph::ConstantOp op, graph::ConstantOp other);
  mlir::LogicalResult boundSequence(graph::ConstantOp op, const HostTensor &values,
                                    const HostTensor &others);
  mlir::LogicalResult append(graph::ConcatOp op);
  mlir::LogicalResult boundAttention(graph::AttentionOp op);
  void boundEinsum(graph::EinsumOp op);
  mlir::LogicalResult checkDims(mlir::Operation *op);
  mlir::LogicalResult finish();

  GraphBuilder at(mlir::Operation *op) {
    builder.setInsertionPoint(op);
    return GraphBuilder(builder, folder, op->getLoc(),
                        op->getAttrOfType<mlir::StringAttr>(graph::GraphDialect::kPathAttr));
  }
  mlir::Value lengthLike(GraphBuilder &g, llvm::ArrayRef<int64_t> shape) {
    return g.broadcast(length, {}, shape);
  }
  /// True where an index along dim is that of an entry, in a shape like `value`'s.
  mlir::Value isEntry(GraphBuilder &g, mlir::Value value, int64_t dim);
  /// `value` with the tail along dim replaced.
  void hide(GraphBuilder &g, mlir::OpOperand &operand, int64_t dim, double by);

  mlir::func::FuncOp main, full;
  const CacheDim &cache;
  int64_t step;
  mlir::Block &block;
  mlir::OpBuilder builder;
  Folder folder; ///< for the builder; folding comes later
  mlir::Value length;
  llvm::DenseSet<Dim> grown;
  llvm::DenseMap<mlir::Operation *, mlir::Operation *> otherOf;
  llvm::DenseMap<mlir::Value, mlir::Value> counterpart; ///< in `full`
  std::optional<TailAnalysis> tails;
};

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_CACHEBOUNDER_H
