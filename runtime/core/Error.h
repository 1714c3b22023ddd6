// The exception used inside the runtime; it never crosses the C interface (see guard()).
#pragma once

#include "shardrt/status.h"
#include <sstream>
#include <stdexcept>
#include <string>

namespace shardrt {

class Error : public std::runtime_error {
public:
  Error(shardrt_status status, const std::string &message)
      : std::runtime_error(message), code(status) {}
  shardrt_status status() const { return code; }

private:
  shardrt_status code;
};

/// The job was given up because of another rank, which has reported the reason itself.
class AbortedError : public Error {
public:
  explicit AbortedError(const std::string &message, shardrt_status status = SHARDRT_RANK_LOST)
      : Error(status, message) {}
};

/// Concatenates its arguments as an ostream would print them.
template <typename... Parts> std::string cat(const Parts &...parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// The message of errno, e.g. "No such file or directory".
std::string systemError();
void setLastError(const std::string &message);
/// Turns the exception being handled into a status and remembers its message.
shardrt_status statusOfCurrentException() noexcept;

/// Runs `body` for a function of the C interface.
template <typename Body> shardrt_status guard(Body &&body) noexcept {
  try {
    body();
    return SHARDRT_OK;
  } catch (...) {
    return statusOfCurrentException();
  }
}

} // namespace shardrt
