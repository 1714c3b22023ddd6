// Communicators do not block: NCCL answers at once that a call goes on, and this side asks until it
// does not, and meanwhile looks whether the other ranks are still there.
#include "runtime/cuda/Communicators.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <set>
#include <thread>

using namespace shardrt;
using namespace shardrt::cuda;

static const double finishSeconds = 10; // until communicators that do not end are broken off
static const double abortSeconds = 10;  // until those that are broken off are left alone

Role cuda::roleOf(CollectiveKind kind) {
  switch (kind) {
  case CollectiveKind::AllGather:
  case CollectiveKind::Broadcast:
    return Role::Gather;
  case CollectiveKind::AllReduce:
  case CollectiveKind::ReduceScatter:
    return Role::Reduce;
  default:
    return Role::Other;
  }
}

static std::string nameOf(const Bundle &bundle, int group, Role role) {
  static const char *const roles[] = {"gather", "reduce", "other"};
  std::string name;
  for (const SubAxis &sub : bundle.program.groups[group]) {
    const MeshAxis &axis = bundle.manifest.mesh.axes[sub.axis];
    name += (name.empty() ? "" : " x ") + axis.name;
    if (sub.size != axis.size)
      name += cat("[", sub.pre, ":", sub.size, "]");
  }
  return name + ", " + roles[static_cast<int>(role)];
}

/// What has to be in the environment before NCCL reads it; what the user has set stays.
static void prepareEnvironment(const SessionOptions &options, int rank) {
  // Launches on different communicators keep the order of the program (which is the same on all
  // ranks), so that they cannot wait for each other in a circle.
  setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 0);
  if (!options.shareDevice)
    return;
  setenv("NCCL_MAX_CTAS", "4", 0); // kernels of all ranks have to find room
  setenv("NCCL_NVLS_ENABLE", "0", 0);
  // Older versions of NCCL refuse two ranks on one device, unless they seem to be of two machines.
  if (nccl().version >= 23003) {
    setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 0);
  } else {
    setenv("NCCL_HOSTID", cat("shardrt-", rank).c_str(), 0);
    setenv("NCCL_SOCKET_IFNAME", "lo", 0);
    setenv("NCCL_IB_DISABLE", "1", 0);
  }
}

void Communicators::chooseNeeded(const Bundle &bundle) {
  std::set<std::pair<int, Role>> needed;
  auto add = [&](const std::vector<Command> &commands) {
    for (const Command &command : commands)
      if (command.kind == CommandKind::Collective &&
          sizeOf(bundle.program.groups[command.collective.group]) > 1)
        needed.insert({command.collective.group, roleOf(command.collective.kind)});
  };
  add(bundle.program.init);
  for (const Entry &entry : bundle.program.entries)
    add(entry.commands);
  StreamPriorities priorities;
  for (auto [group, role] : needed)
    all.push_back({group, role, nameOf(bundle, group, role), static_cast<int>(all.size()),
                   Stream(priorities.greatest)});
}

Communicators::Communicators(const Device &device, const Bundle &bundle, Progress &progress,
                             Exchange &exchange, const SessionOptions &options)
    : device(device), progress(progress) {
  exchange.together([&] {
    chooseNeeded(bundle);
    if (!all.empty())
      prepareEnvironment(options, progress.channel().rank);
  });
  if (all.empty()) // on all ranks alike
    return;
  try {
    connect(bundle, progress, exchange);
  } catch (...) {
    abort();
    throw;
  }
}

Communicators::~Communicators() { finish(); }

void Communicators::connect(const Bundle &bundle, Progress &progress, Exchange &exchange) {
  const Mesh &mesh = bundle.manifest.mesh;
  int rank = progress.channel().rank;
  std::vector<std::string> versions = exchange.shareTexts(ncclVersionText(nccl().version));
  exchange.agree(SHARDRT_NO_DEVICE,
                 versions[rank] == versions[0]
                     ? ""
                     : cat("rank ", rank, " has NCCL ", versions[rank], ", rank 0 has ",
                           versions[0], "; all ranks need the same"));
  // The first rank of each group names it: an id for each communicator, empty on other ranks.
  const size_t idBytes = sizeof(ncclUniqueId);
  std::string ids(all.size() * idBytes, '\0');
  exchange.together([&] {
    for (const Communicator &communicator : all)
      if (mesh.indexAlong(rank, bundle.program.groups[communicator.group]) == 0)
        nccl().ncclGetUniqueId(
            reinterpret_cast<ncclUniqueId *>(ids.data() + communicator.number * idBytes));
  });
  std::vector<std::string> shared = exchange.shareTexts(ids);
  for (Communicator &communicator : all) {
    std::vector<int> ranks = mesh.group(rank, bundle.program.groups[communicator.group]);
    ncclUniqueId id;
    std::memcpy(&id, shared[ranks.front()].data() + communicator.number * idBytes, idBytes);
    ncclConfig config;
    config.blocking = 0;
    config.commName = communicator.name.c_str();
    int index = static_cast<int>(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin());
    nccl().ncclCommInitRankConfig(&communicator.handle, static_cast<int>(ranks.size()), id, index,
                                  &config);
    waitUntilReady(communicator, "connecting");
  }
}

