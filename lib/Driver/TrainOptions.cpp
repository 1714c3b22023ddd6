//===- TrainOptions.cpp - How a model is trained --------------------------===//

#include "shardc/Driver/TrainOptions.h"

#include "dialects/Graph/Graph.h"
#include "shardc/FSDP/Optimizer.h"
#include "shardc/FSDP/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

using namespace mlir;
namespace json = llvm::json;

namespace shardc {

static llvm::Error refuse(const llvm::Twine &message) { return llvm::createStringError(message); }

/// Sizes given one by one as a mesh, major to minor as in the seeds.
static llvm::Error makeMesh(const TrainOptions &train, PipelineOptions &pipeline) {
  bool anySize = train.dpReplicate || train.dpShard || train.tp;
  if (train.given.contains("--mesh")) {
    if (anySize)
      return refuse(
          "--mesh: give the mesh whole, or --dp-replicate, --dp-shard and --tp, not both");
    return llvm::Error::success();
  }
  std::string mesh;
  for (auto [name, size] : {std::pair<const char *, int64_t>{"dp_replicate", train.dpReplicate},
                            {"dp_shard", train.dpShard},
                            {"tp", train.tp}})
    if (size)
      mesh += (mesh.empty() ? "" : ",") + std::string(name) + "=" + std::to_string(size);
  if (!mesh.empty())
    pipeline.mesh = mesh;
  return llvm::Error::success();
}

static int64_t axisSize(const PipelineOptions &pipeline, StringRef axis) {
  // What is malformed is said by Annotate, which makes the mesh.
  SmallVector<StringRef> parts;
  StringRef(pipeline.mesh.getValue()).split(parts, ',');
  for (StringRef part : parts)
    if (auto [name, size] = part.split('='); name.trim() == axis)
      if (int64_t value = 0; !size.trim().getAsInteger(10, value))
        return value;
  return 1;
}

/// Names, or numbers as in Megatron-FSDP.
static llvm::Error checkOuterStrategy(PipelineOptions &pipeline) {
  std::string &name = pipeline.outerDpShardingStrategy.getValue();
  name = name == "0" ? "no_shard" : name == "1" ? "optim" : name;
  if (name == "no_shard")
    return llvm::Error::success();
  auto refuseOptim = [](const llvm::Twine &why) {
    return refuse("--outer-dp-sharding-strategy optim " + why);
  };
  if (name != "optim")
    return refuse("--outer-dp-sharding-strategy \"" + name + "\" is not no_shard (0) or optim (1)");
  if (pipeline.zeroDpStrategy != 3)
    return refuseOptim("needs --zero-dp-strategy 3, not " + llvm::Twine(pipeline.zeroDpStrategy));
  int64_t replicas = axisSize(pipeline, "dp_replicate"), shards = axisSize(pipeline, "dp_shard");
  if (replicas < 2 || shards < 2)
    return refuseOptim("needs replicas of shards; dp_replicate is " + llvm::Twine(replicas) +
                       ", dp_shard " + llvm::Twine(shards));
  return llvm::Error::success();
}

/// What each strategy of the seeds allows (semantics.md §5.6, §7, §8).
static llvm::Error applyStrategy(const TrainOptions &train, PipelineOptions &pipeline) {
  auto has = [&](StringRef option) { return train.given.contains(option); };
  StringRef strategy = train.strategy;
  if (strategy == "ddp") {
    if (int64_t tp = axisSize(pipeline, "tp"); tp > 1)
      return refuse("--strategy ddp: tensor parallelism is not supported, tp is " +
                    llvm::Twine(tp) + "; use fsdp2");
    if (pipeline.sequenceParallel)
      return refuse("--strategy ddp: --sequence-parallel needs tensor parallelism");
    if (pipeline.ep > 1)
      return refuse("--strategy ddp: expert parallelism is not supported, ep is " +
                    llvm::Twine(pipeline.ep) + "; use fsdp2");
    for (StringRef option :
         {"--reshard-after-forward", "--zero-dp-strategy", "--outer-dp-sharding-strategy"})
      if (has(option))
        return refuse("--strategy ddp: " + option + " does not apply, nothing is sharded");
    pipeline.zeroDpStrategy = 0;
    return llvm::Error::success();
  }
  if (strategy == "fsdp2")
    return llvm::Error::success();
  if (strategy != "megatron_fsdp")
    return refuse("--strategy \"" + strategy + "\" is not fsdp2, megatron_fsdp or ddp");
  if (pipeline.ep > 1)
    return refuse("--strategy megatron_fsdp: expert parallelism is not supported, ep is " +
                  llvm::Twine(pipeline.ep) + "; use fsdp2");
  if (pipeline.sequenceParallel)
    return refuse("--strategy megatron_fsdp: --sequence-parallel is not supported; use fsdp2");
  if (int64_t size = axisSize(pipeline, "dp_replicate");
      size > 1 && !has("--outer-dp-sharding-strategy"))
    return refuse("--strategy megatron_fsdp: dp_replicate of size " + llvm::Twine(size) +
                  " needs --outer-dp-sharding-strategy (data parallelism has one axis otherwise); "
                  "or use fsdp2");
  if (pipeline.activationCheckpointing != "none")
    return refuse(
        "--strategy megatron_fsdp: --activation-checkpointing is not supported; use fsdp2");
  return llvm::Error::success();
}

llvm::Error applyTrainOptions(const TrainOptions &train, PipelineOptions &pipeline) {
  if (!train.enabled) {
    for (StringRef option : train.given.keys())
      if (option != "--mesh")
        return refuse(option + " needs --train");
    return llvm::Error::success();
  }
  if (llvm::Error error = makeMesh(train, pipeline))
    return error;
  if (llvm::Error error = applyStrategy(train, pipeline))
    return error;
  if (llvm::Error error = checkOuterStrategy(pipeline))
    return error;
  auto isOneOf = [](StringRef value, std::initializer_list<StringRef> values) {
    return llvm::is_contained(values, value);
  };
  if (!isOneOf(train.schedule, {"constant", "linear", "cosine"}))
    return refuse("--lr-schedule \"" + train.schedule + "\" is not constant, linear or cosine");
  if (train.schedule != "constant" && train.decaySteps < 1) // counted from the end of the warm-up
    return refuse("--lr-schedule " + train.schedule + " needs --lr-decay-steps of at least 1");
  if (train.accumulation > 1)
    pipeline.separateEntries = true;
  if (train.given.contains("--defer-fsdp-grad-sync") && !pipeline.separateEntries)
    return refuse(
        "--defer-fsdp-grad-sync needs --gradient-accumulation above 1 or --separate-entry-points");
  std::string optimizer = train.optimizer;
  for (auto &[name, value] : train.optimizerOptions)
    optimizer += "," + name + "=" + value;
  if (llvm::Expected<OptimizerSpec> spec = parseOptimizer(optimizer); !spec)
    return refuse("--" + llvm::toString(spec.takeError()));
  pipeline.optimizer = optimizer;
  if (!isOneOf(pipeline.paramDtype.getValue(), {"f32", "bf16", "f16"}))
    return refuse("--param-dtype \"" + pipeline.paramDtype + "\" is not f32, bf16 or f16");
  if (pipeline.paramDtype == "f32" && train.given.contains("--fp32-parameters"))
    return refuse("--fp32-parameters needs --param-dtype bf16 or f16");
  if (!isOneOf(pipeline.activationCheckpointing.getValue(), {"none", "selective", "full", "auto"}))
    return refuse("--activation-checkpointing \"" + pipeline.activationCheckpointing +
                  "\" is not none, selective, full or auto");
  if (pipeline.activationCheckpointing == "auto" && !train.memoryLimit)
    return refuse("--activation-checkpointing auto needs --memory-limit");
  pipeline.train = true;
  return llvm::Error::success();
}

std::string trainingJson(const TrainOptions &train, const PipelineOptions &pipeline,
                         ModuleOp module) {
  json::Object optimizer = optimizerJson(
      llvm::cantFail(parseOptimizer(pipeline.optimizer))); // checked by applyTrainOptions
  optimizer["clip_norm"] = pipeline.clipNorm.getValue();
  optimizer["learning_rate"] = train.learningRate;
  optimizer["schedule"] = json::Object{{"name", train.schedule},
                                       {"warmup_steps", train.warmupSteps},
                                       {"decay_steps", train.decaySteps},
                                       {"minimum", train.minimumLearningRate}};
  json::Object batch;
  json::Array inputs;
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!step)
    step = module.lookupSymbol<func::FuncOp>("forward_backward");
  int64_t vocabulary =
      int64_t(1)
      << 31; // any token: where the loss is the model's own, nobody knows how many there are
  if (auto size = step ? step->getAttrOfType<IntegerAttr>(graph::GraphDialect::kVocabularyAttr)
                       : IntegerAttr())
    vocabulary = size.getInt();
  if (step)
    for (BlockArgument argument : step.getArguments()) {
      unsigned n = argument.getArgNumber();
      auto name = step.getArgAttrOfType<StringAttr>(n, graph::GraphDialect::kNameAttr);
      auto type = cast<RankedTensorType>(argument.getType());
      if (auto global = step.getArgAttrOfType<TypeAttr>(n, graph::GraphDialect::kGlobalTypeAttr))
        type = cast<RankedTensorType>(global.getValue());
      if (!name || type.getRank() == 0)
        continue;
      if (name == "labels") {
        batch["labels"] = "labels";
        batch["sequences"] = type.getDimSize(0);
        batch["length"] = type.getRank() > 1 ? type.getDimSize(1) : 1;
      } else {
        inputs.push_back(name.getValue());
      }
    }
  batch["inputs"] = std::move(inputs);
  json::Object object{{"optimizer", std::move(optimizer)},
                      {"batch", std::move(batch)},
                      {"accumulation", train.accumulation},
                      {"vocabulary", vocabulary},
                      {"strategy", train.strategy},
                      {"offload", str(train.offload)},
                      {"param_dtype", pipeline.paramDtype.getValue()},
                      {"zero_dp_strategy", pipeline.zeroDpStrategy.getValue()},
                      {"outer_dp_sharding_strategy", pipeline.outerDpShardingStrategy.getValue()},
                      {"activation_checkpointing", pipeline.activationCheckpointing.getValue()},
                      {"checkpointed_layers", pipeline.checkpointLayers.getValue()}};
  if (auto names = step ? step->getAttrOfType<ArrayAttr>(kCheckedGradientsAttr) : ArrayAttr()) {
    json::Array checked;
    for (StringRef name : names.getAsValueRange<StringAttr>())
      checked.push_back(name);
    object["checked_gradients"] = std::move(checked);
  }
  std::string text;
  llvm::raw_string_ostream(text) << json::Value(std::move(object));
  return text;
}

} // namespace shardc
