// What manifest.json says about a training program (docs/contracts.md §5.3).
#pragma once

#include "runtime/core/JsonNode.h"
#include <string>
#include <vector>

namespace shardrt {

struct LearningRateSchedule {
  enum Kind { Constant, Linear, Cosine } kind = Constant;
  int64_t warmupSteps = 0, decaySteps = 0;
  double minimum = 0;
};

struct Training {
  std::string optimizer;
  double learningRate = 0;
  double beta1 = 0, beta2 = 0; // zero where the optimizer has none
  LearningRateSchedule schedule;
  std::vector<std::string> inputs; // of the batch: those that hold tokens, and others known by name
  std::string labels;
  int64_t sequences = 0, length = 0; // of a global batch
  int64_t accumulation = 1, vocabulary = 0;
  /// Weights whose gradients the program checks: the output `nonFiniteOutput` counts what is not
  /// finite in each rank's own, at every `countStride`th element.
  std::vector<std::string> checkedGradients;
};
inline constexpr const char *nonFiniteOutput = "nonfinite_gradients";
inline constexpr int64_t countStride = 64;

Training readTraining(const JsonNode &node);

/// Rate of step 1, 2, …: a linear rise over the warm-up steps to `peak`, then constant, or a fall
/// to the minimum, which is reached after `decaySteps` more.
double learningRateAt(const LearningRateSchedule &schedule, double peak, int64_t step);

/// The value of an input of the optimizer ("learning_rate", "bias_correction1", "bias_correction2")
/// in a step; empty for other names. `peak` replaces the bundle's learning rate.
std::optional<double> optimizerScalar(const Training &training, const std::string &name,
                                      int64_t step, std::optional<double> peak = {});

/// 1 - beta^step, which a running mean that starts at zero is divided by.
double biasCorrection(double beta, int64_t step);

} // namespace shardrt
