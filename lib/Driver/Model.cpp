//===- Model.cpp - From a file to IR and weights --------------------------===//

#include "shardc/Driver/Driver.h"

#include "mlir/Parser/Parser.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace shardc {

void Progress::done(StringRef stage, StringRef note) {
  auto now = std::chrono::steady_clock::now();
  double seconds = std::chrono::duration<double>(now - start).count();
  start = now;
  std::clock_t nowClock = std::clock();
  double cpuSeconds = static_cast<double>(nowClock - startClock) / CLOCKS_PER_SEC;
  startClock = nowClock;
  if (enabled)
    llvm::errs() << llvm::left_justify(stage, 12)
                 << llvm::format("%7.3f s  %7.3f s cpu  ", seconds, cpuSeconds) << note << "\n";
}

/// What a person looks for: the file (and line, where the source is text), and in it the ONNX node
/// or module path, unless `message` begins with it.
static void printLocation(llvm::raw_ostream &os, LocationAttr location, StringRef message) {
  if (auto file = dyn_cast<FileLineColLoc>(location)) {
    os << file.getFilename().getValue() << ": ";
    if (file.getLine() > 0)
      os << file.getLine() << ":" << file.getColumn() << ": ";
  } else if (auto name = dyn_cast<NameLoc>(location)) {
    printLocation(os, name.getChildLoc(), message);
    std::string quoted = "\"" + name.getName().str() + "\"";
    if (!message.starts_with(quoted))
      os << quoted << ": ";
  } else if (auto fused = dyn_cast<FusedLoc>(location)) {
    printLocation(os, fused.getLocations().front(), message);
  } else if (auto call = dyn_cast<CallSiteLoc>(location)) {
    printLocation(os, call.getCallee(), message);
  }
}

std::unique_ptr<MLIRContext> makeContext() {
  DialectRegistry registry;
  registerDialects(registry);
  auto context = std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
  context->loadAllAvailableDialects();
  context->printOpOnDiagnostic(false); // who compiles a model has not written its IR
  context->getDiagEngine().registerHandler([](Diagnostic &diag) {
    // One line a message: where (file, ONNX node or module path), what, and notes below it.
    static const char *kinds[] = {"note", "warning", "error", "remark"};
    llvm::raw_ostream &os = llvm::errs();
    std::string message = diag.str();
    printLocation(os, diag.getLocation(), message);
    os << kinds[static_cast<int>(diag.getSeverity())] << ": " << message << "\n";
    for (Diagnostic &note : diag.getNotes())
      os << "  note: " << note << "\n";
    return success();
  });
  return context;
}

FailureOr<Model> loadModel(const ModelOptions &options, const ShapeInstance *instance,
                           std::shared_ptr<MLIRContext> context) {
  Model model;
  model.context = context ? std::move(context) : makeContext();
  if (llvm::sys::path::extension(options.import.path) == ".mlir") {
    const ImportOptions &import = options.import;
    const char *given = import.cacheCapacity         ? "--cache"
                        : !import.carried.empty()    ? "--carry"
                        : !import.dims.empty()       ? "--dim"
                        : !import.constants.empty()  ? "--constant"
                        : !options.instances.empty() ? "--shape-instance"
                                                     : nullptr;
    if (given) {
      llvm::errs() << "error: " << given << " applies to ONNX files, " << import.path
                   << " is imported already\n";
      return failure();
    }
    model.module = parseSourceFile<ModuleOp>(options.import.path, model.context.get());
    if (!model.module)
      return failure();
  } else {
    // Its own plan, unless another one is chosen.
    ImportOptions import = options.import;
    if (instance)
      for (const auto &dim : instance->dims)
        import.dims[dim.first()] = dim.second;
    StringRef plan = options.pipeline.plan.getValue();
    import.readDevices = plan.empty() || plan == "onnx" || plan.consume_front("onnx:");
    import.deviceConfiguration = plan.str() == "onnx" ? "" : plan.str();
    auto imported = importOnnx(*model.context, import, model.weights);
    if (failed(imported))
      return failure();
    model.module = std::move(*imported);
  }
  if (!options.weights.empty())
    if (llvm::Error error = model.weights.fillFromSafetensors(options.weights)) {
      llvm::errs() << "error: " << llvm::toString(std::move(error)) << "\n";
      return failure();
    }
  return model;
}

} // namespace shardc
