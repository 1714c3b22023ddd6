//===- Entry.cpp - What an entry function takes and gives, in the global view -===//
//
// Before Partition types are global. After it the attributes graph.global_type and shard.sharding
// of arguments and results say what the local types are parts of.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/Graph.h"
#include "shardc/Interpret/Interpreter.h"
#include "shardc/Interpret/Shards.h"

using namespace mlir;
using namespace shardc;
using graph::GraphDialect;
using shard::ShardDialect;

bool shardc::isPartitioned(ModuleOp module) {
  if (module->hasAttr(ShardDialect::kPartitionedAttr))
    return true;
  // A program written by hand need not say so.
  WalkResult found = module.walk([](shard::MeshEvaluateOpInterface op) {
    bool isGlobal = isa<shard::ConstraintOp, shard::ReshardOp>(*op);
    return isGlobal ? WalkResult::advance() : WalkResult::interrupt();
  });
  return found.wasInterrupted();
}

/// Type of the whole of which `local` is a part.
static RankedTensorType globalType(RankedTensorType local, const Sharding &sharding,
                                   TypeAttr given) {
  if (given)
    if (auto type = dyn_cast<RankedTensorType>(given.getValue()))
      return type;
  SmallVector<int64_t> shape(local.getShape());
  for (size_t d = 0; d < std::min(shape.size(), sharding.dims.size()); ++d)
    shape[d] *= shardCount(sharding, d);
  return local.clone(shape);
}

/// Fills in global type and sharding of an argument or result of a partitioned entry.
static LogicalResult describePlacement(func::FuncOp function, const Mesh &mesh,
                                       DictionaryAttr attrs, InterfaceValue &value) {
  auto attr =
      attrs ? attrs.getAs<shard::ShardingAttr>(ShardDialect::kShardingAttr) : shard::ShardingAttr();
  if (!attr)
    return success();
  Result<Sharding> sharding = attr.resolve(mesh);
  if (!sharding)
    return emitError(function.getLoc()) << "\"" << value.name << "\": " << sharding.error;
  RankedTensorType local = value.type;
  value.type = globalType(local, *sharding, attrs.getAs<TypeAttr>(GraphDialect::kGlobalTypeAttr));
  ArrayRef<int64_t> shape = value.type.getShape();
  if (Error error = verify(mesh, *sharding, Shape(shape.begin(), shape.end())))
    return emitError(function.getLoc()) << "\"" << value.name << "\": " << *error;
  if (shardType(value.type, *sharding) != local)
    return emitError(function.getLoc())
           << "\"" << value.name << "\" has type " << local << ", expected the part "
           << shardType(value.type, *sharding) << " of " << value.type;
  value.sharding = *sharding;
  return success();
}

static LogicalResult describeValue(func::FuncOp function, const Mesh &mesh, Type type,
                                   DictionaryAttr attrs, InterfaceValue &value, bool isLocal) {
  // A training step's states and gradients go by the names of what they belong to.
  for (StringRef attr : {StringRef(GraphDialect::kNameAttr), StringRef(ShardDialect::kStateAttr),
                         StringRef(GraphDialect::kGradientAttr)})
    if (auto name = attrs ? attrs.getAs<StringAttr>(attr) : StringAttr()) {
      value.name = name.str();
      break;
    }
  value.type = dyn_cast<RankedTensorType>(type);
  if (!value.type || !value.type.hasStaticShape())
    return emitError(function.getLoc())
           << "\"" << value.name << "\" has type " << type << ", expected a static tensor";
  return isLocal ? describePlacement(function, mesh, attrs, value) : success();
}

/// The function of that name; without one, @main or else the only public function.
static func::FuncOp findEntry(ModuleOp module, StringRef name) {
  if (!name.empty())
    return module.lookupSymbol<func::FuncOp>(name);
  if (auto main = module.lookupSymbol<func::FuncOp>("main"))
    return main;
  func::FuncOp only;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (!function.isPublic())
      continue;
    if (only)
      return {};
    only = function;
  }
  return only;
}

FailureOr<EntryInterface> shardc::describeEntry(ModuleOp module, StringRef entry) {
  EntryInterface result;
  func::FuncOp function = result.function = findEntry(module, entry);
  if (!function || function.isExternal())
    return emitError(module.getLoc())
           << "module has no function @" << (entry.empty() ? "main" : entry) << " with a body";
  bool isLocal = isPartitioned(module);
  if (isLocal) {
    shard::MeshOp mesh = shard::getOnlyMesh(module);
    if (!mesh)
      return emitError(module.getLoc()) << "a partitioned module needs exactly one mesh";
    result.mesh = mesh.getMesh();
  }
  for (auto [n, type] : llvm::enumerate(function.getArgumentTypes())) {
    InterfaceValue &value = result.inputs.emplace_back();
    value.name = "arg" + std::to_string(n);
    if (failed(
            describeValue(function, result.mesh, type, function.getArgAttrDict(n), value, isLocal)))
      return failure();
  }
  for (auto [n, type] : llvm::enumerate(function.getResultTypes())) {
    InterfaceValue &value = result.outputs.emplace_back();
    value.name = "result" + std::to_string(n);
    if (failed(describeValue(function, result.mesh, type, function.getResultAttrDict(n), value,
                             isLocal)))
      return failure();
  }
  return result;
}
