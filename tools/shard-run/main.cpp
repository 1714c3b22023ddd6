// shard-run: check everything that can be checked before ranks exist, then start them or join those
// of a launcher.
#include "runtime/channels/mpi/Shim.h"
#include "runtime/core/Error.h"
#include "tools/shard-run/Launch.h"
#include "tools/shard-run/Spawn.h"
#include "tools/shard-run/TrainJob.h"

#include <cstdio>

using namespace shardrt;

static void checkRanks(const Bundle &bundle, const RunOptions &options, const Launch &launch) {
  if (options.ranks && options.ranks != bundle.ranks())
    throw Error(SHARDRT_RANK_COUNT,
                cat("the bundle is for ", bundle.ranks(), " ranks, -n asks for ", options.ranks));
  if (!launch.launcher.empty() && launch.ranks != bundle.ranks())
    throw Error(SHARDRT_RANK_COUNT, cat("the bundle is for ", bundle.ranks(), " ranks, ",
                                        launch.launcher, " started ", launch.ranks));
}

/// GPUs of several machines meet over TCP. Otherwise under mpirun MPI, if its shim was built, or
/// shared memory, which reaches one machine only.
static std::unique_ptr<Channel> joinChannel(const Job &job, const Launch &launch) {
  const std::string &kind = job.options.channel;
  ChannelOptions options = channelOptions(job, launch.rank, launch.job);
  bool oneMachine = launch.localRanks == launch.ranks;
  bool isCuda = job.bundle.program.target == Target::Cuda;
  options.address = launch.address;
  options.port = launch.port;
  if (kind == "tcp" || (kind == "auto" && isCuda && !oneMachine && !launch.address.empty()))
    return createTcpChannel(options);
  bool preferMpi = launch.launcher == "mpirun" && haveShim("", launch.isOpenMpi);
  if (kind == "mpi" || (kind == "auto" && (preferMpi || !oneMachine)))
    return createMpiChannel(options);
  if (!oneMachine)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat(launch.launcher, " started ", launch.ranks, " ranks, ", launch.localRanks,
                    " of them on this machine; shared memory reaches one machine only"));
  return createShmChannel(options);
}

static int run(RunOptions options) {
  int64_t start = nowNs();
  Launch launch = detectLaunch();
  std::unique_ptr<Bundle> bundle = openBundle(options.bundle, options.isa);
  checkBackend(options, targetName(bundle->program.target));
  checkRanks(*bundle, options, launch);
  bool isTraining = bundle->manifest.training.has_value();
  checkOptions(options, isTraining);
  std::vector<InputFile> inputs;
  std::vector<OutputFile> outputs;
  std::unique_ptr<TokenFile> data;
  if (isTraining) {
    data = prepareTraining(*bundle, options);
  } else {
    const Entry &entry = chooseEntry(bundle->program, options);
    options.entry = entry.name;
    inputs = openInputs(entry, options);
    outputs = resolveOutputs(entry, options);
  }
  bool alone = launch.launcher.empty();
  Job job{options, *bundle,          inputs,
          outputs, launch.localRank, alone ? bundle->ranks() : launch.localRanks,
          start,   data.get()};
  if (alone && options.channel == "mpi")
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("--channel mpi: start the ranks with mpirun -n ", bundle->ranks()));
  if (alone && options.channel == "tcp")
    throw Error(SHARDRT_INVALID_ARGUMENT,
                "--channel tcp: start the ranks with torchrun, srun or mpirun");
  if (options.channel == "inprocess" && !alone)
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("--in-process: ", launch.launcher,
                                              " has already started ", launch.ranks, " processes"));
  // One rank has nobody to share memory with, and private memory may have huge pages.
  bool single = alone && options.channel == "auto" && bundle->ranks() == 1;
  if (options.channel == "inprocess" || single)
    return runThreads(job);
  if (alone)
    return runProcesses(job);
  return reportFailure(cat("rank ", launch.rank, ": "), false,
                       [&] { runRank(job, joinChannel(job, launch)); });
}

int main(int argc, char **argv) {
  int status = SHARDRT_OK;
  int failure = reportFailure("", false, [&] {
    RunOptions options = parseCommandLine(argc, argv);
    if (options.action == RunOptions::Help)
      std::fputs(helpText().c_str(), stdout);
    else if (options.action == RunOptions::Version)
      std::printf("shard-run %s\n", shardrt_version());
    else
      status = run(options);
  });
  return failure ? failure : status;
}
