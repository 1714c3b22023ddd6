//===- ExportPlan.cpp - shardc export-plan: a plan as an ONNX device configuration -===//

#include "shardc/Driver/Driver.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Import/DevicePlan.h"

#include "llvm/Support/FileSystem.h"

#include <map>

using namespace mlir;

namespace shardc {

static std::vector<DeviceCut> cutsOf(const Mesh &mesh, const Sharding &sharding) {
  std::vector<DeviceCut> cuts;
  for (auto [d, dim] : llvm::enumerate(sharding.dims)) {
    if (dim.axes.empty())
      continue;
    DeviceCut cut{static_cast<int64_t>(d), 1, axesSize(dim.axes), {}};
    for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank)
      cut.indices.push_back(indexAlong(mesh, dim.axes, rank));
    cuts.push_back(std::move(cut));
  }
  return cuts;
}

/// The cuts of a packed weight, as blocks of one size; failure if the format has no words for them.
static FailureOr<std::vector<DeviceCut>> packedCuts(const Mesh &mesh,
                                                    ArrayRef<graph::ParameterOp> segments) {
  std::vector<DeviceCut> cuts;
  for (graph::ParameterOp op : segments) {
    DenseI64ArrayAttr segment = op.getSegmentAttr();
    int64_t whole = op.getStoredType().getDimSize(segment[0]);
    std::vector<DeviceCut> own = cutsOf(mesh, *shard::getSharding(op.getResult()).resolve(mesh));
    for (DeviceCut &cut : own)
      if (cut.axis == segment[0])
        cut.blocks = whole / segment[2];
    bool isBlock = whole % segment[2] == 0 && segment[1] % segment[2] == 0;
    bool isCut = llvm::any_of(own, [&](const DeviceCut &cut) { return cut.axis == segment[0]; });
    if ((isCut && !isBlock) || (op != segments.front() && own != cuts))
      return failure();
    cuts = std::move(own);
  }
  return cuts;
}

static FailureOr<DevicePlan> collectPlan(ModuleOp module, StringRef name) {
  Mesh mesh = shard::getOnlyMesh(module).getMesh();
  DevicePlan plan{name.str(), mesh.deviceCount(), {}, {}};
  auto function = module.lookupSymbol<func::FuncOp>("main");
  std::map<std::string, std::vector<graph::ParameterOp>> parameters;
  for (auto op : function.getBody().getOps<graph::ParameterOp>())
    if (shard::getSharding(op.getResult()))
      parameters[op.getName().str()].push_back(op);
  for (auto &[tensor, ops] : parameters) {
    if (!ops.front().getSegmentAttr()) {
      plan.parameters.push_back(
          {tensor, cutsOf(mesh, *shard::getSharding(ops.front().getResult()).resolve(mesh))});
      continue;
    }
    FailureOr<std::vector<DeviceCut>> cuts = packedCuts(mesh, ops);
    if (failed(cuts))
      return ops.front().emitError()
             << "\"" << tensor << "\" consists of " << ops.size()
             << " parts of different sizes or cuts, for which ONNX's sharding specs have no words";
    plan.parameters.push_back({tensor, *cuts});
  }
  for (BlockArgument argument : function.getArguments()) {
    Sharding sharding = *shard::getSharding(argument).resolve(mesh);
    std::vector<DeviceCut> cuts = cutsOf(mesh, sharding);
    if (!cuts.empty())
      plan.inputs.push_back({function
                                 .getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                               graph::GraphDialect::kNameAttr)
                                 .str(),
                             cuts});
  }
  return plan;
}

int exportPlanCommand(const ExportPlanOptions &options) {
  auto refuse = [](const Twine &message) {
    llvm::errs() << "error: " << message << "\n";
    return kUsage;
  };
  if (options.output.empty())
    return refuse("export-plan needs an output: -o MODEL.onnx");
  if (options.model.pipeline.sequenceParallel)
    return refuse("--sequence-parallel: a device configuration says how weights and inputs lie, "
                  "not activations");
  if (llvm::sys::fs::exists(options.output) && !options.force)
    return refuse(options.output + " exists; --force replaces it");
  FailureOr<Model> model = loadModel(options.model);
  if (failed(model))
    return kFailed;
  for (const Stage &stage : pipelineStages()) {
    PassManager pm(model->context.get());
    stage.build(pm, options.model.pipeline);
    if (failed(pm.run(*model->module)))
      return kFailed;
    if (stage.name == "annotate")
      break;
  }
  std::string name = options.name;
  for (const MeshAxis &axis : shard::getOnlyMesh(*model->module).getMesh().axes)
    if (options.name.empty())
      name += (name.empty() ? "" : "_") + axis.name + std::to_string(axis.size);
  FailureOr<DevicePlan> plan = collectPlan(*model->module, name);
  if (failed(plan) ||
      failed(writeDevicePlan(*model->context, options.model.import.path, options.output, *plan)))
    return kFailed;
  return kOk;
}

} // namespace shardc
