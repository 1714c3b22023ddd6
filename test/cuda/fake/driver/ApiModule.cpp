//===- ApiModule.cpp - Modules of PTX, launches ---------------------------===//
//
// Code is PTX text; a cubin cannot be executed here, and is refused as code for another device.
//
//===----------------------------------------------------------------------===//
#include "Driver.h"
#include "ptx/Kernel.h"
#include <cstring>

namespace fake {

struct Module {
  PtxModule ptx;
};

struct Function {
  std::shared_ptr<const Module> module; // stays while launches wait
  const Kernel *kernel;
  unsigned maxDynamicShared = 48 << 10;
};

struct LoadedModule {
  std::shared_ptr<const Module> module;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

/// What a driver of a CUDA version understands: 13.0 has PTX 9.0, 12.4 has 8.4, 11.8 has 7.8.
static unsigned ptxVersionOf(int driver) {
  return unsigned(driver / 1000 - 4) * 10 + unsigned(driver % 1000 / 10);
}

static int load(LoadedModule **loaded, const void *image, std::string &log) {
  Device &device = current();
  (void)device;
  if (std::memcmp(image, "\177ELF", 4) == 0) {
    log = "a cubin cannot be executed here, only PTX";
    return NoBinaryForGpu;
  }
  auto module = std::make_shared<Module>();
  try {
    module->ptx = parsePtx(static_cast<const char *>(image));
  } catch (const PtxError &error) {
    log = error.what();
    return InvalidPtx;
  }
  int arch = state().arch;
  if (int(module->ptx.arch) > arch || (module->ptx.archSpecific && int(module->ptx.arch) != arch)) {
    log = "PTX for sm_" + std::to_string(module->ptx.arch) + " on a device of compute capability " +
          std::to_string(arch);
    return NoBinaryForGpu;
  }
  if (module->ptx.version > ptxVersionOf(state().version)) {
    log = "PTX version " + std::to_string(module->ptx.version) + " is newer than the driver's " +
          std::to_string(ptxVersionOf(state().version));
    return UnsupportedPtxVersion;
  }
  *loaded = new LoadedModule{module, {}};
  for (const auto &[name, kernel] : module->ptx.kernels)
    (*loaded)->functions[name].reset(new Function{module, &kernel});
  LogLine("module").add("kernels", module->ptx.kernels.size());
  return Success;
}

/// CU_JIT_ERROR_LOG_BUFFER, its size.
static void writeJitLog(const std::string &log, unsigned count, const int *options, void **values) {
  char *buffer = nullptr;
  size_t size = 0;
  for (unsigned n = 0; n < count; ++n) {
    if (options[n] == 5)
      buffer = static_cast<char *>(values[n]);
    if (options[n] == 6)
      size = reinterpret_cast<size_t>(values[n]);
  }
  if (buffer && size) {
    std::strncpy(buffer, log.c_str(), size - 1);
    buffer[size - 1] = 0;
  }
}

static int launch(const Function &function, Dimensions grid, Dimensions block, unsigned shared,
                  CUstream_st *stream, void **parameters, void **extra) {
  const Kernel &kernel = *function.kernel;
  auto refuse = [&](int code, const std::string &why) {
    complain("launch of " + kernel.name + ": " + why);
    return code;
  };
  if (extra)
    return refuse(InvalidValue, "parameters are understood as kernelParams only");
  if (!grid.count() || !block.count() || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
    return refuse(InvalidValue, "a grid of " + std::to_string(grid.count()) + " blocks of " +
                                    std::to_string(block.count()) + " threads");
  if (block.count() > kernel.maxThreads ||
      (kernel.exactThreads && block.count() != kernel.maxThreads))
    return refuse(InvalidValue, std::to_string(block.count()) +
                                    " threads a block, the kernel is for " +
                                    std::to_string(kernel.maxThreads));
  if (shared > function.maxDynamicShared || shared + kernel.sharedBytes > (163u << 10))
    return refuse(InvalidValue, std::to_string(shared) +
                                    " bytes of dynamic shared memory, of which " +
                                    std::to_string(function.maxDynamicShared) + " are allowed");
  if (shared && !kernel.dynamicShared)
    return refuse(InvalidValue, "dynamic shared memory for a kernel that has none");
  LaunchContext context{&kernel, grid, block, shared, {}, nullptr, nullptr};
  context.parameters.resize(kernel.parameterBytes);
  for (size_t n = 0; n < kernel.parameters.size(); ++n)
    std::memcpy(context.parameters.data() + kernel.parameters[n].offset, parameters[n],
                kernel.parameters[n].bytes);
  context.find = [](uint64_t address) {
    Allocation found = findAllocation(address);
    if (!found.device && !found.mapped) // a kernel cannot reach it
      found = {};
    return Memory{found.begin, found.begin + found.bytes, found.data};
  };
  std::shared_ptr<const Module> module = function.module;
  return submit(stream, {"launch", kernel.name, [=] {
                           return [=](Accesses &accesses) mutable {
                             AccessRecorder recorder;
                             LaunchContext mine = context;
                             mine.recorder = &recorder;
                             (void)module;
                             executeLaunch(mine);
                             accesses.reads = recorder.ranges(false);
                             accesses.writes = recorder.ranges(true);
                             return true;
                           };
                         }});
}

} // namespace fake

using namespace fake;

FAKE_API int cuModuleLoadDataEx(LoadedModule **module, const void *image, unsigned count,
                                int *options, void **values) {
  return guarded([&] {
    std::string log;
    int result = load(module, image, log);
    writeJitLog(log, count, options, values);
    if (!log.empty())
      complain("module: " + log);
    return result;
  });
}

FAKE_API int cuModuleLoadData(LoadedModule **module, const void *image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

FAKE_API int cuModuleUnload(LoadedModule *module) {
  delete module;
  return Success;
}

FAKE_API int cuModuleGetFunction(Function **function, LoadedModule *module, const char *name) {
  return guarded([&] {
    current();
    auto found = module->functions.find(name);
    if (found == module->functions.end())
      return NotFound;
    *function = found->second.get();
    return Success;
  });
}

FAKE_API int cuFuncGetAttribute(int *value, int attribute, Function *function) {
  switch (attribute) {
  case 0:
    *value = int(function->kernel->maxThreads);
    return Success;
  case 1:
    *value = int(function->kernel->sharedBytes);
    return Success;
  case 8:
    *value = int(function->maxDynamicShared);
    return Success;
  default:
    return InvalidValue;
  }
}

FAKE_API int cuFuncSetAttribute(Function *function, int attribute, int value) {
  if (attribute != 8 || value < 0 || unsigned(value) + function->kernel->sharedBytes > (163u << 10))
    return InvalidValue;
  function->maxDynamicShared = unsigned(value);
  return Success;
}

FAKE_API int cuLaunchKernel(Function *function, unsigned gridX, unsigned gridY, unsigned gridZ,
                            unsigned blockX, unsigned blockY, unsigned blockZ, unsigned shared,
                            CUstream_st *stream, void **parameters, void **extra) {
  return guarded([&] {
    return launch(*function, {gridX, gridY, gridZ}, {blockX, blockY, blockZ}, shared, stream,
                  parameters, extra);
  });
}
