// Ranks are forked after the bundle was read and checked, so that they start with everything in
// memory. The first rank that fails decides the exit code; the others find out by themselves and
// have a moment to end before they are killed.
#include "tools/shard-run/Spawn.h"
#include "runtime/core/Error.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace shardrt;

static const double graceSeconds = 5;

int shardrt::reportFailure(const std::string &who, bool quiet, const std::function<void()> &body) {
  shardrt_status status = SHARDRT_OK;
  try {
    body();
    return status;
  } catch (const AbortedError &error) {
    status = error.status();
    if (!quiet)
      std::fprintf(stderr, "shard-run: %sstopped: %s\n", who.c_str(), error.what());
  } catch (...) {
    status = statusOfCurrentException();
    std::fprintf(stderr, "shard-run: %serror: %s\n", who.c_str(), shardrt_last_error());
  }
  return status;
}

static std::string nameOf(int rank) { return cat("rank ", rank, ": "); }

static int childMain(const Job &shared, int rank, pid_t parent, const std::string &jobName) {
  prctl(PR_SET_PDEATHSIG, SIGKILL); // no orphans when shard-run itself is killed
  if (getppid() != parent)
    return SHARDRT_RANK_LOST;
  Job job = shared;
  job.localRank = rank;
  int status = reportFailure(nameOf(rank), true, [&] {
    runRank(job, createShmChannel(channelOptions(job, rank, jobName)));
  });
  std::fflush(nullptr);
  return status;
}

namespace {
/// The children, and what became of them.
struct Children {
  std::vector<pid_t> pids;
  int status = SHARDRT_OK;
  double firstFailure = 0;
  int running = 0;

  void ended(pid_t pid, int waitStatus) {
    size_t rank = 0;
    while (rank < pids.size() && pids[rank] != pid)
      ++rank;
    if (rank == pids.size())
      return;
    pids[rank] = -1;
    --running;
    bool killed = WIFSIGNALED(waitStatus);
    int code = killed ? static_cast<int>(SHARDRT_RANK_LOST) : WEXITSTATUS(waitStatus);
    if (code == SHARDRT_OK)
      return;
    if (killed && !stopping)
      std::fprintf(stderr, "shard-run: rank %zu (process %d) was killed by signal %d (%s)\n", rank,
                   pid, WTERMSIG(waitStatus), strsignal(WTERMSIG(waitStatus)));
    if (firstFailure == 0)
      firstFailure = nowNs() * 1e-9;
    // A rank that merely noticed the loss of another one does not hide the reason.
    if (status == SHARDRT_OK || status == SHARDRT_RANK_LOST)
      status = code;
  }

  void killRest() {
    stopping = true;
    for (pid_t pid : pids)
      if (pid > 0)
        kill(pid, SIGKILL);
  }

  bool stopping = false;
};
} // namespace

int shardrt::runProcesses(const Job &job) {
  std::fflush(nullptr);
  pid_t self = getpid();
  std::string jobName = cat("shard-run-", self, "-", nowNs());
  Children children;
  for (int rank = 0; rank < job.bundle.ranks(); ++rank) {
    pid_t pid = fork();
    if (pid == 0)
      _exit(childMain(job, rank, self, jobName));
    if (pid < 0) {
      std::string reason = systemError();
      children.killRest();
      throw Error(SHARDRT_OUT_OF_MEMORY, cat("cannot start rank ", rank, ": ", reason));
    }
    children.pids.push_back(pid);
    ++children.running;
  }
  while (children.running > 0) {
    int waitStatus = 0;
    pid_t pid = waitpid(-1, &waitStatus, children.firstFailure > 0 ? WNOHANG : 0);
    if (pid > 0)
      children.ended(pid, waitStatus);
    else if (pid < 0 && errno == ECHILD)
      break;
    else
      usleep(10000);
    if (children.firstFailure > 0 && !children.stopping &&
        nowNs() * 1e-9 - children.firstFailure > graceSeconds)
      children.killRest();
  }
  return children.status;
}

int shardrt::runThreads(const Job &shared) {
  std::vector<std::unique_ptr<Channel>> channels =
      createInProcessChannels(channelOptions(shared, 0, ""));
  std::vector<int> statuses(channels.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < channels.size(); ++rank)
    threads.emplace_back([&, rank] {
      Job job = shared;
      job.localRank = static_cast<int>(rank);
      statuses[rank] = reportFailure(nameOf(static_cast<int>(rank)), true,
                                     [&] { runRank(job, std::move(channels[rank])); });
    });
  for (std::thread &thread : threads)
    thread.join();
  int result = SHARDRT_OK;
  for (int status : statuses)
    if (result == SHARDRT_OK || result == SHARDRT_RANK_LOST)
      result = status ? status : result;
  return result;
}
