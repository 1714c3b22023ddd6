// Whole bundles through the C interface, ranks as threads.
#include "BundleBuilder.h"
#include "shardrt/runtime.h"

#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <thread>

using namespace shardrt_test;

namespace {

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

/// Opens a bundle and runs `body` on every rank with a session of its own; returns the first error.
class Job {
public:
  explicit Job(BundleBuilder builder) {
    builder.write(directory / "b");
    EXPECT_EQ(shardrt_bundle_open((directory / "b").c_str(), nullptr, &bundle), SHARDRT_OK)
        << shardrt_last_error();
  }
  ~Job() { shardrt_bundle_release(bundle); }

  using Body = std::function<shardrt_status(shardrt_session session, int rank)>;
  std::string run(const Body &body) {
    shardrt_bundle_facts facts;
    shardrt_bundle_info(bundle, &facts);
    shardrt_channel_options options = {};
    options.ranks = facts.ranks;
    options.arena_bytes = facts.arena_bytes;
    options.max_groups = facts.max_groups;
    options.timeout_s = 20;
    std::vector<shardrt_channel> channels(facts.ranks);
    shardrt_channel_create_inprocess(&options, channels.data());
    std::vector<std::string> errors(facts.ranks);
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < facts.ranks; ++rank)
      ranks.emplace_back([&, rank] { errors[rank] = runRank(channels[rank], rank, body); });
    for (std::thread &rank : ranks)
      rank.join();
    for (shardrt_channel channel : channels)
      shardrt_channel_release(channel);
    for (const std::string &error : errors)
      if (!error.empty())
        return error;
    return "";
  }

  TemporaryDirectory directory;
  shardrt_session_options options = {};

private:
  std::string runRank(shardrt_channel channel, int rank, const Body &body) {
    shardrt_session session = nullptr;
    if (shardrt_session_create(bundle, channel, &options, &session) != SHARDRT_OK)
      return shardrt_last_error();
    std::string error = body(session, rank) == SHARDRT_OK ? "" : shardrt_last_error();
    shardrt_session_release(session);
    return error;
  }
  shardrt_bundle bundle = nullptr;
};

shardrt_status setFloats(shardrt_session session, const char *name,
                         const std::vector<int64_t> &shape, const std::vector<float> &values) {
  return shardrt_session_set_input(session, name, SHARDRT_F32, shape.data(),
                                   static_cast<int>(shape.size()), values.data());
}

/// On rank 0, the output; elsewhere it takes part.
shardrt_status getFloats(shardrt_session session, const char *name, int rank,
                         std::vector<float> &values) {
  return rank == 0 ? shardrt_session_get_output(session, name, values.data(),
                                                values.size() * sizeof(float))
                   : shardrt_session_get_output(session, name, nullptr, 0);
}

TEST(Session, LaunchAxisIndexAndAllReduce) {
  Job job(sumBundle());
  std::vector<float> out(6);
  std::string error = job.run([&](shardrt_session session, int rank) {
    shardrt_status status = setFloats(session, "x", {6}, {1, 2, 3, 4, 5, 6});
    for (int i = 0; i < 3 && status == SHARDRT_OK; ++i)
      status = shardrt_session_run(session, "main");
    return status == SHARDRT_OK ? getFloats(session, "out", rank, out) : status;
  });
  EXPECT_EQ(error, "");
  EXPECT_EQ(out, (std::vector<float>{604, 608, 612, 616, 620, 624}));
}

