//===- Resharder.cpp - From a planned route to collectives ----------------===//
//
// Input:  a local value, its global type, the sharding that it has and the one that it shall have.
// Output: the collectives of the planned route, one op a step. Each carries `shard.origin`: the op
// that asked,
//         from and to which sharding, bytes that a device sends, and the estimated time.
//
//===----------------------------------------------------------------------===//

#include "Resharder.h"

#include "dialects/Graph/Graph.h"

using namespace mlir;
using namespace shardc;

RankedTensorType shardc::localType(const Sharding &sharding, RankedTensorType global) {
  Shape shape = localShape(sharding, Shape(global.getShape().begin(), global.getShape().end()));
  return global.clone(ArrayRef<int64_t>(shape));
}

Operation *Resharder::emitStep(OpBuilder &b, Location loc, Value input, RankedTensorType global,
                               const ReshardStep &step) {
  auto inputType = cast<RankedTensorType>(input.getType());
  RankedTensorType type = localType(step.result, global);
  ArrayAttr axes = shard::axesAttr(b.getContext(), getMesh(), step.axes);
  StringRef mesh = symbol.getValue();
  auto kind = shard::fromReduceKind(step.reduce);
  switch (step.kind) {
  case StepKind::AllGather:
    return shard::AllGatherOp::create(b, loc, type, input, mesh, axes, step.concatDim);
  case StepKind::AllReduce:
    return shard::AllReduceOp::create(b, loc, type, input, mesh, axes, kind);
  case StepKind::ReduceScatter:
    return shard::ReduceScatterOp::create(b, loc, type, input, mesh, axes, kind, step.splitDim);
  case StepKind::Slice:
    return shard::SliceOp::create(b, loc, type, input, mesh, axes, step.splitDim);
  case StepKind::AllToAll:
    return shard::AllToAllOp::create(b, loc, type, input, mesh, axes, step.splitDim, step.concatDim,
                                     inputType.getDimSize(step.splitDim),
                                     type.getDimSize(step.concatDim));
  case StepKind::Permute: {
    SmallVector<int64_t> pairs;
    for (auto [from, to] : step.pairs)
      pairs.append({from, to});
    return shard::PermuteOp::create(b, loc, type, input, mesh, axes, pairs);
  }
  }
  return nullptr;
}

/// Everything that `shardc explain` says about a collective.
static DictionaryAttr originOf(OpBuilder &b, const Mesh &mesh, const ReshardReason &reason,
                               const Sharding &from, const Sharding &to, const ReshardStep &step) {
  NamedAttrList origin;
  std::string what = reason.what + " of " + reason.op->getName().getStringRef().str();
  origin.set("for", b.getStringAttr(what));
  if (auto path = reason.op->getAttrOfType<StringAttr>(graph::GraphDialect::kPathAttr))
    origin.set("path", path);
  if (auto asked = reason.op->getAttrOfType<StringAttr>(shard::ShardDialect::kOriginAttr))
    origin.set("asked", asked);
  if (!reason.choice.empty())
    origin.set("choice", b.getStringAttr(reason.choice));
  origin.set("from", b.getStringAttr(str(mesh, from)));
  origin.set("to", b.getStringAttr(str(mesh, to)));
  origin.set("bytes", b.getI64IntegerAttr(step.bytes));
  origin.set("micros", b.getF64FloatAttr(step.micros));
  return origin.getDictionary(b.getContext());
}

FailureOr<Value> Resharder::reshard(OpBuilder &b, Value local, RankedTensorType global,
                                    const Sharding &from, const Sharding &to,
                                    const ReshardReason &reason) {
  Shape shape(global.getShape().begin(), global.getShape().end());
  const Result<ReshardPlan> &plan =
      planner.plan(shape, elementBytes(global.getElementType()), from, to);
  if (!plan)
    return reason.op->emitOpError() << reason.what << " cannot go from " << str(getMesh(), from)
                                    << " to " << str(getMesh(), to) << ": " << plan.error;
  for (const ReshardStep &step : plan->steps) {
    Operation *op = emitStep(b, reason.op->getLoc(), local, global, step);
    op->setAttr(shard::ShardDialect::kOriginAttr, originOf(b, getMesh(), reason, from, to, step));
    local = op->getResult(0);
  }
  return local;
}
