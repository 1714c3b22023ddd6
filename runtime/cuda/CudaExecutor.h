// Hands a command list to a GPU: one host thread, in the order of the list.
#pragma once

#include "runtime/cuda/Collectives.h"
#include "runtime/cuda/Gemm.h"
#include "runtime/cuda/Image.h"
#include "runtime/cuda/Watch.h"
#include <functional>

namespace shardrt::cuda {

/// What executors of one session have in common.
struct CudaMachine {
  const Device &device;
  const Module &module;
  const DeviceMemory &arena;
  CUstream compute;
  const Transport &transport;
  const Marks &marks;
  Watch &watch;
  const GemmPlans &gemms;
  bool useGraph;
};

class CudaExecutor : public Executable {
public:
  /// Everything outlives the executor. `name` is the entry's.
  CudaExecutor(const CudaMachine &machine, const std::vector<Command> &commands, const char *name);
  ~CudaExecutor() override;

  /// The first run goes call by call, so that libraries set themselves up; the second one is
  /// captured into a graph, which later ones replay. Traced and poisoned runs go call by call.
  void run() override;
  void setTrace(Trace *recorder) override;
  void setPoison(const Poison *given) override { poison = given; }

private:
  /// A command with its addresses filled in.
  struct Step {
    const Command *command;
    std::function<void()> enqueue;
    int calls = 0;                          // how many things it puts on streams, at most and about
    const Communicator *ticketed = nullptr; // runs on the communicator's stream
    Event started, done;                    // of those
  };
  /// Times of a step, in traced runs.
  struct Times {
    Event begin{true}, end{true};
  };
  void addStep(const Command &command);
  std::function<void()> makeLaunch(const Command &command) const;
  std::function<void()> makeCall(const CudaCall &call, const Command &command) const;
  std::function<void()> makeCollective(const Command &command, Step &step);
  std::function<void()> makeWait(const Command &command);
  CUdeviceptr addressOf(const CudaArgument &argument, const Command &command) const;

  void enqueueAll(bool isCaptured);
  int callsOf(const Command &command) const;
  void holdBack();
  void capture();
  void poisonRanges(const ByteSet &dead) const;
  void recordTimes(int64_t hostBegin);

  const CudaMachine &machine;
  const char *name;
  std::vector<std::unique_ptr<Step>> steps;
  std::map<int64_t, Step *> open; // by ticket, while the list is read
  std::map<const Communicator *, unsigned> issued;
  std::vector<WatchedCall> watched;
  bool ranBefore = false;
  CUgraphExec graph = nullptr;
  Trace *trace = nullptr;
  const Poison *poison = nullptr;
  /// In runs that go call by call: the ends of the last two windows of calls.
  Event windows[2];
  int window = 0;
  std::vector<Times> times; // one a step, and one for the whole
};

} // namespace shardrt::cuda
