// One MPI process of the conformance suite: mpirun -n 4 mpi-conformance SHIM.so
#include "ChannelConformance.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

static int numberFrom(const char *variable) {
  const char *text = std::getenv(variable);
  return text ? std::atoi(text) : -1;
}

int main(int argc, char **argv) {
  shardrt_channel_options options = {};
  options.rank = std::max(numberFrom("PMI_RANK"), numberFrom("OMPI_COMM_WORLD_RANK"));
  options.ranks = shardrt_test::conformanceRanks;
  options.arena_bytes = shardrt_test::conformanceArena;
  options.timeout_s = 60;
  options.mpi_shim = argc > 1 ? argv[1] : nullptr;
  shardrt_channel channel = nullptr;
  if (shardrt_channel_create_mpi(&options, &channel) != SHARDRT_OK) {
    std::fprintf(stderr, "rank %d: %s\n", options.rank, shardrt_last_error());
    return 1;
  }
  std::string failure = shardrt_test::runConformance(channel, options.rank);
  if (!failure.empty())
    std::fprintf(stderr, "rank %d: %s\n", options.rank, failure.c_str());
  shardrt_channel_release(channel);
  return failure.empty() ? 0 : 1;
}
