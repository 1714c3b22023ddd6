// A training bundle without a compiler: a table of numbers is fitted to the tokens that follow each
// token (kernels.c tells how), with momentum, on a mesh of dp_shard × tp ranks.
#pragma once

#include "BundleBuilder.h"

namespace shardrt_test {

struct TrainingSetup {
  int dp = 2, tp = 1;
  bool hasStep = true;     // the entry "step" beside those for accumulation
  bool isGathered = false; // whole parameters are kept between runs, by the entry "gather"
  int sequences = 4, length = 3, vocabulary = 10;
  std::string extraKernel; // launched in the middle of the forward pass with the rank's index
};

/// Weights "table.weight" [vocabulary], sharded over tp, and "head.bias" [3], in one bucket.
BundleBuilder trainingBundle(const TrainingSetup &setup = {});

} // namespace shardrt_test
