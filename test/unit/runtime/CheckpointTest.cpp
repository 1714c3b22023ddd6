// Checkpoints: exact resumption, other meshes, damage, and kills at any moment.
#include "ShardRunFixture.h"
#include "TrainingBundle.h"
#include "runtime/core/Error.h"
#include "runtime/core/Safetensors.h"
#include "runtime/train/CheckpointDirectory.h"

#include <csignal>
#include <sstream>
#include <unistd.h>

using namespace shardrt_test;
using shardrt::CheckpointDirectory;
namespace fs = std::filesystem;

namespace {

class Checkpoint : public ShardRun {
protected:
  void SetUp() override {
    std::vector<uint16_t> tokens(200);
    for (int i = 0; i < 200; ++i)
      tokens[i] = static_cast<uint16_t>((i * i + i / 3) % 10);
    writeText(directory / "tokens.bin", rawBytes(tokens));
    write({}, "a");
  }

  void write(const TrainingSetup &setup, const std::string &name) {
    trainingBundle(setup).write(directory / name);
  }

  int train(const std::string &bundle, int steps, const std::string &more) {
    fs::remove(directory / "log.jsonl");
    return run("%D/" + bundle +
               " --data %D/tokens.bin --token-dtype u16 --log %D/log.jsonl --steps " +
               std::to_string(steps) + " " + more);
  }

  std::vector<Json> losses() {
    std::vector<Json> values;
    std::istringstream in(readText(directory / "log.jsonl"));
    for (std::string line; std::getline(in, line);)
      if (Json json = Json::parse(line); json.contains("loss"))
        values.push_back({json["step"], json["loss"], json["grad_norm"]});
    return values;
  }

  std::string tensorFile(const std::string &name) {
    return directory / (name + "/checkpoint.safetensors");
  }
};

TEST_F(Checkpoint, ResumedRunsAreBitIdentical) {
  for (const char *more : {"", " --accumulation 3", " --seed 9"}) {
    ASSERT_EQ(train("a", 12, more), 0) << err;
    std::vector<Json> whole = losses();
    ASSERT_EQ(whole.size(), 12u);
    fs::remove_all(directory / "ckpt");
    ASSERT_EQ(train("a", 5, std::string(more) + " --save %D/ckpt"), 0) << err;
    std::string again = std::string(more) == " --seed 9" ? "" : more; // the seed is remembered
    ASSERT_EQ(train("a", 7, again + " --load %D/ckpt"), 0) << err;
    EXPECT_EQ(losses(), std::vector<Json>(whole.begin() + 5, whole.end()));
  }
}

TEST_F(Checkpoint, AnyMeshLoadsWhatAnyMeshSaved) {
  std::vector<TrainingSetup> setups(5);
  setups[1].dp = 1;
  setups[2].tp = 2;
  setups[3].dp = 4;
  setups[3].isGathered = true;
  setups[4].dp = 1;
  setups[4].tp = 4; // 10 rows in parts of 3
  ASSERT_EQ(train("a", 4, "--save %D/first"), 0) << err;
  std::string bytes = readText(tensorFile("first"));
  std::vector<std::vector<Json>> continued;
  for (size_t i = 0; i < setups.size(); ++i) {
    SCOPED_TRACE(i);
    std::string name = "mesh" + std::to_string(i), copy = "copy" + std::to_string(i);
    write(setups[i], name);
    ASSERT_EQ(run("%D/" + name + " --load %D/first --save %D/" + copy), 0) << err;
    EXPECT_HAS(out, "step 4, 48 tokens");
    EXPECT_EQ(readText(tensorFile(copy)), bytes); // the global view is the same
    ASSERT_EQ(train(name, 3, "--load %D/" + copy), 0) << err;
    continued.push_back(losses());
    ASSERT_EQ(continued.back().size(), 3u);
    for (int step = 0; step < 3; ++step)
      EXPECT_NEAR(continued[i][step][1].get<double>(), continued[0][step][1].get<double>(), 1e-6);
  }
}

TEST_F(Checkpoint, HoldsWeightsAndOptimizerByName) {
  ASSERT_EQ(train("a", 2, "--save %D/ckpt/"), 0) << err;
  std::string text = readText(tensorFile("ckpt"));
  auto entries = shardrt::readSafetensorsHeader(text, "c");
  std::vector<std::string> names;
  for (const auto &[name, entry] : entries)
    names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"head.bias", "optimizer.momentum.head.bias",
                                             "optimizer.momentum.table.weight", "table.weight"}));
  EXPECT_EQ(entries["table.weight"].shape, (shardrt::Shape{10}));
  Json trainer = Json::parse(readText(directory / "ckpt/trainer.json"));
  EXPECT_EQ(trainer["step"], 2);
  EXPECT_EQ(trainer["data"]["sequences"], 8);
  EXPECT_EQ(trainer["mesh"]["dp_shard"], 2);
  for (const char *rest : {"ckpt.partial", "ckpt.previous"})
    EXPECT_FALSE(fs::exists(directory / rest)) << rest;
}

