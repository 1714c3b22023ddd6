//===- DriverTest.cpp - Memory, streams, events, graphs, races ------------===//
#include "Gpu.h"

using namespace fake::tests;

static const std::vector<int> zeros(64, 0);

TEST(FakeDriver, RunsKernels) {
  EXPECT_PROCESS(0, "", {
    start();
    DeviceArray<int> a(zeros);
    launch(kernel("increment"), 2, 32, {a.address}, nullptr);
    require(a.get() == std::vector<int>(64, 1), "all are one");
  });
}

TEST(FakeDriver, FindsAccessesOutside) {
  EXPECT_PROCESS(1,
                 "increment: address 0x[0-9a-f]+ lies in no allocation, at `ld.global.b32 %r4, "
                 ".%rd1.` .block 2, warp 0.(.|\n)*ILLEGAL_ADDRESS",
                 {
                   start();
                   DeviceArray<int> a(zeros);
                   launch(kernel("increment"), 3, 32, {a.address}, nullptr);
                   a.get();
                 });
  EXPECT_PROCESS(1, "address 0x1000 lies in no allocation", {
    start();
    launch(kernel("increment"), 1, 32, {0x1000}, nullptr);
    driver().cuStreamSynchronize(nullptr);
  });
}

TEST(FakeDriver, FindsThreadsThatRace) {
  EXPECT_PROCESS(1, "all_write_first: two threads use address", {
    start();
    DeviceArray<int> a(zeros);
    launch(kernel("all_write_first"), 1, 2, {a.address}, nullptr);
    a.get();
  });
}

TEST(FakeDriver, HostCannotTouchDeviceMemory) {
  EXPECT_DEATH(
      {
        start();
        DeviceArray<int> a(zeros);
        *reinterpret_cast<volatile int *>(a.address) = 1;
      },
      "");
}

TEST(FakeDriver, NamesWhatItDoesNotUnderstand) {
  EXPECT_PROCESS(1,
                 "k: instruction not understood, at `tanh.approx.f32 %r1, %r1`(.|\n)*INVALID_PTX", {
                   start();
                   CUmodule module;
                   driver().cuModuleLoadDataEx(&module,
                                               ".version 8.0\n.target sm_80\n.entry k() { .reg "
                                               ".b32 %r<2>; tanh.approx.f32 %r1, %r1; }",
                                               0u, nullptr, nullptr);
                 });
}

TEST(FakeDriver, RefusesCodeOfOtherDevices) {
  auto load = [](const char *text) {
    CUmodule module;
    driver().cuModuleLoadDataEx(&module, text, 0u, nullptr, nullptr);
  };
  EXPECT_PROCESS(1, "NO_BINARY_FOR_GPU", start(); load(".version 8.0\n.target sm_90\n"));
  EXPECT_PROCESS(1, "NO_BINARY_FOR_GPU", start({{"FAKE_CUDA_ARCH", "100"}});
                 load(".version 8.0\n.target sm_90a\n"));
  EXPECT_PROCESS(1, "UNSUPPORTED_PTX_VERSION", start({{"FAKE_CUDA_DRIVER_VERSION", "12000"}});
                 load(".version 8.4\n.target sm_80\n"));
  EXPECT_PROCESS(1, "NO_BINARY_FOR_GPU", start(); load("\177ELF"));
  EXPECT_PROCESS(1, "CUDA_ERROR_NO_DEVICE", start({{"FAKE_CUDA_DEVICES", "0"}}));
}

TEST(FakeDriver, MemoryIsLimited) {
  EXPECT_PROCESS(1, "CUDA_ERROR_OUT_OF_MEMORY", {
    start({{"FAKE_CUDA_MEMORY", "4194304"}});
    DeviceArray<char> a(1 << 20);
    DeviceArray<char> b((2 << 20) + 1);
  });
}

/// A kernel on the machine's memory.
static void incrementPinned(unsigned flags, const Settings &settings = {}) {
  start(settings);
  CUfunction increment = kernel("increment");
  CUstream stream = makeStream();
  int *host;
  driver().cuMemHostAlloc(reinterpret_cast<void **>(&host), sizeof(int) * 64, flags);
  std::fill_n(host, 64, 1);
  launch(increment, 2, 32, {reinterpret_cast<CUdeviceptr>(host)}, stream);
  driver().cuStreamSynchronize(stream);
  require(std::count(host, host + 64, 2) == 64, "the kernel works on the host's memory");
}

TEST(FakeDriver, KernelsReachMappedMemoryOnly) {
  EXPECT_PROCESS(0, "", incrementPinned(CU_MEMHOSTALLOC_DEVICEMAP));
  EXPECT_PROCESS(1, "lies in no allocation", incrementPinned(CU_MEMHOSTALLOC_PORTABLE));
}

TEST(FakeDriver, PinnedMemoryIsCountedApart) {
  Settings pinned = {{"FAKE_CUDA_MEMORY", "2097152"}, {"FAKE_CUDA_PINNED", "255"}};
  EXPECT_PROCESS(1, "CUDA_ERROR_OUT_OF_MEMORY", incrementPinned(CU_MEMHOSTALLOC_DEVICEMAP, pinned));
  pinned["FAKE_CUDA_PINNED"] = "256";
  EXPECT_PROCESS(0, "", incrementPinned(CU_MEMHOSTALLOC_DEVICEMAP, pinned));
}

