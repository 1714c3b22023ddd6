//===- CollectiveTest.cpp - NCCL over threads and processes ---------------===//
#include "Gpu.h"
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace fake::tests;

namespace {

/// A rank with its device, stream and communicator.
struct Rank {
  int rank, ranks;
  ncclComm_t comm = nullptr;
  CUstream stream = nullptr;

  Rank(int rank, int ranks, const ncclUniqueId &id) : rank(rank), ranks(ranks) {
    stream = makeStream();
    ncclConfig config;
    config.blocking = 0;
    require(nccl().ncclCommInitRankConfig.status(&comm, ranks, id, rank, &config) == ncclInProgress,
            "joining takes a while");
    settle();
  }
  void settle() {
    int result = ncclInProgress;
    while (result == ncclInProgress)
      nccl().ncclCommGetAsyncError(comm, &result);
    if (result)
      nccl().ncclCommInitRankConfig.fail(result);
  }
  template <class F> void call(F &&function) {
    function();
    settle();
  }
};

/// Many elements, so that a call has several pieces.
constexpr size_t many = 50000;

std::vector<float> pattern(int rank, size_t count = many) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = float(i % 1000 + 1000 * size_t(rank));
  return values;
}

void allKinds(Rank &r) {
  auto ranks = size_t(r.ranks);
  DeviceArray<float> mine(pattern(r.rank)), sum(many), all(many * ranks), part(many / ranks),
      swapped(many);
  driver().cuStreamSynchronize(nullptr);
  r.call([&] {
    nccl().ncclAllReduce(mine.pointer(), sum.pointer(), many, ncclFloat32, ncclSum, r.comm,
                         r.stream);
  });
  r.call([&] {
    nccl().ncclAllGather(mine.pointer(), all.pointer(), many, ncclFloat32, r.comm, r.stream);
  });
  r.call([&] {
    nccl().ncclReduceScatter(mine.pointer(), part.pointer(), many / ranks, ncclFloat32, ncclMax,
                             r.comm, r.stream);
  });
  r.call([&] {
    nccl().ncclGroupStart();
    nccl().ncclSend(mine.pointer(), many, ncclFloat32, (r.rank + 1) % r.ranks, r.comm, r.stream);
    nccl().ncclRecv(swapped.pointer(), many, ncclFloat32, (r.rank + r.ranks - 1) % r.ranks, r.comm,
                    r.stream);
    nccl().ncclGroupEnd();
  });
  r.call([&] {
    nccl().ncclBroadcast(mine.pointer(), mine.pointer(), many, ncclFloat32, 1, r.comm, r.stream);
  });
  driver().cuStreamSynchronize(r.stream);
  std::vector<float> sums(many), gathered;
  for (int other = 0; other < r.ranks; ++other) {
    std::vector<float> theirs = pattern(other);
    for (size_t i = 0; i < many; ++i)
      sums[i] += theirs[i];
    gathered.insert(gathered.end(), theirs.begin(), theirs.end());
  }
  std::vector<float> largest = pattern(r.ranks - 1);
  require(sum.get() == sums, "all_reduce");
  require(all.get() == gathered, "all_gather");
  require(part.get() == std::vector<float>(largest.begin() + long(many / ranks) * r.rank,
                                           largest.begin() + long(many / ranks) * (r.rank + 1)),
          "reduce_scatter");
  require(swapped.get() == pattern((r.rank + r.ranks - 1) % r.ranks), "send and receive");
  require(mine.get() == pattern(1), "broadcast");
  nccl().ncclCommFinalize(r.comm);
  r.settle();
  nccl().ncclCommDestroy(r.comm);
}

/// `body(rank)` in threads of this process.
template <class F> void inThreads(int ranks, const Settings &settings, F body) {
  start(settings);
  ncclUniqueId id;
  nccl().ncclGetUniqueId(&id);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([=] {
      use(rank);
      Rank r(rank, ranks, id);
      body(r);
    });
  for (std::thread &thread : threads)
    thread.join();
}

/// In processes; rank 0 is this one. Returns the others' exit statuses' sum.
template <class F> int inProcesses(int ranks, F body) {
  int pipes[8][2];
  std::vector<pid_t> children;
  for (int rank = 1; rank < ranks; ++rank) {
    require(pipe(pipes[rank]) == 0, "a pipe");
    pid_t child = fork();
    if (child == 0) {
      ncclUniqueId id;
      require(read(pipes[rank][0], &id, sizeof(id)) == sizeof(id), "an id");
      start({}, rank);
      Rank r(rank, ranks, id);
      body(r);
      std::_Exit(0);
    }
    children.push_back(child);
  }
  start();
  ncclUniqueId id;
  nccl().ncclGetUniqueId(&id);
  for (int rank = 1; rank < ranks; ++rank)
    require(write(pipes[rank][1], &id, sizeof(id)) == sizeof(id), "an id sent");
  Rank r(0, ranks, id);
  body(r);
  int sum = 0, status;
  for (pid_t child : children) {
    waitpid(child, &status, 0);
    sum += status;
  }
  return sum;
}

} // namespace

