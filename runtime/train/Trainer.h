// Training steps: batches from a token file, the entry points of a training bundle, and what is
// reported about a step. Everything that varies is computed from the step's number, so that a
// resumed run continues exactly.
#pragma once

#include "runtime/train/Checkpoint.h"
#include "runtime/train/TokenFile.h"

namespace shardrt {

struct TrainerOptions {
  uint64_t seed = 0;
  std::optional<double> learningRate; // replaces the bundle's
  int64_t accumulation = 0;           // micro-batches a step; 0: the bundle's
  bool checkNan = false;
};

struct StepReport {
  int64_t step;
  double loss;     // of the whole step, a mean over its tokens
  double gradNorm; // of all gradients, before clipping; if the program reports it
  bool hasGradNorm;
  double learningRate;
  int64_t tokens; // positions of all micro-batches
  double ms;
};

/// The entry points that a step runs. Either `whole` or the others are set.
struct TrainingEntries {
  const Entry *whole = nullptr;
  const Entry *forwardBackward = nullptr, *finish = nullptr, *optimize = nullptr, *zero = nullptr;
  int64_t accumulation = 1;
};

/// Throws SHARDRT_INVALID_ARGUMENT or SHARDRT_BAD_BUNDLE if the bundle cannot be trained like this.
TrainingEntries chooseEntries(const Bundle &bundle, const TrainerOptions &options);

class Trainer {
public:
  /// `data` is for the bundle's length and vocabulary.
  Trainer(Session &session, const TokenFile &data, const TrainerOptions &options);

  /// Collective. Throws when the data has a bad token, or (checkNan, or if the program checks
  /// gradients) a number is not finite; in the latter case `isUnchanged`.
  StepReport step();
  /// Whether a step that threw because of such a number left parameters and optimizer states alone.
  bool isUnchanged = false;

  TrainerState state; // may be replaced by a checkpoint's before a step

private:
  void addInputs();
  void addInput(const Value &value);
  bool addScalar(const Value &value, size_t index);
  void setScalars(int64_t step);
  void nextBatch();
  void addResults(const Entry &entry, StepReport &report);
  template <typename T> void fill();
  void prepareCounts();
  void checkCounts(const Entry &entry, int64_t step);
  void checkGradients(int64_t step);
  void checkReport(const StepReport &report);
  std::string findNonFinite(StateRole role) const;

  Session &session;
  const Training &training;
  const TokenFile &data;
  TrainerOptions options;
  TrainingEntries entries;

  /// A scalar that changes from step to step.
  struct Scalar {
    size_t input;
    const std::string *name;
  };
  std::vector<Scalar> scalars;
  /// The global batch's tokens, or those that follow them.
  struct BatchInput {
    size_t input = 0;
    bool isFound = false;
    std::vector<std::byte> data;
  };
  BatchInput tokens, labels;
  DType tokenType = SHARDRT_I64;
  std::vector<float> counts;        // of what is not finite, by checked gradient
  double lossSum = 0, tokenSum = 0; // over the micro-batches of a step
};

} // namespace shardrt
