// What rank 0 says about the steps: a line of JSON each into a file, and a bar or, where stderr is
// no terminal, a line now and then.
#pragma once

#include "runtime/train/Trainer.h"
#include <cstdio>

namespace shardrt {

/// Over the steps of this run.
struct TrainSummary {
  int64_t firstStep = 0, lastStep = 0, tokens = 0;
  double firstLoss = 0, lastLoss = 0, seconds = 0, medianMs = 0;
};

class TrainLog {
public:
  /// Steps `firstStep` … `lastStep` will come. path: empty for no file; `append`: a resumed run.
  TrainLog(const std::string &path, bool append, int64_t firstStep, int64_t lastStep);
  ~TrainLog();
  /// Allocates nothing.
  void step(const StepReport &report);
  /// The file's last line.
  void finish(const std::string &json);
  TrainSummary summary() const;

private:
  void writeLine(const StepReport &report);
  void showProgress(const StepReport &report);

  std::string path;
  FILE *file = nullptr;
  std::vector<char> buffer; // of the file
  int64_t firstStep, lastStep;
  bool isTerminal;
  int64_t lastShown = 0, startedNs;
  TrainSummary totals;
  std::vector<double> times;
};

} // namespace shardrt
