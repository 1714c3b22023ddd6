// Training runs of a small hand-written bundle, against the same arithmetic in a loop.
#include "ShardRunFixture.h"
#include "TrainingBundle.h"
#include "runtime/core/Error.h"
#include "runtime/core/Training.h"
#include "runtime/train/TokenFile.h"

#include <cmath>
#include <numeric>
#include <set>

using namespace shardrt_test;
using shardrt::LearningRateSchedule;

namespace {

TEST(Train, LearningRateSchedules) {
  LearningRateSchedule schedule{LearningRateSchedule::Cosine, 4, 10, 0.1};
  EXPECT_DOUBLE_EQ(learningRateAt(schedule, 1, 1), 0.25);
  EXPECT_DOUBLE_EQ(learningRateAt(schedule, 1, 4), 1);
  EXPECT_DOUBLE_EQ(learningRateAt(schedule, 1, 9), 0.55);
  EXPECT_DOUBLE_EQ(learningRateAt(schedule, 1, 14), 0.1);
  EXPECT_DOUBLE_EQ(learningRateAt(schedule, 1, 1000), 0.1);
  schedule.kind = LearningRateSchedule::Linear;
  EXPECT_DOUBLE_EQ(learningRateAt(schedule, 2, 2), 1);
  EXPECT_DOUBLE_EQ(learningRateAt(schedule, 2, 6), 2 - 1.9 * 0.2);
  EXPECT_DOUBLE_EQ(learningRateAt(schedule, 2, 14), 0.1);
  EXPECT_DOUBLE_EQ(learningRateAt(LearningRateSchedule(), 3, 1), 3);
  EXPECT_DOUBLE_EQ(shardrt::biasCorrection(0.9, 1), 1 - 0.9);
  EXPECT_NEAR(shardrt::biasCorrection(0.999, 3), 0.002997001, 1e-12);
}

/// Every epoch visits every window once, in an order of its own.
TEST(Train, ShuffleIsAPermutationOfEachEpoch) {
  std::set<std::vector<int64_t>> orders;
  for (int64_t count : {1, 2, 3, 7, 100, 257})
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<int64_t> order(count);
      for (int64_t i = 0; i < count; ++i)
        order[i] = shardrt::shuffled(5, epoch, count, i);
      if (count >= 100) {
        EXPECT_TRUE(orders.insert(order).second);
        EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
      }
      std::sort(order.begin(), order.end());
      for (int64_t i = 0; i < count; ++i)
        ASSERT_EQ(order[i], i) << count;
    }
  EXPECT_NE(shardrt::shuffled(1, 0, 1 << 20, 0), shardrt::shuffled(2, 0, 1 << 20, 0));
}

std::vector<uint16_t> exampleTokens(int count) {
  std::vector<uint16_t> tokens(count);
  for (int i = 0; i < count; ++i)
    tokens[i] = static_cast<uint16_t>((i * i + i / 3) % 10);
  return tokens;
}

class Training : public ShardRun {
protected:
  void SetUp() override {
    tokens = exampleTokens(100);
    writeText(directory / "tokens.bin", rawBytes(tokens));
    writeText(directory / "tokens.bin.json", "{\"dtype\": \"u16\"}");
  }

  void write(const TrainingSetup &setup, const std::string &name = "train.bundle") {
    trainingBundle(setup).write(directory / name);
  }

  int train(const std::string &arguments, const std::string &bundle = "train.bundle") {
    return run("%D/" + bundle + " --data %D/tokens.bin --log %D/log.jsonl " + arguments);
  }

  /// The log's lines; the last one is the summary.
  std::vector<Json> log() {
    std::vector<Json> lines;
    std::istringstream in(readText(directory / "log.jsonl"));
    for (std::string line; std::getline(in, line);)
      lines.push_back(Json::parse(line));
    return lines;
  }
  std::vector<double> losses() {
    std::vector<double> values;
    for (const Json &line : log())
      if (line.contains("loss"))
        values.push_back(line["loss"]);
    return values;
  }

