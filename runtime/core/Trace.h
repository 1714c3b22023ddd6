// What each rank did when, as a Chrome / Perfetto trace.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace shardrt {

/// Nanoseconds of a clock that all processes of a machine share.
int64_t nowNs();

class Trace {
public:
  enum Track { Compute = 0, Communication = 1 };
  struct Event {
    std::string name;
    Track track;
    int64_t begin, end;
    int64_t command, layer;
  };
  void add(Event event);
  /// This rank's events as comma-separated JSON objects.
  std::string json(int rank) const;

private:
  mutable std::mutex mutex; // compute and progress threads both record
  std::vector<Event> events;
};

} // namespace shardrt