/// x [5, 6] split unevenly over both axes of a 2x2 mesh, doubled on two threads, and given back.
TEST(Session, UnevenInputsAndOutputsWithThreadsAndScratch) {
  BundleBuilder builder({{"dp", 2}, {"tp", 2}});
  Json shard = Json::array(
      {Json::array({BundleBuilder::axis(0, 2)}), Json::array({BundleBuilder::axis(1, 2)})});
  int x = builder.buffer("x", "f32", {3, 3}, "input"),
      out = builder.buffer("out", "f32", {3, 3}, "output");
  builder.program["buffers"][x]["bytes"] = 64;
  builder.input("x", x, {5, 5}, shard);
  builder.output("out", out, {5, 5}, shard);
  builder.launch("test_double", {x, out}, 3, 16);
  Job job(builder);
  job.options.threads = 2;
  job.options.pin = 1;
  std::vector<float> values(25), result(25);
  for (int i = 0; i < 25; ++i)
    values[i] = static_cast<float>(i);
  EXPECT_EQ(job.run([&](shardrt_session session, int rank) {
    shardrt_status status = setFloats(session, "x", {5, 5}, values);
    if (status == SHARDRT_OK)
      status = shardrt_session_run(session, nullptr);
    return status == SHARDRT_OK ? getFloats(session, "out", rank, result) : status;
  }),
            "");
  for (int i = 0; i < 25; ++i)
    EXPECT_EQ(result[i], 2.0f * i) << i;
}

/// state += step; one state in place, one in another buffer whose input storage is overwritten
/// during the run.
TEST(Session, OutputsReplaceInputs) {
  BundleBuilder builder({{"tp", 2}});
  Json whole = Json::array({Json::array()});
  int step = builder.buffer("step", "f32", {4}, "input"),
      a = builder.buffer("a", "f32", {4}, "input");
  int b = builder.buffer("b", "f32", {4}, "input"),
      next = builder.buffer("next", "f32", {4}, "output");
  builder.input("step", step, {4}, whole);
  builder.input("a", a, {4}, whole);
  builder.input("b", b, {4}, whole);
  builder.output("a_out", a, {4}, whole, "a");
  builder.output("b_out", next, {4}, whole, "b");
  builder.launch("test_add", {a, step, a}, 1);
  builder.launch("test_add", {b, step, next}, 1);
  builder.command({{"op", "copy"}, {"src", a}, {"dst", b}, {"bytes", 16}}); // the planner reuses b
  builder.command({{"op", "copy"}, {"src", a}, {"dst", step}, {"bytes", 16}});
  Job job(builder);
  std::vector<float> first(4), second(4);
  EXPECT_EQ(job.run([&](shardrt_session session, int rank) {
    shardrt_status status = setFloats(session, "step", {4}, {1, 2, 3, 4});
    if (status == SHARDRT_OK)
      status = setFloats(session, "b", {4}, {10, 10, 10, 10}); // "a" starts as zeros
    for (int i = 0; i < 3 && status == SHARDRT_OK; ++i)
      status = shardrt_session_run(session, "main");
    if (status == SHARDRT_OK)
      status = getFloats(session, "a_out", rank, first);
    return status == SHARDRT_OK ? getFloats(session, "b_out", rank, second) : status;
  }),
            "");
  EXPECT_EQ(first, (std::vector<float>{3, 6, 9, 12}));
  EXPECT_EQ(second, (std::vector<float>{13, 16, 19, 22}));
}

/// Runs that would go beyond a cache's room do not start, whichever entry point they are of.
TEST(Session, FullCachesAreRefused) {
  BundleBuilder builder({{"tp", 2}});
  Json scalar = Json::array();
  int length = builder.buffer("past", "i64", {}, "state");
  for (int64_t step : {3, 1}) {
    if (step == 1)
      builder.beginEntry("one");
    builder.constants += rawBytes<int64_t>({step}) + std::string(56, '\0');
    int constant = builder.buffer("step", "i64", {}, "constant");
    builder.program["constants"].push_back(
        {{"buffer", constant}, {"offset", step == 1 ? 64 : 0}, {"bytes", 8}});
    builder.input("past", length, {}, scalar);
    builder.entry()["inputs"][0]["cache"] = {{"capacity", 5}, {"step", step}};
    builder.output("next", length, {}, scalar, "past");
    builder.command({{"op", "copy"}, {"src", constant}, {"dst", length}, {"bytes", 8}});
  }
  Job job(builder);
  std::string refused;
  EXPECT_EQ(job.run([&](shardrt_session session, int rank) {
    for (const char *entry : {"main", "one", "one"}) // 3, 4, 5 entries
      if (shardrt_status status = shardrt_session_run(session, entry))
        return status;
    if (shardrt_session_run(session, "one") == SHARDRT_BAD_INPUT && rank == 0)
      refused = shardrt_last_error();
    int64_t again = 2;
    shardrt_session_set_input(session, "past", SHARDRT_I64, nullptr, 0, &again);
    return shardrt_session_run(session, "main");
  }),
            "");
  EXPECT_EQ(refused, "the cache \"past\" has room for 5 entries, entry point \"one\" would append "
                     "1 at position 5");
}

