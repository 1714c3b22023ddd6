// A cubin runs on devices of its major version whose minor version is not lower; one for an
// architecture with the suffix "a" on exactly that. PTX is compiled by the driver, for any device
// that is not older.
#include "runtime/cuda/Image.h"

#include <cstdlib>
#include <tuple>

using namespace shardrt;
using namespace shardrt::cuda;

namespace {
struct Arch {
  int number = 0;  // 90
  char suffix = 0; // 'a': only this one, 'f': only its family
};
} // namespace

static std::optional<Arch> parseArch(const KernelEntry &image) {
  std::string prefix = image.isPtx ? "compute_" : "sm_";
  if (image.level.compare(0, prefix.size(), prefix) != 0)
    return std::nullopt;
  const char *digits = image.level.c_str() + prefix.size();
  char *end = nullptr;
  long number = std::strtol(digits, &end, 10);
  std::string suffix = end;
  if (end == digits || number < 10 || number > 9999 ||
      (!suffix.empty() && suffix != "a" && suffix != "f"))
    return std::nullopt;
  return Arch{static_cast<int>(number), suffix.empty() ? '\0' : suffix[0]};
}

static bool runsOn(const Arch &arch, bool isPtx, int device) {
  bool sameMajor = arch.number / 10 == device / 10;
  if (arch.suffix == 'a')
    return arch.number == device;
  return arch.number <= device && (sameMajor || (isPtx && !arch.suffix));
}

const KernelEntry &cuda::chooseImage(const std::vector<KernelEntry> &images, int deviceArch,
                                     const std::string &deviceName, const std::string &asked) {
  const KernelEntry *best = nullptr;
  std::tuple<bool, int, bool> bestRank;
  std::string offered;
  for (const KernelEntry &image : images) {
    offered += (offered.empty() ? "" : ", ") + image.level;
    std::optional<Arch> arch = parseArch(image);
    if (!arch)
      throw Error(SHARDRT_BAD_BUNDLE,
                  cat("manifest.json: \"", image.level, "\" is no architecture ",
                      image.isPtx ? "of PTX" : "of a cubin"));
    if (!runsOn(*arch, image.isPtx, deviceArch) || (!asked.empty() && asked != image.level))
      continue;
    std::tuple<bool, int, bool> rank(!image.isPtx, arch->number, arch->suffix != 0);
    if (!best || rank > bestRank) {
      best = &image;
      bestRank = rank;
    }
  }
  if (best)
    return *best;
  throw Error(SHARDRT_UNSUPPORTED_CPU,
              cat("this GPU is ", deviceName, ", the bundle has code for ", offered,
                  asked.empty() ? cat("; compile it with --arch sm_", deviceArch)
                                : cat(", ", asked, " was asked for")));
}

Module::Module(const Bundle &bundle, const Device &device) {
  if (bundle.manifest.kernels.empty())
    return;
  const KernelEntry &image =
      chooseImage(bundle.manifest.kernels, device.arch, device.description(), bundle.isa);
  checkBundleFile(bundle, image.file);
  MappedFile file = bundle.files.open(image.file);
  load(file.path(), std::string(file.text())); // PTX ends with a zero
  chosen = image.level;
  for (const CudaKernel &kernel : bundle.program.cuda.kernels)
    for (const std::vector<CudaCall> *calls : {&kernel.calls, &kernel.otherwise})
      for (const CudaCall &call : *calls)
        if (const CudaLaunch *launch = std::get_if<CudaLaunch>(&call))
          add(*launch, device);
}

Module::~Module() {
  if (module)
    driver().cuModuleUnload.status(module);
}

void Module::load(const std::string &path, const std::string &text) {
  char log[4096] = {};
  int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void *values[] = {log, reinterpret_cast<void *>(sizeof(log) - 1)};
  int status = driver().cuModuleLoadDataEx.status(&module, text.c_str(), 2, options, values);
  if (status == 0)
    return;
  try {
    driver().cuModuleLoadDataEx.fail(status);
  } catch (const Error &error) {
    throw Error(error.status(), cat(path, ": ", error.what(), *log ? "\n" : "", log));
  }
}

void Module::add(const CudaLaunch &launch, const Device &device) {
  const Driver &api = driver();
  CUfunction &function = functions[launch.symbol];
  if (!function && api.cuModuleGetFunction.status(&function, module, launch.symbol.c_str()) != 0)
    throw Error(SHARDRT_BAD_BUNDLE,
                cat("the code for ", chosen, " has no kernel \"", launch.symbol, "\""));
  int threads = 0;
  api.cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function);
  if (launch.threads > threads)
    throw Error(SHARDRT_BAD_BUNDLE, cat("kernel \"", launch.symbol, "\" is launched with ",
                                        launch.threads, " threads, it takes at most ", threads));
  if (launch.sharedBytes > device.maxShared)
    throw Error(SHARDRT_BAD_BUNDLE,
                cat("kernel \"", launch.symbol, "\" wants ", launch.sharedBytes,
                    " bytes of shared memory, ", device.description(), " has ", device.maxShared));
  if (launch.sharedBytes > 48 << 10) // more has to be asked for
    api.cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                           static_cast<int>(launch.sharedBytes));
}
