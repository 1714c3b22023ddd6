//===- ShardDialect.cpp - Registration, and where shardings are kept ------===//

#include "dialects/Shard/Shard.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::shard;

#include "dialects/Shard/ShardDialect.cpp.inc"
#include "dialects/Shard/ShardEnums.cpp.inc"
#include "dialects/Shard/ShardInterfaces.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Shard/ShardAttrs.cpp.inc"

void ShardDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Shard/ShardAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Shard/ShardOps.cpp.inc"
      >();
}

MeshOp shard::lookupMesh(Operation *from, FlatSymbolRefAttr symbol) {
  return SymbolTable::lookupNearestSymbolFrom<MeshOp>(from, symbol);
}

MeshOp shard::getOnlyMesh(ModuleOp module) {
  auto meshes = module.getOps<MeshOp>();
  if (meshes.empty() || std::next(meshes.begin()) != meshes.end())
    return {};
  return *meshes.begin();
}

MeshOp shard::requireOnlyMesh(ModuleOp module) {
  MeshOp mesh = getOnlyMesh(module);
  if (!mesh)
    module.emitError() << "module has " << llvm::range_size(module.getOps<MeshOp>())
                       << " meshes, expected one shard.mesh";
  return mesh;
}

MeshCosts shard::getMeshCosts(MeshOp mesh) {
  MeshCosts costs = MeshCosts::uniform(mesh.getMesh());
  for (size_t axis = 0; axis < costs.axes.size(); ++axis) {
    if (mesh.getBandwidth())
      costs.axes[axis].gigabytesPerSecond = (*mesh.getBandwidth())[axis];
    if (mesh.getLatency())
      costs.axes[axis].latencyMicros = (*mesh.getLatency())[axis];
  }
  return costs;
}

ShardingAttr shard::getSharding(Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
    return function ? function.getArgAttrOfType<ShardingAttr>(argument.getArgNumber(),
                                                              ShardDialect::kShardingAttr)
                    : ShardingAttr();
  }
  auto result = cast<OpResult>(value);
  auto array = result.getOwner()->getAttrOfType<ArrayAttr>(ShardDialect::kShardingsAttr);
  if (!array || array.size() != result.getOwner()->getNumResults())
    return {};
  return dyn_cast<ShardingAttr>(array[result.getResultNumber()]);
}

void shard::setSharding(Value value, ShardingAttr sharding) {
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    cast<func::FuncOp>(argument.getOwner()->getParentOp())
        .setArgAttr(argument.getArgNumber(), ShardDialect::kShardingAttr, sharding);
    return;
  }
  auto result = cast<OpResult>(value);
  Operation *op = result.getOwner();
  SmallVector<Attribute> all(op->getNumResults(), UnitAttr::get(op->getContext()));
  if (auto array = op->getAttrOfType<ArrayAttr>(ShardDialect::kShardingsAttr))
    if (array.size() == all.size())
      all.assign(array.begin(), array.end());
  all[result.getResultNumber()] = sharding;
  op->setAttr(ShardDialect::kShardingsAttr, ArrayAttr::get(op->getContext(), all));
}
