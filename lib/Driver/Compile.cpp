//===- Compile.cpp - shardc compile ---------------------------------------===//

#include "Instances.h"

#include "shardc/Bundle/Bundle.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace shardc {

/// Products of 8-bit floats need GPUs that have them; what is about gradients needs some.
static LogicalResult checkFp8(const CompileOptions &options) {
  const PipelineOptions &pipeline = options.model.pipeline;
  if (pipeline.fp8.empty()) {
    if (!pipeline.fp8Skip.empty())
      llvm::errs() << "error: --fp8-skip needs --fp8\n";
    return success(pipeline.fp8Skip.empty());
  }
  if (pipeline.fp8 == "hybrid" && !options.train.enabled) {
    llvm::errs() << "error: --fp8 hybrid needs --train: it differs from e4m3 in the gradients\n";
    return failure();
  }
  for (StringRef arch : options.archs) {
    int64_t number = 0;
    StringRef digits = arch.split('_').second;
    digits.consumeInteger(10, number);
    if (number && number < 89) { // what is no architecture at all is refused later
      llvm::errs() << "error: --arch " << arch
                   << ": --fp8 needs sm_89 or later, earlier GPUs do not multiply 8-bit floats\n";
      return failure();
    }
  }
  return success();
}

LogicalResult checkAsyncTensorParallel(const PipelineOptions &pipeline) {
  if (pipeline.asyncTensorParallel && !pipeline.sequenceParallel) {
    llvm::errs()
        << "error: --async-tensor-parallel needs --sequence-parallel: without it nothing is "
           "gathered or scattered along the sequence\n";
    return failure();
  }
  if (pipeline.asyncTensorParallelPieces && !pipeline.asyncTensorParallel) {
    llvm::errs() << "error: --async-tensor-parallel-pieces needs --async-tensor-parallel\n";
    return failure();
  }
  return success();
}

/// The options contradict each other or are not enough; said on stderr.
static LogicalResult checkOptions(const CompileOptions &options) {
  if (options.output.empty() && !options.model.pipeline.printPlan && options.stopAfter.empty()) {
    llvm::errs()
        << "error: compile needs an output: -o NAME.bundle (or --print-plan, --stop-after)\n";
    return failure();
  }
  if (options.target != "cpu" && options.target != "cuda") {
    llvm::errs() << "error: --target \"" << options.target << "\" is not cpu or cuda\n";
    return failure();
  }
  // What the other target has.
  auto refuse = [&](StringRef option, bool isGiven, StringRef target) {
    if (isGiven && options.target != target)
      llvm::errs() << "error: " << option << " is for --target " << target << ", the target is "
                   << options.target << "\n";
    return isGiven && options.target != target;
  };
  if (refuse("--isa", !options.levels.empty(), "cpu") ||
      refuse("--arch", !options.archs.empty(), "cuda") ||
      refuse("--toolkit", !options.toolkit.empty(), "cuda") ||
      refuse("--cuda-workspace", options.workspaceBytes >= 0, "cuda") ||
      refuse("--allow-tf32", options.allowTf32, "cuda"))
    return failure();
  if (options.train.offload != Offload::None && options.target == "cpu") {
    llvm::errs() << "error: --offload " << str(options.train.offload)
                 << " is for --target cuda: where ranks are processors, their memory is the "
                    "machine's already\n";
    return failure();
  }
  if (failed(checkFp8(options)) || failed(checkAsyncTensorParallel(options.model.pipeline)))
    return failure();
  if (options.model.pipeline.asyncTensorParallel && options.train.overlap.tensorParallel == false) {
    llvm::errs() << "error: --tensor-parallel-overlap none does not apply to "
                    "--async-tensor-parallel, which is for overlap\n";
    return failure();
  }
  const ImportOptions &import = options.model.import;
  if (options.train.enabled && (import.cacheCapacity || !import.carried.empty())) {
    llvm::errs() << "error: " << (import.cacheCapacity ? "--cache" : "--carry")
                 << " does not apply to --train\n";
    return failure();
  }
  if (options.train.enabled && !options.model.instances.empty()) {
    llvm::errs() << "error: --shape-instance does not apply to --train\n";
    return failure();
  }
  if (options.stopAfter.empty())
    return success();
  if (!options.output.empty()) {
    llvm::errs() << "error: --stop-after " << options.stopAfter
                 << " writes no bundle: leave out -o\n";
    return failure();
  }
  std::string names = "import";
  for (const Stage &stage : pipelineStages())
    names += ", " + stage.name.str();
  if (!llvm::is_contained(llvm::split(names, ", "), options.stopAfter)) {
    llvm::errs() << "error: --stop-after \"" << options.stopAfter << "\": the stages are " << names
                 << "\n";
    return failure();
  }
  return success();
}

