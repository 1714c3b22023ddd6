// The options of shard-run.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace shardrt {

struct RunOptions {
  std::string bundle;
  int ranks = 0;                                            // 0: as many as the bundle is for
  std::vector<std::pair<std::string, std::string>> inputs;  // name, file
  std::vector<std::pair<std::string, std::string>> outputs; // name (empty: the only one), file
  std::string weights, entry, isa, trace;
  std::string channel = "auto";
  int threads = 0; // 0: processors / local ranks
  bool pin = false, json = false;
  int runs = 1, bench = 0;
  double timeout = 0, linkGbps = 0; // 0: default
  enum Action { Run, Help, Version } action = Run;
};

/// Throws SHARDRT_INVALID_ARGUMENT that says what is wrong with which option.
RunOptions parseCommandLine(int argc, char **argv);
std::string helpText();

} // namespace shardrt
