// What this process takes of the machine's memory.
#pragma once

#include "runtime/core/Session.h"

namespace shardrt {

/// This process's share of the memory that it has mapped (proportional set size); -1 where the
/// system does not say.
int64_t proportionalBytes();

/// As JSON text: pss_bytes, idle_pss_bytes (given), peak_rss_bytes, and arena_touched_bytes, the
/// pages of the program's arena that were ever used. On a GPU device_bytes: what its memory holds.
std::string memoryOfThisRank(const Session &session, int64_t idleBytes);

} // namespace shardrt
