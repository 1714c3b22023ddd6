// What the system says about this process's memory.
#pragma once

#include <string>

namespace shardrt {

/// {"pss_bytes": …, "peak_rss_bytes": …} as text; -1 where the system does not say.
std::string memoryOfThisRank();

} // namespace shardrt
