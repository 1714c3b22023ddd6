//===- Verify.cpp - shardc verify: numbers against the unsharded program, stage by stage -===//
//
// The imported program, interpreted on one device, is the reference. After every stage the module
// is interpreted again (after Partition on all simulated devices), and the compiled bundle runs on
// ranks of one process. Each line compares one stage's outputs with the reference.
//
//===----------------------------------------------------------------------===//

#include "ShardRun.h"
#include "shardc/Driver/Driver.h"

#include "shardc/Bundle/Bundle.h"
#include "shardc/Interpret/Random.h"
#include "shardc/Interpret/Shards.h"
#include "shardc/Support/Npy.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"

using namespace mlir;

namespace shardc {

namespace {

/// Largest difference over all outputs of one stage, relative to the largest magnitude of the
/// output.
struct StageResult {
  std::string stage;
  double difference = 0, relative = 0;
  std::string worst; ///< output and place
};

class Verification {
public:
  Verification(const VerifyOptions &options, Model &model) : options(options), model(model) {
    interpretOptions.byteBudget = options.byteBudget;
    interpretOptions.parameters = [&model](StringRef name, RankedTensorType) -> Result<HostTensor> {
      auto tensor = model.weights.tensor(model.context.get(), name);
      if (!tensor)
        return Result<HostTensor>::failure(llvm::toString(tensor.takeError()));
      return std::move(*tensor);
    };
  }

  /// Interprets the imported program.
  LogicalResult runReference();
  /// Runs one stage and compares.
  LogicalResult runStage(const Stage &stage);
  /// Compiles, runs the ranks, and compares.
  LogicalResult runCompiled();
  int report() const;

private:
  LogicalResult readInputs(const EntryInterface &entry);
  StageResult compare(StringRef stage, ArrayRef<HostTensor> outputs) const;

