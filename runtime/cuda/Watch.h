// Waiting for a GPU while other ranks, or NCCL, may fail: NCCL has no deadline of its own, and a
// kernel that waits for a lost rank waits for ever.
#pragma once

#include "runtime/cuda/Communicators.h"
#include <set>

namespace shardrt::cuda {

/// For each communicator a word of this machine's memory, in which the device notes how many of a
/// run's collectives are done. The host looks whenever it likes, whatever the device is doing.
class Marks {
public:
  explicit Marks(int communicators);
  ~Marks();
  Marks(const Marks &) = delete;
  Marks &operator=(const Marks &) = delete;

  void reset(CUstream stream) const;
  void set(const Communicator &communicator, unsigned done, CUstream stream) const;
  /// As they are now.
  std::vector<unsigned> read() const;

private:
  void write(int number, unsigned value, CUstream stream) const;

  int count;
  unsigned *words = nullptr;
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
  Watch(Progress &progress, Communicators &communicators, const Marks &marks, CUstream compute)
      : progress(progress), communicators(communicators), marks(marks), compute(compute) {}

  /// Returns when the compute stream has nothing left to do, and so no other. Otherwise breaks the
  /// communicators off and throws what happened, and in which collective of which entry this rank
  /// was then.
  /// With an event: returns when what was recorded there has happened.
  void wait(const char *entry, const std::vector<WatchedCall> &calls, CUevent event = nullptr);
  /// Ends this rank's part in the job; later runs throw.
  void giveUp(const std::string &reason) noexcept;
  /// A graph that holds communicators: it is destroyed when they are broken off, or when its owner
  /// releases it.
  void keep(CUgraphExec graph) { graphs.insert(graph); }
  void release(CUgraphExec graph) noexcept;
  /// Whether something goes on for ever in streams or communicators. Whatever they use, and they
  /// themselves, can then only be left as they are.
  bool isStuck() const { return stuck; }
  /// Waits a while for what was handed over; what has not ended then is stuck.
  void drain() noexcept;
  /// Throws if it was given up.
  void checkAlive() const;

private:
  void checkRanks(int64_t since, const std::vector<WatchedCall> &calls);
  /// Null: all are done.
  const WatchedCall *firstUnfinished(const std::vector<WatchedCall> &calls) const;
  std::string placeOf(const char *entry, const std::vector<WatchedCall> &calls) const;

  Progress &progress;
  Communicators &communicators;
  const Marks &marks;
  CUstream compute;
  std::string broken; // why; empty: it is not
  bool stuck = false;
  std::set<CUgraphExec> graphs;
};

} // namespace shardrt::cuda
