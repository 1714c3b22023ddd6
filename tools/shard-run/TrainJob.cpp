#include "tools/shard-run/TrainJob.h"
#include "runtime/core/Error.h"
#include "tools/shard-run/AllocationCounter.h"
#include "tools/shard-run/Memory.h"
#include "tools/shard-run/TrainLog.h"

#include <fstream>
#include <nlohmann/json.hpp>

using namespace shardrt;
using Json = nlohmann::json;

static TrainerOptions trainerOptions(const RunOptions &given) {
  TrainerOptions options;
  options.seed = given.seed.value_or(0);
  options.learningRate = given.learningRate;
  options.accumulation = given.accumulation;
  options.checkNan = given.checkNan;
  return options;
}

std::unique_ptr<TokenFile> shardrt::prepareTraining(const Bundle &bundle,
                                                    const RunOptions &options) {
  chooseEntries(bundle, trainerOptions(options));
  for (const std::string &path : {options.log, options.stats, options.trace})
    if (!path.empty())
      checkWritable(path);
  if (options.checkAllocations && !canCountAllocations())
    throw Error(SHARDRT_INVALID_ARGUMENT,
                "--check-allocations: this build cannot count allocations");
  if (options.checkAllocations && !options.trace.empty())
    throw Error(SHARDRT_INVALID_ARGUMENT, "--check-allocations: a --trace allocates");
  const Training &training = *bundle.manifest.training;
  return std::make_unique<TokenFile>(options.data, options.tokenDtype, training.length,
                                     training.vocabulary);
}

namespace {
/// Allocations of the steps alone.
struct Counter {
  int64_t total = 0;
  template <typename Body> void during(const Body &body) {
    int64_t before = allocations();
    body();
    total += allocations() - before;
  }
};
} // namespace

static Json summaryJson(const Job &job, const Session &session, const TrainSummary &summary,
                        const std::vector<std::string> &ranks) {
  int64_t steps = summary.lastStep - summary.firstStep + 1;
  Json json = {{"done", true},
               {"model", job.bundle.manifest.model},
               {"ranks", job.bundle.ranks()},
               {"steps", steps},
               {"last_step", summary.lastStep},
               {"first_loss", summary.firstLoss},
               {"last_loss", summary.lastLoss},
               {"tokens", summary.tokens},
               {"seconds", summary.seconds},
               {"median_ms", summary.medianMs},
               {"tokens_per_second",
                summary.seconds > 0 ? static_cast<double>(summary.tokens) / summary.seconds : 0},
               {"arena_bytes", job.bundle.program.arenaBytes},
               {"scratch_bytes", session.scratchBytes()},
               {"memory", Json::array()}};
  for (const std::string &rank : ranks)
    json["memory"].push_back(Json::parse(rank));
  return json;
}

static void print(const RunOptions &options, const Json &json) {
  if (options.json) {
    std::printf("%s\n", json.dump(2).c_str());
    return;
  }
  double largest = 0;
  for (const Json &rank : json["memory"])
    largest = std::max(largest, rank["pss_bytes"].get<double>());
  std::printf("%lld steps on %d ranks: loss %.4f to %.4f, %.0f tokens/s, median %.2f ms, "
              "largest rank %.1f MB\n",
              json["steps"].get<long long>(), json["ranks"].get<int>(),
              json["first_loss"].get<double>(), json["last_loss"].get<double>(),
              json["tokens_per_second"].get<double>(), json["median_ms"].get<double>(),
              largest / 1e6);
}

static void writeStats(const std::string &path, const Json &json) {
  if (!(std::ofstream(path) << json.dump(2) << '\n').flush())
    throw Error(SHARDRT_IO, cat(path, ": cannot write: ", systemError()));
}

/// This rank's memory and allocations, as text.
static std::string rankStats(const Counter &counter) {
  Json json = Json::parse(memoryOfThisRank());
  if (canCountAllocations())
    json["step_allocations"] = counter.total;
  return json.dump();
}

void shardrt::runTraining(const Job &job, Session &session) {
  const RunOptions &options = job.options;
  Trainer trainer(session, *job.data, trainerOptions(options));
  bool isRoot = session.rank() == 0;
  int64_t first = trainer.state.step + 1, last = trainer.state.step + options.steps;
  std::optional<TrainLog> log;
  session.exchange().together([&] {
    if (isRoot)
      log.emplace(options.log, first > 1, first, last);
  });
  Counter counter;
  while (trainer.state.step < last)
    counter.during([&] {
      StepReport report = trainer.step();
      if (log)
        log->step(report);
    });
  if (options.checkAllocations)
    session.exchange().agree(
        SHARDRT_INTERNAL,
        counter.total == 0
            ? ""
            : cat(counter.total, " allocations in the steps of rank ", session.rank()));
  if (!options.trace.empty())
    session.writeTrace(options.trace);
  std::vector<std::string> ranks = session.exchange().gatherTexts(rankStats(counter));
  if (isRoot) {
    Json json = summaryJson(job, session, log->summary(), ranks);
    log->finish(json.dump());
    log.reset();
    if (!options.stats.empty())
      writeStats(options.stats, json);
    print(options, json);
  }
  session.exchange().barrier(); // nobody leaves while rank 0 may still fail to write
}
