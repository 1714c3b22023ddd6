#include "runtime/core/Training.h"

#include <algorithm>
#include <cmath>

using namespace shardrt;

static double numberOr(const JsonNode &node, const char *key, double fallback) {
  return node.has(key) ? node.get(key).number() : fallback;
}

static double readBeta(const JsonNode &node, const char *key) {
  double beta = numberOr(node, key, 0);
  if (beta < 0 || beta >= 1)
    node.get(key).fail(cat(beta, " is not in [0, 1)"));
  return beta;
}

static LearningRateSchedule readSchedule(const JsonNode &node) {
  static const char *const names[] = {"constant", "linear", "cosine"};
  LearningRateSchedule schedule;
  std::string name = node.get("name").string();
  auto found = std::find(std::begin(names), std::end(names), name);
  if (found == std::end(names))
    node.get("name").fail(cat("unknown schedule \"", name, "\""));
  schedule.kind = static_cast<LearningRateSchedule::Kind>(found - names);
  schedule.warmupSteps = node.integerOr("warmup_steps", 0, 0);
  schedule.decaySteps = node.integerOr("decay_steps", 0, 0);
  schedule.minimum = numberOr(node, "minimum", 0);
  return schedule;
}

Training shardrt::readTraining(const JsonNode &node) {
  const int64_t most = int64_t(1) << 40;
  Training training;
  JsonNode optimizer = node.get("optimizer"), batch = node.get("batch");
  training.optimizer = optimizer.get("name").string();
  training.learningRate = optimizer.get("learning_rate").number();
  training.beta1 = readBeta(optimizer, "beta1");
  training.beta2 = readBeta(optimizer, "beta2");
  if (optimizer.has("schedule"))
    training.schedule = readSchedule(optimizer.get("schedule"));
  JsonNode inputs = batch.get("inputs");
  for (size_t i = 0; i < inputs.size(); ++i)
    training.inputs.push_back(inputs.at(i).string());
  training.labels = batch.get("labels").string();
  training.sequences = batch.get("sequences").integer(1, most);
  training.length = batch.get("length").integer(1, most);
  if (!checkedMul(training.sequences, training.length))
    batch.fail("the batch is too large");
  training.accumulation = node.has("accumulation") ? node.get("accumulation").integer(1, most) : 1;
  training.vocabulary = node.get("vocabulary").integer(1, most);
  if (node.has("checked_gradients"))
    for (size_t i = 0; i < node.get("checked_gradients").size(); ++i)
      training.checkedGradients.push_back(node.get("checked_gradients").at(i).string());
  return training;
}

double shardrt::learningRateAt(const LearningRateSchedule &schedule, double peak, int64_t step) {
  if (step <= schedule.warmupSteps)
    return peak * static_cast<double>(step) / static_cast<double>(schedule.warmupSteps);
  if (schedule.kind == LearningRateSchedule::Constant || schedule.decaySteps == 0)
    return peak;
  double after = static_cast<double>(step - schedule.warmupSteps);
  double progress = std::min(1.0, after / static_cast<double>(schedule.decaySteps));
  double share = schedule.kind == LearningRateSchedule::Linear
                     ? 1 - progress
                     : (1 + std::cos(progress * std::acos(-1.0))) / 2;
  return schedule.minimum + (peak - schedule.minimum) * share;
}

double shardrt::biasCorrection(double beta, int64_t step) {
  return 1 - std::pow(beta, static_cast<double>(step));
}

std::optional<double> shardrt::optimizerScalar(const Training &training, const std::string &name,
                                               int64_t step, std::optional<double> peak) {
  if (name == "learning_rate")
    return learningRateAt(training.schedule, peak.value_or(training.learningRate), step);
  if (name == "bias_correction1")
    return biasCorrection(training.beta1, step);
  if (name == "bias_correction2")
    return biasCorrection(training.beta2, step);
  return std::nullopt;
}
