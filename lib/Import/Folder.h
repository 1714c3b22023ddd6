//===- Folder.h - Values of the graph that do not depend on the model's inputs -===//

#ifndef SHARDC_LIB_IMPORT_FOLDER_H
#define SHARDC_LIB_IMPORT_FOLDER_H

#include "dialects/Graph/Graph.h"

#include <memory>

namespace shardc::importer {

/// Knows which values depend on neither inputs nor weights, and evaluates them when somebody needs
/// their numbers. Ops are built first and folded at the end, so that chains of shape arithmetic and
/// masks never become attributes in between.
class Folder {
public:
  explicit Folder(int64_t maxElements) : maxElements(maxElements) {}

  /// Registers a new (verified) op.
  void note(mlir::Operation *op);
  bool isConstant(mlir::Value value) const { return constants.contains(value); }
  /// The numbers of a constant value, valid until the next call; null if it is none or if
  /// evaluation failed (and said so).
  const HostTensor *evaluate(mlir::Value value);
  /// Replaces constant values that other ops use by `graph.constant` and erases what nobody uses.
  /// Repetition
  /// (`graph.broadcast`) and `graph.iota` stay ops.
  mlir::LogicalResult materialize(mlir::Block &block);

private:
  mlir::LogicalResult compute(mlir::Operation *op);
  mlir::LogicalResult materialize(mlir::Value value);

  int64_t maxElements;
  int64_t cachedElements = 0;
  llvm::DenseSet<mlir::Value> constants;
  llvm::DenseMap<mlir::Value, std::unique_ptr<HostTensor>> cache;
};

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_FOLDER_H
