//===- Compile.cpp - shardc compile ------------------------------------------------------------------===//

#include "shardc/Driver/Driver.h"

#include "shardc/Bundle/Bundle.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace shardc {

/// The options contradict each other or are not enough; said on stderr.
static LogicalResult checkOptions(const CompileOptions &options) {
  if (options.output.empty() && !options.model.pipeline.printPlan && options.stopAfter.empty()) {
    llvm::errs() << "error: compile needs an output: -o NAME.bundle (or --print-plan, --stop-after)\n";
    return failure();
  }
  if (options.stopAfter.empty())
    return success();
  if (!options.output.empty()) {
    llvm::errs() << "error: --stop-after " << options.stopAfter << " writes no bundle: leave out -o\n";
    return failure();
  }
  std::string names = "import";
  for (const Stage &stage : pipelineStages())
    names += ", " + stage.name.str();
  if (!llvm::is_contained(llvm::split(names, ", "), options.stopAfter)) {
    llvm::errs() << "error: --stop-after \"" << options.stopAfter << "\": the stages are " << names << "\n";
    return failure();
  }
  return success();
}

int compileCommand(CompileOptions &options) {
  if (failed(checkOptions(options)))
    return kUsage;
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
  progress.done("import", std::to_string(model->weights.all().size()) + " weights");
  if (options.stopAfter == "import")
    return kOk;

  for (const Stage &stage : pipelineStages()) {
    PassManager pm(model->context.get());
    stage.build(pm, options.model.pipeline);
    if (failed(pm.run(*model->module)))
      return kFailed;
    progress.done(stage.name);
    if (stage.name == "outline" && failed(fitMemory(*model->module, options.train, options.model.pipeline)))
      return kFailed;
    if (stage.name == options.stopAfter)
      return kOk;
    if (stage.name == "annotate" && options.output.empty() && options.stopAfter.empty())
      return kOk; // --print-plan alone
  }

  BundleOptions bundle;
  bundle.path = options.output;
  bundle.force = options.force;
  bundle.model = llvm::sys::path::stem(options.model.import.path).str();
  bundle.weights = &model->weights;
  bundle.overlap = options.train.overlap;
  if (options.train.enabled)
    bundle.trainingJson = trainingJson(options.train, options.model.pipeline, *model->module);
  if (!options.levels.empty())
    bundle.levels = options.levels;
  if (failed(compileToBundle(*model->module, bundle)))
    return kFailed;
  progress.done("bundle", options.output);
  return options.json ? inspectCommand(options.output, true) : kOk;
}

} // namespace shardc