/// Entries for two shapes of x: whoever runs without a name gets the one that x fits, and `sum`
/// goes on from one to the other.
TEST(Session, EntriesForSeveralShapes) {
  BundleBuilder builder({{"tp", 2}});
  Json whole = Json::array({Json::array()});
  int sum = builder.buffer("sum", "f32", {4}, "state");
  for (int size : {4, 2}) {
    if (size == 2)
      builder.beginEntry("main@2");
    int x = builder.buffer("x", "f32", {size}, "input");
    builder.input("x", x, {size}, whole);
    builder.input("sum", sum, {4}, whole);
    builder.output("next", sum, {4}, whole, "sum");
    int64_t bytes = 4 * size;
    builder.command({{"op", "copy"}, {"src", x}, {"dst", sum}, {"bytes", bytes}});
  }
  Job job(builder);
  std::vector<float> next(4);
  auto step = [&](const std::vector<float> &x, const char *entry) {
    return job.run([&](shardrt_session session, int rank) {
      shardrt_status status = setFloats(session, "x", {4}, {1, 2, 3, 4});
      if (status == SHARDRT_OK)
        status = shardrt_session_run(session, nullptr);
      if (status == SHARDRT_OK)
        status = setFloats(session, "x", {static_cast<int64_t>(x.size())}, x);
      if (status == SHARDRT_OK)
        status = shardrt_session_run(session, entry);
      return status == SHARDRT_OK ? getFloats(session, "next", rank, next) : status;
    });
  };
  EXPECT_EQ(step({5, 6}, nullptr), "");
  EXPECT_EQ(next, (std::vector<float>{5, 6, 3, 4}));
  EXPECT_EQ(step({5, 6, 7, 8}, nullptr), "");
  EXPECT_EQ(next, (std::vector<float>{5, 6, 7, 8}));
  EXPECT_EQ(step({5, 6, 7}, nullptr),
            "input \"x\" fits no instance: main takes x f32 [4]; main@2 takes "
            "x f32 [2], given f32 [3]");
  EXPECT_EQ(step({5, 6}, "main"), "input \"x\" is [2], entry point \"main\" takes [4]");
  EXPECT_EQ(
      job.run([&](shardrt_session session, int) { return shardrt_session_run(session, nullptr); }),
      "no instance takes the inputs as they are (x not set): main takes x f32 [4]; main@2 takes x "
      "f32 [2]");
}