  /// Loss and gradient norm of each step.
  std::vector<std::pair<double, double>> expectedSteps(const TrainingSetup &setup, int steps,
                                                       int accumulation, uint64_t seed) {
    std::vector<double> table(setup.vocabulary), bias = {0.25, -0.5, 1};
    for (int i = 0; i < setup.vocabulary; ++i)
      table[i] = i % 4 / 2.0;
    std::vector<double> tableMomentum(table.size()), biasMomentum(3);
    std::vector<std::pair<double, double>> result;
    int64_t windows = (static_cast<int64_t>(tokens.size()) - 1) / setup.length, sequence = 0;
    for (int step = 0; step < steps; ++step) {
      std::vector<double> tableGradient(table.size()), biasGradient(3);
      double loss = 0;
      int64_t count = int64_t(setup.sequences) * setup.length * accumulation;
      for (int i = 0; i < setup.sequences * accumulation; ++i, ++sequence) {
        int64_t at =
            setup.length * shardrt::shuffled(seed, sequence / windows, windows, sequence % windows);
        for (int64_t p = at; p < at + setup.length; ++p) {
          double error = table[tokens[p]] + bias[tokens[p] % 3] - tokens[p + 1] / 8.0;
          loss += error * error / 2 / static_cast<double>(count);
          tableGradient[tokens[p]] += error / static_cast<double>(count);
          biasGradient[tokens[p] % 3] += error / static_cast<double>(count);
        }
      }
      double squares = 0;
      auto update = [&](std::vector<double> &values, std::vector<double> &momentum,
                        const std::vector<double> &gradient) {
        for (size_t i = 0; i < values.size(); ++i) {
          squares += gradient[i] * gradient[i];
          momentum[i] = momentum[i] / 2 + gradient[i];
          values[i] -= 0.5 * momentum[i];
        }
      };
      update(table, tableMomentum, tableGradient);
      update(bias, biasMomentum, biasGradient);
      result.push_back({loss, std::sqrt(squares)});
    }
    return result;
  }

  std::vector<uint16_t> tokens;
};

TEST_F(Training, StepsEqualTheReferenceOnEveryMesh) {
  struct Case {
    int dp, tp, accumulation;
    bool hasStep, isGathered;
  };
  for (const Case &c :
       {Case{1, 1, 1, true, false}, Case{2, 1, 1, true, false}, Case{4, 1, 1, true, true},
        Case{2, 2, 1, true, false}, Case{2, 1, 3, true, true}, Case{2, 2, 1, false, true}}) {
    SCOPED_TRACE(testing::Message() << "dp " << c.dp << " tp " << c.tp << " accumulation "
                                    << c.accumulation << " step " << c.hasStep);
    TrainingSetup setup;
    setup.dp = c.dp;
    setup.tp = c.tp;
    setup.hasStep = c.hasStep;
    setup.isGathered = c.isGathered;
    std::filesystem::remove_all(directory / "train.bundle");
    write(setup);
    ASSERT_EQ(train("--steps 20 --seed 3 --accumulation " + std::to_string(c.accumulation)), 0)
        << err;
    std::vector<Json> lines = log();
    std::vector<std::pair<double, double>> expected = expectedSteps(setup, 20, c.accumulation, 3);
    ASSERT_EQ(lines.size(), 21u);
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(lines[i]["step"], i + 1);
      EXPECT_NEAR(lines[i]["loss"].get<double>(), expected[i].first, 1e-5) << i;
      EXPECT_EQ(lines[i]["learning_rate"], 0.5);
      EXPECT_GT(lines[i]["tokens_per_second"].get<double>(), 0);
      if (c.tp == 1) {
        EXPECT_NEAR(lines[i]["grad_norm"].get<double>(), expected[i].second, 1e-5) << i;
      }
    }
    EXPECT_LT(expected[19].first, expected[0].first / 2);
    EXPECT_EQ(lines[20]["memory"].size(), size_t(c.dp * c.tp));
  }
}

