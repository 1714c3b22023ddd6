//===- LayerKind.cpp - Which layers are one kind --------------------------===//

#include "Layers.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"

using namespace mlir;

namespace shardc {

LayerInterface computeInterface(const Layer &layer) {
  LayerInterface interface;
  llvm::DenseSet<Operation *> inside(layer.ops.begin(), layer.ops.end());
  llvm::DenseSet<Value> seen;
  for (Operation *op : layer.ops) {
    for (Value operand : op->getOperands()) {
      Operation *producer = operand.getDefiningOp();
      if ((producer && inside.count(producer)) || !seen.insert(operand).second)
        continue;
      if (producer && isa<graph::ConstantOp>(producer))
        interface.constants.push_back(producer);
      else
        interface.inputs.push_back(operand);
    }
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !inside.count(user); }))
        interface.outputs.push_back(result);
  }
  return interface;
}

/// Attributes that tell kinds apart: all but the path's layer prefix.
static bool sameAttributes(Operation *a, StringRef layerA, Operation *b, StringRef layerB) {
  if (a->getPropertiesAsAttribute() != b->getPropertiesAsAttribute())
    return false;
  auto others = [](Operation *op) {
    SmallVector<NamedAttribute> attrs;
    for (NamedAttribute attr : op->getDiscardableAttrs())
      if (attr.getName() != graph::GraphDialect::kPathAttr &&
          attr.getName() != shard::ShardDialect::kOriginAttr)
        attrs.push_back(attr);
    return attrs;
  };
  if (others(a) != others(b))
    return false;
  auto path = [](Operation *op, StringRef layer) {
    auto attr = op->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr);
    return attr ? relativePath(attr.getValue(), layer) : StringRef();
  };
  return path(a, layerA) == path(b, layerB);
}

bool sameKind(const Layer &a, const LayerInterface &ia, const Layer &b, const LayerInterface &ib,
              std::vector<bool> &differing) {
  if (a.ops.size() != b.ops.size() || ia.inputs.size() != ib.inputs.size() ||
      ia.constants.size() != ib.constants.size() || ia.outputs.size() != ib.outputs.size())
    return false;
  llvm::DenseMap<Value, Value> match; // values of a -> values of b
  for (auto [x, y] : llvm::zip(ia.inputs, ib.inputs)) {
    if (x.getType() != y.getType() || shard::getSharding(x) != shard::getSharding(y) ||
        isa_and_nonnull<graph::ParameterOp>(x.getDefiningOp()) !=
            isa_and_nonnull<graph::ParameterOp>(y.getDefiningOp()))
      return false;
    match[x] = y;
  }
  differing.resize(ia.constants.size());
  for (auto [n, pair] : llvm::enumerate(llvm::zip(ia.constants, ib.constants))) {
    auto [x, y] = pair;
    if (x->getResultTypes() != y->getResultTypes())
      return false;
    auto vx = cast<graph::ConstantOp>(x).getValue(), vy = cast<graph::ConstantOp>(y).getValue();
    if (vx != vy)
      differing[n] = true;
    match[x->getResult(0)] = y->getResult(0);
  }
  for (auto [x, y] : llvm::zip(a.ops, b.ops)) {
    if (x->getName() != y->getName() || x->getResultTypes() != y->getResultTypes() ||
        x->getNumOperands() != y->getNumOperands() || !sameAttributes(x, a.path, y, b.path))
      return false;
    for (auto [p, q] : llvm::zip(x->getOperands(), y->getOperands()))
      if (match.lookup(p) != q)
        return false;
    for (auto [p, q] : llvm::zip(x->getResults(), y->getResults()))
      match[p] = q;
  }
  return llvm::all_of(llvm::zip(ia.outputs, ib.outputs), [&](auto pair) {
    return match.lookup(std::get<0>(pair)) == std::get<1>(pair);
  });
}

} // namespace shardc
