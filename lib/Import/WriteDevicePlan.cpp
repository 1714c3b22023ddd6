//===- WriteDevicePlan.cpp - A plan into an ONNX file ---------------------===//
//
// The file is copied as it is; every node that reads a tensor of the plan gets that tensor's
// sharding spec. Weights in other files stay where they are, so that the copy has to lie beside the
// original then.
//
//===----------------------------------------------------------------------===//

#include "Names.h"
#include "shardc/Import/DevicePlan.h"

#include "onnx.pb.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <fstream>
#include <set>

using namespace mlir;
using namespace shardc;

/// The first version of the format that has device configurations.
static constexpr int64_t kFirstVersion = 11;

/// A shard that several devices have is a group, with a number that no device has.
static void writeDevices(onnx::ShardingSpecProto &spec, const DevicePlan &plan,
                         const DeviceTensor &tensor) {
  int64_t shards = 1;
  for (const DeviceCut &cut : tensor.cuts)
    shards *= cut.shards;
  std::vector<std::vector<int64_t>> owners(shards);
  for (int64_t device = 0; device < plan.devices; ++device) {
    int64_t shard = 0;
    for (const DeviceCut &cut : tensor.cuts)
      shard = shard * cut.shards + cut.indices[device];
    owners[shard].push_back(device);
  }
  for (auto [shard, devices] : llvm::enumerate(owners)) {
    if (devices.size() == 1) {
      spec.add_device(devices[0]);
      continue;
    }
    int64_t group = plan.devices + static_cast<int64_t>(shard);
    spec.add_device(group);
    auto *entry = spec.add_index_to_device_group_map();
    entry->set_key(group);
    for (int64_t device : devices)
      entry->add_value(device);
  }
}

static void writeSpec(onnx::NodeDeviceConfigurationProto &node, const DevicePlan &plan,
                      const DeviceTensor &tensor, llvm::StringRef name,
                      llvm::ArrayRef<int64_t> shape, bool isTransposed) {
  onnx::ShardingSpecProto &spec = *node.add_sharding_spec();
  spec.set_tensor_name(name.str());
  writeDevices(spec, plan, tensor);
  for (const DeviceCut &cut : tensor.cuts) {
    int64_t axis = isTransposed ? 1 - cut.axis : cut.axis;
    auto *dim = spec.add_sharded_dim();
    dim->set_axis(axis);
    if (cut.blocks > 1) {
      auto *whole = dim->add_simple_sharding();
      whole->set_dim_value(cut.blocks);
      whole->set_num_shards(1);
    }
    auto *part = dim->add_simple_sharding();
    if (axis < static_cast<int64_t>(shape.size()))
      part->set_dim_value(shape[axis] / cut.blocks);
    part->set_num_shards(cut.shards);
  }
}

static void removeConfiguration(onnx::ModelProto &model, const std::string &name) {
  auto drop = [&](auto *list, auto nameOf) {
    for (int n = list->size(); n-- > 0;)
      if (nameOf(list->Get(n)) == name)
        list->DeleteSubrange(n, 1);
  };
  drop(model.mutable_configuration(), [](const auto &c) { return c.name(); });
  for (auto &node : *model.mutable_graph()->mutable_node())
    drop(node.mutable_device_configurations(), [](const auto &c) { return c.configuration_id(); });
}

/// The directory in which external data are looked for is the file's own.
static bool staysBeside(const onnx::ModelProto &model, llvm::StringRef from, llvm::StringRef to) {
  bool hasExternal = llvm::any_of(model.graph().initializer(), [](const auto &t) {
    return t.data_location() == onnx::TensorProto::EXTERNAL;
  });
  auto folder = [](llvm::StringRef path) {
    return llvm::sys::path::parent_path(path).empty() ? llvm::StringRef(".")
                                                      : llvm::sys::path::parent_path(path);
  };
  return !hasExternal || llvm::sys::fs::equivalent(folder(from), folder(to));
}

LogicalResult shardc::writeDevicePlan(MLIRContext &context, llvm::StringRef from,
                                      llvm::StringRef to, const DevicePlan &plan) {
  auto fail = [&] { return mlir::emitError(UnknownLoc::get(&context)); };
  auto checked = importer::readModel(from);
  if (!checked)
    return fail() << llvm::toString(checked.takeError());
  importer::UseMap uses = importer::findUses((*checked)->graph);
  WeightStore unused;
  auto names = importer::planInitializers(**checked, uses,
                                          importer::modulePaths((*checked)->graph, uses), unused);

  onnx::ModelProto model = *static_cast<const onnx::ModelProto *>((*checked)->owner.get());
  if (!staysBeside(model, from, to))
    return fail() << to << ": the weights of " << from
                  << " lie in files beside it; the copy has to be in the same folder";
  llvm::StringMap<const DeviceTensor *> parameters, inputs;
  for (const DeviceTensor &tensor : plan.parameters)
    parameters[tensor.name] = &tensor;
  for (const DeviceTensor &tensor : plan.inputs)
    inputs[tensor.name] = &tensor;
  llvm::StringMap<std::vector<int64_t>> shapes;
  for (const importer::Tensor &tensor : (*checked)->graph.initializers)
    shapes[tensor.name].assign(tensor.weight.shape.begin(), tensor.weight.shape.end());

  removeConfiguration(model, plan.name);
  auto *configuration = model.add_configuration();
  configuration->set_name(plan.name);
  configuration->set_num_devices(static_cast<int32_t>(plan.devices));
  for (auto &node : *model.mutable_graph()->mutable_node()) {
    onnx::NodeDeviceConfigurationProto sharding;
    sharding.set_configuration_id(plan.name);
    std::set<std::string> done;
    for (const std::string &name : node.input()) {
      auto known = names.find(name);
      bool isParameter = known != names.end() && known->second.isParameter;
      const DeviceTensor *tensor =
          isParameter ? parameters.lookup(known->second.name) : inputs.lookup(name);
      if (tensor && done.insert(name).second)
        writeSpec(sharding, plan, *tensor, name, shapes[name],
                  isParameter && known->second.isTransposed);
    }
    if (sharding.sharding_spec_size())
      *node.add_device_configurations() = std::move(sharding);
  }
  model.set_ir_version(std::max(model.ir_version(), kFirstVersion));

  llvm::SmallString<128> temporary;
  if (llvm::sys::fs::createUniqueFile(to + ".%%%%%%.partial", temporary))
    return fail() << to << ": cannot write into its folder";
  std::ofstream output(temporary.c_str(), std::ios::binary);
  bool isWritten = model.SerializeToOstream(&output) && output.flush();
  std::error_code code =
      isWritten ? llvm::sys::fs::rename(temporary, to) : std::make_error_code(std::errc::io_error);
  if (!code)
    return success();
  llvm::sys::fs::remove(temporary);
  return fail() << to << ": cannot write: " << code.message();
}
