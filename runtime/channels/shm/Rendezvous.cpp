// Rank 0 listens on an abstract Unix socket named after user and job. Every other rank connects
// (again and again until rank 0 is there) and says who it is. When all have come, rank 0 answers
// each with a verdict, the process numbers, and the descriptor of the memory file.
#include "runtime/channels/shm/Rendezvous.h"
#include "runtime/core/Error.h"
#include "runtime/core/Sha256.h"
#include "runtime/core/Trace.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

using namespace shardrt;

namespace {
/// A descriptor that is closed at the end of its scope.
struct Descriptor {
  int fd = -1;
  explicit Descriptor(int fd = -1) : fd(fd) {}
  Descriptor(Descriptor &&other) : fd(other.release()) {}
  ~Descriptor() {
    if (fd >= 0)
      close(fd);
  }
  int release() {
    int result = fd;
    fd = -1;
    return result;
  }
};

struct Hello {
  char magic[8];
  int32_t rank, ranks, pid;
  int64_t arenaBytes;
  uint64_t fingerprint;
  int32_t groups;
};

struct Verdict {
  int32_t status; // shardrt_status
  char message[500];
};

struct Deadline {
  int64_t end;
  explicit Deadline(double seconds)
      : end(seconds > 0 ? nowNs() + static_cast<int64_t>(seconds * 1e9) : INT64_MAX) {}
  bool passed() const { return nowNs() > end; }
};
} // namespace

static const int pollMs = 100;
static const double hearingSeconds = 2;

static sockaddr_un addressOf(const std::string &job, socklen_t &length) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::string name =
      cat("shardrt-", getuid(), "-", sha256Hex(job.data(), job.size()).substr(0, 40));
  std::memcpy(address.sun_path + 1, name.data(), name.size()); // leading zero byte: no file
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

static Descriptor openSocket() {
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (socket.fd < 0)
    throw Error(SHARDRT_INTERNAL, cat("cannot open a socket: ", systemError()));
  return socket;
}

static Hello helloOf(const ChannelOptions &options) {
  Hello hello = {};
  std::memcpy(hello.magic, "shardrt1", 8);
  hello.rank = options.rank;
  hello.ranks = options.ranks;
  hello.pid = getpid();
  hello.arenaBytes = options.arenaBytes;
  hello.fingerprint = options.fingerprint;
  hello.groups = options.maxGroups;
  return hello;
}

/// Why this rank cannot join rank 0; empty if it can.
static std::string disagreement(const Hello &mine, const Hello &other,
                                const std::vector<Descriptor> &peers) {
  if (std::memcmp(mine.magic, other.magic, 8) != 0)
    return "a process of another runtime version tried to join the job";
  if (other.ranks != mine.ranks)
    return cat("rank ", other.rank, " expects ", other.ranks, " ranks, rank 0 expects ",
               mine.ranks);
  if (other.rank <= 0 || other.rank >= mine.ranks)
    return cat("a process says that it is rank ", other.rank, " of ", mine.ranks);
  if (peers[other.rank].fd >= 0)
    return cat("two processes say that they are rank ", other.rank);
  if (other.fingerprint != mine.fingerprint || other.arenaBytes != mine.arenaBytes ||
      other.groups != mine.groups)
    return cat("rank ", other.rank, " runs another program than rank 0");
  return "";
}

static void answer(int socket, const Verdict &verdict, const std::vector<int> &pids, int fd) {
  iovec parts[2] = {{const_cast<Verdict *>(&verdict), sizeof(verdict)},
                    {const_cast<int *>(pids.data()), pids.size() * sizeof(int)}};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (verdict.status == SHARDRT_OK) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  sendmsg(socket, &message,
          MSG_NOSIGNAL); // a rank that is gone is found dead at the first collective
}

static Verdict verdictOf(shardrt_status status, const std::string &text) {
  Verdict verdict = {};
  verdict.status = status;
  std::memcpy(verdict.message, text.data(), std::min(text.size(), sizeof(verdict.message) - 1));
  return verdict;
}

static std::string missingRanks(const std::vector<Descriptor> &peers) {
  std::string list;
  for (size_t rank = 1; rank < peers.size(); ++rank)
    if (peers[rank].fd < 0)
      list += (list.empty() ? "" : ", ") + std::to_string(rank);
  return list;
}

