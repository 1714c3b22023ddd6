//===- DevicePlan.cpp - A plan from an ONNX file's device configuration ---===//
//
// The file says for each tensor which shard each device has. The mesh's sub-axes along which
// devices have these shards are searched for, one and two for a dimension, so that any mesh of as
// many devices can serve. What the file says of tensors between nodes is left to propagation:
// passes before this one have replaced most of those nodes.
//
//===----------------------------------------------------------------------===//

#include "DevicePlan.h"
#include "shardc/Import/DevicePlan.h"

using namespace mlir;

namespace shardc {

static DictionaryAttr planOf(ModuleOp module) {
  return module->getAttrOfType<DictionaryAttr>(kDevicePlanAttr);
}

std::string deviceMesh(ModuleOp module) {
  return "tp=" + std::to_string(cast<IntegerAttr>(planOf(module).get("devices")).getInt());
}

namespace {

class DevicePlanApplier {
public:
  DevicePlanApplier(func::FuncOp function, shard::MeshOp mesh)
      : function(function), meshOp(mesh), mesh(mesh.getMesh()),
        plan(planOf(function->getParentOfType<ModuleOp>())) {}
  LogicalResult run();

private:
  InFlightDiagnostic error() {
    return function.emitError() << "device configuration \""
                                << cast<StringAttr>(plan.get("name")).getValue() << "\": ";
  }
  /// The sub-axes along which device n has index indices[n] of `shards`; nothing if there are none.
  std::optional<AxisList> findAxes(int64_t shards, ArrayRef<int64_t> indices) const;
  FailureOr<shard::ShardingAttr> shardingOf(StringRef name, ArrayAttr cuts, ArrayRef<int64_t> shape,
                                            DenseI64ArrayAttr segment, int64_t whole);
  ArrayAttr cutsOf(StringRef kind, StringRef name) const {
    return cast<DictionaryAttr>(plan.get(kind)).getAs<ArrayAttr>(name);
  }

