//===- Outline.cpp - One function per kind of layer -----------------------===//
//
// Input:  an entry function with all ops of the model inline, each with its module path.
// Output: the same function with a call for each layer; `func.func private @layer_N` for each kind.
//
// 1. Find layers by path, or by repetition if there are no paths.
// 2. Make each convex, so that it can be a call.
// 3. Compare layers; those of one kind share a function. Constants that are equal in all of them
//    are inside it, those that differ become arguments.
// 4. Build the functions and replace the ops.
//
//   %3 = graph.rms_norm … {graph.path = "layers.0.norm"}  ->  %3 = func.call @layer_0(%2, %w0)
//   %4 = graph.rms_norm … {graph.path = "layers.1.norm"}      %4 = func.call @layer_0(%3, %w1)
//
// Known limit: two layers whose equal ops stand in another order are two kinds.
//
//===----------------------------------------------------------------------===//

#include "Layers.h"
#include "shardc/Outline/Passes.h"
#include "shardc/Support/SortOps.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_OUTLINEPASS
#include "lib/Outline/Passes.h.inc"

namespace {

/// Layers that share a function.
struct Kind {
  std::vector<size_t> layers;
  std::vector<bool> differing; ///< constants that become arguments
  func::FuncOp function;
};

} // namespace

static std::vector<Kind> groupByKind(ArrayRef<Layer> layers, ArrayRef<LayerInterface> interfaces) {
  std::vector<Kind> kinds;
  for (size_t n = 0; n < layers.size(); ++n) {
    auto found = llvm::find_if(kinds, [&](Kind &kind) {
      size_t first = kind.layers.front();
      std::vector<bool> differing = kind.differing;
      if (!sameKind(layers[first], interfaces[first], layers[n], interfaces[n], differing))
        return false;
      kind.differing = differing;
      kind.layers.push_back(n);
      return true;
    });
    if (found == kinds.end()) {
      kinds.push_back({{n}, {}, {}});
      kinds.back().differing.resize(interfaces[n].constants.size());
    }
  }
  return kinds;
}

/// Operands of the call: inputs, then constants that are arguments.
static SmallVector<Value> callOperands(const Kind &kind, const LayerInterface &interface) {
  SmallVector<Value> operands(interface.inputs.begin(), interface.inputs.end());
  for (auto [n, constant] : llvm::enumerate(interface.constants))
    if (kind.differing[n])
      operands.push_back(constant->getResult(0));
  return operands;
}

static void describeArgument(func::FuncOp function, unsigned n, Value operand,
                             StringRef layerPath) {
  if (shard::ShardingAttr sharding = shard::getSharding(operand))
    function.setArgAttr(n, shard::ShardDialect::kShardingAttr, sharding);
  if (auto narrow = operand.getDefiningOp<graph::CastOp>();
      narrow && narrow.getInput().getDefiningOp<graph::ParameterOp>())
    operand = narrow.getInput();
  if (auto parameter = operand.getDefiningOp<graph::ParameterOp>())
    function.setArgAttr(
        n, graph::GraphDialect::kParameterAttr,
        StringAttr::get(function.getContext(), relativePath(parameter.getName(), layerPath)));
}

static void buildFunction(Kind &kind, const Layer &layer, const LayerInterface &interface,
                          StringRef name, func::FuncOp entry) {
  OpBuilder b(entry);
  SmallVector<Value> operands = callOperands(kind, interface);
  auto type =
      b.getFunctionType(ValueRange(operands).getTypes(), ValueRange(interface.outputs).getTypes());
  kind.function = func::FuncOp::create(b, layer.ops.front()->getLoc(), name, type);
  kind.function.setPrivate();
  kind.function->setAttr(graph::GraphDialect::kLayerAttr, b.getStringAttr(layer.list));
  Block *body = kind.function.addEntryBlock();
  b.setInsertionPointToStart(body);
  IRMapping map;
  for (auto [n, operand] : llvm::enumerate(operands)) {
    map.map(operand, body->getArgument(n));
    describeArgument(kind.function, n, operand, layer.path);
  }
  for (auto [n, constant] : llvm::enumerate(interface.constants))
    if (!kind.differing[n])
      b.clone(*constant, map);
  for (Operation *op : layer.ops) {
    Operation *copy = b.clone(*op, map);
    if (auto path = op->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr))
      copy->setAttr(graph::GraphDialect::kPathAttr,
                    b.getStringAttr(relativePath(path.getValue(), layer.path)));
  }
  SmallVector<Value> results;
  for (Value output : interface.outputs)
    results.push_back(map.lookup(output));
  func::ReturnOp::create(b, layer.ops.back()->getLoc(), results);
}