/// Takes one newcomer; returns why the job cannot start, or nothing.
static std::string welcome(int listener, const Hello &mine, std::vector<Descriptor> &peers,
                           std::vector<int> &pids) {
  Descriptor peer(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  Hello hello = {};
  timeval patience = {5, 0};
  setsockopt(peer.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ucred who = {};
  socklen_t length = sizeof(who);
  if (peer.fd < 0 || recv(peer.fd, &hello, sizeof(hello), 0) != sizeof(hello) ||
      getsockopt(peer.fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0 || who.uid != getuid())
    return ""; // a stranger
  std::string problem = disagreement(mine, hello, peers);
  bool hasPlace = hello.rank > 0 && hello.rank < mine.ranks && peers[hello.rank].fd < 0;
  if (!hasPlace) {
    answer(peer.fd, verdictOf(SHARDRT_INVALID_ARGUMENT, problem), {}, -1);
    return problem;
  }
  pids[hello.rank] = hello.pid;
  peers[hello.rank].fd = peer.release();
  return problem;
}

/// Waits for all ranks. After a disagreement it waits a little longer, so that most ranks hear the
/// reason.
static std::string welcomeAll(int listener, const ChannelOptions &options,
                              std::vector<Descriptor> &peers, std::vector<int> &pids) {
  Hello mine = helloOf(options);
  Deadline deadline(options.timeout), hearing(0);
  std::string problem;
  for (;;) {
    std::string missing = missingRanks(peers);
    if (missing.empty() || hearing.passed())
      return problem;
    pollfd ready = {listener, POLLIN, 0};
    if (poll(&ready, 1, pollMs) > 0) {
      std::string found = welcome(listener, mine, peers, pids);
      if (problem.empty() && !found.empty()) {
        problem = found;
        hearing = Deadline(hearingSeconds);
      }
    } else if (deadline.passed()) {
      throw Error(SHARDRT_TIMEOUT,
                  cat("waited ", options.timeout, " s for ranks ", missing, " to join"));
    }
  }
}

static Meeting host(const ChannelOptions &options, int64_t bytes) {
  Descriptor memory(memfd_create("shardrt", MFD_CLOEXEC));
  if (memory.fd < 0 || ftruncate(memory.fd, bytes) != 0)
    throw Error(SHARDRT_OUT_OF_MEMORY,
                cat("cannot create shared memory of ", bytes, " bytes: ", systemError()));
  Descriptor listener = openSocket();
  socklen_t length;
  sockaddr_un address = addressOf(options.job, length);
  if (bind(listener.fd, reinterpret_cast<sockaddr *>(&address), length) != 0 ||
      listen(listener.fd, options.ranks) != 0)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                errno == EADDRINUSE
                    ? cat("another job on this machine is called \"", options.job, "\"")
                    : cat("cannot listen for the other ranks: ", systemError()));
  std::vector<Descriptor> peers(options.ranks);
  std::vector<int> pids(options.ranks, getpid());
  std::string problem = welcomeAll(listener.fd, options, peers, pids);
  Verdict verdict = verdictOf(problem.empty() ? SHARDRT_OK : SHARDRT_INVALID_ARGUMENT, problem);
  for (const Descriptor &peer : peers)
    if (peer.fd >= 0)
      answer(peer.fd, verdict, pids, memory.fd);
  if (!problem.empty())
    throw Error(SHARDRT_INVALID_ARGUMENT, problem);
  return {memory.release(), pids};
}

static Descriptor connectToHost(const ChannelOptions &options) {
  socklen_t length;
  sockaddr_un address = addressOf(options.job, length);
  Deadline deadline(options.timeout);
  for (int pauseUs = 200;; pauseUs = std::min(pauseUs * 2, 20000)) {
    Descriptor socket = openSocket();
    if (connect(socket.fd, reinterpret_cast<sockaddr *>(&address), length) == 0)
      return socket;
    if (deadline.passed())
      throw Error(SHARDRT_TIMEOUT, cat("rank ", options.rank, " waited ", options.timeout,
                                       " s for rank 0 to start"));
    usleep(pauseUs);
  }
}

static Meeting join(const ChannelOptions &options) {
  Descriptor socket = connectToHost(options);
  Hello hello = helloOf(options);
  Verdict verdict = {};
  std::vector<int> pids(options.ranks);
  iovec parts[2] = {{&verdict, sizeof(verdict)}, {pids.data(), pids.size() * sizeof(int)}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t received = send(socket.fd, &hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello)
                         ? recvmsg(socket.fd, &message, MSG_CMSG_CLOEXEC)
                         : -1;
  if (received < static_cast<ssize_t>(sizeof(verdict)))
    throw Error(SHARDRT_RANK_LOST, cat("rank 0 went away while rank ", options.rank, " joined"));
  if (verdict.status != SHARDRT_OK)
    throw Error(static_cast<shardrt_status>(verdict.status), verdict.message);
  cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_type != SCM_RIGHTS)
    throw Error(SHARDRT_INTERNAL, "rank 0 sent no shared memory");
  int fd;
  std::memcpy(&fd, CMSG_DATA(header), sizeof(int));
  return {fd, pids};
}

Meeting shardrt::meet(const ChannelOptions &options, int64_t bytes) {
  return options.rank == 0 ? host(options, bytes) : join(options);
}
