// The tests that every channel passes, as a function of one rank, so that threads, forked processes
// and MPI processes run the same ones.
#pragma once

#include "shardrt/channel.h"
#include <string>

namespace shardrt_test {

const int conformanceRanks = 4;
const uint64_t conformanceArena = 8 << 20;

/// Empty, or what differed first.
std::string runConformance(shardrt_channel channel, int rank);

} // namespace shardrt_test
