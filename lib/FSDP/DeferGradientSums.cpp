//===- DeferGradientSums.cpp - Gradients stay pending over the data-parallel axes -===//
//
// Input:  a differentiated module with a sharding on every value. Output: the same; gradient
// results of the entry have their weight's
//         sharding, pending over the data-parallel axes, and so has every value between them and
//         the op that sums over the batch.
//
// From each gradient backwards: where an op reduces over a factor that is cut along such an axis,
// its result may pend over it; a linear op's may if all its operands may; a call's if its callee's
// result may. What no op leaves pending is reduced by Partition where it arises, and the gradient
// is then equal on those ranks: FSDP counts it once.
//
// A weight that is cut over a part of the data-parallel axes (experts) has seen the tokens of all
// ranks along it; its gradient pends over the rest.
//
// The same over the other axes where cotangents are added: those of q, k and v in front of them are
// terms of one sum over tp, which is reduced once, behind the additions (as in Megatron-LM, where
// the products are one).
//
//===----------------------------------------------------------------------===//

#include "shardc/FSDP/Passes.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Sharding/FactorSharding.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_DEFERGRADIENTSUMSPASS
#include "lib/FSDP/Passes.h.inc"

namespace {

class GradientSums {
public:
  /// Over the data-parallel axes, or over the others.
  GradientSums(ModuleOp module, shard::MeshOp meshOp, bool isData)
      : symbols(module), mesh(meshOp.getMesh()),
        symbol(FlatSymbolRefAttr::get(meshOp.getSymNameAttr())) {
    for (auto [n, axis] : llvm::enumerate(mesh.axes))
      if (StringRef(axis.name).starts_with("dp") == isData)
        data.push_back(wholeAxis(mesh, static_cast<int>(n)));
  }
  /// Splits the axes where weights of the entry are cut over parts of them.
  LogicalResult splitAxes(func::FuncOp entry);
  LogicalResult run(func::FuncOp entry);
  LogicalResult mergeAdditions(func::FuncOp function);

private:
  FailureOr<Sharding> shardingOf(Value value);
  FailureOr<AxisList> reduced(Operation *op);
  FailureOr<AxisList> pendable(Value value);
  FailureOr<AxisList> pendableTerms(Value value);
  LogicalResult leavePending(Value value, const AxisList &axes);
  void set(Value value, Sharding sharding) {
    shard::setSharding(value, shard::ShardingAttr::get(symbol, mesh, sharding));
  }

  /// The parts of `data` in `axes`.
  AxisList partsIn(const AxisList &axes) const {
    AxisList parts = refineBy(canonicalAxes(axes), data);
    llvm::erase_if(parts, [&](const AxisRef &axis) { return !llvm::is_contained(data, axis); });
    return parts;
  }

  SymbolTable symbols;
  Mesh mesh;
  FlatSymbolRefAttr symbol;
  AxisList data; ///< parts that stand or pend together
  DenseMap<Value, AxisList> known;
};

} // namespace

static Sharding pendingOver(Sharding sharding, const AxisList &axes) {
  sharding.partial.clear();
  for (const AxisRef &axis : axes)
    sharding.partial.push_back({ReduceKind::Sum, axis});
  return sharding;
}

FailureOr<Sharding> GradientSums::shardingOf(Value value) {
  shard::ShardingAttr attr = shard::getSharding(value);
  if (!attr)
    return Sharding::replicated(cast<RankedTensorType>(value.getType()).getRank());
  Result<Sharding> sharding = attr.resolve(mesh);
  if (!sharding)
    return emitError(value.getLoc()) << sharding.error;
  return *sharding;
}

/// Data-parallel axes along which `op` sums.
FailureOr<AxisList> GradientSums::reduced(Operation *op) {
  ShardingRule rule = cast<graph::ShardingRuleOpInterface>(op).getShardingRule();
  AxisList axes;
  for (auto [dims, operand] : llvm::zip(rule.operands, op->getOperands())) {
    FailureOr<Sharding> sharding = shardingOf(operand);
    if (failed(sharding))
      return failure();
    TensorFactors factors = projectToFactors(rule, dims, *sharding);
    for (auto [factor, entry] : llvm::zip(rule.factors, factors.factors))
      if (factor.kind == FactorKind::Reduction && factor.reduce == ReduceKind::Sum)
        for (const AxisRef &axis : partsIn(entry.axes))
          if (!llvm::is_contained(axes, axis))
            axes.push_back(axis);
  }
  return axes;
}

