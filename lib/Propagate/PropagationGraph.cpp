//===- PropagationGraph.cpp - Values and the rules between them, across functions -===//
//
// Input:  a module in which constants have one use and callees one set of parameter shardings
// (Prepare.h). Output: a closed sharding on every value.
//
//   1. Every tensor value, and every result of a function, is a value of the graph; every op with a
//      sharding rule is a node. A call is one identity node for each operand (to the callee's
//      argument) and result.
//   2. For each priority, then for each stage: nodes are visited until none changes anything
//      (propagateOp). Shardings only grow, so that this ends.
//   3. What was open is closed, and written back with its origin and with conflicts.
//
// Stages: ops that pass every factor through first, so that shardings travel along the residual
// stream before contractions choose; then all ops; constraints last. A constraint on an activation
// thus yields to what weights imply: an axis that a weight gives to the features is not taken by
// the sequence.
//
// Ideas: GSPMD (arXiv 2105.04663); Shardy's propagation by user priority and op priority.
//
//===----------------------------------------------------------------------===//

#include "PropagationGraph.h"
#include "shardc/Support/Alias.h"

using namespace mlir;
using namespace shardc;

//===----------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------===//

FailureOr<int> PropagationGraph::addValue(Operation *place, Type type, shard::ShardingAttr attr,
                                          StringAttr root) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return place->emitOpError() << "has a value of type " << type << ", expected a ranked tensor";
  FlowValue value;
  value.type = tensor;
  value.sharding = Sharding::replicated(tensor.getRank());
  for (DimSharding &dim : value.sharding.dims)
    dim.open = true;
  if (attr) {
    if (attr.getMesh() != symbol)
      return place->emitOpError() << "has a sharding on mesh " << attr.getMesh()
                                  << ", the module's mesh is " << symbol;
    Result<Sharding> resolved = attr.resolve(mesh);
    if (!resolved)
      return place->emitOpError() << resolved.error;
    if (Error error =
            verify(mesh, *resolved, Shape(tensor.getShape().begin(), tensor.getShape().end())))
      return place->emitOpError() << *error;
    value.sharding = *resolved;
    for (const DimSharding &dim : resolved->dims)
      priorities.insert(dim.priority);
    for (const AxisRef &axis : value.sharding.usedAxes())
      value.origins.push_back({axis, root, nullptr});
  }
  values.push_back(std::move(value));
  return static_cast<int>(values.size()) - 1;
}

void PropagationGraph::addNode(FlowNode node) {
  int index = static_cast<int>(nodes.size());
  for (auto list : {&node.operands, &node.results})
    for (int value : *list)
      if (values[value].nodes.empty() || values[value].nodes.back() != index)
        values[value].nodes.push_back(index);
  nodes.push_back(std::move(node));
}

void PropagationGraph::addIdentity(Operation *op, FlowStage stage, int from, int to) {
  auto shape = values[from].type.getShape();
  Shape plain(shape.begin(), shape.end());
  addNode({op, stage, *ShardingRuleBuilder({plain}, {plain}).addPointwise().build(), {from}, {to}});
}

/// What a value's own annotation is called in origins.
static StringAttr describe(Operation *op) {
  for (StringRef name :
       {StringRef(shard::ShardDialect::kOriginAttr), StringRef(shard::ShardDialect::kPlanAttr)})
    if (auto text = op->getAttrOfType<StringAttr>(name))
      return text;
  std::string text = op->getName().getStringRef().str();
  if (auto parameter = dyn_cast<graph::ParameterOp>(op))
    text = "parameter \"" + parameter.getName().str() + "\"";
  else if (auto path = op->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr))
    text += " in " + path.getValue().str();
  return StringAttr::get(op->getContext(), text);
}

/// Does every tensor have every factor?
static bool passesAllThrough(const ShardingRule &rule) {
  auto hasAll = [&](const FactorDims &dims) {
    size_t count = 0;
    for (const auto &factors : dims)
      count += factors.size();
    return count == rule.factors.size();
  };
  return llvm::all_of(rule.factors,
                      [](const Factor &f) { return f.kind == FactorKind::PassThrough; }) &&
         llvm::all_of(rule.operands, hasAll) && llvm::all_of(rule.results, hasAll);
}

