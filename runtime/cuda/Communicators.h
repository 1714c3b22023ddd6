// NCCL communicators of a rank: one for each group of the program and role, so that gathers and
// reductions of a group can be under way together.
#pragma once

#include "runtime/core/Backend.h"
#include "runtime/cuda/DeviceMemory.h"
#include "runtime/cuda/api/Nccl.h"

namespace shardrt::cuda {

enum class Role { Gather, Reduce, Other };
Role roleOf(CollectiveKind kind);

struct Communicator {
  int group; // the program's
  Role role;
  std::string name; // "tp, reduce"
  int number;       // among this rank's
  Stream stream;    // for what is only started
  ncclComm_t handle = nullptr;
  void *registration = nullptr;
  ncclWindow_t window = nullptr;
};

class Communicators {
public:
  /// Collective. Those that the program needs, in the order of its groups; groups of one rank need
  /// none. The unique ids travel over the channel.
  Communicators(const Device &device, const Bundle &bundle, Progress &progress, Exchange &exchange,
                const SessionOptions &options);
  ~Communicators();
  Communicators(const Communicators &) = delete;
  Communicators &operator=(const Communicators &) = delete;

  /// Collective: lets NCCL use the arena in place.
  void registerArena(const DeviceMemory &arena, SessionOptions::Registration kind);

  int count() const { return static_cast<int>(all.size()); }
  const Communicator &find(int group, CollectiveKind kind) const;
  /// Waits until a call has been handed to the device.
  void settle(const Communicator &communicator) const;
  /// Throws if NCCL found that a communicator has failed.
  void checkErrors() const;
  template <typename Body> void forEachStream(const Body &body) const {
    for (const Communicator &communicator : all)
      body(communicator.stream.get());
  }
  /// Ends what is under way; nothing works afterwards. No graph may hold a communicator any more:
  /// NCCL waits until none does. False if it does not come to its end in time; NCCL may then go on
  /// using what it was given.
  bool abort() noexcept;

private:
  void chooseNeeded(const Bundle &bundle);
  void connect(const Bundle &bundle, Progress &progress, Exchange &exchange);
  void waitUntilReady(const Communicator &communicator, const char *what) const;
  void finish() noexcept;

  const Device &device;
  Progress &progress;
  std::vector<Communicator> all;
  bool aborted = false;
};

} // namespace shardrt::cuda
