#include "tools/shard-run/TrainLog.h"
#include "runtime/core/Error.h"

#include <algorithm>
#include <cmath>
#include <unistd.h>

using namespace shardrt;

static const int64_t barNs = 100 * 1000 * 1000, lineNs = 5ll * 1000 * 1000 * 1000;

TrainLog::TrainLog(const std::string &path, bool append, int64_t firstStep, int64_t lastStep)
    : path(path), buffer(64 << 10), firstStep(firstStep), lastStep(lastStep),
      isTerminal(isatty(STDERR_FILENO)), startedNs(nowNs()) {
  times.reserve(std::max<int64_t>(0, lastStep - firstStep + 1));
  totals.firstStep = firstStep;
  totals.lastStep = firstStep - 1;
  if (path.empty())
    return;
  file = std::fopen(path.c_str(), append ? "a" : "w");
  if (!file)
    throw Error(SHARDRT_IO, cat(path, ": cannot write the log: ", systemError()));
  std::setvbuf(file, buffer.data(), _IOFBF, buffer.size());
}

TrainLog::~TrainLog() {
  if (isTerminal && lastShown)
    std::fputc('\n', stderr);
  if (file)
    std::fclose(file);
}

/// JSON has no word for numbers that are not finite.
static void printNumber(FILE *file, const char *name, double value) {
  if (std::isfinite(value))
    std::fprintf(file, ", \"%s\": %.17g", name, value);
  else
    std::fprintf(file, ", \"%s\": null", name);
}

void TrainLog::writeLine(const StepReport &report) {
  std::fprintf(file, "{\"step\": %lld", static_cast<long long>(report.step));
  printNumber(file, "loss", report.loss);
  if (report.hasGradNorm)
    printNumber(file, "grad_norm", report.gradNorm);
  printNumber(file, "learning_rate", report.learningRate);
  std::fprintf(file, ", \"tokens_per_second\": %.1f, \"ms\": %.3f}\n",
               static_cast<double>(report.tokens) / report.ms * 1e3, report.ms);
  if (std::fflush(file) != 0)
    throw Error(SHARDRT_IO, cat(path, ": cannot write the log: ", systemError()));
}

void TrainLog::showProgress(const StepReport &report) {
  int64_t now = nowNs();
  if (now - lastShown < (isTerminal ? barNs : lineNs) && report.step != lastStep)
    return;
  lastShown = now;
  const int width = 24;
  int64_t done = report.step - firstStep + 1, all = lastStep - firstStep + 1;
  char bar[width + 1] = {};
  for (int i = 0; i < width; ++i)
    bar[i] = i < done * width / all ? '=' : ' ';
  double seconds = static_cast<double>(now - startedNs) * 1e-9;
  double left = seconds / static_cast<double>(done) * static_cast<double>(all - done);
  std::fprintf(stderr, isTerminal ? "\r[%s] " : "%.0s", bar);
  std::fprintf(stderr, "step %lld of %lld, loss %.4f, %.0f tokens/s, %.1f ms, %d:%02d left%s",
               static_cast<long long>(report.step), static_cast<long long>(lastStep), report.loss,
               static_cast<double>(totals.tokens) / seconds, report.ms, static_cast<int>(left) / 60,
               static_cast<int>(left) % 60, isTerminal ? "  " : "\n");
  std::fflush(stderr);
}

void TrainLog::step(const StepReport &report) {
  if (report.step == firstStep)
    totals.firstLoss = report.loss;
  totals.lastStep = report.step;
  totals.lastLoss = report.loss;
  totals.tokens += report.tokens;
  times.push_back(report.ms);
  if (file)
    writeLine(report);
  showProgress(report);
}

void TrainLog::finish(const std::string &json) {
  if (file && (std::fprintf(file, "%s\n", json.c_str()) < 0 || std::fflush(file) != 0))
    throw Error(SHARDRT_IO, cat(path, ": cannot write the log: ", systemError()));
}

TrainSummary TrainLog::summary() const {
  TrainSummary summary = totals;
  std::vector<double> sorted = times;
  std::sort(sorted.begin(), sorted.end());
  for (double ms : sorted)
    summary.seconds += ms * 1e-3;
  if (!sorted.empty())
    summary.medianMs = sorted[sorted.size() / 2];
  return summary;
}
