// Messages of the last failing call, one per thread.
#include "runtime/core/Error.h"

#include <cerrno>
#include <cstring>
#include <new>

#ifndef SHARDRT_VERSION
#define SHARDRT_VERSION "unknown"
#endif

static thread_local std::string lastError;

std::string shardrt::systemError() { return std::strerror(errno); }

void shardrt::setLastError(const std::string &message) { lastError = message; }

shardrt_status shardrt::statusOfCurrentException() noexcept {
  try {
    try {
      throw;
    } catch (const Error &error) {
      setLastError(error.what());
      return error.status();
    } catch (const std::bad_alloc &) {
      setLastError("out of memory");
      return SHARDRT_OUT_OF_MEMORY;
    } catch (const std::exception &error) {
      setLastError(cat("unexpected failure: ", error.what()));
      return SHARDRT_INTERNAL;
    } catch (...) {
      setLastError("unexpected failure of unknown kind");
      return SHARDRT_INTERNAL;
    }
  } catch (...) { // not even the message could be stored
    return SHARDRT_OUT_OF_MEMORY;
  }
}

const char *shardrt_last_error(void) { return lastError.c_str(); }

const char *shardrt_version(void) { return SHARDRT_VERSION; }

const char *shardrt_status_name(shardrt_status status) {
  static const char *const names[] = {
      "ok",          "internal error",     "invalid argument", "bad bundle",       "bad input",
      "bad weights", "input/output error", "unsupported cpu",  "wrong rank count", "rank lost",
      "timeout",     "out of memory",      "not finite",       "no device",        "device failed"};
  unsigned index = static_cast<unsigned>(status);
  return index < sizeof(names) / sizeof(names[0]) ? names[index] : "unknown status";
}
