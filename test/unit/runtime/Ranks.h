// Runs a function as every rank of a job, on threads or in forked processes.
#pragma once

#include "shardrt/channel.h"
#include <functional>
#include <string>
#include <vector>

namespace shardrt_test {

enum class ChannelKind { InProcess, Shm };

/// What each rank returned; "died" for a process that was killed.
using RankResults = std::vector<std::string>;
using RankBody = std::function<std::string(shardrt_channel channel, int rank)>;
using ChangeOptions = std::function<void(shardrt_channel_options &options)>;

shardrt_channel_options conformanceOptions();
RankResults runRanks(ChannelKind kind, const shardrt_channel_options &options, const RankBody &body,
                     const ChangeOptions &change = nullptr);

} // namespace shardrt_test
