// Set-up, completion and errors; the collectives are in MpiCollectives.cpp.
#include "runtime/channels/mpi/MpiChannel.h"
#include "runtime/channels/Factories.h"
#include "runtime/core/Error.h"
#include "runtime/core/ThreadPool.h"
#include "runtime/core/Trace.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace shardrt;

static const int testsBeforeYield = 200; // when every rank has a processor
static const int testsBeforeSleep = 2000;
static const int sleepUs = 50;

MpiChannel::MpiChannel(const ChannelOptions &options, const shardrt_mpi_shim &shim, bool concurrent)
    : options(options), shim(shim), isConcurrent(concurrent) {
  rank = options.rank;
  ranks = options.ranks;
  arenaBytes = options.arenaBytes;
  timeout = options.timeout;
  void *mapping = mmap(nullptr, std::max<int64_t>(arenaBytes, 1), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    throw Error(SHARDRT_OUT_OF_MEMORY,
                cat("cannot map an arena of ", arenaBytes, " bytes: ", systemError()));
  memory = static_cast<std::byte *>(mapping);
  std::vector<int> world(ranks);
  for (int i = 0; i < ranks; ++i)
    world[i] = i;
  createGroup(world);
  checkFingerprints();
}

MpiChannel::~MpiChannel() {
  for (Group &group : groups)
    shim.comm_release(group.comm);
  munmap(memory, std::max<int64_t>(arenaBytes, 1));
}

const MpiChannel::Group &MpiChannel::groupAt(int group) const {
  if (group < 0 || group >= static_cast<int>(groups.size()))
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("group ", group, " does not exist, there are ", groups.size()));
  return groups[group];
}

int MpiChannel::createGroup(const std::vector<int> &members) {
  auto me = std::find(members.begin(), members.end(), rank);
  if (me == members.end())
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("rank ", rank, " creates a group that it is not in"));
  Group group;
  group.size = static_cast<int>(members.size());
  group.index = static_cast<int>(me - members.begin());
  int id = static_cast<int>(groups.size());
  check(shim.comm_create(members.data(), group.size, id, &group.comm), "creating a communicator");
  groups.push_back(std::move(group));
  return id;
}

void MpiChannel::checkFingerprints() {
  std::vector<uint64_t> all(ranks);
  gatherAll(groups[0], &options.fingerprint, all.data(), sizeof(uint64_t), "comparing programs");
  for (int other = 0; other < ranks; ++other)
    if (all[other] != all[0])
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("rank ", other, " runs another program than rank 0"));
}

void MpiChannel::check(int error, const char *what) const {
  if (error == 0)
    return;
  char text[256] = "";
  shim.error_text(error, text, sizeof(text));
  throw Error(SHARDRT_RANK_LOST, cat("MPI failed in ", what, ": ", text));
}

void MpiChannel::complete(shardrt_mpi_request request, const char *what) {
  static const bool crowded = ranks > usableCpus();
  int64_t begin = nowNs();
  for (int64_t tests = 0;; ++tests) {
    int32_t done = 0;
    check(shim.test(request, &done), what);
    if (done)
      return;
    if (tests > testsBeforeSleep)
      usleep(sleepUs);
    else if (crowded || tests > testsBeforeYield)
      sched_yield();
    double seconds = (nowNs() - begin) * 1e-9;
    if (options.timeout > 0 && seconds > options.timeout)
      throw Error(SHARDRT_TIMEOUT, cat("rank ", rank, " has waited ", static_cast<int64_t>(seconds),
                                       " s in ", what, ", the limit is ", options.timeout, " s"));
  }
}

/// MPI_Abort may end this process before anybody else can say why.
void MpiChannel::abort(const std::string &message, shardrt_status status) noexcept {
  std::fprintf(stderr, "shardrt: %s\n", message.c_str());
  std::fflush(nullptr);
  shim.abort(status);
}

namespace {
/// MPI is initialised once in a process and finalised when it ends regularly.
struct MpiProcess {
  const shardrt_mpi_shim &shim;
  int32_t rank = 0, ranks = 0, threads = 0;
  explicit MpiProcess(const ChannelOptions &options)
      : shim(loadShim(options.mpiShim, options.openMpi)) {
    if (shim.init(&rank, &ranks, &threads) != 0)
      throw Error(SHARDRT_INTERNAL, "MPI cannot be initialised");
    char library[256] = "";
    shim.library(library, sizeof(library));
    if (rank != options.rank || ranks != options.ranks)
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("this process is rank ", options.rank, " of ", options.ranks, ", but ",
                      library, " says ", rank, " of ", ranks,
                      "; the shim was built for another MPI than the one that started the job"));
    if (threads < 2)
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat(library, " does not allow calls from more than one thread"));
  }
};
} // namespace

std::unique_ptr<Channel> shardrt::createMpiChannel(const ChannelOptions &options) {
  static const MpiProcess process(options);
  static bool registered = false;
  if (!registered)
    std::atexit([] { process.shim.finalize(); });
  registered = true;
  return std::make_unique<MpiChannel>(options, process.shim, process.threads >= 3);
}
