#include "tools/shard-run/TrainJob.h"
#include "runtime/core/Error.h"
#include "runtime/train/CheckpointDirectory.h"
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
  for (const std::string &path : {options.log, options.stats, options.trace})
    if (!path.empty())
      checkWritable(path);
  if (!options.save.empty())
    CheckpointDirectory(options.save).checkWritable();
  if (!options.load.empty())
    CheckpointDirectory(options.load).find();
  if (options.data.empty())
    return nullptr;
  chooseEntries(bundle, trainerOptions(options));
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
               {"host_bytes", job.bundle.program.cuda.host.bytes},
               {"scratch_bytes", session.machine().scratchBytes()},
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
static std::string rankStats(const Job &job, const Session &session, const Counter &counter) {
  Json json = Json::parse(memoryOfThisRank(session, job.idleBytes));
  if (canCountAllocations() && job.bundle.program.target == Target::Cpu) // drivers allocate
    json["step_allocations"] = counter.total;
  return json.dump();
}

/// The checkpoint's place in the data, unless this is other data.
static void resume(const RunOptions &options, Session &session, Trainer &trainer,
                   const TrainerState &saved) {
  bool isRoot = session.rank() == 0;
  std::string problem;
  if (isRoot && options.seed && *options.seed != saved.seed)
    problem = cat("--seed ", *options.seed, ": the checkpoint was trained with seed ", saved.seed,
                  ", leave the option out to go on with it");
  session.exchange().agree(SHARDRT_INVALID_ARGUMENT, problem);
  bool isSame = saved.dataFingerprint == trainer.state.dataFingerprint;
  if (isRoot && !isSame && saved.dataFingerprint)
    std::fprintf(stderr,
                 "shard-run: %s is not the data of the checkpoint, it is read from its "
                 "beginning\n",
                 options.data.c_str());
  uint64_t fingerprint = trainer.state.dataFingerprint;
  trainer.state = saved;
  trainer.state.dataFingerprint = fingerprint;
  if (!isSame)
    trainer.state.sequences = 0;
}

static TrainerState loadIfAsked(const RunOptions &options, Session &session) {
  if (options.load.empty())
    return {};
  TrainerState state = loadCheckpoint(session, options.load);
  CheckpointDirectory directory(options.load);
  if (session.rank() == 0 && directory.find() != directory.path)
    std::fprintf(stderr, "shard-run: %s was not finished, loaded %s\n", directory.path.c_str(),
                 directory.find().c_str());
  return state;
}

/// `log` is rank 0's.
static void runSteps(const RunOptions &options, Session &session, Trainer &trainer, TrainLog *log,
                     int64_t last, Counter &counter) {
  while (trainer.state.step < last) {
    try {
      counter.during([&] {
        StepReport report = trainer.step();
        if (log)
          log->step(report);
      });
    } catch (const Error &error) { // on all ranks, who agreed on it
      if (error.status() == SHARDRT_NOT_FINITE && trainer.isUnchanged && !options.save.empty())
        saveCheckpoint(session, options.save, trainer.state);
      throw;
    }
    bool isLast = trainer.state.step == last;
    if (!options.save.empty() &&
        (isLast || (options.saveEvery && trainer.state.step % options.saveEvery == 0)))
      saveCheckpoint(session, options.save, trainer.state);
  }
  if (options.checkAllocations)
    session.exchange().agree(
        SHARDRT_INTERNAL,
        counter.total == 0
            ? ""
            : cat(counter.total, " allocations in the steps of rank ", session.rank()));
}

static void train(const Job &job, Session &session, const TrainerState &saved) {
  const RunOptions &options = job.options;
  Trainer trainer(session, *job.data, trainerOptions(options));
  if (!options.load.empty())
    resume(options, session, trainer, saved);
  int64_t first = trainer.state.step + 1, last = trainer.state.step + options.steps;
  std::optional<TrainLog> log;
  session.exchange().together([&] {
    if (session.rank() == 0)
      log.emplace(options.log, !options.load.empty(), first, last);
  });
  Counter counter;
  runSteps(options, session, trainer, log ? &*log : nullptr, last, counter);
  if (!options.trace.empty())
    session.writeTrace(options.trace);
  std::vector<std::string> ranks = session.exchange().gatherTexts(rankStats(job, session, counter));
  if (!log)
    return;
  Json json = summaryJson(job, session, log->summary(), ranks);
  log->finish(json.dump());
  log.reset();
  if (!options.stats.empty())
    writeStats(options.stats, json);
  print(options, json);
}

/// Without data: only what the checkpoint says.
static void reportLoaded(const Job &job, Session &session, const TrainerState &saved) {
  const RunOptions &options = job.options;
  std::vector<std::string> ranks =
      session.exchange().gatherTexts(memoryOfThisRank(session, job.idleBytes));
  if (session.rank() != 0)
    return;
  Json json = {{"step", saved.step}, {"tokens", saved.tokens}, {"memory", Json::array()}};
  for (const std::string &rank : ranks)
    json["memory"].push_back(Json::parse(rank));
  if (!options.stats.empty())
    writeStats(options.stats, json);
  if (options.json)
    std::printf("%s\n", json.dump(2).c_str());
  else
    std::printf("loaded %s on %d ranks: step %lld, %lld tokens\n", options.load.c_str(),
                job.bundle.ranks(), static_cast<long long>(saved.step),
                static_cast<long long>(saved.tokens));
}

void shardrt::runTraining(const Job &job, Session &session) {
  TrainerState saved = loadIfAsked(job.options, session);
  if (job.data) {
    train(job, session, saved);
  } else {
    if (!job.options.save.empty())
      saveCheckpoint(session, job.options.save, saved);
    reportLoaded(job, session, saved);
  }
  session.exchange().barrier(); // nobody leaves while rank 0 may still fail to write
}
