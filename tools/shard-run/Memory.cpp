#include "tools/shard-run/Memory.h"

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

using namespace shardrt;

/// A "Name:  123 kB" line of a file below /proc/self, in bytes; -1 if there is none.
static int64_t procBytes(const char *file, const std::string &key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.compare(0, key.size(), key) == 0)
      return std::atoll(line.c_str() + key.size()) * 1024;
  return -1;
}

int64_t shardrt::proportionalBytes() { return procBytes("/proc/self/smaps_rollup", "Pss:"); }

std::string shardrt::memoryOfThisRank(const Session &session, int64_t idleBytes) {
  nlohmann::json json = {{"pss_bytes", proportionalBytes()},
                         {"idle_pss_bytes", idleBytes},
                         {"peak_rss_bytes", procBytes("/proc/self/status", "VmHWM:")},
                         {"arena_touched_bytes", session.machine().arenaTouchedBytes()}};
  if (int64_t bytes = session.machine().deviceBytes(); bytes >= 0)
    json["device_bytes"] = bytes;
  return json.dump();
}