  func::FuncOp function;
  shard::MeshOp meshOp;
  Mesh mesh;
  DictionaryAttr plan;
};

} // namespace

std::optional<AxisList> DevicePlanApplier::findAxes(int64_t shards,
                                                    ArrayRef<int64_t> indices) const {
  AxisList parts;
  for (auto [n, axis] : llvm::enumerate(mesh.axes))
    for (int64_t pre = 1; pre <= axis.size; ++pre)
      for (int64_t size = 2; pre * size <= axis.size; ++size)
        if (axis.size % (pre * size) == 0)
          parts.push_back({static_cast<int>(n), pre, size});
  auto fits = [&](const AxisList &axes) {
    for (auto [device, index] : llvm::enumerate(indices))
      if (indexAlong(mesh, axes, static_cast<int64_t>(device)) != index)
        return false;
    return true;
  };
  for (const AxisRef &one : parts)
    if (one.size == shards && fits({one}))
      return AxisList{one};
  for (const AxisRef &one : parts)
    for (const AxisRef &other : parts)
      if (one.size * other.size == shards && !overlaps(one, other) && fits({one, other}))
        return canonicalAxes({one, other});
  return std::nullopt;
}

FailureOr<shard::ShardingAttr> DevicePlanApplier::shardingOf(StringRef name, ArrayAttr cuts,
                                                             ArrayRef<int64_t> shape,
                                                             DenseI64ArrayAttr segment,
                                                             int64_t whole) {
  Sharding sharding = Sharding::replicated(shape.size());
  for (auto cut : cuts.getAsRange<DenseI64ArrayAttr>()) {
    ArrayRef<int64_t> numbers = cut;
    int64_t rank = shape.size(), axis = numbers[0] < 0 ? numbers[0] + rank : numbers[0],
            blocks = numbers[1], shards = numbers[2];
    if (axis < 0 || axis >= rank)
      return error() << "\"" << name << "\": axis " << numbers[0] << " is outside the rank "
                     << rank;
    bool isSegment = segment && segment[0] == axis;
    int64_t size = isSegment ? whole : shape[axis];
    if (size % blocks || size / blocks < shards)
      return error() << "\"" << name << "\": dimension " << axis << " of size " << size
                     << " cannot be cut into " << shards << " shards of each of " << blocks
                     << " blocks";
    if (blocks > 1 && !(isSegment && segment[2] == size / blocks && segment[1] % segment[2] == 0))
      return error() << "\"" << name << "\": " << blocks << " blocks of dimension " << axis
                     << " are no parts that the program knows";
    if (blocks == 1 && isSegment)
      return error() << "\"" << name << "\": dimension " << axis
                     << " consists of parts, such as query, key and value, and is cut across them";
    std::optional<AxisList> axes = findAxes(shards, numbers.drop_front(3));
    if (!axes)
      return error() << "\"" << name << "\": the order of devices along dimension " << axis
                     << " is not that of a part of mesh " << mesh.str();
    if (overlaps(*axes, sharding.usedAxes()))
      return error() << "\"" << name << "\": two dimensions are cut over the same devices";
    sharding.dims[axis].axes = *axes;
  }
  return shard::ShardingAttr::get(FlatSymbolRefAttr::get(meshOp.getSymNameAttr()), mesh, sharding);
}

LogicalResult DevicePlanApplier::run() {
  int64_t devices = cast<IntegerAttr>(plan.get("devices")).getInt();
  if (devices != mesh.deviceCount())
    return error() << "is for " << devices << " devices, mesh " << mesh.str() << " has "
                   << mesh.deviceCount() << "; --plan chooses another plan";
  for (auto parameter : function.getBody().getOps<graph::ParameterOp>()) {
    ArrayAttr cuts = cutsOf("parameters", parameter.getName());
    if (!cuts)
      continue;
    DenseI64ArrayAttr segment = parameter.getSegmentAttr();
    FailureOr<shard::ShardingAttr> sharding =
        shardingOf(parameter.getName(), cuts, parameter.getType().getShape(), segment,
                   segment ? parameter.getStoredType().getDimSize(segment[0]) : 0);
    if (failed(sharding))
      return failure();
    shard::setSharding(parameter.getResult(), *sharding);
    parameter->setAttr("shard.plan",
                       StringAttr::get(function.getContext(),
                                       "device configuration \"" +
                                           cast<StringAttr>(plan.get("name")).getValue() + "\""));
  }
  for (BlockArgument argument : function.getArguments()) {
    auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                      graph::GraphDialect::kNameAttr);
    ArrayAttr cuts = name ? cutsOf("inputs", name) : ArrayAttr();
    if (!cuts)
      continue;
    FailureOr<shard::ShardingAttr> sharding =
        shardingOf(name, cuts, cast<RankedTensorType>(argument.getType()).getShape(), {}, 0);
    if (failed(sharding))
      return failure();
    shard::setSharding(argument, *sharding);
  }
  for (unsigned n = 0; n < function.getNumResults(); ++n) {
    auto name = function.getResultAttrOfType<StringAttr>(n, graph::GraphDialect::kNameAttr);
    ArrayAttr cuts = name ? cutsOf("outputs", name) : ArrayAttr();
    if (!cuts)
      continue;
    FailureOr<shard::ShardingAttr> sharding = shardingOf(
        name, cuts, cast<RankedTensorType>(function.getResultTypes()[n]).getShape(), {}, 0);
    if (failed(sharding))
      return failure();
    function.setResultAttr(n, shard::ShardDialect::kShardingAttr, *sharding);
  }
  if (int64_t inside = cast<IntegerAttr>(plan.get("inside")).getInt())
    function.emitWarning() << "device configuration \""
                           << cast<StringAttr>(plan.get("name")).getValue()
                           << "\": what it says of " << inside
                           << " tensors between nodes is left to propagation";
  return success();
}

LogicalResult applyDevicePlan(func::FuncOp function, shard::MeshOp mesh) {
  return DevicePlanApplier(function, mesh).run();
}

} // namespace shardc
