// Waiting for a GPU while other ranks, or NCCL, may fail: NCCL has no deadline of its own, and a
// kernel that waits for a lost rank waits for ever.
#pragma once

#include "runtime/cuda/Communicators.h"

namespace shardrt::cuda {

/// For each communicator a number on the device that says how many of a run's collectives are done.
class Marks {
public:
  explicit Marks(int communicators);
  ~Marks();
  Marks(const Marks &) = delete;
  Marks &operator=(const Marks &) = delete;

  void reset(CUstream stream) const;
  void set(const Communicator &communicator, unsigned done, CUstream stream) const;
  /// As they are now, whatever else the device is doing.
  std::vector<unsigned> read() const;

private:
  int count;
  CUdeviceptr device = 0;
  Stream stream; // of the copies to this machine
};

/// A collective of a list, by its place among those of its communicator.
struct WatchedCall {
  const Command *command;
  int64_t index; // in the list
  const Communicator *communicator;
  unsigned number; // 1 for the first
};

class Watch {
public:
  Watch(Progress &progress, Communicators &communicators, const Marks &marks)
      : progress(progress), communicators(communicators), marks(marks) {}

  /// Returns when the stream has nothing left to do. Otherwise breaks the communicators off and
  /// throws what happened, and in which collective of which entry this rank was then.
  void wait(CUstream stream, const char *entry, const std::vector<WatchedCall> &calls);
  /// Ends this rank's part in the job; later runs throw.
  void giveUp(const std::string &reason) noexcept;
  /// Throws if it was given up.
  void checkAlive() const;

private:
  void checkRanks(int64_t since);
  std::string placeOf(const char *entry, const std::vector<WatchedCall> &calls) const;

  Progress &progress;
  Communicators &communicators;
  const Marks &marks;
  std::string broken; // why; empty: it is not
};

} // namespace shardrt::cuda