/// The call stands after the last op that it needs and before the first that needs it: convexity
/// and the order of the layer's ops make the place of its last op, with later-needed producers
/// moved up, right.
static void replaceByCall(const Kind &kind, const Layer &layer, const LayerInterface &interface) {
  OpBuilder b(layer.ops.back());
  b.setInsertionPointAfter(layer.ops.back());
  auto call = func::CallOp::create(b, layer.ops.front()->getLoc(), kind.function,
                                   callOperands(kind, interface));
  call->setAttr(graph::GraphDialect::kPathAttr, b.getStringAttr(layer.path));
  for (auto [output, result] : llvm::zip(interface.outputs, call.getResults())) {
    if (shard::ShardingAttr sharding = shard::getSharding(output))
      shard::setSharding(result, sharding);
    Value(output).replaceAllUsesWith(result);
  }
  for (Operation *op : llvm::reverse(layer.ops))
    op->erase();
}

static void printReport(ArrayRef<Kind> kinds, ArrayRef<Layer> layers) {
  llvm::outs() << "layers: " << layers.size() << " in " << kinds.size() << " kinds\n";
  for (const Kind &kind : kinds) {
    const Layer &first = layers[kind.layers.front()];
    func::FuncOp function = kind.function;
    llvm::outs() << "  @" << function.getSymName() << ": " << kind.layers.size() << " x "
                 << first.ops.size() << " ops:";
    for (size_t n : kind.layers)
      llvm::outs() << " " << layers[n].path;
    llvm::outs() << "\n";
  }
}

namespace {
struct OutlinePass : impl::OutlinePassBase<OutlinePass> {
  using OutlinePassBase::OutlinePassBase;

  void runOnOperation() override {
    auto function = getOperation().lookupSymbol<func::FuncOp>(entry);
    if (!function || function.isExternal()) {
      getOperation().emitError() << "no function @" << entry << " to outline";
      return signalPassFailure();
    }
    std::vector<Layer> layers = findLayersByPath(function);
    if (layers.empty())
      layers = findLayersByStructure(function);
    makeConvex(function, layers);

    std::vector<LayerInterface> interfaces;
    for (const Layer &layer : layers)
      interfaces.push_back(computeInterface(layer));
    std::vector<Kind> kinds = groupByKind(layers, interfaces);
    SymbolTable symbols(getOperation());
    for (auto [n, kind] : llvm::enumerate(kinds)) {
      size_t first = kind.layers.front();
      std::string name = "layer_" + std::to_string(n);
      buildFunction(kind, layers[first], interfaces[first], name, function);
    }
    replaceLayers(layers, kinds);
    pullProducersUp(function.getBody().front());
    if (report)
      printReport(kinds, layers);
  }

  /// Outputs of one layer are inputs of the next: interfaces are computed anew as calls replace
  /// them.
  void replaceLayers(std::vector<Layer> &layers, ArrayRef<Kind> kinds) {
    std::vector<const Kind *> kindOf(layers.size());
    for (const Kind &kind : kinds)
      for (size_t n : kind.layers)
        kindOf[n] = &kind;
    for (auto [n, layer] : llvm::enumerate(layers))
      replaceByCall(*kindOf[n], layer, computeInterface(layer));
    // Constants that went into functions have no users left.
    for (Operation &op : llvm::make_early_inc_range(
             getOperation().lookupSymbol<func::FuncOp>(entry).getBody().front()))
      if (isa<graph::ConstantOp>(op) && op.use_empty())
        op.erase();
  }
};
} // namespace
} // namespace shardc