void Communicators::waitUntilReady(const Communicator &communicator, const char *what) const {
  Channel &channel = progress.channel();
  int64_t begin = nowNs(), checked = begin;
  for (int state = ncclInProgress;;) {
    nccl().ncclCommGetAsyncError(communicator.handle, &state);
    if (state == ncclSuccess)
      return;
    if (state != ncclInProgress)
      throw ncclError(cat("communicator \"", communicator.name, "\", ", what), state);
    int64_t now = nowNs();
    if (now - checked > 10'000'000) {
      checked = now;
      channel.checkRanks();
      if (channel.timeout > 0 && (now - begin) * 1e-9 > channel.timeout)
        throw Error(SHARDRT_TIMEOUT,
                    cat("rank ", channel.rank, " has waited ", (now - begin) / 1000000000,
                        " s for communicator \"", communicator.name, "\", ", what));
    }
    if (now - begin > 100'000)
      std::this_thread::yield();
  }
}

void Communicators::registerArena(const DeviceMemory &arena, SessionOptions::Registration kind) {
  void *base = reinterpret_cast<void *>(arena.address(0));
  for (Communicator &communicator : all) {
    if (kind == SessionOptions::Register)
      nccl().ncclCommRegister(communicator.handle, base, arena.size(), &communicator.registration);
    else if (kind == SessionOptions::Window) // the same offsets on all ranks
      nccl().ncclCommWindowRegister(communicator.handle, base, arena.size(), &communicator.window,
                                    NCCL_WIN_COLL_SYMMETRIC);
    waitUntilReady(communicator, "registering the arena");
  }
}

const Communicator &Communicators::find(int group, CollectiveKind kind) const {
  Role role = roleOf(kind);
  return *std::find_if(all.begin(), all.end(), [&](const Communicator &communicator) {
    return communicator.group == group && communicator.role == role;
  });
}

void Communicators::settle(const Communicator &communicator) const {
  waitUntilReady(communicator, "starting a collective");
}

void Communicators::checkErrors() const {
  for (const Communicator &communicator : all) {
    int state = ncclSuccess;
    nccl().ncclCommGetAsyncError(communicator.handle, &state);
    if (nccl().isFailure(state))
      throw ncclError(cat("communicator \"", communicator.name, "\""), state);
  }
}

/// All at once: NCCL waits for a communicator's kernels, which may be queued behind those of
/// another one that nobody has broken off yet. A thread that does not come back is left alone, and
/// so has nothing that belongs to this session.
bool Communicators::abort() noexcept {
  if (std::exchange(aborted, true))
    return true;
  auto left = std::make_shared<std::atomic<int>>(0);
  std::vector<std::thread> threads;
  bool started = true;
  try {
    threads.reserve(all.size());
    for (Communicator &communicator : all)
      if (communicator.handle) {
        ++*left;
        threads.emplace_back([left, handle = communicator.handle, context = device.handle()] {
          driver().cuCtxSetCurrent.status(context);
          nccl().ncclCommAbort.status(handle);
          --*left;
        });
      }
  } catch (const std::exception &) { // no threads to be had
    started = false;
  }
  int64_t until = nowNs() + static_cast<int64_t>(abortSeconds * 1e9);
  while (started && *left > 0 && nowNs() < until)
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  bool ended = started && *left == 0;
  for (std::thread &thread : threads)
    ended ? thread.join() : thread.detach();
  return ended;
}

/// Whether NCCL has done what it was asked for, before the time is over.
static bool settled(ncclComm_t handle, int64_t until) {
  for (int state = ncclInProgress; nowNs() < until; std::this_thread::yield()) {
    if (nccl().ncclCommGetAsyncError.status(handle, &state) != ncclSuccess)
      return false;
    if (state != ncclInProgress)
      return state == ncclSuccess;
  }
  return false;
}

void Communicators::finish() noexcept {
  if (std::exchange(aborted, true))
    return;
  int64_t until = nowNs() + static_cast<int64_t>(finishSeconds * 1e9);
  for (Communicator &communicator : all) {
    if (communicator.registration)
      nccl().ncclCommDeregister.status(communicator.handle, communicator.registration);
    if (communicator.window)
      nccl().ncclCommWindowDeregister.status(communicator.handle, communicator.window);
    nccl().ncclCommFinalize.status(communicator.handle);
    if (settled(communicator.handle, until))
      nccl().ncclCommDestroy.status(communicator.handle);
    else
      nccl().ncclCommAbort.status(communicator.handle);
  }
}