TEST_F(Training, StepAndPiecesAgreeBitForBit) {
  write({});
  ASSERT_EQ(train("--steps 8"), 0) << err;
  std::vector<double> whole = losses();
  TrainingSetup pieces;
  pieces.hasStep = false;
  write(pieces, "pieces.bundle");
  ASSERT_EQ(train("--steps 8", "pieces.bundle"), 0) << err;
  EXPECT_EQ(losses(), whole);
  ASSERT_EQ(train("--steps 8 --check-nan"), 0) << err;
  EXPECT_EQ(losses(), whole);
  ASSERT_EQ(train("--steps 8 --in-process"), 0) << err;
  EXPECT_EQ(losses(), whole);
  ASSERT_EQ(train("--steps 8 --seed 1"), 0) << err;
  EXPECT_NE(losses(), whole);
}

TEST_F(Training, StepsAllocateNothing) {
  TrainingSetup setup;
  setup.isGathered = true;
  write(setup);
  if (train("--steps 1 --check-allocations") == 2 && err.find("this build cannot") != err.npos)
    GTEST_SKIP() << err; // a sanitizer
  for (const char *more : {"", " --accumulation 2", " --in-process", " --threads 2"})
    EXPECT_EQ(train(std::string("--steps 5 --check-allocations --stats %D/stats.json") + more), 0)
        << more << ": " << err;
  Json stats = Json::parse(readText(directory / "stats.json"));
  ASSERT_EQ(stats["memory"].size(), 2u);
  for (const Json &rank : stats["memory"]) {
    EXPECT_EQ(rank["step_allocations"], 0);
    EXPECT_GT(rank["peak_rss_bytes"].get<int64_t>(), 0);
    EXPECT_GT(rank["pss_bytes"].get<int64_t>(), rank["idle_pss_bytes"].get<int64_t>());
    EXPECT_GT(rank["arena_touched_bytes"].get<int64_t>(), 0);
  }
  EXPECT_GT(stats["arena_bytes"].get<int64_t>(), 0);
  EXPECT_EQ(run("%D/train.bundle --data %D/tokens.bin --steps 1 --check-allocations --trace "
                "%D/t.json"),
            2);
}

TEST_F(Training, TraceShowsEntriesStepsAndTickets) {
  TrainingSetup setup;
  setup.isGathered = true;
  write(setup);
  ASSERT_EQ(train("--steps 3 --accumulation 2 --trace %D/t.json"), 0) << err;
  std::map<std::pair<int, std::string>, int> entries, names;
  std::map<std::pair<int, int>, double> ends; // of the events of a track, which do not overlap
  std::vector<Json> events = Json::parse(readText(directory / "t.json"))["traceEvents"];
  std::set<int> runs;
  for (const Json &event : events) {
    if (event["ph"] != "X")
      continue;
    int rank = event["pid"], track = event["tid"];
    double begin = event["ts"], end = begin + event["dur"].get<double>();
    ++names[{track, event["name"]}];
    if (track == 2) {
      ++entries[{rank, event["name"]}];
      continue;
    }
    if (event["args"]["entry"] == "exchange") // before and after the steps
      continue;
    runs.insert(event["args"]["run"].get<int>());
    double &last = ends[{rank, track}];
    EXPECT_GE(begin, last - 0.002) << event;
    last = std::max(last, end);
  }
  for (int rank : {0, 1}) {
    EXPECT_EQ((entries[{rank, "forward_backward"}]), 6);
    EXPECT_EQ((entries[{rank, "finish_grad_sync"}]), 3);
    EXPECT_EQ((entries[{rank, "optimizer_step"}]), 3);
    EXPECT_EQ((entries[{rank, "zero_grad"}]), 3);
  }
  EXPECT_EQ(runs.size(), 15u);
  EXPECT_EQ((names[{1, "all_gather"}]), 2 * 3); // by ticket: behind the computation
  EXPECT_EQ((names[{0, "wait"}]), 2 * 3);
  EXPECT_EQ((names[{0, "reduce_scatter"}]), 2 * 3);
  EXPECT_EQ((names[{0, "test_table_gradient"}]), 2 * 6);
}