TEST_F(Checkpoint, SavesEveryNthStepAndAtTheEnd) {
  ASSERT_EQ(train("a", 5, "--save %D/ckpt --save-every 2"), 0) << err;
  EXPECT_EQ(Json::parse(readText(directory / "ckpt/trainer.json"))["step"], 5);
  EXPECT_EQ(train("a", 5, "--save-every 2"), 2);
  EXPECT_HAS(err, "--save-every needs --save");
  EXPECT_EQ(run("%D/a --load %D/ckpt --steps 3"), 2);
  EXPECT_HAS(err, "--steps needs --data");
  EXPECT_EQ(train("a", 1, "--load %D/ckpt --seed 5"), 2);
  EXPECT_HAS(err, "--seed 5: the checkpoint was trained with seed 0");
  EXPECT_EQ(train("a", 1, "--load %D/none"), 5);
  EXPECT_HAS(err, "none: no such checkpoint");
}

TEST_F(Checkpoint, OtherDataStartsAtItsBeginning) {
  ASSERT_EQ(train("a", 3, "--save %D/ckpt"), 0) << err;
  std::string tokens = readText(directory / "tokens.bin");
  writeText(directory / "tokens.bin", tokens.substr(0, 100));
  ASSERT_EQ(train("a", 1, "--load %D/ckpt --save %D/next"), 0) << err;
  EXPECT_HAS(err, "tokens.bin is not the data of the checkpoint");
  EXPECT_EQ(Json::parse(readText(directory / "next/trainer.json"))["data"]["sequences"], 4);
}

TEST_F(Checkpoint, DamageIsFoundAndNamedOnce) {
  ASSERT_EQ(train("a", 2, "--save %D/good"), 0) << err;
  auto expect = [&](const char *what, const std::string &message) {
    SCOPED_TRACE(what);
    EXPECT_EQ(run("%D/a --load %D/bad"), 5);
    EXPECT_HAS(err, message);
    size_t first = err.find("error: ");
    EXPECT_EQ(err.find("error: ", first + 1), std::string::npos) << err;
    EXPECT_LT(seconds, 5);
    fs::remove_all(directory / "bad");
  };
  auto copy = [&] { fs::copy(directory / "good", directory / "bad", fs::copy_options::recursive); };

  std::string text = readText(tensorFile("good"));
  for (size_t at : {text.size() - 1, text.size() - 60, text.size() - 100}) {
    copy();
    std::string changed = text;
    changed[at] ^= 4;
    writeText(tensorFile("bad"), changed);
    expect("a bit of the data", "\" is damaged: its checksum is ");
  }
  copy();
  writeText(tensorFile("bad"), text.substr(0, text.size() - 8));
  expect("cut off", "is not inside the ");
  copy();
  writeText(tensorFile("bad"), text.substr(0, 20));
  expect("cut in the header", "does not fit into the file of 20 bytes");
  copy();
  std::string changed = text;
  changed[30] ^= 1;
  writeText(tensorFile("bad"), changed);
  expect("a bit of the header",
         "trainer.json: header_sha256: belongs to a tensor file with the header ");
  copy();
  std::string trainer = readText(directory / "bad/trainer.json");
  writeText(directory / "bad/trainer.json",
            trainer.replace(trainer.find("\"step\": 2"), 9, "\"step\": 3"));
  expect("the step", "trainer.json: sha256: the file is damaged");
  copy();
  fs::remove(directory / "bad/trainer.json");
  expect("a missing file", "is no checkpoint, checkpoint.safetensors or trainer.json is missing");
}

