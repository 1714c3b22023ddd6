//===- Log.h - The call log -----------------------------------------------===//
//
// FAKE_CUDA_LOG names a file; every process appends JSON lines to it. What is wrong is said on
// stderr too, and in the log as {"error": …}.
//
//===----------------------------------------------------------------------===//
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fake {

class __attribute__((visibility("default"))) LogLine {
public:
  /// {"pid": …, "device": the thread's, or -1, "call": call
  explicit LogLine(const char *call);
  /// Writes the line, if there is a log.
  ~LogLine();
  LogLine &add(const char *key, uint64_t value);
  LogLine &add(const char *key, const void *value) {
    return add(key, reinterpret_cast<uint64_t>(value));
  }
  LogLine &add(const char *key, const std::string &value);
  LogLine &add(const char *key, const std::vector<uint64_t> &values);

private:
  std::string text;
};

/// On stderr and in the log.
__attribute__((visibility("default"))) void complain(const std::string &message);

/// A number of the environment.
__attribute__((visibility("default"))) uint64_t setting(const char *name, uint64_t otherwise);

} // namespace fake