static BundleOptions bundleOptions(const CompileOptions &options) {
  BundleOptions bundle;
  bundle.path = options.output;
  bundle.force = options.force;
  bundle.model = llvm::sys::path::stem(options.model.import.path).str();
  bundle.schedule.target = options.target == "cuda" ? Target::Cuda : Target::Cpu;
  bundle.toolkit = options.toolkit;
  bundle.schedule.allowTf32 = options.allowTf32;
  bundle.schedule.offload = options.train.offload;
  if (options.workspaceBytes >= 0)
    bundle.schedule.workspaceBytes = options.workspaceBytes;
  bundle.levels = options.levels;
  if (!options.archs.empty())
    bundle.archs = options.archs;
  else if (!options.model.pipeline.fp8.empty())
    bundle.archs = {"sm_90a", "sm_100a", "compute_90"};
  return bundle;
}

/// From the imported model to the local view, or as far as is asked for.
static LogicalResult runStages(CompileOptions &options, Model &model,
                               const ScheduleOptions &schedule, Progress &progress, bool &isDone) {
  progress.done("import", std::to_string(model.weights.all().size()) + " weights");
  if ((isDone = options.stopAfter == "import"))
    return success();
  for (const Stage &stage : pipelineStages()) {
    PassManager pm(model.context.get());
    stage.build(pm, options.model.pipeline);
    if (failed(pm.run(*model.module)))
      return failure();
    progress.done(stage.name);
    if (stage.name == "outline" &&
        failed(fitMemory(*model.module, options.train, options.model.pipeline, schedule)))
      return failure();
    bool isPlan = stage.name == "annotate" && options.output.empty() &&
                  options.stopAfter.empty(); // --print-plan alone
    if ((isDone = isPlan || stage.name == options.stopAfter))
      return success();
  }
  return success();
}

int compileCommand(CompileOptions &options) {
  if (failed(checkOptions(options)))
    return kUsage;
  BundleOptions bundle = bundleOptions(options);
  options.model.pipeline.target = bundle.schedule.target;
  if (bundle.schedule.target == Target::Cuda)
    if (llvm::Error error = checkCudaOptions(bundle)) {
      llvm::errs() << "error: --arch: " << llvm::toString(std::move(error)) << "\n";
      return kUsage;
    }
  FailureOr<CostTable> costs = readCosts(options.model.pipeline);
  if (failed(costs))
    return kFailed;
  if (costs->isMeasured() && costs->machine.target != options.target) {
    llvm::errs() << "error: --costs " << options.model.pipeline.costs << " was measured on "
                 << costs->machine.target << ", the target is " << options.target << "\n";
    return kUsage;
  }
  bundle.schedule.costs = std::move(*costs);
  if (llvm::Error error = applyTrainOptions(options.train, options.model.pipeline)) {
    llvm::errs() << "error: " << llvm::toString(std::move(error)) << "\n";
    return kUsage;
  }
  // Said before the work, not after it.
  if (!options.output.empty() && llvm::sys::fs::exists(options.output) && !options.force) {
    llvm::errs() << "error: " << options.output << " exists; --force replaces it\n";
    return kUsage;
  }
  Progress progress(options.progress);
  FailureOr<Model> model = loadModel(options.model);
  if (failed(model))
    return kFailed;
  bool isDone = false; // before a bundle is due
  if (failed(runStages(options, *model, bundle.schedule, progress, isDone)))
    return kFailed;
  if (isDone)
    return kOk;
  options.model.pipeline.printPlan = false; // said once
  for (const ShapeInstance &instance : options.model.instances) {
    FailureOr<Model> other = loadModel(options.model, &instance, model->context);
    if (failed(other) || failed(runStages(options, *other, bundle.schedule, progress, isDone)) ||
        failed(mergeInstance(*model->module, *other->module, instance)))
      return kFailed;
    mergeWeights(model->weights, other->weights);
  }

  bundle.weights = &model->weights;
  bundle.schedule.overlap = options.train.overlap; // the memory limit may have changed it
  bundle.schedule.memoryLimit = options.train.memoryLimit;
  if (options.train.enabled)
    bundle.trainingJson = trainingJson(options.train, options.model.pipeline, *model->module);
  if (failed(compileToBundle(*model->module, bundle)))
    return kFailed;
  progress.done("bundle", options.output);
  return options.json ? inspectCommand(options.output, true) : kOk;
}

} // namespace shardc