/// Weights, constants, slice, gather, all_to_all, permute, broadcast and tickets in one program.
TEST(Session, EveryKindOfCommand) {
  BundleBuilder builder({{"tp", 2}});
  Json split = Json::array({Json::array({BundleBuilder::axis(0, 2)})}),
       whole = Json::array({Json::array()});
  int weight = builder.buffer("weight", "f32", {2}, "parameter"),
      constant = builder.buffer("constant", "f32", {4}, "constant");
  int gathered = builder.buffer("gathered", "f32", {4}, "temporary"),
      sum = builder.buffer("sum", "f32", {4}, "temporary");
  int part = builder.buffer("part", "f32", {2}, "temporary"),
      moved = builder.buffer("moved", "f32", {2}, "temporary");
  int turned = builder.buffer("turned", "f32", {2, 1}, "temporary"),
      out = builder.buffer("out", "f32", {2}, "output");
  builder.weights["w"] = {"F32", {3}, rawBytes<float>({1, 2, 3})};
  builder.parameter("w", weight, {3}, split); // rank 1 holds 3 and padding
  builder.constants = rawBytes<float>({10, 20, 30, 40});
  builder.program["constants"] =
      Json::array({{{"buffer", constant}, {"offset", 0}, {"bytes", 16}}});
  int group = builder.group(Json::array({BundleBuilder::axis(0, 2)}));
  auto rows = [&](const char *op, int src, int dst, int total) {
    return Json{{"op", op},   {"group", group}, {"dtype", "f32"}, {"src", src},
                {"dst", dst}, {"outer", 1},     {"inner", 2},     {"total", total}};
  };
  Json gather = rows("all_gather", weight, gathered, 4);
  gather["ticket"] = 5;
  builder.command(gather);
  builder.command({{"op", "wait"}, {"ticket", 5}});
  builder.launch("test_add", {gathered, constant, sum}, 1); // 11 22 33 40
  builder.command(rows("slice", sum, part, 3)); // rank 0: 11 22; rank 1: 33 and zero beyond 3
  builder.command({{"op", "permute"},
                   {"group", group},
                   {"dtype", "f32"},
                   {"src", part},
                   {"dst", moved},
                   {"count", 2},
                   {"pairs", {{0, 1}, {1, 0}}}}); // 33 0 | 11 22
  builder.command({{"op", "all_to_all"},
                   {"group", group},
                   {"dtype", "f32"},
                   {"src", moved},
                   {"dst", turned},
                   {"shape", {1, 2}},
                   {"split_dim", 1},
                   {"concat_dim", 0},
                   {"split_total", 2},
                   {"concat_total", 2}}); // 33 11 | 0 22
  Json reduce = rows("reduce_scatter", sum, part, 4);
  reduce["reduce"] = "sum";
  builder.command(reduce); // 22 44 | 66 80
  builder.launch("test_add", {turned, part, out}, 1);
  builder.output("out", out, {4}, split);
  Job job(builder);
  std::vector<float> result(4);
  EXPECT_EQ(job.run([&](shardrt_session session, int rank) {
    shardrt_status status = shardrt_session_run(session, nullptr);
    return status == SHARDRT_OK ? getFloats(session, "out", rank, result) : status;
  }),
            "");
  EXPECT_EQ(result, (std::vector<float>{55, 55, 66, 102}));
}

/// Entries share an input; their outputs lie in the same place of the arena.
TEST(Session, EntriesShareInputsAndStorage) {
  BundleBuilder builder({{"tp", 2}});
  Json whole = Json::array({Json::array()});
  int x = builder.buffer("x", "f32", {4}, "input"), y = builder.buffer("y", "f32", {4}, "output"),
      z = builder.buffer("z", "f32", {4}, "input"), w = builder.buffer("w", "f32", {4}, "output");
  builder.program["buffers"][z]["offset"] = builder.program["buffers"][y]["offset"];
  builder.program["buffers"][w]["offset"] = builder.program["buffers"][x]["offset"];
  builder.input("x", x, {4}, whole);
  builder.output("y", y, {4}, whole);
  builder.launch("test_add", {x, x, y}, 1);
  builder.beginEntry("more");
  builder.input("x", z, {4}, whole);
  builder.output("w", w, {4}, whole, "x"); // x is 2 x from now on, for both
  builder.launch("test_add", {z, z, w}, 1);
  Job job(builder);
  std::vector<float> y1(4), w1(4), y2(4);
  EXPECT_EQ(job.run([&](shardrt_session session, int rank) {
    shardrt_status status = setFloats(session, "x", {4}, {1, 2, 3, 4});
    auto step = [&](const char *entry, const char *output, std::vector<float> &values) {
      if (status == SHARDRT_OK)
        status = shardrt_session_run(session, entry);
      if (status == SHARDRT_OK)
        status = getFloats(session, output, rank, values);
    };
    step(nullptr, "y", y1);
    step("more", "w", w1);
    step("main", "y", y2);
    return status;
  }),
            "");
  EXPECT_EQ(y1, (std::vector<float>{2, 4, 6, 8}));
  EXPECT_EQ(w1, (std::vector<float>{2, 4, 6, 8}));
  EXPECT_EQ(y2, (std::vector<float>{4, 8, 12, 16}));
  EXPECT_HAS(job.run([&](shardrt_session session, int rank) {
    shardrt_status status = setFloats(session, "x", {4}, {1, 2, 3, 4});
    if (status == SHARDRT_OK)
      status = shardrt_session_run(session, "more");
    return status == SHARDRT_OK ? getFloats(session, "y", rank, y1) : status;
  }),
             "output \"y\" belongs to entry point \"main\", \"more\" was the last to run");
}

