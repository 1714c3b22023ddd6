// Ranks as processes of one machine: the region is a shared mapping, and the processes watch each
// other.
#include "runtime/channels/Factories.h"
#include "runtime/channels/direct/DirectChannel.h"
#include "runtime/channels/shm/Rendezvous.h"
#include "runtime/core/Error.h"

#include <cerrno>
#include <fstream>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace shardrt;

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace {
/// Tells which rank process has died. A process descriptor also sees those that died and were not
/// yet collected by their parent; where the kernel has none, /proc tells.
class Watch {
public:
  Watch(std::shared_ptr<Region> region, const std::vector<int> &pids, int self)
      : region(std::move(region)), pids(pids) {
    for (size_t rank = 0; rank < pids.size(); ++rank) {
      int fd = static_cast<int>(rank) == self
                   ? -1
                   : static_cast<int>(syscall(SYS_pidfd_open, pids[rank], 0));
      polls.push_back({fd, POLLIN, 0});
      gone.push_back(static_cast<int>(rank) != self && fd < 0 && errno == ESRCH);
      byProc.push_back(static_cast<int>(rank) != self && fd < 0 && !gone.back());
    }
  }
  ~Watch() {
    for (const pollfd &entry : polls)
      if (entry.fd >= 0)
        close(entry.fd);
  }
  Watch(const Watch &) = delete;
  Watch &operator=(const Watch &) = delete;

  /// A rank that died before it finished, or -1.
  int findLost() {
    poll(polls.data(), polls.size(), 0);
    for (size_t rank = 0; rank < pids.size(); ++rank) {
      bool dead = gone[rank] || (polls[rank].fd >= 0 && polls[rank].revents != 0) ||
                  (byProc[rank] && !runs(pids[rank]));
      if (dead && !region->state(static_cast<int>(rank)).finished.load(std::memory_order_acquire))
        return static_cast<int>(rank);
    }
    return -1;
  }

private:
  static bool runs(int pid) {
    std::ifstream file(cat("/proc/", pid, "/stat"));
    std::string text;
    std::getline(file, text);
    size_t name = text.rfind(')'); // "pid (name) state …"
    return name != std::string::npos && name + 2 < text.size() && text[name + 2] != 'Z' &&
           text[name + 2] != 'X';
  }
  std::shared_ptr<Region> region;
  std::vector<int> pids;
  std::vector<pollfd> polls;
  std::vector<bool> gone, byProc;
};
} // namespace

std::unique_ptr<Channel> shardrt::createShmChannel(const ChannelOptions &options) {
  RegionLayout layout(options.ranks, options.maxGroups, options.arenaBytes);
  Meeting meeting = meet(options, layout.total);
  std::shared_ptr<Region> region;
  try {
    region = std::make_shared<Region>(layout, meeting.fd);
  } catch (...) {
    close(meeting.fd);
    throw;
  }
  close(meeting.fd); // the mapping stays
  for (int rank = 0; rank < options.ranks; ++rank)
    region->state(rank).pid.store(meeting.pids[rank]);
  auto watch = std::make_shared<Watch>(region, meeting.pids, options.rank);
  return std::make_unique<DirectChannel>("shm", region, options,
                                         [watch] { return watch->findLost(); });
}
