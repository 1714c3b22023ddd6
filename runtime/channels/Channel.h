// What every channel offers to the rest of the runtime.
#pragma once

#include "runtime/channels/Collective.h"
#include "shardrt/status.h"
#include <cstddef>

namespace shardrt {

class Channel {
public:
  virtual ~Channel() = default;
  virtual const char *name() const = 0;
  virtual std::byte *arena() = 0;
  /// Called by all ranks in the same order. Group 0 is the world.
  virtual int createGroup(const std::vector<int> &ranks) = 0;
  virtual int groupSize(int group) const = 0;
  virtual int groupIndex(int group) const = 0; // this rank's index in it
  /// Completes the call. Calls on different groups may come from two threads if concurrent().
  virtual void run(const Collective &call) = 0;
  virtual bool concurrent() const = 0;
  /// Throws if another rank gave the job up, or died; for ranks that wait for something else than
  /// this channel.
  virtual void checkRanks() {}
  /// Makes the other ranks' calls fail. Only the first abort of a job counts.
  virtual void abort(const std::string &message, shardrt_status status) noexcept = 0;

  int rank = 0, ranks = 1;
  int64_t arenaBytes = 0;
  double timeout = 0; // seconds that a rank waits for another; < 0: for ever
};

/// Throws SHARDRT_INVALID_ARGUMENT unless the call is consistent and its buffers lie in the arena.
void checkCall(Channel &channel, const Collective &call);

/// The defaults filled in and the contradictions refused.
struct ChannelOptions {
  int rank, ranks;
  int64_t arenaBytes;
  std::string job, mpiShim;
  uint64_t fingerprint;
  double timeout; // seconds
  double linkBytesPerSecond;
  int maxGroups;
  bool openMpi;        // mpi: the job was started by Open MPI
  std::string address; // tcp: rank 0's machine
  int port;
};

} // namespace shardrt