TEST_F(Checkpoint, TensorsThatDoNotFitAreListed) {
  ASSERT_EQ(train("a", 2, "--save %D/ckpt"), 0) << err;
  TrainingSetup other;
  other.vocabulary = 12;
  BundleBuilder builder = trainingBundle(other);
  builder.program["states"][1]["role"] = "exp_avg";
  builder.write(directory / "b");
  EXPECT_EQ(run("%D/b --load %D/ckpt"), 5);
  EXPECT_HAS(err, "5 tensors do not fit");
  EXPECT_HAS(err, "\"optimizer.exp_avg.head.bias\" is missing");
  EXPECT_HAS(err, "\"table.weight\" has shape [10], the program wants [12]");
  EXPECT_HAS(err, "\"optimizer.momentum.table.weight\" is not a tensor of the program");
}

void makeCheckpoint(const std::string &path, const std::string &text) {
  fs::create_directories(path);
  writeText(path + "/checkpoint.safetensors", text);
  writeText(path + "/trainer.json", text);
}

/// Every state of the disk that a kill can leave.
TEST(CheckpointDirectories, AnyInterruptionLeavesTheLastGoodOne) {
  TemporaryDirectory directory;
  std::string path = directory / "c";
  CheckpointDirectory checkpoint(path);
  auto textOf = [&] { return readText(checkpoint.find() + "/trainer.json"); };
  auto saveNext = [&](const std::string &text) {
    checkpoint.begin();
    makeCheckpoint(checkpoint.partial(), text);
    checkpoint.commit();
    EXPECT_EQ(checkpoint.find(), path);
    EXPECT_EQ(textOf(), text);
    EXPECT_FALSE(fs::exists(path + ".partial"));
    EXPECT_FALSE(fs::exists(path + ".previous"));
  };
  EXPECT_THROW(checkpoint.find(), shardrt::Error);
  saveNext("one");
  checkpoint.begin(); // killed while writing
  writeText(checkpoint.partial() + "/checkpoint.safetensors", "half");
  EXPECT_EQ(textOf(), "one");
  saveNext("two");
  checkpoint.begin(); // killed between the two renames
  makeCheckpoint(checkpoint.partial(), "three");
  fs::rename(path, path + ".previous");
  EXPECT_EQ(textOf(), "two");
  saveNext("four");                     // from there
  fs::rename(path, path + ".previous"); // killed before the last removal
  makeCheckpoint(path, "five");
  EXPECT_EQ(textOf(), "five");
  saveNext("six");
  fs::rename(path, path + ".previous"); // and during it
  makeCheckpoint(path, "seven");
  fs::remove(path + ".previous/trainer.json");
  EXPECT_EQ(textOf(), "seven");
  saveNext("eight");
}

TEST(CheckpointDirectories, NothingElseIsEverRemoved) {
  TemporaryDirectory directory;
  fs::create_directories(directory / "c");
  writeText(directory / "c/notes.txt", "mine");
  auto error = [](const std::string &path) -> std::string {
    try {
      CheckpointDirectory(path).begin();
      return "";
    } catch (const shardrt::Error &error) {
      return error.what();
    }
  };
  EXPECT_HAS(error(directory / "c"),
             "holds \"notes.txt\", a checkpoint needs a directory of its own");
  EXPECT_HAS(error(directory / "c/notes.txt"), "is not a directory");
  EXPECT_HAS(error(directory / "none/c"), "cannot write into");
  EXPECT_EQ(readText(directory / "c/notes.txt"), "mine");
  fs::create_directories(directory / "d.previous");
  writeText(directory / "d.previous/notes.txt", "mine");
  EXPECT_HAS(error(directory / "d"), "d.previous: holds \"notes.txt\"");
}

