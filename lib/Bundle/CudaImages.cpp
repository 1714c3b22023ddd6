//===- CudaImages.cpp - Code of GPUs in a bundle --------------------------===//
//
// PTX is made in this process, one architecture after the other; ptxas processes turn it into
// cubins meanwhile.
//
//===----------------------------------------------------------------------===//
#include "CudaImages.h"
#include "shardc/Lower/CudaKernels.h"
#include <future>
#include <map>

using namespace mlir;
namespace json = llvm::json;

namespace shardc {

static llvm::Expected<std::vector<CudaTarget>> parseTargets(const BundleOptions &options) {
  std::vector<CudaTarget> targets;
  for (const std::string &name : options.archs) {
    llvm::Expected<CudaTarget> target = CudaTarget::parse(name);
    if (!target)
      return target.takeError();
    if (llvm::any_of(targets, [&](const CudaTarget &other) { return other.name == name; }))
      return llvm::createStringError("cuda architecture \"%s\" is given twice", name.c_str());
    targets.push_back(std::move(*target));
  }
  if (targets.empty())
    return llvm::createStringError("no cuda architecture was given");
  return targets;
}

llvm::Error checkCudaOptions(const BundleOptions &options) {
  llvm::Expected<std::vector<CudaTarget>> targets = parseTargets(options);
  if (!targets)
    return targets.takeError();
  for (const CudaTarget &target : *targets)
    if (!target.isPtx() && findPtxas(options.toolkit).empty())
      return llvm::createStringError(
          "%s needs ptxas, and there is none in %s; give a toolkit, a folder with bin/ptxas, or "
          "compute_%s instead, which drivers compile when they load it",
          target.name.c_str(),
          options.toolkit.empty() ? "$CUDA_ROOT, $CUDA_HOME, $CUDA_PATH, PATH or /usr/local/cuda"
                                  : options.toolkit.c_str(),
          StringRef(target.arch).drop_front(3).rtrim('a').str().c_str());
  return llvm::Error::success();
}

static gpu::GPUModuleOp codeOf(const CudaProgram &program) {
  return *program.code.get().getOps<gpu::GPUModuleOp>().begin();
}

/// The most that any kernel takes; spills are added up.
static json::Object resources(const Cubin &cubin) {
  PtxasReport most;
  for (const auto &kernel : cubin.kernels) {
    most.registers = std::max(most.registers, kernel.second.registers);
    most.sharedBytes = std::max(most.sharedBytes, kernel.second.sharedBytes);
    most.spillBytes += kernel.second.spillBytes;
  }
  return json::Object{{"kernels", static_cast<int64_t>(cubin.kernels.size())},
                      {"registers", most.registers},
                      {"spill_bytes", most.spillBytes},
                      {"shared_bytes", most.sharedBytes}};
}

llvm::Expected<json::Array> writeCudaImages(const CudaProgram &program,
                                            const BundleOptions &options,
                                            BundleDirectory &directory) {
  json::Array images;
  if (codeOf(program).getOps<gpu::GPUFuncOp>().empty())
    return images;
  llvm::Expected<std::vector<CudaTarget>> targets = parseTargets(options);
  if (!targets)
    return targets.takeError();
  std::string ptxas = findPtxas(options.toolkit);
  std::map<std::string, std::string>
      ptx; // by architecture; stays where it is while threads read it
  std::vector<std::future<llvm::Expected<Cubin>>> cubins;
  for (const CudaTarget &target : *targets) {
    auto [known, isNew] = ptx.try_emplace(target.arch);
    if (isNew) {
      llvm::Expected<std::string> made = compileToPtx(codeOf(program).clone(), target);
      if (!made)
        return made.takeError();
      known->second = std::move(*made);
    }
    if (!target.isPtx())
      cubins.push_back(std::async(std::launch::async, [&text = known->second, target, ptxas] {
        return compileToCubin(text, target, ptxas);
      }));
  }
  auto cubin = cubins.begin();
  for (const CudaTarget &target : *targets) {
    StringRef format = target.isPtx() ? "ptx" : "cubin";
    std::string file = "kernels-" + target.name + "." + format.str();
    json::Object image{{"arch", target.name}, {"format", format}, {"file", file}};
    std::string contents = target.isPtx() ? ptx[target.arch] : "";
    if (!target.isPtx()) {
      llvm::Expected<Cubin> made = (cubin++)->get();
      if (!made)
        return made.takeError();
      image["resources"] = resources(*made);
      contents = std::move(made->image);
    }
    if (llvm::Error error = directory.write(file, contents))
      return std::move(error);
    images.push_back(std::move(image));
  }
  return images;
}

} // namespace shardc
