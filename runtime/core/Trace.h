// What each rank did when, as a Chrome / Perfetto trace.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace shardrt {

/// Nanoseconds of a clock that all processes of a machine share.
int64_t nowNs();

/// Where in a program something happens; the entry's name lives as long as the program.
struct CommandPlace {
  const char *entry = nullptr;
  int64_t command = -1, layer = -1;
};

class Trace {
public:
  enum Track { Compute = 0, Communication = 1, Entries = 2 };
  struct Event {
    const char *name; // lives as long as the program
    Track track;
    int64_t begin, end;
    CommandPlace where;
    int64_t run = 0; // set by add()
  };
  void add(Event event);
  /// What follows belongs to another run of an entry.
  void nextRun();
  /// This rank's events as comma-separated JSON objects.
  std::string json(int rank) const;

private:
  mutable std::mutex mutex; // compute and progress threads both record
  std::vector<Event> events;
  int64_t run = 0;
};

} // namespace shardrt