FailureOr<AxisList> GradientSums::pendable(Value value) {
  if (auto found = known.find(value); found != known.end())
    return found->second;
  Operation *op = value.getDefiningOp();
  AxisList axes;
  if (auto call = dyn_cast_or_null<func::CallOp>(op)) {
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    unsigned n = cast<OpResult>(value).getResultNumber();
    FailureOr<AxisList> inner = pendable(callee.getBody().front().getTerminator()->getOperand(n));
    if (failed(inner))
      return failure();
    axes = *inner;
  } else if (auto withRule = dyn_cast_or_null<graph::ShardingRuleOpInterface>(op);
             withRule && op->getNumResults() == 1) {
    FailureOr<AxisList> own = reduced(op);
    if (failed(own))
      return failure();
    axes = *own;
    // A pending sum passes only as a whole: the axes of all operands are the same, or it does not
    // pass.
    std::optional<AxisList> common;
    if (withRule.getShardingRule().linear)
      for (Value operand : op->getOperands()) {
        FailureOr<AxisList> inner = pendable(operand);
        if (failed(inner))
          return failure();
        if (!common)
          common = *inner;
        llvm::erase_if(*common,
                       [&](const AxisRef &axis) { return !llvm::is_contained(*inner, axis); });
      }
    for (const AxisRef &axis : common.value_or(AxisList()))
      if (!llvm::is_contained(axes, axis))
        axes.push_back(axis);
  }
  // What is cut along an axis is scattered along it where it is made.
  FailureOr<Sharding> sharding = shardingOf(value);
  if (failed(sharding))
    return failure();
  for (const DimSharding &dim : sharding->dims)
    llvm::erase_if(axes, [&](const AxisRef &axis) { return overlaps({axis}, dim.axes); });
  llvm::sort(axes);
  return known[value] = axes;
}

LogicalResult GradientSums::leavePending(Value value, const AxisList &axes) {
  FailureOr<Sharding> sharding = shardingOf(value);
  if (failed(sharding))
    return failure();
  if (axes.empty() || partsIn(sharding->partialAxes()) == axes)
    return success();
  set(value, pendingOver(*sharding, axes));
  Operation *op = value.getDefiningOp();
  if (auto call = dyn_cast<func::CallOp>(op)) {
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    unsigned n = cast<OpResult>(value).getResultNumber();
    Value inner = callee.getBody().front().getTerminator()->getOperand(n);
    if (failed(leavePending(inner, axes)))
      return failure();
    if (auto attr =
            callee.getResultAttrOfType<shard::ShardingAttr>(n, shard::ShardDialect::kShardingAttr))
      if (Result<Sharding> result = attr.resolve(mesh))
        callee.setResultAttr(n, shard::ShardDialect::kShardingAttr,
                             shard::ShardingAttr::get(symbol, mesh, pendingOver(*result, axes)));
    return success();
  }
  FailureOr<AxisList> own = reduced(op);
  if (failed(own))
    return failure();
  AxisList rest = axes;
  llvm::erase_if(rest, [&](const AxisRef &axis) { return llvm::is_contained(*own, axis); });
  for (Value operand : op->getOperands())
    if (failed(leavePending(operand, rest)))
      return failure();
  return success();
}

/// Axes over which `value`, a product or a sum of such that nobody else reads, may pend.
FailureOr<AxisList> GradientSums::pendableTerms(Value value) {
  Operation *op = value.getDefiningOp();
  if (!value.hasOneUse() ||
      !isa_and_nonnull<graph::EinsumOp, graph::ScaledEinsumOp, graph::AddOp>(op))
    return AxisList();
  if (isa<graph::EinsumOp, graph::ScaledEinsumOp>(op)) {
    FailureOr<AxisList> axes = reduced(op);
    FailureOr<Sharding> sharding = shardingOf(value);
    if (failed(axes) || failed(sharding))
      return failure();
    // A sum that is cut where it is made is scattered; it cannot pend over the axes that cut it.
    for (const DimSharding &dim : sharding->dims)
      if (overlaps(dim.axes, *axes))
        return AxisList();
    return axes;
  }
  FailureOr<AxisList> left = pendableTerms(op->getOperand(0)),
                      right = pendableTerms(op->getOperand(1));
  if (failed(left) || failed(right))
    return failure();
  return *left == *right ? *left : AxisList();
}

