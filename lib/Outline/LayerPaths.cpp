//===- LayerPaths.cpp - Which op belongs to which layer, by module path ---===//
//
// Exporters record the module path of every op. The first numeric segment names the layer, so that
// nested lists outline at the outermost. Ops without a path (made by a rewrite) join the layer that
// all their users, or else all their producers, are in.
//
//===----------------------------------------------------------------------===//

#include "Layers.h"

#include "dialects/Graph/Graph.h"

using namespace mlir;

namespace shardc {

bool isLeaf(Operation *op) {
  auto width = [](Value value) {
    return cast<RankedTensorType>(value.getType()).getElementTypeBitWidth();
  };
  auto narrow =
      dyn_cast<graph::CastOp>(op); // of mixed precision: the caller's, who gathers what is narrow
  if (narrow && narrow.getInput().getDefiningOp<graph::ParameterOp>())
    return width(narrow.getResult()) < width(narrow.getInput());
  return isa<graph::ParameterOp, graph::ConstantOp>(op);
}

StringRef layerPrefix(StringRef path) {
  size_t start = 0;
  while (start < path.size()) {
    size_t end = std::min(path.find('.', start), path.size());
    StringRef segment = path.slice(start, end);
    if (start > 0 && !segment.empty() && llvm::all_of(segment, llvm::isDigit))
      return path.take_front(end);
    start = end + 1;
  }
  return {};
}

StringRef relativePath(StringRef path, StringRef layerPath) {
  if (path == layerPath)
    return "";
  if (path.starts_with(layerPath) && path.size() > layerPath.size() &&
      path[layerPath.size()] == '.')
    return path.drop_front(layerPath.size() + 1);
  return path;
}

namespace {

/// Layer of each op, as an index into a list of prefixes; -1: none, -2: not known yet.
struct Assignment {
  llvm::StringMap<int> indexOf;
  std::vector<std::string> prefixes;
  llvm::DenseMap<Operation *, int> layer;

  int index(StringRef prefix) {
    auto [it, isNew] = indexOf.try_emplace(prefix, static_cast<int>(prefixes.size()));
    if (isNew)
      prefixes.push_back(prefix.str());
    return it->second;
  }
};

} // namespace

/// The one layer that all of `ops` are in; -2 if they differ or there is none.
template <typename Range> static int commonLayer(const Assignment &assignment, Range ops) {
  int common = -2;
  for (Operation *op : ops) {
    int layer = op ? assignment.layer.lookup_or(op, -2) : -2;
    if (layer < 0 || (common >= 0 && common != layer))
      return -2;
    common = layer;
  }
  return common;
}

static void assignUnnamed(Operation *op, Assignment &assignment) {
  int &layer = assignment.layer[op];
  if (layer != -2)
    return;
  int found = commonLayer(assignment, op->getUsers());
  if (found < 0) {
    SmallVector<Operation *> producers;
    for (Value operand : op->getOperands())
      if (Operation *producer = operand.getDefiningOp(); producer && !isLeaf(producer))
        producers.push_back(producer);
    found = commonLayer(assignment, producers);
  }
  if (found >= 0)
    assignment.layer[op] = found;
}

std::vector<Layer> findLayersByPath(func::FuncOp function) {
  Assignment assignment;
  SmallVector<Operation *> ops;
  for (Operation &op : function.getBody().front().without_terminator()) {
    if (isLeaf(&op))
      continue;
    ops.push_back(&op);
    auto path = op.getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr);
    StringRef prefix = path ? layerPrefix(path.getValue()) : StringRef();
    assignment.layer[&op] = !path ? -2 : prefix.empty() ? -1 : assignment.index(prefix);
  }
  for (Operation *op : llvm::reverse(ops))
    assignUnnamed(op, assignment);
  for (Operation *op : ops)
    assignUnnamed(op, assignment);

  std::vector<Layer> layers(assignment.prefixes.size());
  for (auto [layer, prefix] : llvm::zip(layers, assignment.prefixes)) {
    layer.path = prefix;
    layer.list = StringRef(prefix).rsplit('.').first.str();
  }
  for (Operation *op : ops)
    if (int layer = assignment.layer[op]; layer >= 0)
      layers[layer].ops.push_back(op);
  return layers;
}

//===----------------------------------------------------------------------===//
// Convexity
//===----------------------------------------------------------------------===//

/// Ops outside the layer that depend on it and that it depends on. `position` is program order.
static SmallVector<Operation *> opsBetween(const Layer &layer,
                                           const llvm::DenseMap<Operation *, int> &position,
                                           ArrayRef<Operation *> order) {
  llvm::DenseSet<Operation *> inside(layer.ops.begin(), layer.ops.end()), below;
  int first = position.lookup(layer.ops.front()), last = position.lookup(layer.ops.back());
  for (int at = first; at <= last; ++at)
    for (Value operand : order[at]->getOperands())
      if (Operation *producer = operand.getDefiningOp();
          producer && (inside.count(producer) || below.count(producer)))
        if (!inside.count(order[at]))
          below.insert(order[at]);
  llvm::DenseSet<Operation *> above;
  SmallVector<Operation *> between;
  for (int at = last; at >= first; --at) {
    Operation *op = order[at];
    bool feeds = llvm::any_of(
        op->getUsers(), [&](Operation *user) { return inside.count(user) || above.count(user); });
    if (inside.count(op) || !feeds)
      continue;
    above.insert(op);
    if (below.count(op))
      between.push_back(op);
  }
  return between;
}

void makeConvex(func::FuncOp function, std::vector<Layer> &layers) {
  llvm::DenseMap<Operation *, int> position;
  SmallVector<Operation *> order;
  for (Operation &op : function.getBody().front()) {
    position[&op] = static_cast<int>(order.size());
    order.push_back(&op);
  }
  llvm::DenseSet<Operation *> taken;
  for (const Layer &layer : layers)
    taken.insert(layer.ops.begin(), layer.ops.end());
  auto inOrder = [&](Operation *a, Operation *b) {
    return position.lookup(a) < position.lookup(b);
  };
  llvm::erase_if(layers, [&](Layer &layer) {
    SmallVector<Operation *> between = opsBetween(layer, position, order);
    for (Operation *op : between)
      if (!taken.insert(op).second)
        return true; // another layer's op lies within: leave both where they are
    layer.ops.insert(layer.ops.end(), between.begin(), between.end());
    llvm::sort(layer.ops, inOrder);
    return false;
  });
}

} // namespace shardc
