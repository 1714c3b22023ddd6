// Ranks on (fake) GPUs that are lost, late or different while another one waits for them: it says
// so in seconds, and where it was.
#include "BundleBuilder.h"
#include "Ranks.h"
#include "shardrt/runtime.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace shardrt_test;

namespace {

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

const char waitsInReduction[] = "entry main, command 1 (all_reduce over tp, reduce): ";

/// A session of cudaBundle on each of two processes.
class CudaWatch : public testing::Test {
protected:
  void SetUp() override { cudaBundle().write(directory / "b"); }

  using Body =
      std::function<std::string(shardrt_session session, shardrt_channel channel, int rank)>;

  RankResults run(const Body &body, double timeout = 20, const ChangeOptions &change = {}) {
    shardrt_bundle bundle = open();
    shardrt_bundle_facts facts;
    shardrt_bundle_info(bundle, &facts);
    shardrt_channel_options options = {};
    options.ranks = facts.ranks;
    options.arena_bytes = facts.arena_bytes;
    options.timeout_s = timeout;
    shardrt_bundle_release(bundle);
    auto begin = std::chrono::steady_clock::now();
    RankResults results = runRanks(
        ChannelKind::Shm, options,
        [&](shardrt_channel channel, int rank) { return runRank(channel, rank, body); }, change);
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return results;
  }

  static std::string step(shardrt_session session) {
    return shardrt_session_run(session, nullptr) == SHARDRT_OK ? "" : shardrt_last_error();
  }

  double seconds = 0;

private:
  shardrt_bundle open() {
    shardrt_bundle bundle = nullptr;
    EXPECT_EQ(shardrt_bundle_open((directory / "b").c_str(), nullptr, &bundle), SHARDRT_OK)
        << shardrt_last_error();
    return bundle;
  }

  std::string runRank(shardrt_channel channel, int rank, const Body &body) {
    for (auto [variable, file] :
         {std::pair("SHARDRT_LIBCUDA", "libcuda.so.1"), std::pair("SHARDRT_NCCL", "libnccl.so.2"),
          std::pair("SHARDRT_CUBLASLT", "libcublasLt.so.13")})
      setenv(variable, (std::string(SHARDRT_FAKE_CUDA "/") + file).c_str(), 1);
    shardrt_session_options options = {};
    options.local_rank = rank;
    shardrt_session session = nullptr;
    if (shardrt_session_create(open(), channel, &options, &session) != SHARDRT_OK)
      return shardrt_last_error();
    int64_t shape[] = {2, 3};
    float x[] = {1, 2, 3, 4, 5, 6};
    shardrt_session_set_input(session, "x", SHARDRT_F32, shape, 2, x);
    std::string result = body(session, channel, rank);
    shardrt_session_release(session);
    return result;
  }

  TemporaryDirectory directory;
};

/// In the first run, which goes call by call; and in a replayed graph.
TEST_F(CudaWatch, ADeadRankIsNamed) {
  for (int runs : {0, 1, 4}) {
    SCOPED_TRACE(runs);
    RankResults results = run([&](shardrt_session session, shardrt_channel, int rank) {
      std::string error;
      for (int i = 0; i < runs && error.empty(); ++i)
        error = step(session);
      if (rank == 1)
        raise(SIGKILL);
      return error.empty() ? step(session) + "; then: " + step(session) : error;
    });
    EXPECT_EQ(results[1], "died");
    EXPECT_HAS(results[0], std::string(waitsInReduction) + "rank 1 (process ");
    EXPECT_HAS(results[0], "; then: this session ended with an error: rank 1 (process ");
    EXPECT_LT(seconds, 8);
  }
}

/// In a replayed graph. NCCL and the device are then left as they are.
TEST_F(CudaWatch, AnAbortThatHangsIsLeftAlone) {
  RankResults results = run(
      [&](shardrt_session session, shardrt_channel, int rank) {
        std::string error;
        for (int i = 0; i < 3 && error.empty(); ++i)
          error = step(session);
        if (rank == 1)
          raise(SIGKILL);
        return error.empty() ? step(session) : error;
      },
      20,
      [](shardrt_channel_options &options) {
        if (options.rank == 0)
          setenv("FAKE_NCCL_ABORT_HANGS", "1", 1);
      });
  EXPECT_HAS(results[0], std::string(waitsInReduction) + "rank 1 (process ");
  EXPECT_LT(seconds, 14);
}

TEST_F(CudaWatch, ALateRankIsATimeout) {
  RankResults results = run(
      [&](shardrt_session session, shardrt_channel, int rank) {
        if (rank == 1)
          sleep(4);
        return step(session);
      },
      1);
  EXPECT_HAS(results[0], std::string(waitsInReduction) +
                             "rank 0 has waited 1 s for other ranks, the limit is 1 s");
}

TEST_F(CudaWatch, AnotherRanksErrorIsHeard) {
  RankResults results = run([&](shardrt_session session, shardrt_channel channel, int rank) {
    if (rank == 0)
      return step(session);
    shardrt_channel_abort(channel, "rank 1: out of paper");
    return std::string();
  });
  EXPECT_EQ(results[0], "rank 1: out of paper");
}

TEST_F(CudaWatch, OtherVersionsOfNcclAreNamed) {
  RankResults results = run([&](shardrt_session, shardrt_channel, int) { return "connected"; }, 20,
                            [](shardrt_channel_options &options) {
                              if (options.rank == 1)
                                setenv("FAKE_NCCL_VERSION", "22902", 1);
                            });
  EXPECT_EQ(results[0],
            "rank 1: rank 1 has NCCL 2.29.2, rank 0 has 2.28.9; all ranks need the same");
  EXPECT_EQ(results[1], "rank 1 has NCCL 2.29.2, rank 0 has 2.28.9; all ranks need the same");
}

} // namespace
