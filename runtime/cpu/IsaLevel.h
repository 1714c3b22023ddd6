// Which instruction-set levels this processor runs.
#pragma once

#include <string>
#include <vector>

namespace shardrt {

/// Index of the best of the offered levels, or of `forced` if that is not empty.
/// Throws SHARDRT_UNSUPPORTED_CPU with what is offered and what this processor has.
size_t chooseIsaLevel(const std::vector<std::string> &offered, const std::string &forced);
bool cpuRuns(const std::string &level);

} // namespace shardrt
