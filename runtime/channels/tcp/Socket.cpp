#include "runtime/channels/tcp/Socket.h"
#include "runtime/core/Trace.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

using namespace shardrt;

static const int sliceMs = 100;       // between looks at the clock
static const int retryUs = 50'000;    // until a connection is tried again
static const int silenceSeconds = 10; // after which a machine that does not answer is gone

static void setOption(int fd, int level, int name, int value) {
  setsockopt(fd, level, name, &value, sizeof(value));
}

Socket::Socket(int fd) : fd(fd) {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  setOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, silenceSeconds / 2);
  setOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
  setOption(fd, IPPROTO_TCP, TCP_KEEPCNT, silenceSeconds / 2);
  setOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, silenceSeconds * 1000);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

Socket::~Socket() {
  if (fd >= 0)
    close(fd);
}

Socket::Socket(Socket &&other) noexcept : fd(std::exchange(other.fd, -1)) {}

Socket &Socket::operator=(Socket &&other) noexcept {
  std::swap(fd, other.fd);
  return *this;
}

void Socket::wait(short events, const std::string &peer, int64_t deadline) const {
  for (;;) {
    pollfd entry = {fd, events, 0};
    if (poll(&entry, 1, sliceMs) > 0)
      return;
    if (deadline && nowNs() > deadline)
      throw Error(SHARDRT_TIMEOUT, cat("waited too long for ", peer));
  }
}

[[noreturn]] static void lost(const std::string &peer) {
  throw Error(SHARDRT_RANK_LOST, cat(peer, " closed its connection"));
}

void Socket::send(const void *data, size_t bytes, const std::string &peer, int64_t deadline) const {
  const char *from = static_cast<const char *>(data);
  while (bytes > 0) {
    ssize_t sent = ::send(fd, from, bytes, MSG_NOSIGNAL);
    if (sent >= 0) {
      from += sent;
      bytes -= sent;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      wait(POLLOUT, peer, deadline);
    } else if (errno != EINTR) {
      lost(peer);
    }
  }
}

void Socket::receive(void *data, size_t bytes, const std::string &peer, int64_t deadline) const {
  char *to = static_cast<char *>(data);
  while (bytes > 0) {
    ssize_t received = recv(fd, to, bytes, 0);
    if (received > 0) {
      to += received;
      bytes -= received;
    } else if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      wait(POLLIN, peer, deadline);
    } else if (received == 0 || errno != EINTR) {
      lost(peer);
    }
  }
}

bool Socket::peek(Frame &frame, const std::string &peer) const {
  ssize_t received = recv(fd, &frame, sizeof(frame), MSG_PEEK);
  if (received == 0 || (received < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
    lost(peer);
  return received == static_cast<ssize_t>(sizeof(frame));
}

Socket shardrt::listenOn(int port) {
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool isV6 = fd >= 0;
  if (!isV6)
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    throw Error(SHARDRT_IO, cat("cannot make a socket: ", systemError()));
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  Socket listener(fd);
  sockaddr_in6 v6 = {};
  sockaddr_in v4 = {};
  v6.sin6_family = AF_INET6;
  v4.sin_family = AF_INET;
  v6.sin6_port = v4.sin_port = htons(static_cast<uint16_t>(port));
  if (isV6)
    setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  int status = isV6 ? bind(fd, reinterpret_cast<sockaddr *>(&v6), sizeof(v6))
                    : bind(fd, reinterpret_cast<sockaddr *>(&v4), sizeof(v4));
  if (status != 0 || listen(fd, SOMAXCONN) != 0)
    throw Error(SHARDRT_IO, cat("cannot listen on port ", port, ": ", systemError()));
  return listener;
}

Socket shardrt::acceptFrom(const Socket &listener, int64_t deadline) {
  for (;;) {
    int fd = accept4(listener.descriptor(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0)
      return Socket(fd);
    if (deadline && nowNs() > deadline)
      return Socket();
    pollfd entry = {listener.descriptor(), POLLIN, 0};
    poll(&entry, 1, sliceMs);
  }
}

/// One try with each of the host's addresses.
static int tryConnect(const std::string &address, int port, std::string &reason) {
  addrinfo hints = {}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (int error = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list)) {
    reason = gai_strerror(error);
    return -1;
  }
  int fd = -1;
  for (addrinfo *entry = list; entry && fd < 0; entry = entry->ai_next) {
    fd = socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, entry->ai_addr, entry->ai_addrlen) == 0)
      break;
    reason = systemError();
    if (fd >= 0)
      close(std::exchange(fd, -1));
  }
  freeaddrinfo(list);
  return fd;
}

Socket shardrt::connectTo(const std::string &address, int port, int64_t deadline) {
  std::string reason;
  for (;;) {
    if (int fd = tryConnect(address, port, reason); fd >= 0)
      return Socket(fd);
    if (deadline && nowNs() > deadline)
      throw Error(SHARDRT_TIMEOUT,
                  cat("cannot reach rank 0 at ", address, ":", port, ": ", reason));
    usleep(retryUs);
  }
}
