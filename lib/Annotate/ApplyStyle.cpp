//===- ApplyStyle.cpp - Styles to shardings and constraints ---------------===//
//
// A style decides one dimension of the weight (by what the dimension does, not by its position, so
// that [in, out] Conv1D weights and stacked experts are right) and constraints on the activations
// around it. All else is propagated.
//
//===----------------------------------------------------------------------===//

#include "ApplyStyle.h"
#include "ExpertDispatch.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/ADT/MapVector.h"

#include <numeric>

using namespace mlir;

namespace shardc {

/// Dimension of the parameter that a style cuts, if any.
static std::optional<int64_t> styleDim(Style style, graph::ParameterOp parameter,
                                       const ParameterUse &use) {
  int64_t rank = parameter.getType().getRank();
  auto gathered = use.find(DimRole::Gathered);
  bool isEmbedding = gathered && rank == 2;
  switch (style) {
  case Style::Colwise:
  case Style::ColwiseGatherOutput:
  case Style::PackedColwise:
  case Style::LocalParams:
    if (auto out = use.find(DimRole::Out))
      return out;
    if (isEmbedding)
      return 1 - *gathered;
    // A bias, or a vector parameter of a cut module.
    return rank == 1 ? std::optional<int64_t>(0) : std::nullopt;
  case Style::Rowwise:
  case Style::RowwiseSplitInput:
  case Style::PackedRowwise:
    if (auto in = use.find(DimRole::In))
      return in;
    return isEmbedding ? gathered : std::nullopt;
  case Style::EmbeddingRowwise:
    if (isEmbedding)
      return gathered;
    return use.find(DimRole::Out); // the tied head: its features are the vocabulary
  case Style::EmbeddingColwise:
    return isEmbedding ? std::optional<int64_t>(1 - *gathered) : use.find(DimRole::In);
  default:
    return std::nullopt;
  }
}

FailureOr<int64_t> StyleApplier::ways(graph::ParameterOp parameter, const ParameterUse &use,
                                      int64_t dim, const PlanEntry &entry) {
  int64_t t = tpSize();
  std::optional<int64_t> blocks;
  if (use.roles[dim] == DimRole::Out) {
    auto rule = cast<graph::ShardingRuleOpInterface>(use.op()).getShardingRule();
    const std::vector<int> &mine = rule.operands[use.operand->getOperandNumber()][use.dims[dim]];
    for (auto [d, factors] : llvm::enumerate(rule.results[0]))
      if (factors == mine)
        blocks = findBlocks(use.op()->getResult(0), static_cast<int64_t>(d), /*forward=*/true);
  } else if (use.roles[dim] == DimRole::In && isa<graph::EinsumOp>(use.op())) {
    auto rule = cast<graph::ShardingRuleOpInterface>(use.op()).getShardingRule();
    unsigned mine = use.operand->getOperandNumber(), other = 1 - mine;
    for (auto [d, factors] : llvm::enumerate(rule.operands[other]))
      if (factors == rule.operands[mine][use.dims[dim]])
        blocks =
            findBlocks(use.op()->getOperand(other), static_cast<int64_t>(d), /*forward=*/false);
  } else if (use.roles[dim] == DimRole::Vector) {
    blocks = findBlocks(use.op()->getResult(0),
                        cast<RankedTensorType>(use.op()->getResult(0).getType()).getRank() - 1,
                        /*forward=*/true);
  }
  if (!blocks || *blocks % t == 0)
    return t;
  // Fewer key/value heads than devices: groups of devices share one (sub-axes). Where every device
  // has query heads of its own: what reads all heads' results, and queries themselves, have as
  // many.
  auto role = use.op()->getAttrOfType<StringAttr>("graph.role");
  bool isQuery = use.roles[dim] == DimRole::In ||
                 (role && (role.getValue() == "q_proj" || role.getValue() == "qkv_proj"));
  if (t % *blocks == 0 && !isQuery)
    return *blocks;
  return parameter.emitError() << "\"" << parameter.getName() << "\": " << *blocks
                               << " heads are not divisible by tp = " << t << " (" << entry.origin
                               << ": \"" << entry.pattern << "\")";
}

LogicalResult StyleApplier::shardDim(graph::ParameterOp parameter, const ParameterUse &use,
                                     int64_t dim, const PlanEntry &entry) {
  FailureOr<int64_t> count = ways(parameter, use, dim, entry);
  if (failed(count))
    return failure();
  Sharding sharding = Sharding::replicated(parameter.getType().getRank());
  if (*count > 1)
    sharding.dims[dim].axes = {AxisRef{tpAxis, 1, *count}};
  shard::setSharding(parameter.getResult(), shard::ShardingAttr::get(meshSymbol(), mesh, sharding));
  return success();
}

/// Along the dimension that is one matrix (or bias) for each expert.
LogicalResult StyleApplier::shardExperts(graph::ParameterOp parameter, ArrayRef<ParameterUse> uses,
                                         const PlanEntry &entry) {
  std::optional<int64_t> dim;
  for (const ParameterUse &use : uses) {
    if (!dim)
      dim = use.find(DimRole::Expert);
    if (!dim)
      dim = use.find(DimRole::Gathered);
    if (isa<graph::GroupedMatmulOp>(use.op()))
      cutExperts.insert(use.op());
    hasExperts = true;
  }
  auto error = [&]() { return parameter.emitError() << "\"" << parameter.getName() << "\": "; };
  if (!dim)
    return error() << "no dimension is one of experts (" << entry.origin << ": \"" << entry.pattern
                   << "\")";
  if (int64_t count = parameter.getType().getDimSize(*dim), ep = axesSize(experts); count % ep)
    return error() << count << " experts are not divisible by ep = " << ep << " (" << entry.origin
                   << ": \"" << entry.pattern << "\")";
  Sharding sharding = Sharding::replicated(parameter.getType().getRank());
  sharding.dims[*dim].axes = experts;
  shard::setSharding(parameter.getResult(), shard::ShardingAttr::get(meshSymbol(), mesh, sharding));
  return success();
}

size_t StyleApplier::dispatch(func::FuncOp function, const PlanEntry &entry) {
  auto isNamed = [&](Operation *op) {
    if (auto role = op->getAttrOfType<StringAttr>(graph::GraphDialect::kRoleAttr);
        role && StringRef(entry.pattern).starts_with("role:"))
      return role.getValue().starts_with(StringRef(entry.pattern).drop_front(strlen("role:")));
    auto path = op->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr);
    return path && speaksOf(entry.pattern, path.getValue());
  };
  llvm::MapVector<Value, SmallVector<graph::GroupedMatmulOp>>
      products; // of a module: those with the same choice of experts
  size_t count = 0;
  for (auto product : function.getBody().getOps<graph::GroupedMatmulOp>())
    if (isNamed(product) && (experts.empty() || cutExperts.contains(product))) {
      products[product.getGroups()].push_back(product);
      ++count;
    }
  if (experts.empty())
    return count; // all are here
  for (auto &[groups, list] : products) {
    for (graph::GroupedMatmulOp product : list)
      cutExperts.erase(product);
    dispatchExperts(list, axesSize(experts));
  }
  return count;
}