LogicalResult GradientSums::mergeAdditions(func::FuncOp function) {
  SmallVector<graph::AddOp> additions(function.getOps<graph::AddOp>());
  for (graph::AddOp add : llvm::reverse(additions)) {
    FailureOr<Sharding> sharding = shardingOf(add.getResult());
    if (failed(sharding))
      return failure();
    if (!sharding->partial.empty()) // pending already: a part of a larger sum
      continue;
    FailureOr<AxisList> left = pendableTerms(add.getLhs()), right = pendableTerms(add.getRhs());
    if (failed(left) || failed(right))
      return failure();
    if (left->empty() || *left != *right)
      continue;
    if (failed(leavePending(add.getLhs(), *left)) || failed(leavePending(add.getRhs(), *left)))
      return failure();
  }
  return success();
}

LogicalResult GradientSums::splitAxes(func::FuncOp entry) {
  AxisList used;
  for (auto parameter : entry.getBody().getOps<graph::ParameterOp>()) {
    FailureOr<Sharding> sharding = shardingOf(parameter.getResult());
    if (failed(sharding))
      return failure();
    for (const AxisRef &part : sharding->usedAxes())
      for (const AxisRef &axis : data) {
        if (!overlaps(part, axis))
          continue;
        if (mesh.axes[axis.axis].name == "dp_replicate")
          return parameter.emitOpError()
                 << "\"" << parameter.getName() << "\" is cut over \"" << str(mesh, part)
                 << "\", along which ranks have whole copies";
        used.push_back(part);
      }
  }
  data = refineBy(data, used);
  return success();
}

LogicalResult GradientSums::run(func::FuncOp entry) {
  if (failed(splitAxes(entry)))
    return failure();
  llvm::StringMap<shard::ShardingAttr> weights;
  auto key = [](Attribute name, Attribute segment) {
    std::string text;
    llvm::raw_string_ostream(text) << name << segment;
    return text;
  };
  for (auto parameter : entry.getBody().getOps<graph::ParameterOp>()) {
    FailureOr<Sharding> sharding = shardingOf(parameter.getResult());
    if (failed(sharding))
      return failure();
    weights[key(parameter.getNameAttr(), parameter.getSegmentAttr())] =
        shard::getSharding(parameter.getResult());
  }
  Operation *ret = entry.getBody().front().getTerminator();
  for (auto [n, value] : llvm::enumerate(ret->getOperands())) {
    Attribute name = entry.getResultAttr(n, graph::GraphDialect::kGradientAttr);
    if (!name)
      continue;
    FailureOr<AxisList> axes = pendable(value);
    if (failed(axes) || failed(leavePending(value, *axes)))
      return failure();
    Sharding sharding = Sharding::replicated(cast<RankedTensorType>(value.getType()).getRank());
    if (shard::ShardingAttr attr =
            weights[key(name, entry.getResultAttr(n, graph::GraphDialect::kSegmentAttr))])
      if (Result<Sharding> own = attr.resolve(mesh))
        sharding = *own;
    entry.setResultAttr(n, shard::ShardDialect::kShardingAttr,
                        shard::ShardingAttr::get(symbol, mesh, pendingOver(sharding, *axes)));
  }
  return success();
}

namespace {
struct DeferGradientSumsPass : impl::DeferGradientSumsPassBase<DeferGradientSumsPass> {
  using DeferGradientSumsPassBase::DeferGradientSumsPassBase;

  void runOnOperation() override {
    auto function = getOperation().lookupSymbol<func::FuncOp>(entry);
    shard::MeshOp mesh = shard::getOnlyMesh(getOperation());
    if (!function || !mesh) {
      getOperation().emitError() << "needs one shard.mesh and a function @" << entry;
      return signalPassFailure();
    }
    if (failed(GradientSums(getOperation(), mesh, /*isData=*/true).run(function)))
      return signalPassFailure();
    GradientSums others(getOperation(), mesh, /*isData=*/false);
    for (auto any : getOperation().getOps<func::FuncOp>())
      if (!any.isExternal() && failed(others.mergeAdditions(any)))
        return signalPassFailure();
  }
};
} // namespace
} // namespace shardc
