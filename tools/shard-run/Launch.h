// Who started this process, and which rank it is.
#pragma once

#include <string>

namespace shardrt {

struct Launch {
  std::string
      launcher; // "mpirun", "torchrun", "srun", or empty: nobody, shard-run starts the ranks itself
  int rank = 0, ranks = 1, localRank = 0, localRanks = 1;
  std::string job; // equal on all ranks of the job, different from other jobs
  bool isOpenMpi = false;
  std::string address; // of rank 0's machine, if the launcher says so
  int port = 0;        // on which rank 0 may listen, likewise
};

/// From the environment variables of the launchers. A job of one rank counts as started by nobody.
Launch detectLaunch();

} // namespace shardrt