/// Kills the whole job or one rank at moments that are spread over steps and checkpoint writes.
TEST_F(Checkpoint, KillsAtAnyMomentLeaveAGoodOne) {
  TrainingSetup setup;
  write(setup, "a");
  ASSERT_EQ(train("a", 1, "--save %D/ckpt"), 0) << err;
  int64_t before = 1;
  for (int round = 0; round < 12; ++round) {
    pid_t job = fork();
    if (job == 0) {
      std::string data = directory / "tokens.bin", ckpt = directory / "ckpt",
                  bundle = directory / "a";
      (void)!freopen("/dev/null", "w", stderr);
      execl(SHARD_RUN, SHARD_RUN, bundle.c_str(), "--data", data.c_str(), "--token-dtype", "u16",
            "--steps", "100000", "--load", ckpt.c_str(), "--save", ckpt.c_str(), "--save-every",
            "1", nullptr);
      _exit(127);
    }
    usleep(60000 + 7000 * round);
    kill(job, SIGKILL);
    int status;
    waitpid(job, &status, 0);
    ASSERT_EQ(run("%D/a --load %D/ckpt --json"), 0) << err;
    int64_t step = Json::parse(out)["step"];
    EXPECT_GE(step, before);
    before = step;
  }
  EXPECT_GT(before, 12); // it did get on in between
}

TEST_F(Checkpoint, KilledRankEndsTheOthersWhileTheySave) {
  ASSERT_EQ(train("a", 1, "--save %D/ckpt"), 0) << err;
  for (int round = 0; round < 4; ++round) {
    // The first child of shard-run is rank 0.
    std::string script =
        std::string(SHARD_RUN) + " " + (directory / "a") + " --data " + (directory / "tokens.bin") +
        " --token-dtype u16 --steps 100000 --save-every 1 --save " + (directory / "ckpt") +
        " --load " + (directory / "ckpt") + " 2>" + (directory / "err") + " & p=$!; sleep 0." +
        std::to_string(12 + round) + "; kill -9 $(pgrep -P $p | sed -n " +
        std::to_string(1 + round % 2) + "p); wait $p";
    auto begin = std::chrono::steady_clock::now();
    int status = WEXITSTATUS(std::system(("bash -c '" + script + "'").c_str()));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(6));
    EXPECT_EQ(status, 9) << readText(directory / "err");
    EXPECT_HAS(readText(directory / "err"), "was killed by signal 9");
    EXPECT_EQ(run("%D/a --load %D/ckpt"), 0) << err;
  }
}

/// A file system of its own, which is too small.
TEST_F(Checkpoint, FullDiskKeepsTheLastOne) {
  TrainingSetup setup;
  setup.vocabulary = 50;
  write(setup, "a");
  std::string script =
      "cd %D && mkdir disk && mount -t tmpfs -o size=20k tmpfs disk && " SHARD_RUN
      " a --data tokens.bin --token-dtype u16 --steps 2 --save disk/ckpt >/dev/null 2>&1; "
      "cp -r disk/ckpt kept; head -c 1M /dev/zero >disk/filler; " SHARD_RUN
      " a --data tokens.bin --token-dtype u16 --steps 2 --load disk/ckpt --save disk/ckpt 2>full; "
      "echo $? >code; ls disk >left; " SHARD_RUN " a --load disk/ckpt >loaded";
  for (size_t at; (at = script.find("%D")) != std::string::npos;)
    script.replace(at, 2, directory.path);
  if (std::system("unshare -rm true 2>/dev/null") != 0)
    GTEST_SKIP() << "no user namespaces here";
  ASSERT_EQ(std::system(("unshare -rm bash -c '" + script + "'").c_str()), 0);
  std::string message = readText(directory / "full");
  EXPECT_EQ(readText(directory / "code"), "6\n") << message;
  EXPECT_HAS(message, "No space left on device");
  EXPECT_EQ(message.find("error: ", message.find("error: ") + 1), std::string::npos) << message;
  EXPECT_EQ(readText(directory / "left"), "ckpt\nfiller\n");
  EXPECT_HAS(readText(directory / "loaded"), "step 2, 24 tokens");
}

} // namespace
