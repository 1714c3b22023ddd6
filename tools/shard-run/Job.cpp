// The steps of a rank, and what rank 0 prints about them.
#include "tools/shard-run/Job.h"
#include "runtime/core/Error.h"
#include "runtime/core/Npy.h"
#include "tools/shard-run/Memory.h"
#include "tools/shard-run/TrainJob.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

using namespace shardrt;
using Json = nlohmann::json;

namespace {
struct Times {
  double loadMs = 0, firstMs = 0;
  std::vector<double> runMs;
};
} // namespace

ChannelOptions shardrt::channelOptions(const Job &job, int rank, const std::string &jobName) {
  shardrt_channel_options options = {};
  options.rank = rank;
  options.ranks = job.bundle.ranks();
  options.arena_bytes = static_cast<uint64_t>(sessionArenaBytes(job.bundle));
  options.job = jobName.c_str();
  options.fingerprint = job.bundle.fingerprint;
  options.timeout_s = job.options.timeout;
  options.link_gbps = job.options.linkGbps;
  options.max_groups = sessionGroups(job.bundle);
  return resolveOptions(options);
}

static SessionOptions sessionOptions(const Job &job) {
  SessionOptions options;
  options.weights = job.options.weights;
  if (job.bundle.program.target == Target::Cpu)
    options.threads =
        job.options.threads ? job.options.threads : std::max(1, usableCpus() / job.localRanks);
  options.pin = job.options.pin;
  options.localRank = job.localRank;
  options.trace = !job.options.trace.empty();
  options.poison = job.options.poison;
  options.graph = !job.options.noCudaGraph;
  options.shareDevice = job.options.shareDevice;
  if (!job.options.ncclUb.empty())
    options.registration =
        job.options.ncclUb == "window" ? SessionOptions::Window : SessionOptions::Register;
  return options;
}

static double msSince(int64_t begin) { return (nowNs() - begin) * 1e-6; }

static double timedRun(Session &session, const std::string &entry) {
  session.exchange().barrier();
  int64_t begin = nowNs();
  session.run(entry);
  session.exchange().barrier();
  return msSince(begin);
}

static void runAll(const Job &job, Session &session, Times &times) {
  int timed = job.options.bench ? job.options.bench : job.options.runs;
  if (job.options.bench) // first touch of pages, caches, threads
    session.run(job.options.entry);
  for (int i = 0; i < timed; ++i) {
    times.runMs.push_back(timedRun(session, job.options.entry));
    if (i == 0)
      times.firstMs = msSince(job.startNs);
  }
}

static void writeOutputs(const Job &job, Session &session, bool isRoot) {
  for (const OutputFile &output : job.outputs) {
    size_t bytes =
        isRoot ? static_cast<size_t>(*checkedBytes(output.value->shape, output.value->dtype)) : 0;
    std::vector<std::byte> data(bytes);
    session.gatherOutput(*output.value, data.data());
    if (isRoot)
      writeNpy(output.path, output.value->dtype, output.value->shape, data.data(), bytes);
  }
}

static Json report(const Job &job, const Session &session, const char *channel, int threads,
                   Times times, const std::vector<std::string> &memory) {
  std::vector<double> sorted = times.runMs;
  std::sort(sorted.begin(), sorted.end());
  size_t half = sorted.size() / 2;
  double median = sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  Json json = {{"model", job.bundle.manifest.model},
               {"ranks", job.bundle.ranks()},
               {"threads", threads},
               {"channel", channel},
               {"backend", targetName(job.bundle.program.target)},
               {"isa", session.machine().codeLevel()},
               {"device", session.machine().device()},
               {"runs", times.runMs.size()},
               {"median_ms", median},
               {"min_ms", sorted.front()},
               {"max_ms", sorted.back()},
               {"load_ms", times.loadMs},
               {"first_result_ms", times.firstMs},
               {"arena_bytes", job.bundle.program.arenaBytes},
               {"memory", Json::array()},
               {"outputs", Json::array()}};
  for (const std::string &rank : memory)
    json["memory"].push_back(Json::parse(rank));
  for (const OutputFile &output : job.outputs)
    json["outputs"].push_back({{"name", output.value->name},
                               {"dtype", dtypeName(output.value->dtype)},
                               {"shape", output.value->shape},
                               {"file", output.path}});
  return json;
}

static void print(const Job &job, const Json &json) {
  if (job.options.json) {
    std::printf("%s\n", json.dump(2).c_str());
    return;
  }
  for (const OutputFile &output : job.outputs)
    std::printf("%s: %s %s written to %s\n", output.value->name.c_str(),
                dtypeName(output.value->dtype), shapeString(output.value->shape).c_str(),
                output.path.c_str());
  if (job.options.bench) {
    std::string level = json["isa"], isa = level.empty() ? "no kernels" : level;
    double pss = 0;
    for (const Json &rank : json["memory"])
      pss = std::max(pss, rank["pss_bytes"].get<double>());
    std::printf("%d runs on %d ranks (%d threads each, %s, %s): median %.3f ms, least %.3f ms, "
                "most %.3f ms, "
                "largest rank %.1f MB\n",
                json["runs"].get<int>(), job.bundle.ranks(), json["threads"].get<int>(),
                json["channel"].get<std::string>().c_str(), isa.c_str(),
                json["median_ms"].get<double>(), json["min_ms"].get<double>(),
                json["max_ms"].get<double>(), pss / 1e6);
  } else if (job.outputs.empty()) {
    std::printf(
        "ran %zu times on %d ranks in %.3f ms; name a file with --output to keep an output\n",
        static_cast<size_t>(json["runs"].get<int>()), job.bundle.ranks(),
        json["median_ms"].get<double>());
  }
}

static void runSession(const Job &job, Progress &progress) {
  SessionOptions options = sessionOptions(job);
  Times times;
  Session session(job.bundle, progress, options);
  if (job.bundle.manifest.training)
    return runTraining(job, session);
  times.loadMs = msSince(job.startNs);
  for (const InputFile &input : job.inputs)
    session.setInput(input.value->name, input.value->dtype, input.value->shape, input.data);
  runAll(job, session, times);
  bool isRoot = progress.channel().rank == 0;
  writeOutputs(job, session, isRoot);
  if (!job.options.trace.empty())
    session.writeTrace(job.options.trace);
  std::vector<std::string> memory =
      session.exchange().gatherTexts(memoryOfThisRank(session, job.idleBytes));
  if (isRoot)
    print(job, report(job, session, progress.channel().name(), options.threads, times, memory));
  session.exchange().barrier(); // nobody leaves while rank 0 may still fail to write
}

void shardrt::runRank(const Job &given, std::unique_ptr<Channel> channel) {
  Progress progress(std::move(channel));
  Job job = given;
  job.idleBytes = proportionalBytes();
  try {
    runSession(job, progress);
  } catch (const std::exception &error) {
    auto *known = dynamic_cast<const Error *>(&error);
    progress.channel().abort(cat("rank ", progress.channel().rank, ": ", error.what()),
                             known ? known->status() : SHARDRT_INTERNAL);
    throw;
  }
}