  const VerifyOptions &options;
  Model &model;
  InterpretOptions interpretOptions;
  SmallVector<std::string> inputNames, outputNames;
  SmallVector<HostTensor> inputs, reference;
  std::vector<StageResult> results;
};

} // namespace

LogicalResult Verification::readInputs(const EntryInterface &entry) {
  inputs = randomInputs(entry, options.seed);
  for (const InterfaceValue &input : entry.inputs)
    inputNames.push_back(input.name);
  for (const InterfaceValue &output : entry.outputs)
    outputNames.push_back(output.name);
  for (const std::string &text : options.inputs) {
    auto [name, file] = StringRef(text).split('=');
    auto found = llvm::find(inputNames, name);
    if (found == inputNames.end()) {
      llvm::errs() << "error: --input \"" << text << "\": the model's inputs are "
                   << llvm::join(inputNames, ", ") << "\n";
      return failure();
    }
    size_t n = found - inputNames.begin();
    Result<HostTensor> tensor = readNpy(file, model.context.get());
    if (!tensor) {
      llvm::errs() << "error: " << tensor.error << "\n";
      return failure();
    }
    if (tensor->type != inputs[n].type) {
      llvm::errs() << "error: " << file << " holds " << tensor->type << ", input \"" << name
                   << "\" is " << inputs[n].type << "\n";
      return failure();
    }
    inputs[n] = std::move(*tensor);
  }
  return success();
}

LogicalResult Verification::runReference() {
  FailureOr<EntryInterface> entry = describeEntry(*model.module, "main");
  if (failed(entry) || failed(readInputs(*entry)))
    return failure();
  FailureOr<SmallVector<HostTensor>> outputs = interpret(*model.module, inputs, interpretOptions);
  if (failed(outputs))
    return failure();
  reference = std::move(*outputs);
  return success();
}

StageResult Verification::compare(StringRef stage, ArrayRef<HostTensor> outputs) const {
  StageResult result;
  result.stage = stage.str();
  for (auto [name, have, want] : llvm::zip(outputNames, outputs, reference)) {
    std::optional<Difference> difference = largestDifference(want, have);
    double largest = 0;
    for (double x : want.f)
      largest = std::max(largest, std::isfinite(x) ? std::fabs(x) : 0);
    for (int64_t x : want.i)
      largest = std::max(largest, std::fabs(static_cast<double>(x)));
    double amount = difference ? difference->amount : 0; // none where all elements are equal
    double relative = amount == 0 ? 0 : amount / std::max(largest, 1e-30);
    if (relative < result.relative)
      continue;
    result.difference = amount;
    result.relative = relative;
    result.worst = difference ? name + formatIndex(want.shape(), difference->at) : "";
  }
  return result;
}

LogicalResult Verification::runStage(const Stage &stage) {
  PassManager pm(model.context.get());
  stage.build(pm, options.model.pipeline);
  if (failed(pm.run(*model.module)))
    return failure();
  FailureOr<SmallVector<HostTensor>> outputs = interpret(*model.module, inputs, interpretOptions);
  if (failed(outputs))
    return failure();
  results.push_back(compare(stage.name, *outputs));
  return success();
}

llvm::ErrorOr<std::string> findShardRun() {
  std::string self =
      llvm::sys::fs::getMainExecutable(nullptr, reinterpret_cast<void *>(&findShardRun));
  return llvm::sys::findProgramByName("shard-run", {llvm::sys::path::parent_path(self)});
}

LogicalResult Verification::runCompiled() {
  auto shardRun = findShardRun();
  if (!shardRun) {
    llvm::errs() << "error: shard-run is neither beside shardc nor in PATH; --no-compiled leaves "
                    "the compiled program out\n";
    return failure();
  }
  llvm::SmallString<128> folder;
  if (std::error_code error = llvm::sys::fs::createUniqueDirectory("shardc-verify", folder)) {
    llvm::errs() << "error: cannot make a temporary folder: " << error.message() << "\n";
    return failure();
  }
  llvm::scope_exit removeFolder([&] { llvm::sys::fs::remove_directories(folder); });
  std::string base = folder.str().str();
  BundleOptions bundle;
  bundle.path = base + "/model.bundle";
  bundle.model = "verify";
  bundle.weights = &model.weights;
  FailureOr<CostTable> costs = readCosts(options.model.pipeline);
  if (failed(costs))
    return failure();
  bundle.schedule.costs = std::move(*costs);
  if (failed(compileToBundle(*model.module, bundle)))
    return failure();
  std::vector<std::string> args{*shardRun, "--in-process", bundle.path};
  for (auto [n, name, tensor] : llvm::enumerate(inputNames, inputs)) {
    std::string file = base + "/in" + std::to_string(n) + ".npy";
    if (Error error = writeNpy(file, tensor)) {
      llvm::errs() << "error: " << *error << "\n";
      return failure();
    }
    args.insert(args.end(), {"--input", name + "=" + file});
  }
  for (auto [n, name] : llvm::enumerate(outputNames))
    args.insert(args.end(), {"--output", name + "=" + base + "/out" + std::to_string(n) + ".npy"});
  SmallVector<StringRef> argRefs(args.begin(), args.end());
  std::optional<StringRef> redirects[] = {std::nullopt, StringRef(""),
                                          std::nullopt}; // its results are read from files
  std::string message;
  if (int code =
          llvm::sys::ExecuteAndWait(*shardRun, argRefs, std::nullopt, redirects, 0, 0, &message)) {
    llvm::errs() << "error: the compiled program ended with status " << code << " " << message
                 << "\n";
    return failure();
  }
  SmallVector<HostTensor> outputs;
  for (size_t n = 0; n < outputNames.size(); ++n) {
    Result<HostTensor> tensor =
        readNpy(base + "/out" + std::to_string(n) + ".npy", model.context.get(), reference[n].type);
    if (!tensor) {
      llvm::errs() << "error: " << tensor.error << "\n";
      return failure();
    }
    outputs.push_back(std::move(*tensor));
  }
  results.push_back(compare("compiled", outputs));
  return success();
}

int Verification::report() const {
  bool ok = true;
  llvm::json::Array lines;
  if (!options.json)
    llvm::outs() << "stage        largest difference   relative     at\n";
  for (const StageResult &result : results) {
    bool good = result.relative <= options.tolerance;
    ok &= good;
    if (options.json)
      lines.push_back(llvm::json::Object{{"stage", result.stage},
                                         {"difference", result.difference},
                                         {"relative", result.relative},
                                         {"at", result.worst},
                                         {"ok", good}});
    else
      llvm::outs() << llvm::left_justify(result.stage, 13)
                   << llvm::format("%-20.3g %-12.3g ", result.difference, result.relative)
                   << result.worst << (good ? "" : "   above the tolerance") << "\n";
  }
  if (options.json)
    llvm::outs() << llvm::formatv(
        "{0:2}\n", llvm::json::Value(llvm::json::Object{{"ok", ok}, {"stages", std::move(lines)}}));
  else
    llvm::outs() << (ok ? "ok" : "numbers differ") << ": tolerance "
                 << llvm::format("%g", options.tolerance) << " of the largest magnitude\n";
  return ok ? kOk : kMismatch;
}

/// One model: all stages, and what its bundle computes.
static int verifyModel(const VerifyOptions &options, Model &model) {
  Verification verification(options, model);
  if (failed(verification.runReference()))
    return kFailed;
  for (const Stage &stage : pipelineStages())
    if (failed(verification.runStage(stage)))
      return kFailed;
  if (options.compiled && failed(verification.runCompiled()))
    return kFailed;
  return verification.report();
}

int verifyCommand(const VerifyOptions &options) {
  if (failed(checkAsyncTensorParallel(options.model.pipeline)))
    return kUsage;
  std::vector<const ShapeInstance *> instances = {nullptr};
  for (const ShapeInstance &instance : options.model.instances)
    instances.push_back(&instance);
  if (instances.size() > 1 && (options.json || !options.inputs.empty())) {
    llvm::errs() << "error: " << (options.json ? "--json" : "--input")
                 << " does not apply to --shape-instance, which verifies several programs\n";
    return kUsage;
  }
  int status = kOk;
  for (const ShapeInstance *instance : instances) {
    FailureOr<Model> model = loadModel(options.model, instance);
    if (failed(model))
      return kFailed;
    if (instances.size() > 1)
      llvm::outs() << (instance ? "main@" + instance->name : "main") << ":\n";
    if (int code = verifyModel(options, *model)) {
      if (code != kMismatch)
        return code;
      status = code;
    }
  }
  return status;
}

} // namespace shardc
