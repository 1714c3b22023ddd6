// A rank's GPU: everything that can be missing, too old or too small is found here, before a
// program runs, and the first rank that finds it speaks for all.
#include "runtime/cuda/CudaExecutor.h"

#include <cstdlib>

using namespace shardrt;
using namespace shardrt::cuda;

/// NCCL wants one device a process in graphs: several ranks in one go call by call.
static bool graphsAllowed(const SessionOptions &options, const Channel &channel) {
  const char *text = std::getenv("SHARDRT_CUDA_GRAPH");
  std::string value = text ? text : "";
  if (value != "" && value != "0" && value != "1")
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("environment variable SHARDRT_CUDA_GRAPH is \"", value, "\", not 0 or 1"));
  bool sharesProcess = channel.ranks > 1 && std::string(channel.name()) == "inprocess";
  return options.graph && value != "0" && !sharesProcess;
}

namespace {
class CudaBackend : public Backend {
public:
  CudaBackend(const Bundle &bundle, Progress &progress, Exchange &exchange,
              const SessionOptions &options) {
    exchange.together([&] {
      device.emplace(options.localRank, options.shareDevice);
      module.emplace(bundle, *device);
      compute.emplace(StreamPriorities().least);
      arena.emplace(*device, compute->get(), bundle.program.arenaBytes,
                    options.registration != SessionOptions::None);
      planGemms(bundle.program);
    });
    communicators.emplace(bundle, progress, exchange, options);
    if (options.registration != SessionOptions::None && communicators->count() == 0)
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  "nccl_ub: the program has no collectives between ranks to register for");
    communicators->registerArena(*arena, options.registration);
    marks.emplace(communicators->count());
    watch.emplace(progress, *communicators, *marks, compute->get());
    transport.emplace(Transport{bundle.program, bundle.manifest.mesh, *arena, *communicators,
                                progress.channel().rank});
    machine.emplace(CudaMachine{*device, *module, *arena, compute->get(), *transport, *marks,
                                *watch, gemms, graphsAllowed(options, progress.channel())});
  }

  Memory &memory() override { return *arena; }

  std::unique_ptr<Executable> prepare(const std::vector<Command> &commands,
                                      const char *name) override {
    device->use();
    return std::make_unique<CudaExecutor>(*machine, commands, name);
  }

  void finish() noexcept override {
    try {
      device->use();
    } catch (const Error &) { // a device that has failed does nothing any more
      return;
    }
    watch->drain();
  }
  std::string codeLevel() const override { return module->level(); }
  int64_t scratchBytes() const override { return 0; } // in the arena
  int64_t arenaTouchedBytes() const override { return -1; }
  int64_t deviceBytes() const override {
    Device::Usage usage = device->usage();
    return static_cast<int64_t>(usage.total - usage.free);
  }

private:
  void planGemms(const Program &program) {
    for (const CudaKernel &kernel : program.cuda.kernels)
      for (const CudaCall &call : kernel.calls)
        if (const CudaGemm *gemm = std::get_if<CudaGemm>(&call)) {
          if (!library)
            library.emplace(arena->address(program.cuda.workspace.offset),
                            program.cuda.workspace.bytes);
          gemms[gemm] = std::make_unique<Gemm>(*library, *gemm, kernel.name);
        }
  }

  // In the order in which they need each other.
  std::optional<Device> device;
  std::optional<Module> module;
  std::optional<Stream> compute;
  std::optional<DeviceMemory> arena;
  std::optional<GemmLibrary> library;
  std::map<const CudaGemm *, std::unique_ptr<Gemm>> gemms;
  std::optional<Communicators> communicators;
  std::optional<Marks> marks;
  std::optional<Watch> watch;
  std::optional<Transport> transport;
  std::optional<CudaMachine> machine;
};
} // namespace

std::unique_ptr<Backend> shardrt::createCudaBackend(const Bundle &bundle, Progress &progress,
                                                    Exchange &exchange,
                                                    const SessionOptions &options) {
  return std::make_unique<CudaBackend>(bundle, progress, exchange, options);
}
