// Counts what this process allocates.
#pragma once

#include <cstdint>

namespace shardrt {

/// Whether allocations can be counted in this build: not with another C library than glibc, nor
/// under a sanitizer, which has its own allocator.
bool canCountAllocations();
/// malloc and its relatives called by any thread so far.
int64_t allocations();

} // namespace shardrt
