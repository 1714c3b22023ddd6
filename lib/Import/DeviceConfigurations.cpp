//===- DeviceConfigurations.cpp - Sharding specs of nodes as one plan -----===//
//
// ONNX says at each node how its inputs and outputs lie on devices. Here that becomes one sentence
// a tensor: specs of one tensor must agree, every device must have a shard, and shards are numbered
// row-major over the dimensions that are cut.
//
//===----------------------------------------------------------------------===//

#include "DeviceConfigurations.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace llvm;

namespace shardc::importer {

namespace {

class SpecReader {
public:
  SpecReader(const Model &model, const DeviceConfiguration &configuration)
      : model(model), configuration(configuration) {}
  Error read();
  std::map<std::string, DeviceTensor> tensors; ///< by ONNX name
private:
  Error fail(const Node &node, const ShardingSpec &spec, const Twine &what) const {
    return createStringError(Twine(model.path) + ": device configuration \"" + configuration.name +
                             "\": node \"" + node.name + "\": tensor \"" + spec.tensor +
                             "\": " + what);
  }
  Error readSpec(const Node &node, const ShardingSpec &spec);
  Error placeDevices(const Node &node, const ShardingSpec &spec, DeviceTensor &tensor);

  const Model &model;
  const DeviceConfiguration &configuration;
  std::map<std::string, StringRef> nodeOf;
};

} // namespace

/// Gives every device its index along every cut.
Error SpecReader::placeDevices(const Node &node, const ShardingSpec &spec, DeviceTensor &tensor) {
  int64_t shards = 1;
  for (const DeviceCut &cut : tensor.cuts)
    if (MulOverflow(shards, cut.shards, shards) || shards > configuration.devices)
      return fail(node, spec,
                  "is cut into more shards than there are devices (" +
                      Twine(configuration.devices) + ")");
  if (tensor.cuts.empty())
    return Error::success(); // the same on all that are named
  if (static_cast<int64_t>(spec.devices.size()) != shards)
    return fail(node, spec,
                Twine(spec.devices.size()) + " devices are named for " + Twine(shards) + " shards");
  std::vector<int64_t> shardOf(configuration.devices, -1);
  for (auto [shard, name] : enumerate(spec.devices)) {
    auto group = spec.groups.find(name);
    for (int64_t device : group == spec.groups.end() ? SmallVector<int64_t>{name} : group->second) {
      if (device < 0 || device >= configuration.devices)
        return fail(node, spec,
                    "device " + Twine(device) + " is none of the " + Twine(configuration.devices));
      if (shardOf[device] >= 0)
        return fail(node, spec, "device " + Twine(device) + " has two shards");
      shardOf[device] = shard;
    }
  }
  if (auto none = find(shardOf, -1); none != shardOf.end())
    return fail(node, spec, "device " + Twine(none - shardOf.begin()) + " has no shard");
  int64_t inner = shards;
  for (DeviceCut &cut : tensor.cuts) {
    inner /= cut.shards;
    for (int64_t shard : shardOf)
      cut.indices.push_back(shard / inner % cut.shards);
  }
  return Error::success();
}

Error SpecReader::readSpec(const Node &node, const ShardingSpec &spec) {
  if (!is_contained(node.inputs, spec.tensor) && !is_contained(node.outputs, spec.tensor))
    return fail(node, spec, "is neither an input nor an output of the node");
  DeviceTensor tensor{spec.tensor.str(), {}};
  for (const ShardedDim &dim : spec.dims) {
    DeviceCut cut{dim.axis};
    // Blocks that stay whole, then one that is cut: axes that were fused.
    for (auto [n, part] : enumerate(dim.parts)) {
      if (part.shards < 1)
        return fail(node, spec,
                    "axis " + Twine(dim.axis) + " has " + Twine(part.shards) + " shards");
      if (cut.shards > 1)
        return fail(node, spec,
                    "axis " + Twine(dim.axis) +
                        " is cut inside of what is cut already, which is not supported");
      if (n + 1 < dim.parts.size() && part.shards == 1) {
        if (!part.size || *part.size < 1 || MulOverflow(cut.blocks, *part.size, cut.blocks))
          return fail(node, spec, "axis " + Twine(dim.axis) + " has blocks of no known number");
        continue;
      }
      cut.shards = part.shards;
    }
    if (any_of(tensor.cuts, [&](const DeviceCut &other) { return other.axis == cut.axis; }))
      return fail(node, spec, "axis " + Twine(dim.axis) + " stands twice");
    if (cut.shards > 1)
      tensor.cuts.push_back(cut);
  }
  if (Error error = placeDevices(node, spec, tensor))
    return error;
  sort(tensor.cuts, [](const DeviceCut &a, const DeviceCut &b) { return a.axis < b.axis; });
  auto [known, isNew] = tensors.try_emplace(tensor.name, tensor);
  if (isNew)
    nodeOf[tensor.name] = node.name;
  else if (known->second.cuts != tensor.cuts)
    return fail(node, spec, "is cut otherwise at node \"" + nodeOf[tensor.name] + "\"");
  return Error::success();
}

Error SpecReader::read() {
  for (const Node &node : model.graph.nodes)
    for (const NodeSharding &sharding : node.shardings) {
      if (none_of(model.configurations,
                  [&](const DeviceConfiguration &c) { return c.name == sharding.configuration; }))
        return createStringError(Twine(model.path) + ": node \"" + node.name +
                                 "\" has a sharding for device configuration \"" +
                                 sharding.configuration + "\", which does not exist");
      if (sharding.configuration != configuration.name)
        continue;
      if (sharding.stage > 0)
        return createStringError(Twine(model.path) + ": device configuration \"" +
                                 configuration.name + "\": node \"" + node.name +
                                 "\" is in pipeline stage " + Twine(sharding.stage) +
                                 ", which is not supported");
      for (const ShardingSpec &spec : sharding.specs)
        if (Error error = readSpec(node, spec))
          return error;
    }
  return Error::success();
}

static DictionaryAttr tensorsAttr(MLIRContext *context, ArrayRef<DeviceTensor> tensors) {
  Builder b(context);
  NamedAttrList list;
  for (const DeviceTensor &tensor : tensors) {
    SmallVector<mlir::Attribute> cuts;
    for (const DeviceCut &cut : tensor.cuts) {
      SmallVector<int64_t> numbers{cut.axis, cut.blocks, cut.shards};
      append_range(numbers, cut.indices);
      cuts.push_back(b.getDenseI64ArrayAttr(numbers));
    }
    list.set(tensor.name, b.getArrayAttr(cuts));
  }
  return list.getDictionary(context);
}

Error readDevicePlan(ModuleOp module, const Model &model, StringRef choice,
                     const StringMap<InitializerPlan> &plans) {
  if (model.configurations.empty() && choice.empty())
    return Error::success();
  const DeviceConfiguration *configuration = nullptr;
  std::string names;
  for (const DeviceConfiguration &one : model.configurations) {
    names += (names.empty() ? "\"" : ", \"") + one.name.str() + "\"";
    if (one.name == choice || choice.empty())
      configuration = &one;
  }
  if (!configuration || (choice.empty() && model.configurations.size() > 1))
    return createStringError(Twine(model.path) + ": " +
                             (choice.empty()
                                  ? "which device configuration? --plan onnx:NAME chooses one"
                                  : "there is no device configuration \"" + choice.str() + "\"") +
                             "; the file has " + (names.empty() ? "none" : names));
  if (configuration->devices < 1)
    return createStringError(Twine(model.path) + ": device configuration \"" + configuration->name +
                             "\" has " + Twine(configuration->devices) + " devices");
  SpecReader reader(model, *configuration);
  if (Error error = reader.read())
    return error;
  std::vector<DeviceTensor> parameters, inputs, outputs;
  int64_t inside = 0;
  auto isNamed = [](ArrayRef<ValueInfo> values, StringRef name) {
    return any_of(values, [&](const ValueInfo &v) { return v.name == name; });
  };
  for (auto &entry : reader.tensors) {
    const std::string &name = entry.first;
    DeviceTensor &tensor = entry.second;
    auto plan = plans.find(name);
    auto initializer =
        find_if(model.graph.initializers, [&](const Tensor &t) { return t.name == name; });
    for (DeviceCut &cut : tensor.cuts)
      if (initializer != model.graph.initializers.end()) {
        int64_t rank = initializer->weight.shape.size();
        if (cut.axis < -rank || cut.axis >= rank)
          return createStringError(Twine(model.path) + ": device configuration \"" +
                                   configuration->name + "\": tensor \"" + name + "\": axis " +
                                   Twine(cut.axis) + " is outside the rank " + Twine(rank));
        cut.axis += cut.axis < 0 ? rank : 0;
        if (plan != plans.end() && plan->second.isTransposed)
          cut.axis = 1 - cut.axis;
      }
    if (plan != plans.end() && plan->second.isParameter) {
      tensor.name = plan->second.name;
      parameters.push_back(tensor);
    } else if (isNamed(model.graph.inputs, name)) {
      inputs.push_back(tensor);
    } else if (isNamed(model.graph.outputs, name)) {
      outputs.push_back(tensor);
    } else {
      inside += plan == plans.end();
    }
  }
  MLIRContext *context = module.getContext();
  Builder b(context);
  module->setAttr(
      kDevicePlanAttr,
      b.getDictionaryAttr({b.getNamedAttr("name", b.getStringAttr(configuration->name)),
                           b.getNamedAttr("devices", b.getI64IntegerAttr(configuration->devices)),
                           b.getNamedAttr("inside", b.getI64IntegerAttr(inside)),
                           b.getNamedAttr("parameters", tensorsAttr(context, parameters)),
                           b.getNamedAttr("inputs", tensorsAttr(context, inputs)),
                           b.getNamedAttr("outputs", tensorsAttr(context, outputs))}));
  return Error::success();
}

} // namespace shardc::importer
