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
/// In the order in which they need each other.
struct Parts {
  std::optional<Device> device;
  std::optional<Module> module;
  std::optional<Stream> compute;
  std::optional<DeviceMemory> arena;
  std::optional<GemmLibrary> library;
  GemmPlans gemms;
  std::optional<Communicators> communicators;
  std::optional<Marks> marks;
  std::optional<Watch> watch;
  std::optional<Transport> transport;
  std::optional<CudaMachine> machine;
};

class CudaBackend : public Backend {
public:
  CudaBackend(const Bundle &bundle, Progress &progress, Exchange &exchange,
              const SessionOptions &options) {
    exchange.together([&] {
      parts->device.emplace(options.localRank, options.shareDevice);
      parts->module.emplace(bundle, *parts->device);
      parts->compute.emplace(StreamPriorities().least);
      parts->arena.emplace(*parts->device, parts->compute->get(), bundle.program.arenaBytes,
                           bundle.program.cuda.host.bytes,
                           options.registration != SessionOptions::None);
      planGemms(bundle.program);
    });
    parts->communicators.emplace(*parts->device, bundle, progress, exchange, options);
    if (options.registration != SessionOptions::None && parts->communicators->count() == 0)
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  "nccl_ub: the program has no collectives between ranks to register for");
    parts->communicators->registerArena(*parts->arena, options.registration);
    parts->marks.emplace(parts->communicators->count());
    parts->watch.emplace(progress, *parts->communicators, *parts->marks, parts->compute->get());
    parts->transport.emplace(Transport{bundle.program, bundle.manifest.mesh, *parts->arena,
                                       *parts->communicators, progress.channel().rank});
    parts->machine.emplace(CudaMachine{
        *parts->device, *parts->module, *parts->arena, parts->compute->get(), *parts->transport,
        *parts->marks, *parts->watch, parts->gemms, graphsAllowed(options, progress.channel())});
  }

  Memory &memory() override { return *parts->arena; }

  std::unique_ptr<Executable> prepare(const std::vector<Command> &commands,
                                      const char *name) override {
    parts->device->use();
    return std::make_unique<CudaExecutor>(*parts->machine, commands, name);
  }

  void finish() noexcept override {
    try {
      parts->device->use();
    } catch (const Error &) { // a device that has failed does nothing any more
      return;
    }
    parts->watch->drain();
  }
  std::string codeLevel() const override { return parts->module->level(); }
  std::string device() const override { return parts->device->name; }
  int64_t scratchBytes() const override { return 0; } // in the arena
  int64_t arenaTouchedBytes() const override { return -1; }
  int64_t deviceBytes() const override {
    Device::Usage usage = parts->device->usage();
    return static_cast<int64_t>(usage.total - usage.free);
  }

private:
  void planGemms(const Program &program) {
    for (const CudaKernel &kernel : program.cuda.kernels)
      try {
        planGemms(program, kernel, kernel.calls);
      } catch (const Error &) { // an epilogue that this version of the library does not have
        if (kernel.otherwise.empty())
          throw;
        planGemms(program, kernel, kernel.otherwise);
      }
  }
  void planGemms(const Program &program, const CudaKernel &kernel,
                 const std::vector<CudaCall> &calls) {
    for (const CudaCall &call : calls)
      if (const CudaGemm *gemm = std::get_if<CudaGemm>(&call)) {
        if (!parts->library)
          parts->library.emplace(parts->arena->address(program.cuda.workspace.offset),
                                 program.cuda.workspace.bytes);
        parts->gemms[gemm] = std::make_unique<Gemm>(*parts->library, *gemm, kernel.name);
      }
  }

  /// What is stuck is left as it is, so that the process can say so and end: to free it would wait
  /// for it.
  struct Leave {
    void operator()(Parts *parts) const {
      if (!parts->watch || !parts->watch->isStuck())
        delete parts;
    }
  };
  std::unique_ptr<Parts, Leave> parts{new Parts};
};
} // namespace

std::unique_ptr<Backend> shardrt::createCudaBackend(const Bundle &bundle, Progress &progress,
                                                    Exchange &exchange,
                                                    const SessionOptions &options) {
  return std::make_unique<CudaBackend>(bundle, progress, exchange, options);
}
