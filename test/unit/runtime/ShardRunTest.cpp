// shard-run as a user calls it.
#include "ShardRunFixture.h"

using namespace shardrt_test;

namespace {

TEST_F(ShardRun, RunsOnProcessesAndThreads) {
  EXPECT_EQ(run("-n 4 %D/sum.bundle --input x=%D/x.npy --output %D/a.npy"), 0) << err;
  EXPECT_EQ(floatsOf("a.npy"), expected);
  EXPECT_LT(seconds, 0.5);
  EXPECT_EQ(run("%D/sum.bundle --in-process --input=x=%D/x.npy -o out=%D/b.npy --threads 2 --pin"),
            0)
      << err;
  EXPECT_EQ(floatsOf("b.npy"), expected);
  EXPECT_HAS(out, "out: f32 [6] written to ");
}

TEST_F(ShardRun, BenchmarksAndTraces) {
  ASSERT_EQ(run("%D/sum.bundle -i x=%D/x.npy --bench 5 --json --trace %D/t.json"), 0) << err;
  Json json = Json::parse(out);
  EXPECT_EQ(json["runs"], 5);
  EXPECT_EQ(json["channel"], "shm");
  EXPECT_LE(json["min_ms"].get<double>(), json["median_ms"].get<double>());
  ASSERT_EQ(json["memory"].size(), 4u);
  EXPECT_GT(json["memory"][3]["pss_bytes"].get<int64_t>(), 0);
  EXPECT_GE(Json::parse(readText(directory / "t.json"))["traceEvents"].size(), 4u * 6 * 2);
}

TEST_F(ShardRun, WrongCommandLines) {
  EXPECT_EQ(run("--help"), 0);
  EXPECT_HAS(out, "exit codes");
  EXPECT_EQ(run("--version"), 0);
  EXPECT_EQ(out, std::string("shard-run ") + shardrt_version() + "\n");
  EXPECT_EQ(run(""), 2);
  EXPECT_HAS(err, "no bundle given");
  EXPECT_EQ(run("%D/sum.bundle --fast"), 2);
  EXPECT_HAS(err, "unknown option \"--fast\"");
  EXPECT_EQ(run("%D/sum.bundle -n four"), 2);
  EXPECT_HAS(err, "--ranks: \"four\" is not a number");
  EXPECT_EQ(run("%D/sum.bundle --channel mpi -i x=%D/x.npy"), 2);
  EXPECT_HAS(err, "start the ranks with mpirun -n 4");
  EXPECT_EQ(run("%D/sum.bundle -n 3"), 8);
  EXPECT_HAS(err, "the bundle is for 4 ranks, -n asks for 3");
  EXPECT_EQ(run("%D/none.bundle"), 3);
}

TEST_F(ShardRun, AllWrongInputsAreListed) {
  std::vector<double> wide(6);
  shardrt::writeNpy(directory / "wide.npy", SHARDRT_F64, {2, 3}, wide.data(), 48);
  EXPECT_EQ(run("%D/sum.bundle -i x=%D/wide.npy -i y=%D/x.npy"), 4);
  EXPECT_HAS(err, "2 inputs are wrong");
  EXPECT_HAS(err, "\"x\" is f32 [6], ");
  EXPECT_HAS(err, "wide.npy holds f64 [2, 3]");
  EXPECT_HAS(err, "\"y\" is not an input of the model, its inputs are: x");
  EXPECT_EQ(run("%D/sum.bundle"), 4);
  EXPECT_HAS(err, "\"x\" is missing, give --input x=FILE.npy of f32 [6]");
  std::string cut = readText(directory / "x.npy");
  writeText(directory / "cut.npy", cut.substr(0, cut.size() - 4));
  EXPECT_EQ(run("%D/sum.bundle -i x=%D/cut.npy"), 4);
  EXPECT_HAS(err, "needs 24 bytes of data");
}

TEST_F(ShardRun, OutputsAreCheckedBeforeRunning) {
  EXPECT_EQ(run("%D/sum.bundle -i x=%D/x.npy -o %D/none/y.npy"), 6);
  EXPECT_HAS(err, "is not a directory");
  EXPECT_EQ(run("%D/sum.bundle -i x=%D/x.npy -o y=%D/y.npy"), 2);
  EXPECT_HAS(err, "\"y\" is not an output of the model, its outputs are: out");
}

TEST_F(ShardRun, DamagedWeightsEndAllRanks) {
  BundleBuilder builder = sumBundle();
  int weight = builder.buffer("weight", "f32", {4}, "parameter");
  builder.parameter("w", weight, {4}, Json::array({Json::array()}));
  builder.write(directory / "w.bundle");
  EXPECT_EQ(run("%D/w.bundle -i x=%D/x.npy"), 5);
  EXPECT_HAS(err, "holds neither a .safetensors file");
}

TEST_F(ShardRun, KilledRankIsNamed) {
  sumBundleWith("test_die").write(directory / "die.bundle");
  EXPECT_EQ(run("%D/die.bundle -i x=%D/x.npy"), 9);
  EXPECT_HAS(err, "rank 2 (process ");
  EXPECT_HAS(err, "was killed by signal 9");
  EXPECT_LT(seconds, 10);
}

TEST_F(ShardRun, WaitsNoLongerThanAllowed) {
  sumBundleWith("test_sleep").write(directory / "sleep.bundle");
  EXPECT_EQ(run("%D/sleep.bundle -i x=%D/x.npy --timeout 0.3"), 10);
  EXPECT_HAS(err, "s for rank 2 in all_reduce");
}

/// Four processes with the variables of a launcher, as one shell command.
std::string fourProcesses(const std::string &variables, const std::string &arguments) {
  std::string script = "for r in 0 1 2 3; do env ";
  return script + variables + " " SHARD_RUN " " + arguments + " & done; wait";
}

TEST_F(ShardRun, JoinsTheRanksOfLaunchers) {
  const std::string launchers[] = {
      "RANK=$r WORLD_SIZE=4 LOCAL_RANK=$r LOCAL_WORLD_SIZE=4 MASTER_PORT=29500",
      "SLURM_PROCID=$r SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=$r 'SLURM_STEP_TASKS_PER_NODE=4' "
      "SLURM_JOB_ID=7",
      "SLURM_PROCID=$r SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=$r SLURM_STEP_TASKS_PER_NODE=4 "
      "SLURM_JOB_ID=4294967295"};
  for (const std::string &variables : launchers) {
    std::filesystem::remove(directory / "j.npy");
    std::string command =
        fourProcesses(variables, directory / "sum.bundle -i x=" + (directory / "x.npy") + " -o " +
                                     (directory / "j.npy"));
    EXPECT_EQ(std::system(command.c_str()), 0);
    EXPECT_EQ(floatsOf("j.npy"), expected);
  }
  EXPECT_EQ(run("%D/sum.bundle -i x=%D/x.npy", "RANK=0 WORLD_SIZE=2"), 8);
  EXPECT_HAS(err, "the bundle is for 4 ranks, torchrun started 2");
  const std::string slurm = "PMI_RANK=1 PMI_SIZE=2 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 "
                            "SLURM_LOCALID=0 SLURM_STEP_TASKS_PER_NODE='1(x2)' SLURM_JOB_ID=7";
  EXPECT_EQ(run("%D/sum.bundle -i x=%D/x.npy", slurm), 8);
  EXPECT_HAS(err, "the bundle is for 4 ranks, srun started 2");
  EXPECT_EQ(run("%D/sum.bundle -i x=%D/x.npy", slurm + " MPI_LOCALRANKID=0 MPI_LOCALNRANKS=1"), 8);
  EXPECT_HAS(err, "the bundle is for 4 ranks, mpirun started 2");
}

TEST_F(ShardRun, JoinedRanksNoticeTheDeathOfOne) {
  sumBundleWith("test_die").write(directory / "die.bundle");
  auto begin = std::chrono::steady_clock::now();
  std::string command = fourProcesses(
      "RANK=$r WORLD_SIZE=4 LOCAL_RANK=$r LOCAL_WORLD_SIZE=4 MASTER_PORT=29501",
      directory / "die.bundle -i x=" + (directory / "x.npy") + " 2>" + (directory / "err") + ".$r");
  std::system(("(" + command + ") >/dev/null 2>&1").c_str());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  for (int rank : {0, 1, 3})
    EXPECT_HAS(readText(directory / ("err." + std::to_string(rank))), "rank 2 (process ");
}

} // namespace