LogicalResult StyleApplier::apply(graph::ParameterOp parameter, const PlanEntry &entry) {
  SmallVector<ParameterUse> uses = findUses(parameter);
  if (entry.style == Style::GroupedGemm)
    return experts.empty() ? success() : shardExperts(parameter, uses, entry);
  if (tpSize() == 1)
    return success();
  // The use that the style speaks of decides the dimension.
  const ParameterUse *decisive = nullptr;
  for (const ParameterUse &use : uses)
    if (!decisive && styleDim(entry.style, parameter, use))
      decisive = &use;
  if (decisive) {
    if (failed(shardDim(parameter, *decisive, *styleDim(entry.style, parameter, *decisive), entry)))
      return failure();
  } else {
    Sharding whole = Sharding::replicated(parameter.getType().getRank());
    shard::setSharding(parameter.getResult(), shard::ShardingAttr::get(meshSymbol(), mesh, whole));
  }
  for (const ParameterUse &use : uses)
    constrainActivations(parameter, use, entry);
  return success();
}

Value StyleApplier::constrain(Value value, ArrayRef<int> dims, StringRef origin) {
  Sharding sharding;
  for (int dim : dims) {
    DimSharding &out = sharding.dims.emplace_back();
    out.open = dim < 0;
    if (dim == 1)
      out.axes = {wholeAxis(mesh, tpAxis)};
  }
  auto attr = shard::ShardingAttr::get(meshSymbol(), mesh, sharding);
  // One constraint for all that ask for the same.
  for (Operation *user : value.getUsers())
    if (auto existing = dyn_cast<shard::ConstraintOp>(user);
        existing && existing.getSharding() == attr)
      return existing.getResult();
  OpBuilder b(value.getContext());
  b.setInsertionPointAfterValue(value);
  auto op = shard::ConstraintOp::create(b, value.getLoc(), value, attr);
  op->setAttr(shard::ShardDialect::kOriginAttr, b.getStringAttr(origin));
  if (Operation *producer = value.getDefiningOp())
    if (Attribute path = producer->getAttr(graph::GraphDialect::kPathAttr))
      op->setAttr(graph::GraphDialect::kPathAttr, path);
  return op.getResult();
}