TEST(FakeNccl, ComputesInThreads) {
  for (int seed = 0; seed < 4; ++seed)
    EXPECT_PROCESS(
        0, "", inThreads(2 + seed % 2 * 2, {{"FAKE_CUDA_SEED", std::to_string(seed)}}, allKinds));
}

TEST(FakeNccl, ComputesInProcesses) {
  EXPECT_PROCESS(0, "", require(inProcesses(2, allKinds) == 0, "all ranks are content"));
}

TEST(FakeNccl, NamesCallsThatDiffer) {
  EXPECT_PROCESS(
      0,
      "rank [01] of 2: calls all_(reduce|gather) of 8 f32( .sum.)?, call 0, but rank [01] calls "
      "all_(reduce|gather) of 8 f32( .sum.)?, call 0",
      {
        inThreads(2, {}, [](Rank &r) {
          DeviceArray<float> from(8), to(16);
          if (r.rank)
            nccl().ncclAllGather(from.pointer(), to.pointer(), 8, ncclFloat32, r.comm, r.stream);
          else
            nccl().ncclAllReduce(from.pointer(), to.pointer(), 8, ncclFloat32, ncclSum, r.comm,
                                 r.stream);
          int result = 0;
          for (int times = 0; times < 200 && (!result || result == ncclInProgress); ++times) {
            usleep(1000);
            nccl().ncclCommGetAsyncError(r.comm, &result);
          }
          require(result == 5, "NCCL's error is told");
          require(driver().cuStreamQuery.status(r.stream) == CUDA_ERROR_NOT_READY,
                  "the call never ends");
          nccl().ncclCommAbort(r.comm);
          driver().cuStreamSynchronize(r.stream);
        });
      });
}

TEST(FakeNccl, NeverEndsWithoutPeer) {
  EXPECT_PROCESS(
      0, "", inProcesses(2, [](Rank &r) {
        if (r.rank)
          std::_Exit(0);
        DeviceArray<float> a(8);
        r.call([&] {
          nccl().ncclAllReduce(a.pointer(), a.pointer(), 8, ncclFloat32, ncclSum, r.comm, r.stream);
        });
        for (int times = 0; times < 50; ++times, usleep(1000))
          require(driver().cuStreamQuery.status(r.stream) == CUDA_ERROR_NOT_READY, "it waits");
        nccl().ncclCommAbort(r.comm);
        driver().cuStreamSynchronize(r.stream);
      }));
}

TEST(FakeNccl, RefusesOneDeviceTwice) {
  EXPECT_PROCESS(1, "Duplicate GPU detected", {
    start();
    ncclUniqueId id;
    nccl().ncclGetUniqueId(&id);
    std::thread other([&] {
      use(0);
      ncclConfig config;
      config.blocking = 0;
      ncclComm_t comm;
      nccl().ncclCommInitRankConfig(&comm, 2, id, 1, &config);
    });
    other.join();
    Rank r(0, 2, id);
  });
}

TEST(FakeNccl, ACommunicatorInProgressMustBeAsked) {
  EXPECT_PROCESS(1, "still in progress, ask ncclCommGetAsyncError first",
                 inThreads(1, {}, [](Rank &r) {
                   DeviceArray<float> a(8);
                   for (int times = 0; times < 2; ++times)
                     if (int status = nccl().ncclAllReduce.status(
                             a.pointer(), a.pointer(), 8, ncclFloat32, ncclSum, r.comm, r.stream);
                         nccl().isFailure(status))
                       std::_Exit(1);
                 }));
}

TEST(FakeNccl, CollectivesRaceWithKernels) {
  EXPECT_PROCESS(1, "race: (nccl all_reduce of 64 i32 .sum.|launch increment) (reads|writes) what",
                 inThreads(1, {}, [](Rank &r) {
                   DeviceArray<int> a(std::vector<int>(64, 0));
                   CUfunction increment = kernel("increment");
                   CUstream other = makeStream();
                   driver().cuStreamSynchronize(nullptr);
                   launch(increment, 2, 32, {a.address}, other);
                   nccl().ncclAllReduce(a.pointer(), a.pointer(), 64, ncclInt32, ncclSum, r.comm,
                                        r.stream);
                   if (driver().cuStreamSynchronize.status(r.stream) ||
                       driver().cuStreamSynchronize.status(other))
                     std::_Exit(1);
                 }));
}
