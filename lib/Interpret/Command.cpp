//===- Command.cpp - `shard-opt --shard-interpret` ------------------------===//
//
// Reads a module and its inputs, runs it, prints or stores the outputs. No llvm::cl: its options
// are global, and these would appear in every tool that links this library.
//
//===----------------------------------------------------------------------===//

#include "shardc/Interpret/Command.h"

#include "Format.h"
#include "shardc/Interpret/Random.h"
#include "shardc/Support/Npy.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/SourceMgr.h"

#include <map>

using namespace mlir;
using namespace shardc;

static constexpr llvm::StringLiteral kUsage =
    R"(usage: shard-opt --shard-interpret FILE.mlir [options]

Runs a function of a module: on one device, or on all devices of its mesh once it is partitioned.

  --entry NAME          function to run (default: main, or the only public one)
  --input NAME=FILE     an input from an .npy file
  --input 'NAME=dense<...>'  or written out; inputs that are not given are seeded random numbers
  --weights DIR         parameters from DIR/NAME.npy (default: seeded random numbers)
  --seed N              of the random numbers (default: 0)
  --output NAME=FILE    writes an output to an .npy file
  --budget BYTES        refuses to run what needs more memory (default: 4294967296)
  --trace               prints every value as it is computed, on all devices
  --json                prints outputs as JSON
)";

//===----------------------------------------------------------------------===//
// Command line
//===----------------------------------------------------------------------===//

namespace {
struct CommandLine {
  std::string file;
  std::map<std::string, std::string> inputs, outputs; // by name
  std::string weights;
  uint64_t seed = 0;
  bool json = false, trace = false, help = false;
  InterpretOptions options;
};
} // namespace

static Error parsePair(StringRef text, std::map<std::string, std::string> &pairs) {
  auto [name, value] = text.split('=');
  if (name.empty() || value.empty())
    return "\"" + text.str() + "\" is not of the form NAME=VALUE";
  if (!pairs.try_emplace(name.str(), value.str()).second)
    return "\"" + name.str() + "\" is given twice";
  return std::nullopt;
}

static Error parseOption(StringRef name, StringRef value, CommandLine &command) {
  if (name == "input")
    return parsePair(value, command.inputs);
  if (name == "output")
    return parsePair(value, command.outputs);
  if (name == "entry")
    command.options.entry = value.str();
  else if (name == "weights")
    command.weights = value.str();
  else if (name == "seed" ? value.getAsInteger(10, command.seed)
                          : value.getAsInteger(10, command.options.byteBudget))
    return "--" + name.str() + " needs a number, not \"" + value.str() + "\"";
  return std::nullopt;
}

static Error parseCommandLine(ArrayRef<char *> arguments, CommandLine &command) {
  static const llvm::StringLiteral kWithValue[] = {"input",   "output", "entry",
                                                   "weights", "seed",   "budget"};
  std::map<StringRef, bool *> flags = {
      {"json", &command.json}, {"trace", &command.trace}, {"help", &command.help}};
  for (size_t n = 0; n < arguments.size(); ++n) {
    StringRef argument = arguments[n];
    if (!argument.starts_with("-") || argument == "-") {
      if (!command.file.empty())
        return "two files are given: " + command.file + " and " + argument.str();
      command.file = argument.str();
      continue;
    }
    auto [name, value] = argument.ltrim('-').split('=');
    if (name == "shard-interpret")
      continue;
    if (auto flag = flags.find(name); flag != flags.end()) {
      *flag->second = true;
      continue;
    }
    if (!llvm::is_contained(kWithValue, name))
      return "unknown option --" + name.str();
    if (!argument.contains('=')) {
      if (++n == arguments.size())
        return "--" + name.str() + " needs a value";
      value = arguments[n];
    }
    if (Error error = parseOption(name, value, command))
      return error;
  }
  if (command.file.empty() && !command.help)
    return "no file is given (- reads standard input)";
  return std::nullopt;
}

bool shardc::isInterpretCommand(int argc, char **argv) {
  return llvm::any_of(ArrayRef(argv, argc), [](StringRef argument) {
    return argument == "--shard-interpret" || argument == "-shard-interpret";
  });
}

//===----------------------------------------------------------------------===//
// Inputs and weights
//===----------------------------------------------------------------------===//

