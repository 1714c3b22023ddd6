//===- Bundle.cpp - A partitioned module to a directory on disk -----------===//
//
// 1. Fuse. 2. Flatten to a command list, plan the arena. 3. For each ISA level, lower the kernels
//    that the list launches and emit a shared object; for GPUs, compile what was lowered to an
//    image for each architecture. 4. Write everything into a temporary sibling directory, the
//    manifest last, and rename it.
//
//===----------------------------------------------------------------------===//
#include "shardc/Bundle/Bundle.h"
#include "BundleFiles.h"
#include "CudaImages.h"
#include "dialects/Exec/Exec.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "shardc/Fuse/Passes.h"
#include "shardc/Lower/CudaKernels.h"
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Lower/ObjectEmitter.h"
#include "shardc/Schedule/Program.h"
#include "shardc/Support/WeightStore.h"
#include "llvm/Support/FileSystem.h"

using namespace mlir;
namespace json = llvm::json;

namespace shardc {

namespace {
/// One shared object of kernels.
struct KernelFile {
  std::string level, name;
  std::string rest; ///< where the kernels are that it lacks; empty: it has them all
};
} // namespace

static bool multipliesBF16(func::FuncOp kernel) {
  return kernel
      .walk([](graph::EinsumOp op) {
        bool both = op.getLhs().getType().getElementType().isBF16() &&
                    op.getRhs().getType().getElementType().isBF16();
        return both ? WalkResult::interrupt() : WalkResult::advance();
      })
      .wasInterrupted();
}

/// The files of a bundle. One of a level with instructions for bf16 has products of bf16 only, if
/// the level without is there too.
static std::vector<KernelFile> kernelFiles(ModuleOp module, const Program &program,
                                           std::vector<std::string> levels) {
  SymbolTable symbols(module);
  auto multiplies = [&](const std::string &name) {
    return multipliesBF16(symbols.lookup<func::FuncOp>(name));
  };
  bool hasProducts = llvm::any_of(program.kernels, multiplies);
  if (program.kernels.empty())
    return {};
  if (levels.empty()) {
    levels = {"x86-64-v4", "x86-64-v3"};
    if (hasProducts)
      levels.insert(levels.begin(), {"x86-64-v4+amx-bf16", "x86-64-v4+avx512bf16"});
  }
  auto nameOf = [](StringRef level) { return ("kernels-" + level + ".so").str(); };
  std::vector<KernelFile> files;
  for (const std::string &level : levels) {
    std::string plain = StringRef(level).split('+').first.str();
    bool isPart = plain != level && hasProducts && llvm::is_contained(levels, plain);
    files.push_back({level, nameOf(level), isPart ? nameOf(plain) : ""});
  }
  return files;
}

/// Writes one file of kernels; what the command list must know of them is added to `kernels`.
static LogicalResult emitKernels(ModuleOp module, const Program &program, const KernelFile &file,
                                 StringRef path, llvm::StringMap<Kernel> &kernels) {
  const std::string &level = file.level;
  llvm::Expected<CpuTarget> target = CpuTarget::parse(level);
  if (!target)
    return module.emitError() << llvm::toString(target.takeError());
  loadKernelDialects(*module.getContext());
  OwningOpRef<ModuleOp> code = ModuleOp::create(module.getLoc());
  SymbolTable symbols(module);
  for (const std::string &name : program.kernels) {
    auto function = symbols.lookup<func::FuncOp>(name);
    if (!file.rest.empty() && !multipliesBF16(function))
      continue;
    FailureOr<Kernel> kernel = lowerKernel(function, *code, *target);
    if (failed(kernel))
      return failure();
    auto [it, isNew] = kernels.try_emplace(name, *kernel);
    if (!isNew &&
        (it->second.tiles != kernel->tiles || it->second.scratchBytes != kernel->scratchBytes))
      return module.emitError() << "kernel \"" << name << "\" has " << kernel->tiles
                                << " tiles and " << kernel->scratchBytes
                                << " bytes of scratch at level " << level << ", but "
                                << it->second.tiles << " and " << it->second.scratchBytes
                                << " at another";
  }
  ObjectEmitter emitter(*target);
  if (llvm::Error error = emitter.emitSharedObject(*code, path))
    return module.emitError() << llvm::toString(std::move(error));
  return success();
}

static FailureOr<std::string> constantBytes(ModuleOp module, const Program &program) {
  std::string result;
  for (const ProgramConstant &constant : program.constants) {
    FailureOr<HostTensor> tensor = HostTensor::fromAttr(constant.value);
    if (failed(tensor))
      return module.emitError() << "a constant of type " << constant.value.getType()
                                << " has a value of a form that cannot be read";
    std::vector<char> bytes = tensor->toBytes();
    result.append(bytes.data(), bytes.size());
    result.resize(llvm::alignTo(result.size(), 64));
  }
  return result;
}

/// Inline values of parameters, as in tests; a segment is no whole value.
static FailureOr<WeightStore> inlineWeights(ModuleOp module) {
  WeightStore store;
  WalkResult result = module.walk([&](graph::ParameterOp op) {
    if (!op.getValue() || op.getSegment() || store.find(op.getName()))
      return WalkResult::advance();
    FailureOr<HostTensor> tensor = HostTensor::fromAttr(*op.getValue());
    if (failed(tensor)) {
      op.emitError() << "weight \"" << op.getName()
                     << "\" has a value of a form that cannot be read";
      return WalkResult::interrupt();
    }
    auto bytes = std::make_shared<std::vector<char>>(tensor->toBytes());
    Weight weight;
    weight.dtype = *typeToDType(tensor->type.getElementType());
    weight.shape.assign(tensor->shape().begin(), tensor->shape().end());
    weight.bytes = *bytes;
    weight.hasValue = true;
    weight.owner = bytes;
    store.add(op.getName(), std::move(weight));
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return failure();
  return store;
}

static bool hasAllValues(const WeightStore &store, const Program &program) {
  auto hasValue = [&](StringRef tensor) {
    const Weight *weight = store.find(tensor);
    return weight && weight->hasValue;
  };
  return llvm::all_of(
             program.parameters,
             [&](const ProgramParameter &parameter) { return hasValue(parameter.tensor); }) &&
         llvm::all_of(program.buckets, [&](const ProgramBucket &bucket) {
           return llvm::all_of(bucket.items, [&](const ProgramBucket::Item &item) {
             return hasValue(item.tensor);
           });
         });
}

static json::Array toJson(ArrayRef<int64_t> values) {
  json::Array array;
  for (int64_t value : values)
    array.push_back(value);
  return array;
}

static json::Value parsed(const std::string &text) {
  llvm::Expected<json::Value> value = json::parse(text);
  if (value)
    return std::move(*value);
  llvm::consumeError(value.takeError());
  return nullptr;
}

/// Arithmetic and memory traffic of each kernel, for `shardc plan`.
static json::Array kernelCosts(ModuleOp module, const Program &program) {
  SymbolTable symbols(module);
  json::Array array;
  for (const std::string &name : program.kernels)
    array.push_back(workOf(symbols.lookup<func::FuncOp>(name)).toJson());
  return array;
}

static json::Array valuesJson(ArrayRef<ProgramValue> values, bool outputs) {
  json::Array array;
  for (const ProgramValue &value : values) {
    json::Object object{{"name", value.name},
                        {"dtype", dtypeText(value.type.getElementType())},
                        {"shape", toJson(value.type.getShape())},
                        {"shard", parsed(shardingJson(value.sharding))}};
    if (outputs)
      object["alias"] = value.alias.empty() ? json::Value(nullptr) : json::Value(value.alias);
    array.push_back(std::move(object));
  }
  return array;
}

/// One entry per collective, in the order of the commands' "origin".
static json::Array collectivesJson(const Program &program, int64_t &bytes) {
  json::Array array;
  SmallVector<std::pair<StringRef, const std::vector<ProgramCommand> *>> lists = {
      {"init", &program.init}};
  for (const ProgramEntry &entry : program.entries)
    lists.push_back({entry.name, &entry.commands});
  for (auto [entry, list] : lists)
    for (const ProgramCommand &command : *list) {
      if (!isCommunication(command.kind))
        continue;
      int64_t own = largerBytes(program, command);
      bytes += list != &program.init ? own : 0;
      array.push_back(json::Object{{"op", str(command.kind)},
                                   {"group", groupText(program, command.group)},
                                   {"ranks", axesSize(program.groups[command.group])},
                                   {"bytes", own},
                                   {"entry", entry},
                                   {"layer", command.layer},
                                   {"path", command.path},
                                   {"origin", command.origin}});
    }
  return array;
}

/// Order and operands of the collectives: equal on all ranks, or they would wait for each other for
/// ever.
static std::string launchOrderHash(const Program &program) {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (const ProgramEntry &entry : program.entries)
    for (const ProgramCommand &command : entry.commands)
      if (isCommunication(command.kind))
        os << str(command.kind) << ' ' << command.group << ' '
           << axesJson(program.groups[command.group]) << ' ' << command.buffers[0] << ' '
           << command.buffers[1] << '\n';
  return sha256(text);
}

static json::Array notesJson(ModuleOp module) {
  json::Array notes;
  forEachNote(module, [&](Location, StringRef path, StringRef note) {
    notes.push_back(json::Object{{"path", path}, {"note", note}});
  });
  return notes;
}

static std::string manifestJson(ModuleOp module, const Program &program,
                                const BundleOptions &options, json::Array kernels,
                                const BundleDirectory &directory) {
  json::Array axes;
  for (const MeshAxis &axis : program.mesh.axes)
    axes.push_back(json::Object{{"name", axis.name}, {"size", axis.size}});
  int64_t bytes = 0, launches = 0, communications = 0;
  json::Array collectives = collectivesJson(program, bytes);
  json::Array entries;
  json::Array interfaces;
  for (const ProgramEntry &entry : program.entries) {
    entries.push_back(entry.name);
    interfaces.push_back(json::Object{{"name", entry.name},
                                      {"inputs", valuesJson(entry.inputs, false)},
                                      {"outputs", valuesJson(entry.outputs, true)}});
  }
  for (const ProgramEntry &entry : program.entries)
    for (const ProgramCommand &command : entry.commands) {
      launches += command.kind == CommandKind::Launch;
      communications += isCommunication(command.kind);
    }
  json::Object memory{{"arena_bytes", program.arenaBytes},
                      {"parameter_bytes", program.bytesOf(BufferKind::Parameter)},
                      {"constant_bytes", program.bytesOf(BufferKind::Constant)},
                      {"temporary_bytes", program.temporaryBytes}};
  if (program.cuda)
    memory["host_bytes"] = program.cuda->host.bytes;
  json::Object manifest{
      {"format", json::Object{{"major", 1}, {"minor", 0}}},
      {"producer", "shardc " SHARDC_VERSION},
      {"target", program.cuda ? "cuda" : "cpu"},
      {"model", options.model},
      {"entry_points", std::move(entries)},
      {"mesh", json::Object{{"axes", std::move(axes)}}},
      {"ranks", program.mesh.deviceCount()},
      {"inputs", valuesJson(program.entries.front().inputs, false)},
      {"outputs", valuesJson(program.entries.front().outputs, true)},
      {"entries", std::move(interfaces)},
      {"kernels", std::move(kernels)},
      {"memory", std::move(memory)},
      {"communication", json::Object{{"commands", communications}, {"bytes", bytes}}},
      {"launch_order_hash", launchOrderHash(program)},
      {"costs", options.schedule.costs.record()},
      {"plan", parsed(options.planJson)},
      {"training", parsed(options.trainingJson)},
      {"report", json::Object{{"launches", launches},
                              {"kernels", int64_t(program.kernels.size())},
                              {"kernel_costs", kernelCosts(module, program)},
                              {"notes", notesJson(module)},
                              {"collectives", std::move(collectives)}}},
      {"files", directory.fileEntries()}};
  std::string text;
  llvm::raw_string_ostream(text) << llvm::formatv("{0:2}\n", json::Value(std::move(manifest)));
  return text;
}

static LogicalResult writeWeights(ModuleOp module, const Program &program,
                                  const BundleOptions &options, BundleDirectory &directory) {
  if ((program.parameters.empty() && program.buckets.empty()) || !options.writeWeights)
    return success();
  FailureOr<WeightStore> own;
  if (!options.weights && failed(own = inlineWeights(module)))
    return failure();
  const WeightStore &store = options.weights ? *options.weights : *own;
  if (!hasAllValues(store, program))
    return success(); // shard-run names what is missing, if nobody gives it
  constexpr StringLiteral file = "weights/model.safetensors";
  if (std::error_code code = llvm::sys::fs::create_directories(directory.pathOf("weights")))
    return module.emitError() << directory.pathOf("weights")
                              << ": cannot create the directory: " << code.message();
  if (llvm::Error error = store.writeSafetensors(directory.pathOf(file)))
    return module.emitError() << llvm::toString(std::move(error));
  if (llvm::Error error = directory.list(file))
    return module.emitError() << llvm::toString(std::move(error));
  return success();
}

static LogicalResult writeBundle(ModuleOp module, const Program &program,
                                 const BundleOptions &options) {
  auto fail = [&](llvm::Error error) {
    return module.emitError() << llvm::toString(std::move(error));
  };
  llvm::Expected<BundleDirectory> directory = BundleDirectory::create(options.path, options.force);
  if (!directory)
    return fail(directory.takeError());
  llvm::StringMap<Kernel> kernels;
  json::Array images;
  if (program.cuda) {
    llvm::Expected<json::Array> written = writeCudaImages(*program.cuda, options, *directory);
    if (!written)
      return fail(written.takeError());
    images = std::move(*written);
  } else {
    for (const KernelFile &file : kernelFiles(module, program, options.levels)) {
      if (failed(emitKernels(module, program, file, directory->pathOf(file.name), kernels)))
        return failure();
      if (llvm::Error error = directory->list(file.name))
        return fail(std::move(error));
      json::Object entry{{"level", file.level}, {"file", file.name}};
      if (!file.rest.empty())
        entry["rest"] = file.rest;
      images.push_back(std::move(entry));
    }
  }
  FailureOr<std::string> constants = constantBytes(module, program);
  if (failed(constants))
    return failure();
  if (llvm::Error error = directory->write("constants.bin", *constants))
    return fail(std::move(error));
  if (failed(writeWeights(module, program, options, *directory)))
    return failure();
  if (llvm::Error error = directory->write("program.json", programJson(program, kernels)))
    return fail(std::move(error));
  if (llvm::Error error = directory->write(
          "manifest.json", manifestJson(module, program, options, std::move(images), *directory)))
    return fail(std::move(error));
  if (llvm::Error error = directory->commit())
    return fail(std::move(error));
  return success();
}

LogicalResult compileToBundle(ModuleOp module, const BundleOptions &options) {
  if (options.schedule.target == Target::Cuda)
    if (llvm::Error error = checkCudaOptions(options))
      return module.emitError() << llvm::toString(std::move(error));
  PassManager pm(module.getContext(), ModuleOp::getOperationName());
  pm.addPass(createFusePass({options.schedule.target}));
  if (failed(pm.run(module)))
    return failure();
  FailureOr<Program> program = scheduleProgram(module, options.schedule);
  if (failed(program))
    return failure();
  // The verifier of the exec form proves that no value is overwritten while it is needed.
  module.getContext()->loadDialect<exec::ExecDialect>();
  LogicalResult isProved = success();
  for (exec::ProgramOp proof : buildExecPrograms(*program, module)) {
    if (succeeded(isProved))
      isProved = mlir::verify(proof);
    proof.erase();
  }
  if (failed(isProved))
    return failure();
  return writeBundle(module, *program, options);
}

} // namespace shardc
