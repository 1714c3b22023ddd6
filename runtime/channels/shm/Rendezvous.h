// How the rank processes of one machine find each other: rank 0 creates a memory file and hands it
// out over a socket. Both disappear with the processes: nothing is left in /dev/shm, whose size (64
// MiB in containers) does not matter.
#pragma once

#include "runtime/channels/Channel.h"

namespace shardrt {

struct Meeting {
  int fd;                // the memory file of `bytes` bytes, zero at first; the caller closes it
  std::vector<int> pids; // of all ranks
};

/// Returns when all ranks have come. Throws SHARDRT_TIMEOUT, SHARDRT_RANK_LOST, or
/// SHARDRT_INVALID_ARGUMENT when ranks disagree about the job.
Meeting meet(const ChannelOptions &options, int64_t bytes);

} // namespace shardrt
