// What sessions do over the channel of several machines: ranks as threads, over the loopback.
#include "runtime/channels/Factories.h"
#include "runtime/core/Error.h"
#include "runtime/core/Exchange.h"

#include <functional>
#include <gtest/gtest.h>
#include <thread>
#include <unistd.h>

using namespace shardrt;

namespace {

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

ChannelOptions optionsOf(int rank, int ranks) {
  static const int port = 30000 + getpid() % 20000;
  shardrt_channel_options given = {};
  given.rank = rank;
  given.ranks = ranks;
  given.arena_bytes = Exchange::areaBytes(ranks);
  given.timeout_s = 10;
  given.job = "tcp-test";
  given.address = "127.0.0.1";
  given.port = port;
  return resolveOptions(given);
}

using Body = std::function<void(Progress &progress, Exchange &exchange, int rank)>;
using Change = std::function<void(ChannelOptions &options)>;

/// The error of each rank, or "".
std::vector<std::string> runRanks(int ranks, const Body &body, const Change &change = {}) {
  std::vector<std::string> errors(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        ChannelOptions options = optionsOf(rank, ranks);
        if (change)
          change(options);
        Progress progress(createTcpChannel(options));
        Exchange exchange(progress, progress.channel().arena());
        body(progress, exchange, rank);
      } catch (const std::exception &error) {
        errors[rank] = error.what();
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  return errors;
}

TEST(TcpChannel, WhatSessionsExchange) {
  std::vector<std::string> errors = runRanks(3, [](Progress &, Exchange &exchange, int rank) {
    exchange.barrier();
    std::string mine(100000 * rank + 5, static_cast<char>('a' + rank)); // more than a piece
    std::vector<std::string> texts = exchange.shareTexts(mine);
    ASSERT_EQ(texts.size(), 3u);
    for (int from = 0; from < 3; ++from)
      EXPECT_EQ(texts[from], std::string(100000 * from + 5, static_cast<char>('a' + from)));
    std::vector<uint64_t> sums = {1ull << rank, ~0ull};
    exchange.sum(sums);
    EXPECT_EQ(sums, (std::vector<uint64_t>{7, ~0ull - 2}));
    exchange.agree(SHARDRT_IO, "");
    exchange.barrier();
  });
  EXPECT_EQ(errors, std::vector<std::string>(3));
}

TEST(TcpChannel, OneRanksProblemIsAllRanks) {
  std::vector<std::string> errors = runRanks(3, [](Progress &, Exchange &exchange, int rank) {
    exchange.agree(SHARDRT_IO, rank == 2 ? "disk full" : "");
  });
  EXPECT_EQ(errors,
            (std::vector<std::string>{"rank 2: disk full", "rank 2: disk full", "disk full"}));
}

TEST(TcpChannel, RanksThatWaitForSomethingElseHearOfAnAbort) {
  std::vector<std::string> errors =
      runRanks(3, [](Progress &progress, Exchange &exchange, int rank) {
        exchange.barrier();
        if (rank == 1)
          return progress.channel().abort("rank 1: out of paper", SHARDRT_INTERNAL);
        for (int i = 0; i < 5000; ++i) {
          progress.channel().checkRanks();
          usleep(1000);
        }
      });
  EXPECT_EQ(errors, (std::vector<std::string>{"rank 1: out of paper", "", "rank 1: out of paper"}));
}

TEST(TcpChannel, WhoHasLeftIsNamed) {
  std::vector<std::string> errors = runRanks(3, [](Progress &, Exchange &exchange, int rank) {
    exchange.barrier();
    if (rank != 1)
      exchange.barrier();
  });
  EXPECT_HAS(errors[0], "rank 1 has left, while rank 0 waits for it in barrier");
  EXPECT_NE(errors[2], "");
}

TEST(TcpChannel, OtherProgramsAndCallsAreNamed) {
  std::vector<std::string> errors = runRanks(
      2, [](Progress &, Exchange &, int) { FAIL() << "they met"; },
      [](ChannelOptions &options) { options.fingerprint = options.rank; });
  EXPECT_HAS(errors[0], "rank 1 runs another program than rank 0");
  EXPECT_HAS(errors[1], "rank 1 runs another program than rank 0");
  errors = runRanks(2, [](Progress &, Exchange &exchange, int rank) {
    std::vector<uint64_t> sums(1);
    rank == 0 ? exchange.barrier() : exchange.sum(sums);
  });
  EXPECT_HAS(errors[0], "rank 1 makes another call where rank 0 calls barrier");
  EXPECT_HAS(errors[1], "rank 1 makes another call");
}

TEST(TcpChannel, RanksThatDoNotComeAreNamed) {
  std::vector<std::string> errors = runRanks(
      3, [](Progress &, Exchange &, int) { FAIL() << "they met"; },
      [](ChannelOptions &options) {
        if (options.rank == 2)
          throw Error(SHARDRT_INTERNAL, "stays at home");
        options.timeout = 0.5;
      });
  EXPECT_HAS(errors[0], "these ranks did not come: 2");
}

} // namespace
