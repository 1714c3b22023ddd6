//===- ObjectEmitter.cpp - Kernels in MLIR to a shared object -------------===//
//
// 1. Lower all kernels to the LLVM dialect. 2. Deal them out over threads by size, each with an
//    LLVM context of its own: translate, optimise at O3, select instructions into memory. 3. Link
//    with lld.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/ObjectEmitter.h"
#include "HalfPrecision.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include <chrono>
#include <ctime>
#include <dlfcn.h>
#include <mutex>
#include <numeric>
#include <thread>

using namespace mlir;

namespace shardc {
namespace {

constexpr llvm::StringLiteral kTriple = "x86_64-unknown-linux-gnu";
constexpr llvm::StringLiteral kAbiVersion = "shardrt-1";
using Object = llvm::SmallVector<char, 0>;

struct Timer {
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
  }
};

double threadMilliseconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

} // namespace

static std::unique_ptr<llvm::TargetMachine> createMachine(const CpuTarget &target) {
  static std::once_flag initialised;
  std::call_once(initialised, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  std::string error;
  llvm::Triple triple(kTriple);
  const llvm::Target *backend = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!backend)
    return nullptr;
  llvm::TargetOptions options;
  // A product and a sum are one rounding only where a kernel says so (math.fma): what an op
  // computes must not depend on what it is fused with, or a recomputed value would differ from the
  // saved one.
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  options.FunctionSections = true;
  return std::unique_ptr<llvm::TargetMachine>(
      backend->createTargetMachine(triple, target.cpu, target.features, options, llvm::Reloc::PIC_,
                                   std::nullopt, llvm::CodeGenOptLevel::Aggressive));
}

static void setFunctionAttributes(llvm::Module &module, const CpuTarget &target) {
  for (llvm::Function &function : module) {
    function.addFnAttr(llvm::Attribute::NoUnwind);
    if (function.isDeclaration())
      continue;
    function.addFnAttr("target-cpu", target.cpu);
    if (!target.features.empty())
      function.addFnAttr("target-features", target.features);
    function.addFnAttr("no-trapping-math", "true");
    std::string bits = std::to_string(target.vectorBytes * 8);
    function.addFnAttr("prefer-vector-width", bits);
    function.addFnAttr("min-legal-vector-width", bits);
    if (function.hasInternalLinkage() && function.hasOneUse())
      function.addFnAttr(llvm::Attribute::AlwaysInline);
  }
}

static void optimise(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = tuning.SLPVectorization = tuning.LoopInterleaving = true;
  tuning.LoopUnrolling =
      false; // kernels are emitted unrolled; looking for more takes a third of the optimiser's time
  llvm::PassBuilder builder(&machine, tuning);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3).run(module, modules);
}

static void exportAbiVersion(llvm::Module &module) {
  auto *value = llvm::ConstantDataArray::getString(module.getContext(), kAbiVersion);
  new llvm::GlobalVariable(module, value->getType(), /*isConstant=*/true,
                           llvm::GlobalValue::ExternalLinkage, value, "shardrt_abi");
}

static llvm::Expected<Object> emitObject(ModuleOp module, const CpuTarget &target, bool isFirst) {
  llvm::LLVMContext context;
  // Remarks about loops are for those who write the kernels.
  context.setDiagnosticHandlerCallBack([](const llvm::DiagnosticInfo *info, void *) {
    if (info->getSeverity() != llvm::DS_Error)
      return;
    llvm::DiagnosticPrinterRawOStream printer(llvm::errs());
    llvm::errs() << "error: ";
    info->print(printer);
    llvm::errs() << "\n";
  });
  std::unique_ptr<llvm::Module> llvmModule = translateModuleToLLVMIR(module, context, "kernels");
  if (!llvmModule)
    return llvm::createStringError("cannot translate kernels to LLVM IR");
  std::unique_ptr<llvm::TargetMachine> machine = createMachine(target);
  if (!machine)
    return llvm::createStringError("this LLVM has no backend for %s", kTriple.data());
  llvmModule->setTargetTriple(llvm::Triple(kTriple));
  llvmModule->setDataLayout(machine->createDataLayout());
  setFunctionAttributes(*llvmModule, target);
  legaliseHalves(*llvmModule, target.bf16Round);
  if (isFirst) {
    exportAbiVersion(*llvmModule);
    defineHalfConversions(*llvmModule);
  }
  optimise(*llvmModule, *machine);
  storeSingleLanes(*llvmModule);

  Object object;
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager codegen;
  if (machine->addPassesToEmitFile(codegen, stream, nullptr, llvm::CodeGenFileType::ObjectFile))
    return llvm::createStringError("the backend for %s cannot write objects", kTriple.data());
  codegen.run(*llvmModule);
  return object;
}