/// [batch..., sequence, features]: features whole, the sequence cut or whole, the rest open.
void StyleApplier::constrainSequence(Value value, bool cut, StringRef origin) {
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  if (rank < 3)
    return; // [batch * sequence, features]: the sequence is not a dimension here
  SmallVector<int> dims(rank, -1);
  dims[rank - 2] = cut;
  dims[rank - 1] = 0;
  SmallPtrSet<Operation *, 4> before(value.getUsers().begin(), value.getUsers().end());
  Value constrained = constrain(value, dims, origin);
  value.replaceUsesWithIf(
      constrained, [&](OpOperand &use) { return !isa<shard::ConstraintOp>(use.getOwner()); });
}

void StyleApplier::constrainActivations(graph::ParameterOp parameter, const ParameterUse &use,
                                        const PlanEntry &entry) {
  Operation *op = use.op();
  std::string origin = styleName(entry.style).str() + " of \"" + parameter.getName().str() +
                       "\" (" + entry.origin + ": \"" + entry.pattern + "\")";
  bool isLinear = isa<graph::EinsumOp>(op), isEmbedding = isa<graph::GatherOp>(op);
  switch (entry.style) {
  case Style::ColwiseGatherOutput:
    if (isLinear) {
      Value output = linearOutput(op);
      SmallVector<int> dims(cast<RankedTensorType>(output.getType()).getRank(), -1);
      dims.back() = 0;
      Value constrained = constrain(output, dims, origin);
      output.replaceAllUsesExcept(constrained, constrained.getDefiningOp());
    }
    [[fallthrough]];
  case Style::Colwise:
  case Style::PackedColwise:
    // Gathered once for all the projections that read it.
    if (sequenceParallel && isLinear) {
      OpOperand &input = op->getOpOperand(1 - use.operand->getOperandNumber());
      int64_t rank = cast<RankedTensorType>(input.get().getType()).getRank();
      if (rank >= 3) {
        SmallVector<int> dims(rank, -1);
        dims[rank - 2] = dims[rank - 1] = 0;
        input.set(constrain(input.get(), dims, origin));
      }
    }
    return;
  case Style::Rowwise:
  case Style::RowwiseSplitInput:
  case Style::PackedRowwise:
  case Style::EmbeddingRowwise:
    if (sequenceParallel && (isLinear || isEmbedding) &&
        (use.find(DimRole::In) || use.find(DimRole::Gathered)))
      constrainSequence(op->getResult(0), /*cut=*/true, origin);
    return;
  case Style::SequenceParallel:
    constrainSequence(op->getResult(0), /*cut=*/true, origin);
    return;
  default:
    return;
  }
}

void StyleApplier::reduceOutputs(func::FuncOp function, StringRef modulePath,
                                 const PlanEntry &entry) {
  auto isInside = [&](Operation *op) {
    auto path = op->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr);
    return path &&
           (path.getValue() == modulePath || path.getValue().starts_with(modulePath.str() + "."));
  };
  SmallVector<Value> outputs;
  for (Operation &op : function.getBody().front())
    if (isInside(&op) && !isa<graph::ParameterOp, graph::ConstantOp>(op))
      for (Value result : op.getResults())
        if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !isInside(user); }))
          outputs.push_back(result);
  for (Value output : outputs) {
    SmallVector<int> open(cast<RankedTensorType>(output.getType()).getRank(), -1);
    if (!open.empty())
      open.back() = 0;
    Value constrained =
        constrain(output, open, styleName(entry.style).str() + " of " + modulePath.str());
    output.replaceAllUsesExcept(constrained, constrained.getDefiningOp());
  }
}

} // namespace shardc
