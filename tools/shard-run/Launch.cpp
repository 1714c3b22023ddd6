// Each launcher tells its processes rank, size, and their place on the machine in variables of its
// own. A name for the job is made from what the launcher offers and the parent process, which on
// one machine is the same for all ranks.
#include "tools/shard-run/Launch.h"
#include "runtime/core/Error.h"

#include <cstdlib>
#include <unistd.h>

using namespace shardrt;

static int numberFrom(const char *variable, int fallback) {
  const char *text = std::getenv(variable);
  if (!text || !*text)
    return fallback;
  char *end = nullptr;
  long value = std::strtol(text, &end, 10);
  if (*end || value < 0 || value > 1 << 24)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("environment variable ", variable, " is \"", text, "\", not a number"));
  return static_cast<int>(value);
}

static std::string textFrom(const char *variable) {
  const char *text = std::getenv(variable);
  return text ? text : "";
}

namespace {
/// The variables of one launcher. A launcher is recognised by rank and size both being set.
struct Variables {
  const char *launcher, *rank, *ranks, *localRank, *localRanks;
  const char *job[3]; // name the job together
  bool isOpenMpi;
};
} // namespace

static const Variables known[] = {
    {"mpirun",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "SHARDRT_JOB"},
     true},
    {"mpirun",
     "PMI_RANK",
     "PMI_SIZE",
     "MPI_LOCALRANKID",
     "MPI_LOCALNRANKS",
     {"PMI_PORT", "PMI_ID_JOB", "SHARDRT_JOB"},
     false},
    {"torchrun",
     "RANK",
     "WORLD_SIZE",
     "LOCAL_RANK",
     "LOCAL_WORLD_SIZE",
     {"MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"},
     false},
    // Not SLURM_NTASKS, which a batch script sees as well, although it is one process.
    {"srun",
     "SLURM_PROCID",
     "SLURM_STEP_NUM_TASKS",
     "SLURM_LOCALID",
     "SLURM_STEP_TASKS_PER_NODE",
     {"SLURM_JOB_ID", "SLURM_STEP_ID", "SHARDRT_JOB"},
     false}};

/// "4" or "4(x2)": tasks of the first node.
static int localRanksFrom(const char *variable, int fallback) {
  std::string text = textFrom(variable);
  int value = std::atoi(text.c_str());
  return value > 0 ? value : fallback;
}

/// The first of "gpu[07-09,12],login", as Slurm lists machines.
static std::string firstHost(const std::string &list) {
  size_t end = list.find_first_of(",[");
  std::string host = list.substr(0, end);
  if (end != std::string::npos && list[end] == '[')
    host += list.substr(end + 1, list.find_first_of(",-]", end) - end - 1);
  return host;
}

/// Where ranks of several machines meet: MASTER_ADDR and MASTER_PORT of torchrun, which others may
/// set as well; otherwise Slurm's first machine and a port made from the job's number. torchrun
/// listens on its port itself: the next one is ours. SHARDRT_PORT overrides.
static void findMeeting(Launch &launch) {
  launch.address = textFrom("MASTER_ADDR");
  if (int master = numberFrom("MASTER_PORT", 0))
    launch.port = master + 1;
  if (launch.launcher == "srun") {
    if (launch.address.empty())
      launch.address = firstHost(textFrom("SLURM_STEP_NODELIST"));
    if (!launch.port) // Slurm's numbers may be larger than numberFrom takes
      launch.port =
          20000 +
          static_cast<int>(std::strtoull(textFrom("SLURM_JOB_ID").c_str(), nullptr, 10) % 20000);
  }
  launch.port = numberFrom("SHARDRT_PORT", launch.port);
}

/// srun with PMI2 sets PMI_RANK and PMI_SIZE like mpirun, but no place on the machine: only its own
/// variables have that.
static bool slurmSaysMore(const Variables &v) {
  return textFrom(v.localRank).empty() && !textFrom("SLURM_LOCALID").empty() &&
         textFrom(v.rank) == textFrom("SLURM_PROCID") &&
         textFrom(v.ranks) == textFrom("SLURM_STEP_NUM_TASKS");
}

Launch shardrt::detectLaunch() {
  for (const Variables &v : known) {
    if (textFrom(v.rank).empty() || numberFrom(v.ranks, 1) <= 1 || slurmSaysMore(v))
      continue;
    Launch launch;
    launch.launcher = v.launcher;
    launch.rank = numberFrom(v.rank, 0);
    launch.ranks = numberFrom(v.ranks, 1);
    launch.localRank = numberFrom(v.localRank, launch.rank);
    launch.localRanks = localRanksFrom(v.localRanks, launch.ranks);
    launch.isOpenMpi = v.isOpenMpi;
    findMeeting(launch);
    bool oneMachine = launch.localRanks == launch.ranks;
    launch.job = oneMachine ? cat(v.launcher, "-", getppid()) : v.launcher;
    for (const char *variable : v.job)
      launch.job += "-" + textFrom(variable);
    if (launch.rank >= launch.ranks)
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat(v.launcher, " says that this is rank ", launch.rank, " of ", launch.ranks));
    return launch;
  }
  return Launch();
}