/// Copies `symbol` and everything that it refers to into `part`.
static void copyWithCallees(Operation *symbol, ModuleOp part, SymbolTable &table,
                            llvm::DenseSet<Operation *> &copied) {
  if (!copied.insert(symbol).second)
    return;
  part.push_back(symbol->clone());
  if (auto uses = SymbolTable::getSymbolUses(symbol))
    for (SymbolTable::SymbolUse use : *uses)
      if (Operation *callee = table.lookup(use.getSymbolRef().getRootReference()))
        copyWithCallees(callee, part, table, copied);
}

static int64_t countOps(Operation *op) {
  int64_t count = 0;
  op->walk([&](Operation *) { ++count; });
  return count;
}

/// Deals the exported functions out over at most `count` modules so that their sizes are even.
static std::vector<OwningOpRef<ModuleOp>> split(ModuleOp module, int count, int64_t &numKernels) {
  SymbolTable table(module);
  std::vector<std::pair<int64_t, LLVM::LLVMFuncOp>> exported;
  for (auto function : module.getOps<LLVM::LLVMFuncOp>()) {
    if (function.isExternal() || function.getLinkage() != LLVM::Linkage::External)
      continue;
    int64_t size = countOps(function);
    if (auto body = table.lookup<LLVM::LLVMFuncOp>((function.getName() + ".body").str()))
      size += countOps(body);
    exported.push_back({size, function});
  }
  numKernels = exported.size();
  llvm::sort(exported, [](auto &x, auto &y) {
    return std::make_pair(-x.first, x.second.getName()) <
           std::make_pair(-y.first, y.second.getName());
  });
  count = std::clamp<int>(count, 1, std::max<size_t>(exported.size(), 1));
  std::vector<OwningOpRef<ModuleOp>> parts(count);
  std::vector<int64_t> load(count, 0);
  std::vector<llvm::DenseSet<Operation *>> copied(count);
  for (auto &part : parts)
    part = ModuleOp::create(module.getLoc());
  for (auto &[size, function] : exported) {
    size_t lightest = std::min_element(load.begin(), load.end()) - load.begin();
    load[lightest] += size;
    copyWithCallees(function, *parts[lightest], table, copied[lightest]);
  }
  return parts;
}

llvm::Expected<llvm::SmallVector<Object>> ObjectEmitter::emitObjects(ModuleOp module) {
  MLIRContext *context = module.getContext();
  registerBuiltinDialectTranslation(*context);
  registerLLVMDialectTranslation(*context);
  Timer lowering;
  if (llvm::Error error = lowerKernelsToLLVM(module, target))
    return std::move(error);
  stats.lowerMs = lowering.milliseconds();

  Timer codegen;
  int threads = context->isMultithreadingEnabled() ? options.threads : 1;
  std::vector<OwningOpRef<ModuleOp>> parts = split(module, threads, stats.kernels);
  std::vector<std::optional<llvm::Expected<Object>>> results(parts.size());
  std::vector<std::thread> workers;
  std::vector<double> cpuMs(parts.size());
  auto run = [&](size_t i) {
    double start = threadMilliseconds();
    results[i].emplace(emitObject(*parts[i], target, i == 0));
    cpuMs[i] = threadMilliseconds() - start;
  };
  for (size_t i = 1; i < parts.size(); ++i)
    workers.emplace_back(run, i);
  run(0);
  for (std::thread &worker : workers)
    worker.join();

  llvm::SmallVector<Object> objects;
  llvm::Error error = llvm::Error::success();
  stats.codeBytes = 0;
  for (auto &result : results) {
    if (!*result) {
      error = llvm::joinErrors(std::move(error), result->takeError());
      continue;
    }
    stats.codeBytes += (*result)->size();
    objects.push_back(std::move(**result));
  }
  stats.codegenMs = codegen.milliseconds();
  stats.codegenCpuMs = std::accumulate(cpuMs.begin(), cpuMs.end(), 0.0);
  if (error)
    return std::move(error);
  return objects;
}

