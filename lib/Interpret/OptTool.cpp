//===- OptTool.cpp - MLIR's opt driver with --validate-each ---------------===//

#include "shardc/Interpret/Command.h"
#include "shardc/Interpret/Validate.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/ToolOutputFile.h"

using namespace mlir;
using namespace shardc;

/// `config` that also validates every pass and leaves what it finds in `report`.
static void addValidation(MlirOptMainConfig &config, std::shared_ptr<ValidateReport> report) {
  MlirOptMainConfig plain = config;
  config.setPassPipelineSetupFn([plain, report](PassManager &manager) -> LogicalResult {
    // The module is read as a whole after each pass: no pass may run beside it.
    manager.getContext()->disableMultithreading();
    manager.addInstrumentation(createValidateEach({}, report));
    return plain.setupPassPipeline(manager);
  });
}

int shardc::runOptTool(int argc, char **argv, StringRef name, DialectRegistry &registry) {
  static llvm::cl::opt<bool> validateEach(
      "validate-each",
      llvm::cl::desc(
          "Interpret the module before and after every pass on seeded inputs, on as many "
          "simulated devices as its mesh has, and fail at the first pass that changes an "
          "output by more than rounding"));
  auto [inputPath, outputPath] = registerAndParseCLIOptions(argc, argv, name, registry);
  MlirOptMainConfig config = MlirOptMainConfig::createFromCLOptions();
  auto report = std::make_shared<ValidateReport>();
  if (validateEach)
    addValidation(config, report);

  llvm::InitLLVM init(argc, argv);
  std::string error;
  auto input = openInputFile(inputPath, &error);
  auto output = input ? openOutputFile(outputPath, &error) : nullptr;
  if (!output) {
    llvm::errs() << "error: " << error << '\n';
    return 1;
  }
  if (failed(MlirOptMain(output->os(), std::move(input), registry, config)) ||
      !report->pass.empty())
    return 1;
  output->keep();
  return 0;
}