TEST_F(Training, OptionsThatDoNotApplyAreRefused) {
  write({});
  sumBundle().write(directory / "sum.bundle");
  EXPECT_EQ(run("%D/sum.bundle -i x=%D/x.npy --data %D/tokens.bin"), 2);
  EXPECT_HAS(err, "--data: ");
  EXPECT_HAS(err, "sum.bundle holds no training program");
  for (const char *option :
       {"--steps 3", "--seed 1", "--check-nan", "--stats s", "--log l", "--learning-rate 1",
        "--accumulation 2", "--token-dtype u16", "--check-allocations"}) {
    EXPECT_EQ(run(std::string("%D/sum.bundle ") + option), 2);
    EXPECT_HAS(err, std::string(option).substr(0, std::string(option).find(' ')) + ": ");
  }
  EXPECT_EQ(train("--steps 2 --bench 3"), 2);
  EXPECT_HAS(err, "--bench: ");
  EXPECT_HAS(err, "holds a training program, which takes --data and --steps");
  EXPECT_EQ(train("--steps 2 --entry step"), 2);
  EXPECT_EQ(run("%D/train.bundle"), 2);
  EXPECT_HAS(err, "a training program needs --data, or a checkpoint to --load");
  EXPECT_EQ(train(""), 2);
  EXPECT_HAS(err, "--data needs --steps");
  EXPECT_EQ(train("--steps 0"), 2);
  EXPECT_HAS(err, "--steps: \"0\" is not a whole number of at least 1");
  EXPECT_EQ(train("--steps 1 --token-dtype i8"), 4);
  EXPECT_HAS(err, "--token-dtype: \"i8\" is not one of u16, u32");
  EXPECT_EQ(run("%D/train.bundle --data %D/tokens.bin --steps 1 --log %D/none/log"), 6);
}

TEST_F(Training, LearningRateIsReplaced) {
  write({});
  ASSERT_EQ(train("--steps 2 --learning-rate 0.125"), 0) << err;
  EXPECT_EQ(log()[1]["learning_rate"], 0.125);
  ASSERT_EQ(train("--steps 2 --learning-rate 0"), 0) << err;
  std::vector<double> frozen = losses();
  ASSERT_EQ(train("--steps 2"), 0) << err;
  EXPECT_EQ(losses()[0], frozen[0]);
  EXPECT_NE(losses()[1], frozen[1]);
}

TEST_F(Training, BadDataIsNamed) {
  write({});
  tokens[30] = 10;
  writeText(directory / "tokens.bin", rawBytes(tokens));
  EXPECT_EQ(train("--steps 20"), 4);
  EXPECT_HAS(err, "tokens.bin: token 10 at position 30 is not in the vocabulary of 10");
  EXPECT_EQ(err.find("rank 1: error"), std::string::npos) << err; // said once
  EXPECT_LT(seconds, 5);
  std::filesystem::remove(directory / "tokens.bin.json");
  EXPECT_EQ(train("--steps 2"), 4);
  EXPECT_HAS(err, "give --token-dtype u16 or u32");
  writeText(directory / "tokens.bin", "abc");
  EXPECT_EQ(train("--steps 2 --token-dtype u16"), 4);
  EXPECT_HAS(err, "3 bytes are no whole number of 2-byte tokens");
  writeText(directory / "tokens.bin", "abcdef");
  EXPECT_EQ(train("--steps 2 --token-dtype u16"), 4);
  EXPECT_HAS(err, "has 3 tokens, a sequence of 3 and its labels need 4");
}