LogicalResult PropagationGraph::addOp(Operation *op) {
  auto constraint = dyn_cast<shard::ConstraintOp>(op);
  auto reshard = dyn_cast<shard::ReshardOp>(op);
  for (OpResult result : op->getResults()) {
    shard::ShardingAttr attr = shard::getSharding(result);
    if (!attr && constraint)
      attr = constraint.getSharding();
    if (!attr && reshard)
      attr = reshard.getSharding();
    FailureOr<int> index = addValue(op, result.getType(), attr, describe(op));
    if (failed(index))
      return failure();
    indexOf[result] = *index;
  }
  if (constraint) {
    // Until its stage a constraint only keeps others out of its closed dimensions.
    FlowValue &value = values[indexOf[constraint.getResult()]];
    constraints.push_back({indexOf[constraint.getResult()], value});
    value.origins.clear();
    value.sharding.partial.clear();
    for (DimSharding &dim : value.sharding.dims)
      dim.axes.clear();
    addIdentity(op, FlowStage::Constraints, indexOf[constraint.getInput()],
                indexOf[constraint.getResult()]);
    return success();
  }
  auto withRule = dyn_cast<graph::ShardingRuleOpInterface>(op);
  if (isa<func::CallOp, func::ReturnOp>(op) || reshard)
    return success(); // calls and returns: addCalls; a reshard parts its two sides
  if (!withRule)
    return op->emitOpError() << "has no sharding rule";
  FlowNode node{op, FlowStage::All, withRule.getShardingRule(), {}, {}};
  node.stage = passesAllThrough(node.rule) ? FlowStage::PassThrough : FlowStage::All;
  for (Value operand : op->getOperands())
    node.operands.push_back(indexOf[operand]);
  for (Value result : op->getResults())
    node.results.push_back(indexOf[result]);
  if (node.operands.size() + node.results.size() > 1)
    addNode(std::move(node));
  return success();
}

LogicalResult PropagationGraph::addFunction(func::FuncOp function) {
  if (!function.getBody().hasOneBlock())
    return function.emitOpError() << "has " << function.getBody().getBlocks().size()
                                  << " blocks, expected one";
  auto rootOf = [&](const Twine &what, unsigned i, DictionaryAttr attrs) {
    if (auto plan = attrs ? attrs.getAs<StringAttr>(shard::ShardDialect::kPlanAttr) : StringAttr())
      return plan;
    auto name = attrs ? attrs.getAs<StringAttr>(graph::GraphDialect::kNameAttr) : StringAttr();
    std::string text =
        (what + (name ? " \"" + name.getValue().str() + "\"" : " " + std::to_string(i)) + " of @" +
         function.getName())
            .str();
    return StringAttr::get(function.getContext(), text);
  };
  for (BlockArgument argument : function.getArguments()) {
    unsigned i = argument.getArgNumber();
    FailureOr<int> index = addValue(function, argument.getType(), shard::getSharding(argument),
                                    rootOf("argument", i, function.getArgAttrDict(i)));
    if (failed(index))
      return failure();
    indexOf[argument] = *index;
  }
  for (auto [i, type] : llvm::enumerate(function.getResultTypes())) {
    auto attr =
        function.getResultAttrOfType<shard::ShardingAttr>(i, shard::ShardDialect::kShardingAttr);
    FailureOr<int> index =
        addValue(function, type, attr, rootOf("result", i, function.getResultAttrDict(i)));
    if (failed(index))
      return failure();
    functionResults[function].push_back(*index);
  }
  for (Operation &op : function.getBody().front())
    if (failed(addOp(&op)))
      return failure();
  return success();
}

/// The argument that a result replaces, or null.
static BlockArgument replacedBy(func::FuncOp function, unsigned result) {
  if (Attribute alias = function.getResultAttr(result, kAliasAttr))
    for (BlockArgument argument : function.getArguments())
      if (function.getArgAttr(argument.getArgNumber(), graph::GraphDialect::kNameAttr) == alias)
        return argument;
  return {};
}

/// What replaces an argument lies as that does.
void PropagationGraph::tieAliases(func::ReturnOp ret) {
  auto function = cast<func::FuncOp>(ret->getParentOp());
  for (auto [n, result] : llvm::enumerate(functionResults[function]))
    if (BlockArgument argument = replacedBy(function, n))
      addIdentity(ret, FlowStage::PassThrough, indexOf[argument], result);
}

/// A gradient lies as its weight does.
void PropagationGraph::tieGradients(func::ReturnOp ret) {
  auto function = cast<func::FuncOp>(ret->getParentOp());
  llvm::DenseMap<std::pair<Attribute, Attribute>, Value> weights;
  for (auto parameter : function.getBody().getOps<graph::ParameterOp>())
    weights[{parameter.getNameAttr(), parameter.getSegmentAttr()}] = parameter;
  for (auto [n, result] : llvm::enumerate(functionResults[function]))
    if (Attribute name = function.getResultAttr(n, graph::GraphDialect::kGradientAttr))
      if (Value weight =
              weights.lookup({name, function.getResultAttr(n, graph::GraphDialect::kSegmentAttr)}))
        addIdentity(ret, FlowStage::PassThrough, indexOf[weight], result);
}

