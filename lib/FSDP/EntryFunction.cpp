//===- EntryFunction.cpp - A function that works on states ----------------===//

#include "EntryFunction.h"

using namespace mlir;

namespace shardc {

ShardLayout::ShardLayout(shard::MeshOp meshOp, bool isSharded, bool cutsReplicas)
    : meshOp(meshOp), mesh(meshOp.getMesh()),
      symbol(FlatSymbolRefAttr::get(meshOp.getSymNameAttr())), isSharded(isSharded),
      cutsReplicas(cutsReplicas) {
  for (auto [n, axis] : llvm::enumerate(mesh.axes))
    if (StringRef(axis.name).starts_with("dp") && axis.size > 1)
      (axis.name == "dp_replicate" ? replicate : shards)
          .push_back(wholeAxis(mesh, static_cast<int>(n)));
  this->isSharded &= !shards.empty();
  this->cutsReplicas &= !replicate.empty();
}

/// The parts of the replicas are parts of a shard: it is gathered over them alone.
AxisList ShardLayout::owned() const {
  AxisList axes = inner();
  if (cutsReplicas)
    llvm::append_range(axes, replicate);
  return axes;
}

NamedAttrList ShardLayout::wholeScalar() const {
  NamedAttrList attrs;
  attrs.append(shard::ShardDialect::kShardingAttr,
               shard::ShardingAttr::get(symbol, mesh, Sharding::replicated(0)));
  return attrs;
}

NamedAttrList ShardLayout::perRank(RankedTensorType flat) const {
  Sharding sharding = Sharding::replicated(1);
  for (size_t n = 0; n < mesh.axes.size(); ++n)
    if (mesh.axes[n].size > 1)
      sharding.dims[0].axes.push_back(wholeAxis(mesh, static_cast<int>(n)));
  NamedAttrList attrs;
  attrs.append(shard::ShardDialect::kShardingAttr,
               shard::ShardingAttr::get(symbol, mesh, sharding));
  attrs.append(
      graph::GraphDialect::kGlobalTypeAttr,
      TypeAttr::get(flat.clone({flat.getNumElements() * axesSize(sharding.dims[0].axes)})));
  return attrs;
}

EntryFunction::EntryFunction(func::FuncOp function, const ShardLayout &layout)
    : function(function), builder(function.getBody().front().getTerminator()),
      block(function.getBody().front()), layout(layout) {}

EntryFunction EntryFunction::create(StringRef name, func::FuncOp after, const ShardLayout &layout) {
  OpBuilder b(after.getContext());
  b.setInsertionPointAfter(after);
  auto function = func::FuncOp::create(b, after.getLoc(), name, b.getFunctionType({}, {}));
  b.setInsertionPointToEnd(function.addEntryBlock());
  func::ReturnOp::create(b, after.getLoc());
  return EntryFunction(function, layout);
}

Value EntryFunction::addArgument(RankedTensorType type, NamedAttrList attrs) {
  (void)function.insertArgument(function.getNumArguments(), type,
                                attrs.getDictionary(builder.getContext()), loc());
  return function.getArguments().back();
}

Value EntryFunction::scalar(StringRef name) {
  Value &argument = arguments[name];
  if (!argument) {
    NamedAttrList attrs = layout.wholeScalar();
    attrs.append(graph::GraphDialect::kNameAttr, builder.getStringAttr(name));
    argument = addArgument(RankedTensorType::get({}, builder.getF32Type()), attrs);
  }
  return argument;
}

Value EntryFunction::addState(StringRef name, StringRef role, RankedTensorType type,
                              FlatSymbolRefAttr bucket, const AxisList &cut,
                              const Sharding &sharding) {
  Value &argument = arguments[name];
  if (!argument) {
    auto symbolName = builder.getStringAttr(name);
    auto module = function->getParentOfType<ModuleOp>();
    if (!module.lookupSymbol(symbolName)) {
      Operation *at = layout.meshOp; // behind the buckets and states that are there
      while (isa_and_nonnull<shard::BucketOp, shard::StateOp>(at->getNextNode()))
        at = at->getNextNode();
      OpBuilder b(at->getContext());
      b.setInsertionPointAfter(at);
      shard::StateOp::create(b, loc(), symbolName, b.getStringAttr(role.split('/').first),
                             TypeAttr::get(type), bucket, layout.axes(cut));
    }
    NamedAttrList attrs;
    attrs.append(shard::ShardDialect::kStateAttr, symbolName);
    attrs.append(shard::ShardDialect::kShardingAttr,
                 shard::ShardingAttr::get(layout.symbol, layout.mesh, sharding));
    // For the interpreter a state is cut over the ranks that hold different parts of it.
    if (!sharding.isReplicated() && type.getRank() == 1)
      attrs.append(
          graph::GraphDialect::kGlobalTypeAttr,
          TypeAttr::get(RankedTensorType::get(
              {type.getNumElements() * axesSize(sharding.dims[0].axes)}, type.getElementType())));
    argument = addArgument(type, attrs);
  }
  auto update = updates.find(argument);
  return update == updates.end() ? argument : update->second;
}

Value EntryFunction::state(const Bucket &bucket, StringRef role, Type element, const AxisList &cut,
                           const AxisList &pending) {
  Sharding sharding = Sharding::replicated(1);
  sharding.dims[0].axes = bucket.cut;
  llvm::append_range(sharding.dims[0].axes, pending);
  llvm::append_range(sharding.dims[0].axes, cut);
  auto type = RankedTensorType::get({bucket.length / axesSize(cut)}, element);
  return addState((role + "/" + bucket.name).str(), role, type,
                  FlatSymbolRefAttr::get(builder.getContext(), bucket.name), cut, sharding);
}

Value EntryFunction::scalarState(StringRef name) {
  // Zeroed with the gradients and, like them, in no checkpoint, so that programs with and without
  // it exchange checkpoints.
  return addState(("gradient/" + name).str(), "gradient",
                  RankedTensorType::get({}, builder.getF32Type()), {}, {}, Sharding::replicated(0));
}

void EntryFunction::finish(StringRef name) {
  SmallVector<Value> results;
  SmallVector<DictionaryAttr> attrs;
  for (auto &[outputName, value] : outputs) {
    auto type = cast<RankedTensorType>(value.getType());
    NamedAttrList list = type.getRank() == 0 ? layout.wholeScalar() : layout.perRank(type);
    list.append(graph::GraphDialect::kNameAttr, builder.getStringAttr(outputName));
    results.push_back(value);
    attrs.push_back(list.getDictionary(builder.getContext()));
  }
  for (auto &[argument, value] : updates) {
    results.push_back(value);
    attrs.push_back(function.getArgAttrDict(cast<BlockArgument>(argument).getArgNumber()));
  }
  Operation *ret = block.getTerminator();
  ret->setOperands(results);
  function.setFunctionType(
      builder.getFunctionType(function.getArgumentTypes(), ValueRange(results).getTypes()));
  function.setAllResultAttrs(attrs);
  SymbolTable::setSymbolName(function, name);
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (&op != ret && op.use_empty() && isMemoryEffectFree(&op))
      op.erase();
}

} // namespace shardc
