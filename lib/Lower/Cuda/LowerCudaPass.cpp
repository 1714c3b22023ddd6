//===- LowerCudaPass.cpp - Kernels of a fused module for NVIDIA GPUs ------===//
#include "shardc/Lower/CudaKernels.h"
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Lower/Passes.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
namespace json = llvm::json;

namespace shardc {

#define GEN_PASS_DEF_LOWERCUDAPASS
#include "lib/Lower/Cuda/Passes.h.inc"

namespace {

struct LowerCudaPass : impl::LowerCudaPassBase<LowerCudaPass> {
  using LowerCudaPassBase::LowerCudaPassBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    registerCudaDialects(registry);
  }
  void runOnOperation() override;

private:
  LogicalResult checkOptions();
  LogicalResult compile(gpu::GPUModuleOp kernels, const CudaTarget &target);
  LogicalResult write(StringRef file, StringRef text);
  LogicalResult error(llvm::Error reason) {
    mlir::emitError(getOperation().getLoc()) << llvm::toString(std::move(reason));
    return failure();
  }
  json::Object describe(CudaKernel &kernel, func::FuncOp function);

  SmallVector<CudaTarget> targets;
  std::string ptxas;
  llvm::StringMap<json::Object> compiled; ///< by kernel: what ptxas says for each architecture
};

} // namespace

LogicalResult LowerCudaPass::checkOptions() {
  SmallVector<std::string> names(archs.begin(), archs.end());
  if (names.empty())
    names.push_back("sm_90a");
  for (const std::string &name : names) {
    auto target = CudaTarget::parse(name);
    if (!target)
      return error(target.takeError());
    if (target->isPtx() && emit == "cubin")
      return error(llvm::createStringError("%s is PTX, not a cubin", name.c_str()));
    targets.push_back(*target);
  }
  if (emit != "gpu" && emit != "ptx" && emit != "cubin")
    return error(
        llvm::createStringError("emit is \"%s\", expected gpu, ptx or cubin", emit.c_str()));
  if (output.empty() && (emit == "cubin" || targets.size() > 1))
    return error(
        llvm::createStringError("cubins, or several architectures, need an output directory"));
  if (emit != "cubin")
    return success();
  ptxas = findPtxas(toolkit);
  if (ptxas.empty())
    return error(llvm::createStringError(
        "there is no ptxas%s%s; give toolkit=DIR with bin/ptxas, or emit=ptx, which drivers "
        "compile when they load it",
        toolkit.empty() ? " in $CUDA_ROOT, $CUDA_HOME, $CUDA_PATH, PATH or /usr/local/cuda"
                        : " in ",
        toolkit.c_str()));
  return success();
}

LogicalResult LowerCudaPass::write(StringRef file, StringRef text) {
  SmallString<128> path(output);
  llvm::sys::path::append(path, file);
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  if (!code) {
    os << text;
    os.close();
    code = os.error();
  }
  if (code)
    return error(
        llvm::createStringError(code, "cannot write %s: %s", path.c_str(), code.message().c_str()));
  return success();
}

LogicalResult LowerCudaPass::compile(gpu::GPUModuleOp kernels, const CudaTarget &target) {
  auto ptx = compileToPtx(kernels, target);
  if (!ptx)
    return error(ptx.takeError());
  if (output.empty()) {
    llvm::outs() << *ptx;
    return success();
  }
  if (failed(write(target.name + ".ptx", *ptx)))
    return failure();
  if (ptxas.empty())
    return success();
  auto cubin = compileToCubin(*ptx, target, ptxas);
  if (!cubin)
    return error(cubin.takeError());
  for (auto &report : cubin->kernels)
    compiled[report.getKey()][target.arch] =
        json::Object{{"registers", report.second.registers},
                     {"spill_bytes", report.second.spillBytes},
                     {"shared_bytes", report.second.sharedBytes}};
  return write(target.arch + ".cubin", cubin->image);
}

json::Object LowerCudaPass::describe(CudaKernel &kernel, func::FuncOp function) {
  json::Array ops;
  for (Operation &op : function.getBody().front().without_terminator())
    ops.push_back(op.getName().stripDialect());
  json::Object object = kernelJson(kernel), reports;
  object["ops"] = std::move(ops);
  object["scratch_bytes"] = kernel.scratchBytes;
  if (auto note = function->getAttrOfType<StringAttr>(kNoteAttr))
    object["note"] = note.getValue();
  for (const CudaCall &call : llvm::concat<const CudaCall>(kernel.calls, kernel.otherwise))
    if (auto *launch = std::get_if<CudaLaunch>(&call))
      if (auto known = compiled.find(launch->symbol); known != compiled.end())
        reports[launch->symbol] = std::move(known->second);
  if (!reports.empty())
    object["compiled"] = std::move(reports);
  return object;
}

void LowerCudaPass::runOnOperation() {
  ModuleOp module = getOperation();
  targets.clear();
  compiled.clear();
  if (failed(checkOptions()))
    return signalPassFailure();
  OpBuilder builder(module.getContext());
  builder.setInsertionPointToEnd(module.getBody());
  OwningOpRef<gpu::GPUModuleOp> kernels =
      gpu::GPUModuleOp::create(builder, module.getLoc(), "cuda_kernels");
  (*kernels)->remove();

  SmallVector<std::pair<CudaKernel, func::FuncOp>> done;
  bool hasFailed = false, hasGenerated = false;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (!function->hasAttr(kExecKernelAttr))
      continue;
    FailureOr<CudaKernel> kernel = lowerCudaKernel(function, *kernels);
    hasFailed |= failed(kernel);
    if (succeeded(kernel)) {
      hasGenerated |= llvm::any_of(
          llvm::concat<const CudaCall>(kernel->calls, kernel->otherwise),
          [](const CudaCall &call) { return std::holds_alternative<CudaLaunch>(call); });
      done.push_back({std::move(*kernel), function});
    }
  }
  if (hasFailed)
    return signalPassFailure();
  if (emit == "gpu") {
    module->setAttr(gpu::GPUDialect::getContainerModuleAttrName(), builder.getUnitAttr());
    module.push_back(kernels.release());
    return;
  }
  if (!output.empty())
    if (std::error_code code = llvm::sys::fs::create_directories(output))
      return (void)error(llvm::createStringError(code, "cannot create %s: %s", output.c_str(),
                                                 code.message().c_str())),
             signalPassFailure();
  if (hasGenerated)
    for (const CudaTarget &target : targets)
      if (failed(compile((*kernels).clone(), target)))
        return signalPassFailure();
  if (output.empty())
    return;
  json::Array list;
  for (auto &[kernel, function] : done)
    list.push_back(describe(kernel, function));
  std::string text;
  llvm::raw_string_ostream(text) << llvm::formatv(
      "{0:2}\n", json::Value(json::Object{{"kernels", std::move(list)}}));
  if (failed(write("kernels.json", text)))
    signalPassFailure();
}

} // namespace shardc
