// shard-run on GPUs that are none: the libraries of test/cuda/fake, which compute. Programs of
// collectives and copies give what they give on processors, bit for bit.
#include "ShardRunFixture.h"

#include <functional>
#include <unistd.h>

using namespace shardrt_test;

namespace {

const char fakes[] = "LD_LIBRARY_PATH=" SHARDRT_FAKE_CUDA;

/// Adds commands whose results are outputs; on 2 x 2 ranks, and an axis of one.
class Commands {
public:
  Commands() : builder({{"dp", 2}, {"tp", 2}, {"one", 1}}) {
    Json all = Json::array({Json::array({BundleBuilder::axis(0, 2), BundleBuilder::axis(1, 2)})});
    source = builder.buffer("x", "f32", {elements}, "input");
    builder.input("x", source, {4 * elements}, all);
    for (int axis = 0; axis < 3; ++axis)
      builder.group(Json::array({BundleBuilder::axis(axis, axis < 2 ? 2 : 1)}));
    builder.group(all[0]);
  }

  /// `command` gets x as its source, and an output of `count` elements.
  void add(Json command, int group, int64_t count) {
    std::string name = "o" + std::to_string(outputs.size());
    Json all = Json::array({Json::array({BundleBuilder::axis(0, 2), BundleBuilder::axis(1, 2)})});
    int buffer = builder.buffer(name, "f32", {count}, "output");
    builder.output(name, buffer, {4 * count}, all);
    outputs.push_back(name);
    if (group >= 0) {
      command["group"] = group;
      command["dtype"] = "f32";
    }
    command["src"] = source;
    command["dst"] = buffer;
    builder.command(command);
  }
  void rows(const char *op, int group, int outer, int inner, int total, int64_t count,
            int ticket = -1) {
    Json command = {{"op", op}, {"outer", outer}, {"inner", inner}, {"total", total}};
    command["reduce"] = "sum";
    if (ticket >= 0)
      command["ticket"] = ticket;
    add(command, group, count);
  }
  void allToAll(int group, const std::vector<int> &shape, int split, int concat, int concatTotal,
                int64_t count) {
    add({{"op", "all_to_all"},
         {"shape", shape},
         {"split_dim", split},
         {"concat_dim", concat},
         {"split_total", shape[split]},
         {"concat_total", concatTotal}},
        group, count);
  }
  void wait(int ticket) { builder.command({{"op", "wait"}, {"ticket", ticket}}); }

  void write(const std::string &path, bool cuda) {
    builder.kernelFile.clear();
    builder.manifest["kernels"] = Json::array();
    if (cuda) {
      int64_t at = builder.program["arena"]["bytes"];
      at = (at + 255) / 256 * 256;
      builder.program["cuda"] = {{"scratch", {{"offset", at}, {"bytes", 0}}},
                                 {"workspace", {{"offset", at}, {"bytes", 0}}},
                                 {"staging", {{"offset", at}, {"bytes", 8192}}}};
      builder.program["arena"]["bytes"] = at + 8192;
      builder.program["target"] = builder.manifest["target"] = "cuda";
    }
    builder.write(path);
  }

