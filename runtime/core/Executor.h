// Walks the command list of a program on one rank.
#pragma once

#include "runtime/channels/Progress.h"
#include "runtime/core/Program.h"
#include "runtime/core/ThreadPool.h"
#include "runtime/cpu/KernelLibrary.h"

namespace shardrt {

class Executor {
public:
  /// Everything outlives the executor. `groups` maps the program's groups to the channel's.
  Executor(const Program &program, const std::vector<Command> &commands, std::byte *arena,
           const KernelLibrary *kernels, const std::vector<int> &groups, Progress &progress,
           ThreadPool &pool);
  ~Executor();
  void run();
  void setTrace(Trace *recorder) { trace = recorder; }

private:
  /// A command with its addresses filled in.
  struct Step {
    const Command *command;
    shardrt_kernel kernel = nullptr;
    std::vector<void *> buffers;
    std::byte *src = nullptr, *dst = nullptr;
    Collective call;
    int groupIndex = 0; // slice: this rank's index
  };
  void execute(const Step &step, int64_t index);
  void launch(const Step &step);
  void runCollective(const Step &step, int64_t index);
  static void slice(const Step &step);

  std::vector<Step> steps;
  Progress &progress;
  ThreadPool &pool;
  Trace *trace = nullptr;
  std::byte *scratch = nullptr; // one piece a thread
  int64_t scratchStride = 0;
};

} // namespace shardrt
