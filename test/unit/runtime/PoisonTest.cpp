// Memory that is dead is filled, memory around the arena is out of reach.
#include "runtime/core/Poison.h"
#include "ShardRunFixture.h"
#include "TrainingBundle.h"
#include "runtime/core/ProgramReader.h"

#include <cmath>
#include <cstring>

using namespace shardrt_test;
using shardrt::ByteSet;

namespace {

std::string rangesOf(const ByteSet &set) {
  std::string text;
  for (const ByteSet::Range &range : set.ranges())
    text += "[" + std::to_string(range.begin) + "," + std::to_string(range.end) + ")";
  return text;
}

TEST(Poison, SetsOfBytes) {
  ByteSet set;
  set.add({10, 20});
  set.add({30, 40});
  set.add({20, 25});
  set.add({5, 5});
  EXPECT_EQ(rangesOf(set), "[10,25)[30,40)");
  set.add({24, 31});
  EXPECT_EQ(rangesOf(set), "[10,40)");
  set.remove({15, 18});
  set.remove({0, 11});
  set.remove({39, 99});
  EXPECT_EQ(rangesOf(set), "[11,15)[18,39)");
  ByteSet other = set;
  other.remove({20, 30});
  set.remove(other);
  EXPECT_EQ(rangesOf(set), "[20,30)");
}

/// Bytes that survive each command of sum: x at 0, index at 64, shifted at 128, out at 192; 64
/// each.
TEST(Poison, BytesDieWithTheirLastReader) {
  BundleBuilder builder = sumBundle();
  builder.program["entries"][0]["commands"][1]["ticket"] = 4;
  builder.command({{"op", "wait"}, {"ticket", 4}});
  shardrt::Mesh mesh{{{"tp", 4}}};
  shardrt::Program program = shardrt::readProgram(builder.program.dump(), "p", mesh, 0);
  shardrt::Poison poison(program, program.entries[0]);
  std::vector<unsigned char> arena(256);
  std::byte *base = reinterpret_cast<std::byte *>(arena.data());
  auto poisoned = [&] {
    ByteSet set;
    for (int i = 0; i < 256; ++i)
      if (arena[i] == 0xff)
        set.add({i, i + 1});
    std::fill(arena.begin(), arena.end(), 0);
    return rangesOf(set);
  };
  poison.start(base);
  EXPECT_EQ(poisoned(), "[128,256)");
  poison.after(0, base);
  EXPECT_EQ(poisoned(), "[0,64)[152,192)"); // x, and what the sum does not read of its source
  poison.after(1, base);
  EXPECT_EQ(poisoned(), ""); // under way
  poison.after(2, base);
  EXPECT_EQ(poisoned(), "[128,152)");
}

class Poisoned : public ShardRun {};

TEST_F(Poisoned, ProgramsThatAreRightGiveTheSame) {
  ASSERT_EQ(run("%D/sum.bundle -i x=%D/x.npy -o %D/y.npy --poison --runs 2"), 0) << err;
  EXPECT_EQ(floatsOf("y.npy"), expected);
  std::string tokens =
      rawBytes(std::vector<uint16_t>(60, 3)) + rawBytes(std::vector<uint16_t>(9, 1));
  writeText(directory / "tokens.bin", tokens);
  TrainingSetup setup;
  setup.tp = 2;
  setup.isGathered = true;
  trainingBundle(setup).write(directory / "train.bundle");
  for (const char *more : {"", " --accumulation 2"}) {
    std::string command = "%D/train.bundle --data %D/tokens.bin --token-dtype u16 --steps 6" +
                          std::string(more) + " --log %D/";
    ASSERT_EQ(run(command + "a.jsonl"), 0) << err;
    ASSERT_EQ(run(command + "b.jsonl --poison"), 0) << err;
    std::istringstream a(readText(directory / "a.jsonl")), b(readText(directory / "b.jsonl"));
    std::string lineA, lineB;
    for (int step = 0; step < 6; ++step) {
      std::getline(a, lineA);
      std::getline(b, lineB);
      Json jsonA = Json::parse(lineA), jsonB = Json::parse(lineB);
      EXPECT_EQ(jsonA["loss"], jsonB["loss"]) << step;
      EXPECT_EQ(jsonA["grad_norm"], jsonB["grad_norm"]) << step;
    }
  }
}

/// A buffer that is read although nothing of this run was written there.
TEST_F(Poisoned, ReadingDeadStorageShows) {
  BundleBuilder builder({{"tp", 1}});
  Json whole = Json::array({Json::array()});
  int x = builder.buffer("x", "f32", {4}, "input"),
      a = builder.buffer("a", "f32", {4}, "temporary"),
      b = builder.buffer("b", "f32", {4}, "temporary"),
      out = builder.buffer("out", "f32", {4}, "output");
  builder.input("x", x, {4}, whole);
  builder.output("out", out, {4}, whole);
  builder.launch("test_add", {x, x, a}, 1);
  builder.launch("test_add", {x, b, out}, 1); // b was never written: zeros by luck
  builder.write(directory / "b.bundle");
  std::vector<float> values = {1, 2, 3, 4};
  shardrt::writeNpy(directory / "x.npy", SHARDRT_F32, {4}, values.data(), 16);
  ASSERT_EQ(run("%D/b.bundle -i x=%D/x.npy -o %D/y.npy"), 0) << err;
  EXPECT_EQ(floatsOf("y.npy"), values);
  ASSERT_EQ(run("%D/b.bundle -i x=%D/x.npy -o %D/y.npy --poison"), 0) << err;
  for (float value : floatsOf("y.npy"))
    EXPECT_TRUE(std::isnan(value));
}

TEST_F(Poisoned, WritingBehindTheArenaIsAFault) {
  for (const char *kernel : {"test_double", "test_overrun"}) {
    BundleBuilder builder = sumBundle();
    int last = builder.buffer("last", "f32", {16}, "temporary"); // the arena ends with it
    Json launch = {
        {"op", "launch"}, {"kernel", 1}, {"buffers", {1, last}}, {"tiles", 1}, {"scratch", 16}};
    builder.program["kernels"].push_back(kernel);
    builder.command(launch);
    std::filesystem::remove_all(directory / "guard.bundle");
    builder.write(directory / "guard.bundle");
    bool overruns = std::string(kernel) == "test_overrun";
    EXPECT_EQ(run("%D/guard.bundle -i x=%D/x.npy"), overruns ? 9 : 0) << err;
    if (overruns) {
      EXPECT_HAS(err, "rank 2 (process ");
      EXPECT_HAS(err, "was killed by signal 11");
    }
  }
}

} // namespace
