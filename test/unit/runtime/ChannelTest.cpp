// Runs the conformance suite on every channel, and what is special to those that share memory: lost
// ranks, aborts, calls that do not match, the simulated link.
#include "ChannelConformance.h"
#include "Ranks.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <gtest/gtest.h>
#include <thread>
#include <unistd.h>

using namespace shardrt_test;

namespace {

class Channels : public testing::TestWithParam<ChannelKind> {};

std::string nameOf(const testing::TestParamInfo<ChannelKind> &info) {
  return info.param == ChannelKind::InProcess ? "InProcess" : "Shm";
}

INSTANTIATE_TEST_SUITE_P(All, Channels, testing::Values(ChannelKind::InProcess, ChannelKind::Shm),
                         nameOf);

TEST_P(Channels, Conform) {
  RankResults results = runRanks(GetParam(), conformanceOptions(), runConformance);
  for (int rank = 0; rank < conformanceRanks; ++rank)
    EXPECT_EQ(results[rank], "") << "rank " << rank;
}

TEST_P(Channels, NameCallsThatDoNotMatch) {
  RankResults results =
      runRanks(GetParam(), conformanceOptions(), [](shardrt_channel channel, int rank) {
        shardrt_call call = {SHARDRT_WORLD_GROUP, SHARDRT_NO_TICKET, SHARDRT_F32, nullptr, nullptr};
        void *arena;
        shardrt_channel_arena(channel, &arena);
        call.src = call.dst = arena;
        shardrt_status status = rank == 2 ? shardrt_broadcast(channel, &call, 4, 0)
                                          : shardrt_all_reduce(channel, &call, SHARDRT_SUM, 4);
        return std::string(status == SHARDRT_OK ? "" : shardrt_last_error());
      });
  for (const std::string &text : results) {
    EXPECT_NE(text.find("where rank"), std::string::npos) << text;
    EXPECT_NE(text.find("rank 2 calls broadcast"), std::string::npos) << text;
  }
}

TEST_P(Channels, AbortReachesEveryRank) {
  RankResults results =
      runRanks(GetParam(), conformanceOptions(), [](shardrt_channel channel, int rank) {
        if (rank == 1) {
          shardrt_channel_abort(channel, "rank 1 does not like this");
          return std::string();
        }
        return std::string(shardrt_barrier(channel, 0) == SHARDRT_RANK_LOST ? shardrt_last_error()
                                                                            : "not lost");
      });
  for (int rank : {0, 2, 3})
    EXPECT_EQ(results[rank], "rank 1 does not like this");
}

TEST_P(Channels, DeadlineNamesTheMissingRank) {
  shardrt_channel_options options = conformanceOptions();
  options.timeout_s = 0.2;
  RankResults results = runRanks(GetParam(), options, [](shardrt_channel channel, int rank) {
    if (rank == 3)
      std::this_thread::sleep_for(std::chrono::seconds(1));
    return std::string(shardrt_barrier(channel, 0) == SHARDRT_OK ? "" : shardrt_last_error());
  });
  EXPECT_NE(results[0].find("for rank 3 in barrier of group 0, the limit is 0.2 s"),
            std::string::npos)
      << results[0];
}

TEST_P(Channels, RankThatLeavesIsNamed) {
  RankResults results =
      runRanks(GetParam(), conformanceOptions(), [](shardrt_channel channel, int rank) {
        if (rank == 2)
          return std::string();
        return std::string(shardrt_barrier(channel, 0) == SHARDRT_OK ? "" : shardrt_last_error());
      });
  EXPECT_NE(results[0].find("rank 2 has left"), std::string::npos) << results[0];
}

TEST_P(Channels, ArgumentsAreChecked) {
  RankResults results =
      runRanks(GetParam(), conformanceOptions(), [](shardrt_channel channel, int) -> std::string {
        int outside = 0;
        shardrt_call call = {0, SHARDRT_NO_TICKET, SHARDRT_F32, &outside, &outside};
        if (shardrt_all_reduce(channel, &call, SHARDRT_SUM, 1) != SHARDRT_INVALID_ARGUMENT)
          return "a buffer outside the arena was accepted";
        call.group = 99;
        if (shardrt_all_reduce(channel, &call, SHARDRT_SUM, 1) != SHARDRT_INVALID_ARGUMENT)
          return "a group that does not exist was accepted";
        return "";
      });
  EXPECT_EQ(results[0], "");
}

TEST_P(Channels, LinkIsPacedAndOverlaps) {
  shardrt_channel_options options = conformanceOptions();
  options.link_gbps = 0.08; // 10 MB/s: a gather of 3 × 0.5 MB takes 150 ms
  RankResults results =
      runRanks(GetParam(), options, [](shardrt_channel channel, int) -> std::string {
        void *arena;
        shardrt_channel_arena(channel, &arena);
        const int64_t each = 500000;
        shardrt_call call = {0, 1, SHARDRT_UI8, arena, static_cast<char *>(arena) + (1 << 20)};
        auto begin = std::chrono::steady_clock::now();
        auto ms = [&] {
          return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
              .count();
        };
        if (shardrt_all_gather(channel, &call, 1, each, 4 * each) != SHARDRT_OK)
          return shardrt_last_error();
        if (ms() > 100)
          return "starting a gather blocks";
        std::this_thread::sleep_for(std::chrono::milliseconds(140)); // the computation
        if (shardrt_wait(channel, 1) != SHARDRT_OK)
          return shardrt_last_error();
        return ms() < 149 ? "the link is faster than it should be" : ms() > 280 ? "no overlap" : "";
      });
  EXPECT_EQ(results[0], "");
}

TEST(ShmChannel, KilledRankIsNamedQuickly) {
  auto begin = std::chrono::steady_clock::now();
  RankResults results =
      runRanks(ChannelKind::Shm, conformanceOptions(), [](shardrt_channel channel, int rank) {
        if (rank == 2)
          kill(getpid(), SIGKILL);
        return std::string(shardrt_barrier(channel, 0) == SHARDRT_RANK_LOST ? shardrt_last_error()
                                                                            : "not lost");
      });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  for (int rank : {0, 1, 3})
    EXPECT_NE(results[rank].find("rank 2 (process "), std::string::npos) << results[rank];
}

TEST(ShmChannel, RefusesRanksOfAnotherProgram) {
  RankResults results = runRanks(
      ChannelKind::Shm, conformanceOptions(), [](shardrt_channel, int) { return ""; },
      [](shardrt_channel_options &options) { options.fingerprint = options.rank == 1; });
  EXPECT_NE(results[1].find("rank 1 runs another program than rank 0"), std::string::npos)
      << results[1];
  EXPECT_NE(results[0].find("rank 1 runs another program than rank 0"), std::string::npos)
      << results[0];
}

/// The outcome of an MPI run is that of a small program under mpirun.
void runUnderMpi(const std::string &suffix) {
  std::string mpirun = "mpirun." + suffix;
  if (std::system(("command -v " + mpirun + " > /dev/null").c_str()) != 0)
    GTEST_SKIP() << mpirun << " is not installed";
  std::string crowd = suffix == "openmpi" ? " --oversubscribe" : "";
  std::string command = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 100 " +
                        mpirun + crowd + " -n 4 " SHARDRT_MPI_CONFORMANCE " " SHARDRT_SHIM_PREFIX +
                        suffix + ".so";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

TEST(MpiChannel, ConformsWithMpich) { runUnderMpi("mpich"); }
TEST(MpiChannel, ConformsWithOpenMpi) { runUnderMpi("openmpi"); }

} // namespace
