//===- Layers.h - Layers of a model, before they are functions ------------===//

#ifndef SHARDC_LIB_OUTLINE_LAYERS_H
#define SHARDC_LIB_OUTLINE_LAYERS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"

#include <string>
#include <vector>

namespace shardc {

/// The ops of one layer, in program order.
struct Layer {
  std::string path; ///< "model.layers.3", or "layer.3" where the model has no names
  std::string list; ///< "model.layers"
  std::vector<mlir::Operation *> ops;
};

/// Whether an op is a weight or a constant: never part of a layer's structure, it follows its
/// users.
bool isLeaf(mlir::Operation *op);

/// "model.layers.3" for "model.layers.3.mlp.up_proj"; empty if no segment is a number.
llvm::StringRef layerPrefix(llvm::StringRef path);

/// Layers by `graph.path`, in program order.
std::vector<Layer> findLayersByPath(mlir::func::FuncOp function);

/// Layers as the best tandem repeat of the op sequence.
std::vector<Layer> findLayersByStructure(mlir::func::FuncOp function);

/// Makes every layer convex (an op between two ops of a layer joins it) and drops those that cannot
/// be.
void makeConvex(mlir::func::FuncOp function, std::vector<Layer> &layers);

/// How a layer would look as a function.
struct LayerInterface {
  std::vector<mlir::Value>
      inputs; ///< by first use; weights and constants that stay outside included
  std::vector<mlir::Operation *> constants; ///< cloned into the function, by first use
  std::vector<mlir::Value> outputs;         ///< by definition
};
LayerInterface computeInterface(const Layer &layer);

/// Whether two layers are one kind: same ops, attributes (but for the layer's own path), types,
/// wiring and shardings of weights. `differing` collects positions of constants whose values
/// differ.
bool sameKind(const Layer &a, const LayerInterface &ia, const Layer &b, const LayerInterface &ib,
              std::vector<bool> &differing);

/// `path` seen from within the layer: "mlp.up_proj".
llvm::StringRef relativePath(llvm::StringRef path, llvm::StringRef layerPath);

} // namespace shardc

#endif // SHARDC_LIB_OUTLINE_LAYERS_H
