// A TCP connection to another rank that carries frames.
#pragma once

#include "runtime/core/Error.h"
#include <cstddef>
#include <cstdint>

namespace shardrt {

/// What is in front of a frame's bytes.
struct Frame {
  enum Kind : uint32_t { Data = 1, Abort = 2, Leave = 3 };
  uint32_t kind = Data;
  uint32_t call = 0;  // of Data: which collective; of Abort: the status
  uint64_t bytes = 0; // that follow
};

class Socket {
public:
  Socket() = default;
  explicit Socket(int fd);
  ~Socket();
  Socket(Socket &&other) noexcept;
  Socket &operator=(Socket &&other) noexcept;
  bool isOpen() const { return fd >= 0; }
  int descriptor() const { return fd; }

  // `peer` names the other side in messages. All throw SHARDRT_RANK_LOST if it is gone, and
  // SHARDRT_TIMEOUT at `deadline` (of nowNs; 0: none).
  void send(const void *data, size_t bytes, const std::string &peer, int64_t deadline) const;
  void receive(void *data, size_t bytes, const std::string &peer, int64_t deadline) const;
  /// The next frame's head if all of it has come; it stays there.
  bool peek(Frame &frame, const std::string &peer) const;

private:
  void wait(short events, const std::string &peer, int64_t deadline) const;
  int fd = -1;
};

/// Listens on all of this machine's addresses. Throws SHARDRT_IO.
Socket listenOn(int port);
/// The next one that connects; not open if nobody does before the deadline.
Socket acceptFrom(const Socket &listener, int64_t deadline);
/// Tries again until the deadline. Throws SHARDRT_TIMEOUT.
Socket connectTo(const std::string &address, int port, int64_t deadline);

} // namespace shardrt
