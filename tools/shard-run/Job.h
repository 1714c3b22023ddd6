// What one rank does: connect, load, run, write.
#pragma once

#include "runtime/channels/Factories.h"
#include "runtime/core/Session.h"
#include "runtime/train/TokenFile.h"
#include "tools/shard-run/Inputs.h"

namespace shardrt {

struct Job {
  const RunOptions &options;
  const Bundle &bundle;
  const std::vector<InputFile> &inputs;
  const std::vector<OutputFile> &outputs;
  int localRank, localRanks;
  int64_t startNs;                 // when the program began
  const TokenFile *data = nullptr; // to train on, if any
  int64_t idleBytes = -1;          // of this process, before it had a session
};

ChannelOptions channelOptions(const Job &job, int rank, const std::string &jobName);
/// Runs the job on a connected channel; aborts the channel when it throws.
void runRank(const Job &job, std::unique_ptr<Channel> channel);

} // namespace shardrt