TEST(Session, WrongUse) {
  Job job(sumBundle());
  auto set = [](const char *name, shardrt_dtype dtype, int64_t size) {
    return [=](shardrt_session session, int) {
      return shardrt_session_set_input(session, name, dtype, &size, 1,
                                       std::vector<double>(8).data());
    };
  };
  EXPECT_HAS(job.run(set("y", SHARDRT_F32, 6)), "the model has no input \"y\"");
  EXPECT_HAS(job.run(set("x", SHARDRT_F32, 7)), "input \"x\" is f32 [6], given f32 [7]");
  EXPECT_HAS(job.run(set("x", SHARDRT_I32, 6)), "given i32 [6]");
  EXPECT_HAS(
      job.run([](shardrt_session session, int) { return shardrt_session_run(session, "main"); }),
      "input \"x\" was not set");
  EXPECT_HAS(
      job.run([](shardrt_session session, int) { return shardrt_session_run(session, "step"); }),
      "no entry point \"step\"");
}

TEST(Session, KernelLibrariesAreChecked) {
  BundleBuilder builder = sumBundle();
  builder.kernelFile = SHARDRT_WRONG_ABI_KERNELS;
  auto nothing = [](shardrt_session, int) { return SHARDRT_OK; };
  EXPECT_HAS(Job(builder).run(nothing),
             "kernels have ABI \"shardrt-99\", this runtime calls \"shardrt-1\"");
  builder = sumBundle();
  builder.program["kernels"][0] = "test_none";
  EXPECT_HAS(Job(builder).run(nothing), "kernel \"test_none\" is missing");
}

TEST(Session, WeightsComeFromElsewhere) {
  BundleBuilder builder({{"tp", 1}});
  int weight = builder.buffer("weight", "f32", {4}, "parameter"),
      out = builder.buffer("out", "f32", {4}, "output");
  builder.parameter("w", weight, {4}, Json::array({Json::array()}));
  builder.output("out", out, {4}, Json::array({Json::array()}));
  builder.launch("test_add", {weight, weight, out}, 1);
  Job job(builder);
  auto body = [&](shardrt_session session, int) { return shardrt_session_run(session, nullptr); };
  EXPECT_HAS(job.run(body), "holds neither a .safetensors file nor an index");
  std::string path = job.directory / "other.safetensors";
  writeText(path, safetensorsText({{"w", {"F32", {4}, rawBytes<float>({1, 2, 3, 4})}}}));
  job.options.weights = path.c_str();
  EXPECT_EQ(job.run(body), "");
}

TEST(Session, TraceHasEveryCommandOfEveryRank) {
  Job job(sumBundle());
  job.options.trace = 1;
  std::string path = job.directory / "trace.json";
  EXPECT_EQ(job.run([&](shardrt_session session, int) {
    shardrt_status status = setFloats(session, "x", {6}, std::vector<float>(6));
    if (status == SHARDRT_OK)
      status = shardrt_session_run(session, nullptr);
    return status == SHARDRT_OK ? shardrt_session_write_trace(session, path.c_str()) : status;
  }),
            "");
  std::map<std::pair<int, std::string>, int> seen;
  const Json trace = Json::parse(readText(path));
  for (const Json &event : trace["traceEvents"])
    if (event["ph"] == "X")
      ++seen[{event["pid"], event["name"]}];
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ((seen[{rank, "test_add_index"}]), 1);
    EXPECT_EQ((seen[{rank, "all_reduce"}]), 1);
  }
}

} // namespace
