//===- LayerSplit.cpp - A layer function and its backward twin ------------===//
//
//   1. Joint: the layer's ops, then their derivatives in reverse, in one block.
//   2. Cut: which values of the forward part to keep, so that the backward part follows from them
//      by cheap ops alone and as few bytes as possible are kept. Minimum cut from what must be kept
//      or is an argument to what the backward part reads; an edge inside a value weighs its bytes,
//      one through a cheap op (it can be repeated) is free. Weights weigh nothing: they are there.
//   3. Policy: of the kept values some are recomputed instead; the function `recompute` makes them
//      from arguments and kept values.
//   4. Functions: forward with the kept values as more results; recompute; backward.
//
//===----------------------------------------------------------------------===//

#include "LayerSplit.h"
#include "MinCut.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace shardc {
namespace {

using Source = LayerSplit::Source;

/// Worth repeating rather than keeping its result: no contraction, no sort, no gather of many
/// elements.
bool isCheap(Operation *op) {
  if (isa<graph::ConstantOp, shard::ConstraintOp>(op))
    return true;
  auto lowering = dyn_cast<graph::LoweringOpInterface>(op);
  if (!lowering)
    return false;
  // A whole tensor's maximum is four bytes, and may be one over devices: that is not asked for
  // twice.
  if (isa<graph::ReduceOp>(op) && cast<RankedTensorType>(op->getResult(0).getType()).getRank() == 0)
    return false;
  graph::LoweringClass kind = lowering.getLoweringClass();
  return kind == graph::LoweringClass::Element || kind == graph::LoweringClass::Row;
}

/// One layer on its way.
class Splitter {
public:
  Splitter(func::FuncOp layer, Checkpoint checkpoint) : layer(layer), checkpoint(checkpoint) {}
  ~Splitter() {
    if (joint)
      joint->erase();
  }
  LogicalResult buildJoint(ArrayRef<bool> active, ArrayRef<bool> seeded);
  void cut();
  void applyPolicy();
  LayerSplit build(SymbolTable &symbols);

private:
  Block &block() { return joint->getRegion(0).front(); }
  func::FuncOp makeFunction(StringRef name, SymbolTable &symbols);
  void cloneCone(ArrayRef<Value> wanted, func::FuncOp into, IRMapping &map,
                 SmallVectorImpl<Source> &sources);
  void finish(func::FuncOp function, ArrayRef<Source> sources, ArrayRef<Value> results,
              const IRMapping &map);
  void require(Value value, llvm::SetVector<Operation *> &ops, llvm::SetVector<Value> &leaves);
  bool isWeight(Value value) {
    auto argument = dyn_cast<BlockArgument>(value);
    return argument && argument.getArgNumber() < layer.getNumArguments() &&
           layer.getArgAttr(argument.getArgNumber(), graph::GraphDialect::kParameterAttr);
  }

  func::FuncOp layer;
  Checkpoint checkpoint;
  func::FuncOp joint;
  SmallVector<Operation *> forwardOps;
  DenseSet<Operation *> isForward;
  SmallVector<unsigned>
      cotangentOf; ///< result of the layer that each added argument is the cotangent of
  SmallVector<Value> gradients; ///< values of the joint function
  SmallVector<unsigned> gradientArguments;
  SmallVector<Value> kept, recomputed; ///< forward values, by the cut and the policy
};

} // namespace

LogicalResult Splitter::buildJoint(ArrayRef<bool> active, ArrayRef<bool> seeded) {
  joint = layer.clone();
  Operation *ret = block().getTerminator();
  for (Operation &op : block().without_terminator()) {
    forwardOps.push_back(&op);
    isForward.insert(&op);
  }
  SmallVector<Value> leaves;
  for (auto [argument, isActive] :
       llvm::zip(SmallVector<BlockArgument>(block().getArguments()), active))
    if (isActive)
      leaves.push_back(argument);
  OpBuilder builder(ret);
  Cotangents cotangents(builder, block(), leaves);
  for (auto [i, value] : llvm::enumerate(ret->getOperands()))
    if (seeded[i]) {
      cotangentOf.push_back(i);
      cotangents.add(value, block().addArgument(value.getType(), layer.getLoc()));
    }
  if (failed(cotangents.run(forwardOps, [](func::CallOp call) -> LogicalResult {
        return call.emitOpError() << "is inside a layer: nested layers cannot be differentiated";
      })))
    return failure();
  for (auto [i, isActive] : llvm::enumerate(active))
    if (Value gradient = isActive ? cotangents.get(block().getArgument(i)) : Value()) {
      gradients.push_back(gradient);
      gradientArguments.push_back(i);
    }
  // What no gradient needs.
  DenseSet<Operation *> live;
  SmallVector<Value> work(gradients);
  while (!work.empty())
    if (Operation *op = work.pop_back_val().getDefiningOp(); op && live.insert(op).second)
      llvm::append_range(work, op->getOperands());
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block())))
    if (&op != ret && !isForward.contains(&op) && !live.contains(&op))
      op.erase();
  return success();
}

