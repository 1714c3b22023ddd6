//===- Compile.cpp - shardc compile ------------------------------------------------------------------===//

#include "shardc/Driver/Driver.h"

#include "shardc/Bundle/Bundle.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace shardc {

int compileCommand(const CompileOptions &options) {
  if (options.output.empty() && !options.model.pipeline.printPlan) {
    llvm::errs() << "error: compile needs an output: -o NAME.bundle (or --print-plan)\n";
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

  for (const Stage &stage : pipelineStages()) {
    PassManager pm(model->context.get());
    stage.build(pm, options.model.pipeline);
    if (failed(pm.run(*model->module)))
      return kFailed;
    progress.done(stage.name);
    if (stage.name == "annotate" && options.output.empty())
      return kOk; // --print-plan alone
  }

  BundleOptions bundle;
  bundle.path = options.output;
  bundle.force = options.force;
  bundle.model = llvm::sys::path::stem(options.model.import.path).str();
  bundle.weights = &model->weights;
  if (!options.levels.empty())
    bundle.levels = options.levels;
  if (failed(compileToBundle(*model->module, bundle)))
    return kFailed;
  progress.done("bundle", options.output);
  return options.json ? inspectCommand(options.output, true) : kOk;
}

} // namespace shardc
