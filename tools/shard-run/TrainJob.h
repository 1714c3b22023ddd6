// The training run of one rank.
#pragma once

#include "tools/shard-run/Job.h"

namespace shardrt {

/// Checks options and files against the bundle before ranks exist, and opens the data.
std::unique_ptr<TokenFile> prepareTraining(const Bundle &bundle, const RunOptions &options);

void runTraining(const Job &job, Session &session);

} // namespace shardrt