/// One stream writes, another one reads; `ordered`: behind an event.
static void produceAndConsume(const Settings &settings, bool ordered) {
  start(settings);
  DeviceArray<int> a(zeros), b(zeros);
  CUfunction increment = kernel("increment"), copy = kernel("copy");
  driver().cuStreamSynchronize(nullptr);
  CUstream first = makeStream(), second = makeStream();
  CUevent event;
  driver().cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);
  launch(increment, 2, 32, {a.address}, first);
  driver().cuEventRecord(event, first);
  if (ordered)
    driver().cuStreamWaitEvent(second, event, 0u);
  launch(copy, 1, 64, {a.address, b.address}, second);
  driver().cuStreamSynchronize(second);
  require(b.get() == std::vector<int>(64, 1), "what was written is read");
}

TEST(FakeDriver, EventsOrderStreams) {
  for (int seed = 0; seed < 8; ++seed) {
    Settings settings = {{"FAKE_CUDA_SEED", std::to_string(seed)}};
    EXPECT_PROCESS(0, "", produceAndConsume(settings, true));
    EXPECT_PROCESS(1,
                   "race: launch (copy|increment) (reads|writes) what launch (copy|increment) "
                   "(reads|writes), and nothing orders them(.|\n)*LAUNCH_FAILED",
                   produceAndConsume(settings, false);
                   driver().cuStreamSynchronize(nullptr));
  }
}

/// Two streams in a graph, launched twice.
static void replay(const Settings &settings, bool forks, bool joins) {
  start(settings);
  DeviceArray<int> a(zeros), b(zeros);
  CUfunction increment = kernel("increment"), copy = kernel("copy");
  driver().cuStreamSynchronize(nullptr);
  CUstream first = makeStream(), second = makeStream();
  CUevent fork, join;
  driver().cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING);
  driver().cuEventCreate(&join, CU_EVENT_DISABLE_TIMING);
  driver().cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_RELAXED);
  if (!forks)
    driver().cuEventRecord(fork, first);
  launch(increment, 2, 32, {a.address}, first);
  if (forks)
    driver().cuEventRecord(fork, first);
  driver().cuStreamWaitEvent(second, fork, 0u);
  launch(copy, 1, 64, {a.address, b.address}, second);
  driver().cuEventRecord(join, second);
  if (joins)
    driver().cuStreamWaitEvent(first, join, 0u);
  CUgraph graph;
  CUgraphExec exec;
  driver().cuStreamEndCapture(first, &graph);
  driver().cuGraphInstantiate(&exec, graph, 0ull);
  driver().cuGraphDestroy(graph);
  require(b.get() == zeros, "a capture runs nothing");
  for (int times = 1; times <= 2; ++times) {
    driver().cuGraphLaunch(exec, first);
    driver().cuStreamSynchronize(first);
    require(b.get() == std::vector<int>(64, times), "a launch runs all");
  }
}

TEST(FakeDriver, GraphsKeepTheOrderOfTheirStreams) {
  for (int seed = 0; seed < 8; ++seed) {
    Settings settings = {{"FAKE_CUDA_SEED", std::to_string(seed)}};
    EXPECT_PROCESS(0, "", replay(settings, true, true));
    EXPECT_PROCESS(1, "race: launch", replay(settings, false, true));
  }
  EXPECT_PROCESS(1, "nothing waits for launch copy(.|\n)*CAPTURE_UNJOINED",
                 replay({}, true, false));
}

TEST(FakeDriver, CapturesDoNotWait) {
  EXPECT_PROCESS(1, "cuStreamSynchronize: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", {
    start();
    CUstream stream = makeStream();
    driver().cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    driver().cuStreamSynchronize(stream);
  });
}

TEST(FakeDriver, PinnedMemoryIsReadLate) {
  EXPECT_PROCESS(0, "", {
    start();
    DeviceArray<int> a(zeros);
    int *host;
    driver().cuMemHostAlloc(reinterpret_cast<void **>(&host), sizeof(int) * 64, 0u);
    CUstream stream = makeStream();
    driver().cuStreamSynchronize(nullptr);
    std::fill_n(host, 64, 1);
    driver().cuMemcpyHtoDAsync(a.address, host, sizeof(int) * 64, stream);
    std::fill_n(host, 64, 2);
    driver().cuStreamSynchronize(stream);
    require(a.get() == std::vector<int>(64, 2), "whoever changes pinned memory too early is found");
  });
}

TEST(FakeDriver, CopiesRows) {
  EXPECT_PROCESS(0, "", {
    start();
    DeviceArray<int> a({1, 2, 3, 4, 5, 6}), b(std::vector<int>(8, 0));
    CUDA_MEMCPY2D copy{};
    copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = a.address;
    copy.srcPitch = 3 * sizeof(int);
    copy.dstDevice = b.address;
    copy.dstPitch = 4 * sizeof(int);
    copy.dstXInBytes = sizeof(int);
    copy.WidthInBytes = 3 * sizeof(int);
    copy.Height = 2;
    driver().cuMemcpy2DAsync(&copy, nullptr);
    require(b.get() == std::vector<int>({0, 1, 2, 3, 0, 4, 5, 6}), "rows are apart");
  });
}