/// Does the forward part have it in memory anyway? Transposes are strides to those that read them,
/// and to an attention in front of them.
static bool liesInMemory(Value value, llvm::function_ref<bool(Operation *)> isForward) {
  Operation *op = value.getDefiningOp();
  auto users = llvm::make_filter_range(value.getUsers(), isForward);
  if (isa_and_nonnull<graph::TransposeOp>(op))
    return users.empty() ||
           !llvm::all_of(users, llvm::IsaPred<graph::EinsumOp, graph::AttentionOp>);
  return !isa_and_nonnull<graph::AttentionOp>(op) || users.empty() ||
         !llvm::all_of(users, llvm::IsaPred<graph::TransposeOp>);
}

void Splitter::cut() {
  // Bytes decide, and only between equally many what is in memory anyway.
  constexpr int64_t kByte = 64;
  FlowNetwork network;
  DenseMap<Value, std::pair<int, int>> nodes; ///< entry and exit
  SmallVector<Value> values;
  auto addValue = [&](Value value, bool mustKeep, int64_t bytes) {
    std::pair<int, int> node = {network.addNode(), network.addNode()};
    nodes[value] = node;
    values.push_back(value);
    network.addEdge(node.first, node.second,
                    bytes * kByte + !liesInMemory(value, [&](Operation *user) {
                      return isForward.contains(user);
                    }));
    if (mustKeep)
      network.addEdge(FlowNetwork::kSource, node.first, FlowNetwork::kInfinite);
  };
  for (BlockArgument argument : block().getArguments().take_front(layer.getNumArguments()))
    addValue(argument, true,
             isWeight(argument) ? 0 : tensorBytes(cast<RankedTensorType>(argument.getType())));
  for (Operation *op : forwardOps)
    for (Value result : op->getResults()) {
      addValue(result, !isCheap(op), tensorBytes(cast<RankedTensorType>(result.getType())));
      if (isCheap(op))
        for (Value operand : op->getOperands())
          network.addEdge(nodes[operand].second, nodes[result].first, FlowNetwork::kInfinite);
    }
  for (Value value : values)
    if (llvm::any_of(value.getUsers(),
                     [&](Operation *user) {
                       return !isForward.contains(user) && user != block().getTerminator();
                     }) ||
        llvm::is_contained(gradients, value))
      network.addEdge(nodes[value].second, FlowNetwork::kSink, FlowNetwork::kInfinite);
  // Of equally many bytes the latest: what follows cheaply need not be repeated. Policies speak of
  // what is expensive.
  std::vector<bool> side = network.minimumCut(
      checkpoint == Checkpoint::None ? FlowNetwork::Tie::NearSink : FlowNetwork::Tie::NearSource);
  for (Value value : values)
    if (side[nodes[value].first] && !side[nodes[value].second] && !isa<BlockArgument>(value))
      kept.push_back(value);
}

/// The seeds' policies (reference/semantics.md §6.2): selective alternates among matrix products,
/// the first is kept, and keeps all else that is expensive.
void Splitter::applyPolicy() {
  if (checkpoint == Checkpoint::None)
    return;
  SmallVector<Value> rest;
  unsigned products = 0;
  for (Value value : kept) {
    Operation *op = value.getDefiningOp();
    bool isProduct = isa<graph::EinsumOp, graph::ScaledEinsumOp, graph::GroupedMatmulOp>(op);
    // Routing is decided once: ties may fall otherwise the second time.
    bool isRouting = isa<graph::TopKOp, graph::ArgReduceOp>(op) ||
                     !isDifferentiable(value.getType()) ||
                     op->getAttrOfType<StringAttr>(graph::GraphDialect::kRoleAttr) ==
                         StringAttr::get(op->getContext(), "router");
    bool again = checkpoint == Checkpoint::Full
                     ? !isRouting
                     : !isRouting && (isProduct ? products++ % 2 == 1 : isCheap(op));
    (again ? recomputed : rest).push_back(value);
  }
  kept = rest;
}

func::FuncOp Splitter::makeFunction(StringRef name, SymbolTable &symbols) {
  OpBuilder builder(layer.getContext());
  auto function =
      func::FuncOp::create(builder, layer.getLoc(), name, builder.getFunctionType({}, {}));
  function.setPrivate();
  if (Attribute list = layer->getAttr(graph::GraphDialect::kLayerAttr))
    function->setAttr(graph::GraphDialect::kLayerAttr, list);
  symbols.insert(function, std::next(layer->getIterator()));
  function.getBody().emplaceBlock();
  return function;
}

/// The ops that make `value` out of arguments and kept values, in `ops`; those in `leaves`.
void Splitter::require(Value value, llvm::SetVector<Operation *> &ops,
                       llvm::SetVector<Value> &leaves) {
  if (isa<BlockArgument>(value) || llvm::is_contained(kept, value) || leaves.contains(value)) {
    leaves.insert(value);
    return;
  }
  Operation *op = value.getDefiningOp();
  if (!ops.insert(op))
    return;
  for (Value operand : op->getOperands())
    require(operand, ops, leaves);
}

