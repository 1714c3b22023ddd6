// Walks the command list of a program on one rank, on processors.
#pragma once

#include "runtime/core/Backend.h"
#include "runtime/cpu/KernelLibrary.h"

namespace shardrt {

/// Memory that kernels use while they run: one piece a thread, as large as the most demanding
/// command wants.
class Scratch {
public:
  Scratch(const Program &program, int threads);
  std::byte *of(int thread) const { return memory.get() + thread * stride; }
  int64_t bytes() const { return total; }

private:
  struct Free {
    void operator()(std::byte *memory) const;
  };
  int64_t stride = 0, total = 0;
  std::unique_ptr<std::byte, Free> memory;
};

/// What executors of one session have in common. `groups` maps the program's groups to the
/// channel's.
struct Machine {
  const Program &program;
  std::byte *arena;
  const KernelLibrary *kernels;
  const std::vector<int> &groups;
  const Scratch &scratch;
  Progress &progress;
  ThreadPool &pool;
};

class Executor : public Executable {
public:
  /// Everything outlives the executor. `name` is the entry's, for traces.
  Executor(const Machine &machine, const std::vector<Command> &commands, const char *name);
  void run() override;
  void setTrace(Trace *recorder) override { trace = recorder; }
  void setPoison(const Poison *given) override { poison = given; }
  /// The most collectives that are under way at once.
  size_t outstanding() const { return mostOutstanding; }

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
  Step makeStep(const Command &command) const;
  void execute(const Step &step, int64_t index);
  void launch(const Step &step);
  void runCollective(const Step &step, const CommandPlace &where);
  static void slice(const Step &step);

  const Machine &machine;
  const char *name;
  std::vector<Step> steps;
  size_t mostOutstanding = 0;
  Trace *trace = nullptr;
  const Poison *poison = nullptr;
};

} // namespace shardrt