  static constexpr int64_t elements = 448;
  BundleBuilder builder;
  int source;
  std::vector<std::string> outputs;
};

/// Every kind, in pieces that NCCL takes as they lie and in ragged ones, with and without tickets.
Commands everyCommand() {
  Commands commands;
  for (int group = 0; group < 4; ++group) {
    int ranks = group == 3 ? 4 : group == 2 ? 1 : 2;
    for (const char *reduce : {"sum", "max", "min", "prod"})
      commands.add({{"op", "all_reduce"}, {"reduce", reduce}, {"count", 7}}, group, 7);
    commands.add({{"op", "broadcast"}, {"root", ranks - 1}, {"count", 5}}, group, 5);
    commands.rows("all_gather", group, 1, 6, 6 * ranks, 6 * ranks, 2 * group);
    commands.rows("reduce_scatter", group, 1, 6, 6 * ranks, 6, 2 * group + 1);
    // On communicators with calls under way, whose order must stay.
    commands.rows("all_gather", group, 3, 2, 2 * ranks - 1, 3 * (2 * ranks - 1));
    commands.rows("reduce_scatter", group, 3, 2, 2 * ranks - 1, 6);
    commands.rows("reduce_scatter", group, 1, 3, 3 * ranks - 2, 3);
    commands.wait(2 * group);
    commands.wait(2 * group + 1);
    commands.rows("slice", group, 3, 2, 2 * ranks - 1, 6);
    commands.rows("slice", group, 1, 4, 4 * ranks - 1, 4);
    Json pairs = Json::array();
    for (int from = 1; from < ranks; ++from)
      pairs.push_back({from, from - 1});
    commands.add({{"op", "permute"}, {"count", 6}, {"pairs", pairs}}, group, 6);
    // split before concat and behind it, even and ragged
    int half = (5 + ranks - 1) / ranks, part = (7 + ranks - 1) / ranks;
    commands.allToAll(group, {2, 2 * ranks, 3, 2, 2}, 1, 3, 2 * ranks, 2 * 2 * 3 * 2 * ranks * 2);
    commands.allToAll(group, {2, 5, 3, part, 2}, 1, 3, 7, 2 * half * 3 * 7 * 2);
    commands.allToAll(group, {2, part, 3, 5, 2}, 3, 1, 7, 2 * half * 3 * 7 * 2);
    commands.allToAll(group, {5, part}, 0, 1, 7, half * 7);
  }
  commands.add({{"op", "copy"}, {"bytes", 40}}, -1, 10);
  commands.add({{"op", "zero"}, {"bytes", 20}}, -1, 5);
  return commands;
}

class CudaRun : public ShardRun {
protected:
  void SetUp() override {
    cudaBundle().write(directory / "cuda.bundle");
    std::vector<float> x = {1, 2, 3, 4, 5, 6};
    shardrt::writeNpy(directory / "x.npy", SHARDRT_F32, {2, 3}, x.data(), 24);
  }
  int runCuda(const std::string &arguments, const std::string &environment = "") {
    return run("%D/cuda.bundle --input x=%D/x.npy --output %D/y.npy --timeout 20 " + arguments,
               fakes + (" " + environment));
  }
  // twice x · w
  const std::vector<float> product = {76, 88, 100, 112, 166, 196, 226, 256};
};

TEST_F(CudaRun, CollectivesGiveWhatTheyGiveOnProcessors) {
  std::vector<float> x;
  for (int64_t i = 0; i < 4 * Commands::elements; ++i)
    x.push_back(static_cast<float>(i * 7919 % 13) - 5);
  shardrt::writeNpy(directory / "all.npy", SHARDRT_F32, {4 * Commands::elements}, x.data(),
                    x.size() * sizeof(float));
  everyCommand().write(directory / "cpu", false);
  everyCommand().write(directory / "gpu", true);
  Commands commands = everyCommand();
  auto arguments = [&](const std::string &name) {
    std::string text = "%D/" + name + " --input x=%D/all.npy";
    for (const std::string &output : commands.outputs)
      text += " --output " + output + "=%D/" + name + "-" + output + ".npy";
    return text;
  };
  ASSERT_EQ(run(arguments("cpu")), 0) << err;
  // Call by call, captured and replayed, and in other orders of what is not ordered.
  for (const char *how :
       {"--no-cuda-graph", "--runs 3", "--poison", "--nccl-ub register", "--nccl-ub window"})
    for (const char *seed : {"0", "3"}) {
      SCOPED_TRACE(std::string(how) + ", seed " + seed);
      ASSERT_EQ(run(arguments("gpu") + " --timeout 20 " + how,
                    fakes + std::string(" FAKE_CUDA_SEED=") + seed),
                0)
          << err;
      for (const std::string &output : commands.outputs)
        EXPECT_EQ(floatsOf("gpu-" + output + ".npy"), floatsOf("cpu-" + output + ".npy")) << output;
    }
}

TEST_F(CudaRun, KernelsLibraryCallsAndScratch) {
  for (const char *how : {"--no-cuda-graph", "--runs 3", "--poison", "--isa compute_80"}) {
    SCOPED_TRACE(how);
    ASSERT_EQ(runCuda(how), 0) << err;
    EXPECT_EQ(floatsOf("y.npy"), product);
  }
  EXPECT_EQ(runCuda("--runs 2", "SHARDRT_CUDA_GRAPH=0"), 0) << err;
  EXPECT_EQ(runCuda("--in-process"), 0) << err;
  EXPECT_EQ(floatsOf("y.npy"), product);
}

TEST_F(CudaRun, TraceHasTheDevicesTimes) {
  ASSERT_EQ(runCuda("--runs 2 --trace %D/trace.json"), 0) << err;
  Json trace = Json::parse(readText(directory / "trace.json"));
  int launches = 0, reductions = 0;
  double last = 0;
  for (const Json &event : trace["traceEvents"])
    if (event["ph"] == "X" && event["pid"] == 1 && event["args"].value("entry", "") == "main" &&
        event["args"].contains("command")) {
      launches += event["name"] == "kernel_0";
      reductions += event["name"] == "all_reduce";
      EXPECT_GE(event["ts"], last) << event;
      last = event["ts"];
    }
  EXPECT_EQ(launches, 2);
  EXPECT_EQ(reductions, 2);
}

TEST_F(CudaRun, OptionsOfTheOtherTargetAreRefused) {
  EXPECT_EQ(runCuda("--backend cpu"), SHARDRT_INVALID_ARGUMENT);
  EXPECT_HAS(err, "--backend cpu: " + directory.path + "/cuda.bundle was compiled for cuda");
  EXPECT_EQ(runCuda("--threads 2"), SHARDRT_INVALID_ARGUMENT);
  EXPECT_HAS(err, "--threads: is for processors");
  EXPECT_EQ(runCuda("", "SHARDRT_CUDA_GRAPH=yes"), SHARDRT_INVALID_ARGUMENT);
  EXPECT_HAS(err, "SHARDRT_CUDA_GRAPH is \"yes\", not 0 or 1");
  BundleBuilder alone = cudaBundle();
  alone.manifest["mesh"]["axes"][0]["size"] = alone.manifest["ranks"] = 1;
  alone.program["groups"][0]["axes"][0]["size"] = 1;
  alone.write(directory / "one.bundle");
  std::string one = "%D/one.bundle --input x=%D/x.npy --output %D/y.npy ";
  EXPECT_EQ(run(one + "--nccl-ub register", fakes), SHARDRT_INVALID_ARGUMENT);
  EXPECT_HAS(err, "nccl_ub: the program has no collectives between ranks to register for");
  EXPECT_EQ(run(one, fakes + std::string(" SHARDRT_NCCL=/nowhere")), 0) << err; // not needed
  EXPECT_EQ(floatsOf("y.npy"), (std::vector<float>{38, 44, 50, 56, 83, 98, 113, 128}));
  sumBundle().write(directory / "sum.bundle");
  for (const char *option : {"--backend cuda", "--no-cuda-graph", "--nccl-ub register",
                             "--share-device", "--channel tcp"}) {
    EXPECT_EQ(run(std::string("%D/sum.bundle --input x=%D/x.npy ") + option),
              SHARDRT_INVALID_ARGUMENT);
    EXPECT_HAS(err, "was compiled for cpu");
  }
}

/// What is wrong with the machine, and what is said about it before a program runs.
TEST_F(CudaRun, MachinesThatDoNotFit) {
  struct {
    const char *environment;
    int status;
    const char *message;
  } const cases[] = {
      {"FAKE_CUDA_DEVICES=0", SHARDRT_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
      {"FAKE_CUDA_DEVICES=1", SHARDRT_NO_DEVICE,
       "rank 1: error: local rank 1 has no GPU of its own, this machine shows 1; --share-device"},
      {"FAKE_CUDA_ARCH=75", SHARDRT_UNSUPPORTED_CPU,
       "the bundle has code for compute_80; compile it with --arch sm_75"},
      {"FAKE_CUDA_MEMORY=1000", SHARDRT_OUT_OF_MEMORY,
       "the program needs 2048 bytes of device memory, 1000 of 1000 are free on device 0"},
      {"FAKE_CUDA_DRIVER_VERSION=11040", SHARDRT_NO_DEVICE,
       "the driver is for CUDA 11.4, this runtime needs 12.0 or newer"},
      {"FAKE_NCCL_VERSION=21800", SHARDRT_NO_DEVICE,
       "is NCCL 2.18.0, this runtime needs 2.28.0 or newer"},
      {"SHARDRT_NCCL=/nowhere/libnccl.so", SHARDRT_NO_DEVICE,
       "cannot load /nowhere/libnccl.so, which SHARDRT_NCCL names"},
      {"SHARDRT_CUBLASLT=/nowhere/libcublasLt.so", SHARDRT_NO_DEVICE,
       "cannot load /nowhere/libcublasLt.so, which SHARDRT_CUBLASLT names"}};
  for (const auto &[environment, status, message] : cases) {
    SCOPED_TRACE(environment);
    EXPECT_EQ(runCuda("", environment), status);
    EXPECT_HAS(err, message);
  }
  EXPECT_EQ(runCuda("--isa sm_90a"), SHARDRT_UNSUPPORTED_CPU);
  EXPECT_HAS(err, "the bundle has code for compute_80, sm_90a was asked for");
}

/// As torchrun starts ranks on two machines of one GPU each: they meet over TCP.
TEST_F(CudaRun, RanksOfSeveralMachines) {
  std::string port = std::to_string(20000 + getpid() % 10000), script = directory / "two.sh";
  writeText(script, "export WORLD_SIZE=2 LOCAL_WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=" +
                        port + " " + fakes +
                        "\nfor r in 0 1; do RANK=$r LOCAL_RANK=$r " SHARD_RUN " $* & done\n"
                        "wait %1 && wait %2\n");
  std::string arguments = directory.path + "/cuda.bundle --input x=" + directory.path +
                          "/x.npy --output " + directory.path + "/y.npy --timeout 20 --json";
  ASSERT_EQ(std::system(("bash " + script + " " + arguments + " >" + (directory / "out") + " 2>" +
                         (directory / "err"))
                            .c_str()),
            0)
      << readText(directory / "err");
  EXPECT_EQ(floatsOf("y.npy"), product);
  EXPECT_EQ(Json::parse(readText(directory / "out"))["channel"], "tcp");
}

TEST_F(CudaRun, WithoutADriver) {
  if (run("%D/cuda.bundle --input x=%D/x.npy", "LD_LIBRARY_PATH=/nowhere") == SHARDRT_OK)
    GTEST_SKIP() << "this machine has a GPU";
  EXPECT_HAS(err, "a bundle for cuda needs a machine with an NVIDIA GPU and its driver");
}

TEST_F(CudaRun, DamagedCodeIsNamed) {
  BundleBuilder builder = cudaBundle();
  builder.program["kernels"][0]["calls"][2]["symbol"] = "copy9";
  builder.write(directory / "cuda.bundle");
  EXPECT_EQ(runCuda(""), SHARDRT_BAD_BUNDLE);
  EXPECT_HAS(err, "the code for compute_80 has no kernel \"copy9\"");
  cudaBundle().write(directory / "cuda.bundle");
  std::string path = directory / "cuda.bundle/kernels-compute_80.ptx", ptx = readText(path);
  ptx[ptx.size() / 2] ^= 1;
  writeText(path, ptx);
  EXPECT_EQ(runCuda(""), SHARDRT_BAD_BUNDLE);
  EXPECT_HAS(err, "kernels-compute_80.ptx: sha256 is ");
}

} // namespace
