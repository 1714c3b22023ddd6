//===- VerifyPartitioned.cpp - Is a program what Partition promises? ------===//
//
// Input: a partitioned module. Errors: a local type that does not follow from global type and
// sharding, a call that passes other types or shardings than the callee takes, an op of the global
// view. (What a collective asks of its own types is in its verifier.)
//
//===----------------------------------------------------------------------===//

#include "shardc/Partition/Passes.h"

#include "Resharder.h"

#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace shardc;

namespace shardc {
#define GEN_PASS_DEF_SHARDVERIFYPARTITIONED
#include "lib/Partition/Passes.h.inc"
} // namespace shardc

/// Checks `local` against the global type, which is the local one where nothing is sharded.
static LogicalResult checkType(Operation *op, const Twine &what, Type local, TypeAttr global,
                               shard::ShardingAttr attr, const Mesh &mesh) {
  auto localTensor = dyn_cast<RankedTensorType>(local);
  if (!attr || !localTensor)
    return op->emitOpError() << what << " has no sharding";
  auto whole = global ? dyn_cast<RankedTensorType>(global.getValue()) : localTensor;
  if (!whole)
    return op->emitOpError() << what << " has global type " << global.getValue()
                             << ", expected a ranked tensor";
  Result<Sharding> sharding = attr.resolve(mesh);
  if (!sharding)
    return op->emitOpError() << what << ": " << sharding.error;
  if (Error error =
          verify(mesh, *sharding, Shape(whole.getShape().begin(), whole.getShape().end())))
    return op->emitOpError() << what << ": " << *error;
  if (localType(*sharding, whole) != localTensor)
    return op->emitOpError() << what << " has type " << localTensor << ", its sharding "
                             << str(mesh, *sharding) << " of " << whole << " asks for "
                             << localType(*sharding, whole);
  return success();
}

static LogicalResult checkFunction(func::FuncOp function, const Mesh &mesh) {
  StringRef typeName = graph::GraphDialect::kGlobalTypeAttr,
            shardingName = shard::ShardDialect::kShardingAttr;
  LogicalResult ok = success();
  for (unsigned i = 0; i < function.getNumArguments(); ++i)
    if (failed(checkType(function, "argument " + Twine(i), function.getArgumentTypes()[i],
                         function.getArgAttrOfType<TypeAttr>(i, typeName),
                         function.getArgAttrOfType<shard::ShardingAttr>(i, shardingName), mesh)))
      ok = failure();
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    if (failed(checkType(function, "result " + Twine(i), function.getResultTypes()[i],
                         function.getResultAttrOfType<TypeAttr>(i, typeName),
                         function.getResultAttrOfType<shard::ShardingAttr>(i, shardingName), mesh)))
      ok = failure();
  return ok;
}

static LogicalResult checkOp(Operation *op, const Mesh &mesh) {
  if (isa<shard::ConstraintOp, shard::ReshardOp>(op))
    return op->emitOpError() << "is left in a partitioned program";
  if (auto parameter = dyn_cast<graph::ParameterOp>(op))
    return checkType(op, "result 0", parameter.getType(),
                     op->getAttrOfType<TypeAttr>(graph::GraphDialect::kGlobalTypeAttr),
                     shard::getSharding(parameter.getResult()), mesh);
  return success();
}

LogicalResult shardc::verifyPartitioned(ModuleOp module) {
  shard::MeshOp meshOp = shard::getOnlyMesh(module);
  if (!meshOp)
    return module.emitError() << "partitioned module has not exactly one mesh";
  Mesh mesh = meshOp.getMesh();
  LogicalResult ok = success();
  module.walk([&](Operation *op) {
    auto function = dyn_cast<func::FuncOp>(op);
    if (failed(checkOp(op, mesh)) || (function && failed(checkFunction(function, mesh))))
      ok = failure();
  });
  return ok;
}

namespace {
struct ShardVerifyPartitioned : shardc::impl::ShardVerifyPartitionedBase<ShardVerifyPartitioned> {
  void runOnOperation() override {
    if (failed(verifyPartitioned(getOperation())))
      signalPassFailure();
  }
};
} // namespace