LogicalResult PropagationGraph::addCalls(ModuleOp module) {
  SymbolTable symbols(module);
  module.walk([&](Operation *op) {
    if (auto ret = dyn_cast<func::ReturnOp>(op)) {
      for (auto [value, result] : llvm::zip(ret.getOperands(), functionResults[ret->getParentOp()]))
        addIdentity(op, FlowStage::PassThrough, indexOf[value], result);
      tieGradients(ret);
      tieAliases(ret);
      return;
    }
    auto call = dyn_cast<func::CallOp>(op);
    if (!call)
      return;
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    for (auto [value, argument] : llvm::zip(call.getOperands(), callee.getArguments()))
      addIdentity(op, FlowStage::PassThrough, indexOf[value], indexOf[argument]);
    for (auto [result, value] : llvm::zip(functionResults[callee], call.getResults()))
      addIdentity(op, FlowStage::PassThrough, result, indexOf[value]);
  });
  return success();
}

LogicalResult PropagationGraph::build(ModuleOp module) {
  priorities = {0};
  for (auto function : module.getOps<func::FuncOp>())
    if (failed(addFunction(function)))
      return failure();
  return addCalls(module);
}

//===----------------------------------------------------------------------===//
// Fixpoint
//===----------------------------------------------------------------------===//

PropagateResult PropagationGraph::spread(const FlowNode &node, int priority) const {
  std::vector<Sharding> operands, results;
  std::vector<int64_t> bytes;
  for (auto [list, shardings] :
       {std::make_pair(&node.operands, &operands), std::make_pair(&node.results, &results)})
    for (int value : *list) {
      shardings->push_back(values[value].sharding);
      bytes.push_back(tensorBytes(values[value].type));
    }
  PropagateOptions options;
  options.priority = priority;
  return propagateOp(node.rule, mesh, operands, results, options, bytes);
}

/// The axes that are new in `value` came from another tensor of the node: its root is theirs too.
void PropagationGraph::recordOrigins(int value, const Sharding &before, const FlowNode &node) {
  AxisList had = before.usedAxes();
  for (const AxisRef &axis : values[value].sharding.usedAxes()) {
    if (overlaps({axis}, had))
      continue;
    for (auto list : {&node.operands, &node.results})
      for (int other : *list)
        for (const AxisOrigin &origin : values[other].origins)
          if (other != value && overlaps(origin.axis, axis)) {
            values[value].origins.push_back({axis, origin.root, node.op});
            had.push_back(axis);
          }
  }
  auto &origins = values[value].origins;
  for (size_t i = 0; i < origins.size(); ++i)
    for (size_t j = origins.size(); j-- > i + 1;)
      if (origins[i].axis == origins[j].axis)
        origins.erase(origins.begin() + j);
}

/// Would an operand get an axis that another factor of the op has in some tensor? The op could not
/// use it for both, so that the operand would be cut for nothing.
bool PropagationGraph::isUseless(const FlowNode &node, size_t operand,
                                 const Sharding &proposed) const {
  AxisList had = values[node.operands[operand]].sharding.usedAxes();
  TensorFactors wanted = projectToFactors(node.rule, node.rule.operands[operand], proposed);
  auto hasElsewhere = [&](size_t factor, const AxisRef &axis, const FactorDims &dims, int value) {
    TensorFactors present = projectToFactors(node.rule, dims, values[value].sharding);
    for (size_t other = 0; other < node.rule.factors.size(); ++other)
      if (other != factor && overlaps({axis}, present.factors[other].axes))
        return true;
    return false;
  };
  for (size_t factor = 0; factor < wanted.factors.size(); ++factor)
    for (const AxisRef &axis : wanted.factors[factor].axes) {
      if (overlaps({axis}, had))
        continue;
      for (auto [dims, value] : llvm::zip(node.rule.operands, node.operands))
        if (hasElsewhere(factor, axis, dims, value))
          return true;
      for (auto [dims, value] : llvm::zip(node.rule.results, node.results))
        if (hasElsewhere(factor, axis, dims, value))
          return true;
    }
  return false;
}

bool PropagationGraph::visit(int index, int priority) {
  FlowNode &node = nodes[index];
  PropagateResult result = spread(node, priority);
  if (!result.changed)
    return false;
  bool changed = false;
  auto update = [&](int value, const Sharding &sharding) {
    Sharding before = values[value].sharding;
    values[value].sharding = sharding;
    recordOrigins(value, before, node);
    changed = true;
  };
  for (size_t n = 0; n < node.operands.size(); ++n)
    if (values[node.operands[n]].sharding != result.operands[n] &&
        !isUseless(node, n, result.operands[n]))
      update(node.operands[n], result.operands[n]);
  for (size_t n = 0; n < node.results.size(); ++n)
    if (values[node.results[n]].sharding != result.results[n])
      update(node.results[n], result.results[n]);
  return changed;
}

