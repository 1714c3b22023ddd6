//===- shard-translate.cpp - Models of other formats as IR ----------------===//

#include "shardc/Import/ImportOnnx.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Support/FileUtilities.h"

#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/ToolOutputFile.h"

using namespace llvm;

static cl::OptionCategory category("shard-translate");
static cl::opt<std::string> importOnnxPath("import-onnx", cl::desc("Import an ONNX model"),
                                           cl::value_desc("model.onnx"), cl::cat(category));
static cl::list<std::string>
    dims("dim",
         cl::desc("Size of a named dimension of the model's inputs (x[0] if it has no name)"),
         cl::value_desc("NAME=N"), cl::cat(category));
static cl::list<std::string> constants("constant",
                                       cl::desc("Import an input as a constant with this value"),
                                       cl::value_desc("name=file.npy"), cl::cat(category));
static cl::opt<std::string> cache(
    "cache",
    cl::desc(
        "Named dimension that is the length of a cache to which runs append, and its capacity"),
    cl::value_desc("NAME=N"), cl::cat(category));
static cl::opt<std::string>
    devices("device-configuration",
            cl::desc("Read the sharding specs of this device configuration of the file"),
            cl::value_desc("NAME"), cl::cat(category));
static cl::list<std::string> carried("carry",
                                     cl::desc("An output that replaces an input after each run"),
                                     cl::value_desc("INPUT=OUTPUT"), cl::cat(category));
static cl::opt<std::string>
    weightsPath("weights", cl::desc("Take weights from a safetensors file or a folder of them"),
                cl::value_desc("path"), cl::cat(category));
static cl::opt<std::string> weightsOut("weights-out",
                                       cl::desc("Write the weights to a safetensors file"),
                                       cl::value_desc("file"), cl::cat(category));
static cl::opt<cl::boolOrDefault> inlineOption(
    "inline-weights",
    cl::desc("Put weights into the IR (default: if they take less than 64 MiB and have values)"),
    cl::cat(category));
static cl::opt<std::string> output("o", cl::desc("Output file"), cl::init("-"), cl::cat(category));
static cl::opt<bool> debugInfo("locations", cl::desc("Print the ONNX node of each op"),
                               cl::cat(category));

/// Weights up to this size travel inside the text.
static constexpr int64_t kMaxInlineBytes = int64_t(64) << 20;

static int fail(const Twine &message) {
  errs() << "shard-translate: error: " << message << "\n";
  return 1;
}

static bool parseDims(StringMap<int64_t> &sizes) {
  for (StringRef dim : dims) {
    auto [name, size] = dim.rsplit('=');
    int64_t number = 0;
    if (name.empty() || size.getAsInteger(10, number) || number < 0)
      return fail("--dim " + dim + " is not of the form NAME=N"), false;
    sizes[name] = number;
  }
  return true;
}

static bool parseCache(shardc::ImportOptions &options) {
  if (cache.empty())
    return true;
  auto [name, size] = StringRef(cache).rsplit('=');
  if (name.empty() || size.getAsInteger(10, options.cacheCapacity) || options.cacheCapacity < 1)
    return fail("--cache " + cache + " is not of the form NAME=N with N at least 1"), false;
  options.cacheDim = name.str();
  return true;
}

static bool parsePairs(const cl::list<std::string> &pairs, StringRef form,
                       StringMap<std::string> &map) {
  for (StringRef pair : pairs) {
    auto [name, value] = pair.split('=');
    if (name.empty() || value.empty())
      return fail("--" + pairs.ArgStr + " " + pair + " is not of the form " + form), false;
    map[name] = value.str();
  }
  return true;
}

/// Whether weights go into the text; says where else they can go if not.
static bool decideInline(const shardc::WeightStore &weights) {
  if (inlineOption != cl::BOU_UNSET)
    return inlineOption == cl::BOU_TRUE;
  bool isSmall = weights.totalBytes() < kMaxInlineBytes;
  if (!isSmall && weightsOut.empty())
    errs() << "shard-translate: note: " << weights.totalBytes()
           << " bytes of weights are not in the output; write them with --weights-out FILE, or "
              "force with --inline-weights\n";
  return isSmall && weightsOut.empty();
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv, "shard-translate: models of other formats as IR\n");
  if (importOnnxPath.empty())
    return fail("nothing to do; give --import-onnx MODEL");

  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  SourceMgr sources;
  mlir::SourceMgrDiagnosticHandler diagnostics(sources, &context, errs());
  shardc::ImportOptions options;
  options.path = importOnnxPath;
  if (!parseDims(options.dims) || !parsePairs(constants, "NAME=FILE.npy", options.constants) ||
      !parsePairs(carried, "INPUT=OUTPUT", options.carried) || !parseCache(options))
    return 1;
  options.readDevices = !devices.empty();
  options.deviceConfiguration = devices;
  shardc::WeightStore weights;
  mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>> module =
      shardc::importOnnx(context, options, weights);
  if (failed(module))
    return 1;
  if (!weightsPath.empty())
    if (Error error = weights.fillFromSafetensors(weightsPath))
      return fail(toString(std::move(error)));
  if (!weightsOut.empty())
    if (Error error = weights.writeSafetensors(weightsOut))
      return fail(toString(std::move(error)));
  if (decideInline(weights) && failed(shardc::inlineWeights(**module, weights)))
    return 1;

  std::string message;
  std::unique_ptr<ToolOutputFile> file = mlir::openOutputFile(output, &message);
  if (!file)
    return fail(message);
  mlir::OpPrintingFlags flags;
  if (debugInfo)
    flags.enableDebugInfo(true, /*prettyForm=*/false);
  (*module)->print(file->os(), flags);
  file->keep();
  return 0;
}