void Splitter::cloneCone(ArrayRef<Value> wanted, func::FuncOp into, IRMapping &map,
                         SmallVectorImpl<Source> &sources) {
  llvm::SetVector<Operation *> ops;
  llvm::SetVector<Value> leaves;
  // What `recompute` makes is a leaf of the backward part.
  if (llvm::all_of(wanted, [&](Value value) { return !llvm::is_contained(recomputed, value); }))
    leaves.insert_range(recomputed);
  size_t given = leaves.size();
  for (Value value : wanted)
    require(value, ops, leaves);
  Block &body = into.getBody().front();
  auto add = [&](Value value, Source source) {
    sources.push_back(source);
    map.map(value, body.addArgument(value.getType(), value.getLoc()));
  };
  for (BlockArgument argument : block().getArguments())
    if (leaves.contains(argument)) {
      unsigned n = argument.getArgNumber();
      bool isOwn = n < layer.getNumArguments();
      add(argument, isOwn ? Source{Source::Argument, n}
                          : Source{Source::Cotangent, cotangentOf[n - layer.getNumArguments()]});
    }
  for (auto [i, value] : llvm::enumerate(kept))
    if (leaves.contains(value))
      add(value, {Source::Kept, static_cast<unsigned>(i)});
  auto isUsed = [&](Value value) {
    return llvm::any_of(value.getUsers(), [&](Operation *user) { return ops.contains(user); }) ||
           llvm::is_contained(wanted, value);
  };
  for (auto [i, value] : llvm::enumerate(recomputed))
    if (given && isUsed(value))
      add(value, {Source::Recomputed, static_cast<unsigned>(i)});
  OpBuilder builder = OpBuilder::atBlockEnd(&body);
  for (Operation &op : block().without_terminator())
    if (ops.contains(&op))
      builder.clone(op, map);
}

void Splitter::finish(func::FuncOp function, ArrayRef<Source> sources, ArrayRef<Value> results,
                      const IRMapping &map) {
  OpBuilder builder = OpBuilder::atBlockEnd(&function.getBody().front());
  SmallVector<Value> values;
  for (Value value : results)
    values.push_back(map.lookup(value));
  func::ReturnOp::create(builder, layer.getLoc(), values);
  function.setFunctionType(builder.getFunctionType(function.getBody().front().getArgumentTypes(),
                                                   ValueRange(values).getTypes()));
  // An argument of the layer is what it was: a weight, of this sharding.
  for (auto [i, source] : llvm::enumerate(sources))
    if (source.kind == Source::Argument)
      for (StringRef name : {StringRef(graph::GraphDialect::kParameterAttr),
                             StringRef(shard::ShardDialect::kShardingAttr)})
        if (Attribute attr = layer.getArgAttr(source.index, name))
          function.setArgAttr(i, name, attr);
}

LayerSplit Splitter::build(SymbolTable &symbols) {
  LayerSplit split;
  split.results = layer.getNumResults();
  split.gradientArguments = gradientArguments;
  std::string name = layer.getName().str();

  split.forward = layer.clone();
  split.forward.setName(name + "_forward");
  symbols.insert(split.forward, std::next(layer->getIterator()));
  {
    // Clones have the ops of the layer in its order, the joint function's begin likewise.
    IRMapping map;
    Block &body = split.forward.getBody().front();
    for (auto [from, to] : llvm::zip(forwardOps, body.without_terminator()))
      map.map(from->getResults(), to.getResults());
    SmallVector<Value> results(body.getTerminator()->getOperands());
    for (Value value : kept)
      results.push_back(map.lookup(value));
    body.getTerminator()->setOperands(results);
    split.forward.setFunctionType(FunctionType::get(layer.getContext(), layer.getArgumentTypes(),
                                                    ValueRange(results).getTypes()));
  }
  if (!recomputed.empty()) {
    split.recompute = makeFunction(name + "_recompute", symbols);
    IRMapping map;
    cloneCone(recomputed, split.recompute, map, split.recomputeSources);
    finish(split.recompute, split.recomputeSources, recomputed, map);
  }
  split.backward = makeFunction(name + "_backward", symbols);
  IRMapping map;
  cloneCone(gradients, split.backward, map, split.backwardSources);
  finish(split.backward, split.backwardSources, gradients, map);
  return split;
}

FailureOr<LayerSplit> splitLayer(func::FuncOp layer, ArrayRef<bool> active, ArrayRef<bool> seeded,
                                 Checkpoint checkpoint, SymbolTable &symbols) {
  Splitter splitter(layer, checkpoint);
  if (failed(splitter.buildJoint(active, seeded)))
    return failure();
  splitter.cut();
  splitter.applyPolicy();
  return splitter.build(symbols);
}

} // namespace shardc