void PropagationGraph::settle(FlowStage stage, int priority) {
  std::deque<int> queue;
  std::vector<bool> queued(nodes.size(), false);
  for (size_t n = 0; n < nodes.size(); ++n)
    if (nodes[n].stage <= stage) {
      queue.push_back(static_cast<int>(n));
      queued[n] = true;
    }
  while (!queue.empty()) {
    int node = queue.front();
    queue.pop_front();
    queued[node] = false;
    if (!visit(node, priority))
      continue;
    for (auto list : {&nodes[node].operands, &nodes[node].results})
      for (int value : *list)
        for (int next : values[value].nodes)
          if (next != node && nodes[next].stage <= stage && !queued[next]) {
            queue.push_back(next);
            queued[next] = true;
          }
  }
}

/// What a constraint says wins over what came to its result so far: a dimension with axes of its
/// own starts with them, and other dimensions lose them.
void PropagationGraph::applyConstraints() {
  for (auto &[index, wanted] : constraints) {
    FlowValue &value = values[index];
    AxisList own = wanted.sharding.usedAxes();
    Sharding reached = value.sharding;
    value.sharding = wanted.sharding;
    llvm::erase_if(value.origins,
                   [&](const AxisOrigin &origin) { return overlaps({origin.axis}, own); });
    value.origins.append(wanted.origins.begin(), wanted.origins.end());
    for (auto [dim, before] : llvm::zip(value.sharding.dims, reached.dims))
      if (dim.open && dim.axes.empty() && !overlaps(before.axes, own))
        dim.axes = before.axes;
  }
  constraints.clear();
}

void PropagationGraph::run() {
  for (int priority : priorities) {
    settle(FlowStage::PassThrough, priority);
    settle(FlowStage::All, priority);
    applyConstraints();
    settle(FlowStage::Constraints, priority);
  }
}

//===----------------------------------------------------------------------===//
// Writing back
//===----------------------------------------------------------------------===//

shard::ShardingAttr PropagationGraph::attrOf(int value) const {
  Sharding sharding = canonical(values[value].sharding);
  for (DimSharding &dim : sharding.dims) {
    dim.open = false;
    dim.priority = 0;
  }
  return shard::ShardingAttr::get(symbol, mesh, sharding);
}

/// "tp: parameter "up" through graph.einsum"
StringAttr PropagationGraph::originOf(int value) const {
  std::string text;
  AxisList used = values[value].sharding.usedAxes();
  for (const AxisOrigin &origin : values[value].origins) {
    if (!overlaps({origin.axis}, used))
      continue;
    text +=
        (text.empty() ? "" : "; ") + str(mesh, origin.axis) + ": " + origin.root.getValue().str();
    if (origin.via)
      text += " through " + origin.via->getName().getStringRef().str();
  }
  return text.empty() ? StringAttr() : StringAttr::get(symbol.getContext(), text);
}

/// What the nodes could not agree on, on their ops.
void PropagationGraph::writeConflicts() {
  for (const FlowNode &node : nodes) {
    PropagateResult result = spread(node, *priorities.rbegin());
    if (result.conflicts.empty())
      continue;
    SmallVector<Attribute> texts;
    if (auto before = node.op->getAttrOfType<ArrayAttr>(shard::ShardDialect::kConflictsAttr))
      texts.append(before.begin(), before.end());
    for (const std::string &conflict : result.conflicts)
      texts.push_back(StringAttr::get(symbol.getContext(), conflict));
    node.op->setAttr(shard::ShardDialect::kConflictsAttr,
                     ArrayAttr::get(symbol.getContext(), texts));
  }
}

void PropagationGraph::write(ModuleOp module) {
  for (auto function : module.getOps<func::FuncOp>()) {
    for (BlockArgument argument : function.getArguments()) {
      shard::setSharding(argument, attrOf(indexOf[argument]));
      function.removeArgAttr(argument.getArgNumber(),
                             shard::ShardDialect::kPlanAttr); // for origins only
    }
    for (auto [i, value] : llvm::enumerate(functionResults[function])) {
      BlockArgument replaced = replacedBy(function, i);
      function.setResultAttr(i, shard::ShardDialect::kShardingAttr,
                             attrOf(replaced ? indexOf[replaced] : value));
    }
    for (Operation &op : function.getBody().front()) {
      for (OpResult result : op.getResults())
        shard::setSharding(result, attrOf(indexOf[result]));
      StringAttr origin = op.getNumResults() ? originOf(indexOf[op.getResult(0)]) : StringAttr();
      if (origin && !op.hasAttr(shard::ShardDialect::kOriginAttr))
        op.setAttr(shard::ShardDialect::kOriginAttr, origin);
    }
  }
  writeConflicts();
}
