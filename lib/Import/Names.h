//===- Names.h - Module paths of nodes, names of weights ------------------===//

#ifndef SHARDC_LIB_IMPORT_NAMES_H
#define SHARDC_LIB_IMPORT_NAMES_H

#include "OnnxModel.h"

#include "mlir/IR/Location.h"

namespace shardc::importer {

/// Where a name is read.
struct Use {
  unsigned node;
  unsigned operand;
};
using UseMap = llvm::StringMap<llvm::SmallVector<Use, 2>>;
UseMap findUses(const Graph &graph);

/// The module path of a node as its exporter recorded it: torch's `name_scopes`, or the node names
/// of older exporters
/// ("/model/layers.0/mlp/Mul"). Empty if there is none.
std::string modulePath(const Node &node);
/// The class of that module ("Linear"), or nothing.
std::string moduleClass(const Node &node);
/// Paths of all nodes. One that has none gets what the producer of its operand and its first reader
/// have in common.
std::vector<std::string> modulePaths(const Graph &graph, const UseMap &uses);

/// How an initializer appears in the IR.
struct InitializerPlan {
  bool isParameter = false;
  std::string name;          ///< of the parameter
  bool isTransposed = false; ///< the file holds the transpose of the parameter
};
/// Decides which initializers are weights, under which names, and declares those in `store`.
/// Exporters fold transposes into weights and rename them; the module path of the reader and the
/// class of the module give the name and orientation back.
llvm::StringMap<InitializerPlan> planInitializers(const Model &model, const UseMap &uses,
                                                  llvm::ArrayRef<std::string> paths,
                                                  WeightStore &store);

} // namespace shardc::importer

#endif // SHARDC_LIB_IMPORT_NAMES_H
