// Starts the ranks of a job on this machine and watches them.
#pragma once

#include "tools/shard-run/Job.h"
#include <functional>

namespace shardrt {

/// Runs `body` and turns an exception into a message on stderr and a status. `quiet`: says nothing
/// when another rank is to blame and has said so.
int reportFailure(const std::string &who, bool quiet, const std::function<void()> &body);

/// One process a rank. Returns the exit code of the job.
int runProcesses(const Job &job);
/// One thread a rank.
int runThreads(const Job &job);

} // namespace shardrt