static llvm::Expected<std::string> findLinker() {
  for (llvm::StringRef name : {"ld.lld", "ld.lld-22"})
    if (auto path = llvm::sys::findProgramByName(name))
      return *path;
  if (auto path = llvm::sys::findProgramByName("ld.lld", {SHARDC_LLVM_TOOLS_DIR}))
    return *path;
  return llvm::createStringError("cannot find the linker ld.lld in PATH or in %s (package lld-22)",
                                 SHARDC_LLVM_TOOLS_DIR);
}

/// A file that is gone when the scope ends.
struct TemporaryFile {
  llvm::SmallString<128> path;
  ~TemporaryFile() {
    if (!path.empty())
      llvm::sys::fs::remove(path);
  }
};

static llvm::Error link(llvm::ArrayRef<Object> objects, llvm::StringRef output) {
  llvm::Expected<std::string> linker = findLinker();
  if (!linker)
    return linker.takeError();
  std::vector<TemporaryFile> files(objects.size());
  TemporaryFile log;
  for (auto [object, file] : llvm::zip(objects, files)) {
    int descriptor;
    if (std::error_code code =
            llvm::sys::fs::createTemporaryFile("shardc-kernels", "o", descriptor, file.path))
      return llvm::createStringError("cannot create a temporary object: %s",
                                     code.message().c_str());
    llvm::raw_fd_ostream stream(descriptor, /*shouldClose=*/true);
    stream.write(object.data(), object.size());
    stream.close();
    if (stream.has_error())
      return llvm::createStringError("cannot write %s: %s", file.path.c_str(),
                                     stream.error().message().c_str());
  }
  if (std::error_code code = llvm::sys::fs::createTemporaryFile("shardc-link", "log", log.path))
    return llvm::createStringError("cannot create a temporary file: %s", code.message().c_str());
  llvm::SmallVector<llvm::StringRef> arguments = {
      *linker,       "-shared", "-z",  "now", "--gc-sections", "--hash-style=gnu",
      "--strip-all", "-o",      output};
  for (TemporaryFile &file : files)
    arguments.push_back(file.path);
  std::optional<llvm::StringRef> redirects[] = {llvm::StringRef(""), log.path.str(),
                                                log.path.str()};
  std::string message;
  int status =
      llvm::sys::ExecuteAndWait(*linker, arguments, std::nullopt, redirects, 0, 0, &message);
  if (status != 0) {
    auto text = llvm::MemoryBuffer::getFile(log.path);
    return llvm::createStringError("%s failed with status %d: %s%s", linker->c_str(), status,
                                   message.c_str(), text ? (*text)->getBuffer().str().c_str() : "");
  }
  return llvm::Error::success();
}

llvm::Error ObjectEmitter::emitSharedObject(ModuleOp module, llvm::StringRef path) {
  auto objects = emitObjects(module);
  if (!objects)
    return objects.takeError();
  Timer linking;
  TemporaryFile temporary;
  temporary.path = path;
  temporary.path += ".partial";
  if (llvm::Error error = link(*objects, temporary.path))
    return error;
  if (std::error_code code = llvm::sys::fs::rename(temporary.path, path))
    return llvm::createStringError("cannot rename %s to %s: %s", temporary.path.c_str(),
                                   path.str().c_str(), code.message().c_str());
  stats.linkMs = linking.milliseconds();
  return llvm::Error::success();
}

//===----------------------------------------------------------------------===//
// KernelLibrary
//===----------------------------------------------------------------------===//

llvm::Expected<KernelLibrary> KernelLibrary::open(llvm::StringRef path) {
  void *handle = dlopen(path.str().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    return llvm::createStringError("cannot load kernels: %s", dlerror());
  return KernelLibrary(handle);
}

llvm::Expected<KernelLibrary> KernelLibrary::compile(ModuleOp module, const CpuTarget &target,
                                                     EmitStatistics *stats) {
  TemporaryFile file;
  if (std::error_code code = llvm::sys::fs::createTemporaryFile("shardc-kernels", "so", file.path))
    return llvm::createStringError("cannot create a temporary file: %s", code.message().c_str());
  ObjectEmitter emitter(target);
  if (llvm::Error error = emitter.emitSharedObject(module, file.path))
    return std::move(error);
  if (stats)
    *stats = emitter.statistics();
  return open(file.path);
}

KernelLibrary::~KernelLibrary() {
  if (handle)
    dlclose(handle);
}

KernelLibrary::Function KernelLibrary::find(llvm::StringRef symbol) const {
  return reinterpret_cast<Function>(dlsym(handle, symbol.str().c_str()));
}

} // namespace shardc
