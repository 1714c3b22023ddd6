// The options of shard-run.
#pragma once

#include <cstdint>
#include <optional>
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
  bool pin = false, json = false, poison = false;
  std::string backend; // empty: the bundle's target
  bool noCudaGraph = false, shareDevice = false;
  std::string ncclUb; // empty: no registration
  int runs = 1, bench = 0;
  double timeout = 0, linkGbps = 0; // 0: default

  // Training.
  std::string data, tokenDtype, log, stats, save, load;
  int64_t steps = 0, accumulation = 0, saveEvery = 0; // 0: not given
  std::optional<uint64_t> seed;
  std::optional<double> learningRate;
  bool checkNan = false, checkAllocations = false;

  std::vector<std::string> given; // names of the options
  enum Action { Run, Help, Version } action = Run;
};

/// Throws SHARDRT_INVALID_ARGUMENT that says what is wrong with which option.
RunOptions parseCommandLine(int argc, char **argv);
std::string helpText();
/// Refuses options that are for the other kind of bundle, and those that need another one.
void checkOptions(const RunOptions &options, bool isTraining);
/// Refuses options that are for another target than the bundle's.
void checkBackend(const RunOptions &options, const std::string &target);

} // namespace shardrt
