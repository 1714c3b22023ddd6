//===- Padding.h - Where a device's part lies, and what is behind its end -===//

#ifndef SHARDC_LIB_PARTITION_PADDING_H
#define SHARDC_LIB_PARTITION_PADDING_H

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"

namespace shardc {

/// First global index of this device's part of a dimension; made once for each (axes, part size) of
/// a function.
class PartBegins {
public:
  PartBegins(const Mesh &mesh, mlir::FlatSymbolRefAttr symbol) : mesh(mesh), symbol(symbol) {}
  /// Scalar i64 tensor; null for a whole dimension.
  mlir::Value get(mlir::OpBuilder &b, mlir::Location loc, const AxisList &axes, int64_t globalSize);

private:
  struct Known {
    AxisList axes;
    int64_t localSize;
    mlir::Value begin;
  };
  const Mesh &mesh;
  mlir::FlatSymbolRefAttr symbol;
  llvm::SmallVector<Known> known;
};

/// Is the dimension cut into parts that it does not fill?
bool isUneven(const Sharding &sharding, int64_t dim, int64_t globalSize);

/// `local` with the neutral element of `kind` in the padding of dimension `dim`.
mlir::Value maskPadding(mlir::OpBuilder &b, mlir::Location loc, mlir::Value local, int64_t dim,
                        int64_t globalSize, mlir::Value begin, ReduceKind kind);

} // namespace shardc

#endif // SHARDC_LIB_PARTITION_PADDING_H