/// A tensor from `dense<...>`, or from a file.
static Result<HostTensor> readInput(const std::string &text, RankedTensorType type) {
  if (!StringRef(text).starts_with("dense<"))
    return readNpy(text, type.getContext(), type);
  auto attr = dyn_cast_or_null<ElementsAttr>(parseAttribute(text, type.getContext(), type));
  FailureOr<HostTensor> tensor =
      attr ? HostTensor::fromAttr(attr) : FailureOr<HostTensor>(failure());
  if (failed(tensor))
    return Result<HostTensor>::failure(text + " is not a literal of its type");
  return std::move(*tensor);
}

static std::string nameOf(const EntryInterface &entry) {
  return func::FuncOp(entry.function).getSymName().str();
}

/// Position of the value of that name; nothing if there is none.
static std::optional<size_t> findByName(ArrayRef<InterfaceValue> values, StringRef name) {
  for (auto [n, value] : llvm::enumerate(values))
    if (value.name == name)
      return n;
  return std::nullopt;
}

static Error makeInputs(const CommandLine &command, const EntryInterface &entry,
                        SmallVector<HostTensor> &inputs) {
  inputs = randomInputs(entry, command.seed);
  for (const auto &[name, text] : command.inputs) {
    std::optional<size_t> n = findByName(entry.inputs, name);
    if (!n)
      return "@" + nameOf(entry) + " has no input \"" + name + "\"";
    Result<HostTensor> tensor = readInput(text, entry.inputs[*n].type);
    if (!tensor)
      return "input \"" + name + "\": " + tensor.error;
    inputs[*n] = std::move(*tensor);
  }
  return std::nullopt;
}

static ParameterSource parametersFrom(const CommandLine &command) {
  if (command.weights.empty())
    return randomParameters(command.seed);
  return [folder = command.weights](StringRef name, RankedTensorType stored) {
    return readNpy(folder + "/" + name.str() + ".npy", stored.getContext(), stored);
  };
}

//===----------------------------------------------------------------------===//
// Command
//===----------------------------------------------------------------------===//

static int fail(const std::string &message, int status) {
  llvm::errs() << "error: " << message << '\n';
  return status;
}

static void trace(Value value, const DeviceTensors &tensors) {
  AsmState state(value.getParentRegion()->getParentOp());
  for (auto [device, tensor] : llvm::enumerate(tensors)) {
    std::string name;
    llvm::raw_string_ostream os(name);
    value.printAsOperand(os, state);
    printOutput(llvm::errs(), tensors.size() > 1 ? name + " on " + std::to_string(device) : name,
                tensor);
  }
}

/// Writes the outputs that --output names; an error names one that does not exist.
static Error writeOutputs(const CommandLine &command, const EntryInterface &entry,
                          ArrayRef<HostTensor> tensors) {
  for (const auto &[name, path] : command.outputs) {
    std::optional<size_t> n = findByName(entry.outputs, name);
    if (!n)
      return "@" + nameOf(entry) + " has no output \"" + name + "\"";
    if (Error error = writeNpy(path, tensors[*n]))
      return error;
  }
  return std::nullopt;
}

static int runModule(ModuleOp module, CommandLine &command) {
  FailureOr<EntryInterface> entry = describeEntry(module, command.options.entry);
  if (failed(entry))
    return 1;
  SmallVector<HostTensor> inputs;
  if (Error error = makeInputs(command, *entry, inputs))
    return fail(*error, 1);
  command.options.parameters = parametersFrom(command);
  if (command.trace)
    command.options.observe = trace;
  FailureOr<SmallVector<HostTensor>> outputs = interpret(module, inputs, command.options);
  if (failed(outputs))
    return 1;
  if (Error error = writeOutputs(command, *entry, *outputs))
    return fail(*error, 1);
  if (command.json) {
    printOutputsAsJson(llvm::outs(), entry->outputs, *outputs);
    return 0;
  }
  for (auto [output, tensor] : llvm::zip(entry->outputs, *outputs))
    printOutput(llvm::outs(), output.name, tensor);
  return 0;
}

int shardc::runInterpretCommand(int argc, char **argv, DialectRegistry &registry) {
  CommandLine command;
  if (Error error = parseCommandLine(ArrayRef(argv, argc).drop_front(), command))
    return fail(*error + "; --shard-interpret --help lists the options", 2);
  if (command.help) {
    llvm::outs() << kUsage;
    return 0;
  }
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.printOpOnDiagnostic(false);
  auto buffer = llvm::MemoryBuffer::getFileOrSTDIN(command.file);
  if (!buffer)
    return fail("cannot read " + command.file + ": " + buffer.getError().message(), 1);
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(std::move(*buffer), llvm::SMLoc());
  SourceMgrDiagnosticHandler handler(sources, &context);
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(sources, &context);
  return module ? runModule(*module, command) : 1;
}