TEST_F(Training, WideTokensAndSmallData) {
  write({});
  ASSERT_EQ(train("--steps 3"), 0) << err;
  std::vector<double> expected = losses();
  writeText(directory / "tokens.bin",
            rawBytes(std::vector<uint32_t>(tokens.begin(), tokens.end())));
  ASSERT_EQ(train("--steps 3 --token-dtype u32"), 0) << err;
  EXPECT_EQ(losses(), expected);
  tokens.resize(4); // one window, again and again
  writeText(directory / "tokens.bin", rawBytes(tokens));
  ASSERT_EQ(train("--steps 3"), 0) << err;
}

TEST_F(Training, NumbersThatAreNotFiniteAreTracedToTheirTensor) {
  for (bool hasPieces : {true, false}) {
    BundleBuilder builder = trainingBundle();
    std::vector<float> bias = {0.25f, std::nanf(""), 1};
    builder.weights["head.bias"].data = rawBytes(bias);
    if (!hasPieces)
      for (const char *key : {"entries", "entry_points"}) {
        Json &list = key == std::string("entries") ? builder.program[key] : builder.manifest[key];
        list = Json::array({list[0]});
      }
    std::filesystem::remove_all(directory / "train.bundle");
    builder.write(directory / "train.bundle");
    EXPECT_EQ(train("--steps 5 --check-nan"), 12);
    EXPECT_HAS(err, "step 1: ");
    EXPECT_HAS(err, hasPieces ? "the gradient of \"" : "the loss is nan; the gradient \"");
    EXPECT_HAS(err, "\" has a number that is not finite on rank ");
    EXPECT_LT(seconds, 5);
    EXPECT_EQ(train("--steps 2"), 0) << err; // nobody asked
    EXPECT_TRUE(log()[0]["loss"].is_null());
  }
}

TEST_F(Training, CountsOfGradientsFitTheirNames) {
  BundleBuilder builder = trainingBundle();
  builder.manifest["training"]["checked_gradients"] = {"table.weight", "head.bias"};
  builder.write(directory / "train.bundle");
  EXPECT_EQ(train("--steps 1"), 3);
  EXPECT_HAS(err,
             "2 gradients are checked, but entry \"step\" has no output \"nonfinite_gradients\"");
  for (Json *list : {&builder.program["entries"][0]["outputs"], &builder.manifest["outputs"]}) {
    Json counts = (*list)[0];
    counts["name"] = "nonfinite_gradients";
    list->push_back(counts);
  }
  std::filesystem::remove_all(directory / "train.bundle");
  builder.write(directory / "train.bundle");
  EXPECT_EQ(train("--steps 1"), 3);
  EXPECT_HAS(err, "output \"nonfinite_gradients\" is f32 [] on a rank, for 2 checked gradients f32 "
                  "[128] is wanted");
}

TEST_F(Training, MissingEntriesAreNamed) {
  BundleBuilder builder = trainingBundle();
  for (Json *list : {&builder.program["entries"], &builder.manifest["entry_points"]})
    list->erase(2); // finish_grad_sync
  builder.write(directory / "train.bundle");
  EXPECT_EQ(train("--steps 2"), 0) << err;
  EXPECT_EQ(train("--steps 2 --accumulation 2"), 2);
  EXPECT_HAS(err, "accumulation over 2 micro-batches needs the entry point \"finish_grad_sync\"");
}

TEST_F(Training, LogThatCannotBeWrittenEndsTheJob) {
  write({});
  EXPECT_EQ(run("%D/train.bundle --data %D/tokens.bin --steps 50 --log /dev/full"), 6);
  EXPECT_HAS(err, "/dev/full: cannot write the log: No space left on device");
  EXPECT_LT(seconds, 5);
}

TEST_F(Training, KilledRankEndsTheJob) {
  TrainingSetup setup;
  setup.dp = 4;
  setup.extraKernel = "test_die";
  write(setup);
  EXPECT_EQ(train("--steps 2"), 9);
  EXPECT_HAS(err, "rank 2 (process ");
  EXPECT_HAS(err, "was killed by signal 9");
  EXPECT_LT(seconds, 10);
}

} // namespace
