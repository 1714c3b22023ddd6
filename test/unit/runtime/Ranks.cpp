#include "Ranks.h"
#include "ChannelConformance.h"

#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace shardrt_test;

shardrt_channel_options shardrt_test::conformanceOptions() {
  shardrt_channel_options options = {};
  options.ranks = conformanceRanks;
  options.arena_bytes = conformanceArena;
  options.timeout_s = 60;
  return options;
}

static RankResults runThreads(const shardrt_channel_options &options, const RankBody &body) {
  std::vector<shardrt_channel> channels(options.ranks);
  RankResults results(options.ranks);
  if (shardrt_channel_create_inprocess(&options, channels.data()) != SHARDRT_OK)
    return RankResults(options.ranks, shardrt_last_error());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < options.ranks; ++rank)
    threads.emplace_back([&, rank] {
      results[rank] = body(channels[rank], rank);
      shardrt_channel_release(channels[rank]);
    });
  for (std::thread &thread : threads)
    thread.join();
  return results;
}

static std::string runChild(const shardrt_channel_options &options, const RankBody &body) {
  shardrt_channel channel = nullptr;
  if (shardrt_channel_create_shm(&options, &channel) != SHARDRT_OK)
    return shardrt_last_error();
  std::string result = body(channel, options.rank);
  shardrt_channel_release(channel);
  return result;
}

static RankResults runProcesses(shardrt_channel_options options, const RankBody &body,
                                const ChangeOptions &change) {
  static int jobs = 0;
  std::string job = "test-" + std::to_string(getpid()) + "-" + std::to_string(jobs++);
  options.job = job.c_str();
  std::vector<int> pipes(options.ranks);
  std::vector<pid_t> pids(options.ranks);
  for (int rank = 0; rank < options.ranks; ++rank) {
    int ends[2];
    if (pipe(ends) != 0)
      return RankResults(options.ranks, "no pipe");
    pipes[rank] = ends[0];
    options.rank = rank;
    if ((pids[rank] = fork()) == 0) {
      if (change)
        change(options);
      std::string result = runChild(options, body);
      ssize_t written = write(ends[1], result.data(), result.size());
      _exit(written == static_cast<ssize_t>(result.size()) ? 0 : 1);
    }
    close(ends[1]);
  }
  RankResults results(options.ranks);
  for (int rank = 0; rank < options.ranks; ++rank) {
    char text[4096];
    for (ssize_t count; (count = read(pipes[rank], text, sizeof(text))) > 0;)
      results[rank].append(text, count);
    close(pipes[rank]);
    int status = 0;
    waitpid(pids[rank], &status, 0);
    if (!WIFEXITED(status))
      results[rank] = "died";
  }
  return results;
}

RankResults shardrt_test::runRanks(ChannelKind kind, const shardrt_channel_options &options,
                                   const RankBody &body, const ChangeOptions &change) {
  return kind == ChannelKind::InProcess ? runThreads(options, body)
                                        : runProcesses(options, body, change);
}
