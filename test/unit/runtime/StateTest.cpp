// Buckets and states: what is refused, where elements lie, and how weights come into them.
#include "TrainingBundle.h"
#include "runtime/core/BucketRuns.h"
#include "runtime/core/Convert.h"
#include "runtime/core/Error.h"
#include "runtime/core/ParameterLoader.h"
#include "runtime/core/ProgramReader.h"
#include "shardrt/runtime.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>

using namespace shardrt;
using namespace shardrt_test;

namespace {

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

TEST(States, SeedsOfTheFuzzerAreValid) {
  Mesh mesh{{{"dp", 2}, {"tp", 4}}};
  for (const char *name : {"program", "training_program", "cuda_program"}) {
    std::string text = readText(std::string(SHARDRT_SEEDS "/") + name);
    ASSERT_FALSE(text.empty()) << name;
    Program program = readProgram(std::string_view(text).substr(1), name, mesh, 4096);
    EXPECT_EQ(program.isTraining(), std::string(name) == "training_program");
  }
}

struct Damage {
  const char *what;
  std::function<void(Json &program)> apply;
  const char *message;
};

const Damage damages[] = {
    {"role", [](Json &p) { p["states"][0]["role"] = "weights"; },
     "states[0].role: unknown role \"weights\""},
    {"twice", [](Json &p) { p["states"][1]["name"] = "parameters"; },
     "states[1].name: state \"parameters\" appears twice"},
    {"two of a role", [](Json &p) { p["states"][1]["role"] = "parameter"; },
     "states[1]: bucket \"table\" has two states of role parameter"},
    {"no bucket", [](Json &p) { p["states"][1]["bucket"] = nullptr; },
     "state \"momentum\" of role momentum has no bucket"},
    {"bucket", [](Json &p) { p["states"][1]["bucket"] = 1; },
     "states[1].bucket: bucket 1 does not exist, there are 1"},
    {"whole", [](Json &p) { p["states"][0]["shard"] = Json::array(); },
     "buffer \"parameters\" has 64 elements, the whole of bucket \"table\" has 128"},
    {"shard", [](Json &p) { p["states"][3]["shard"] = p["buckets"][0]["shard"]; },
     "buffer \"gradients\" has 128 elements, a shard of bucket \"table\" has 64"},
    {"axes", [](Json &p) { p["states"][3]["shard"] = 1; },
     "states[3].shard: expected an array, found number"},
    {"other axes",
     [](Json &p) {
       p["states"][0]["shard"][0]["axis"] = 1;
       p["states"][0]["shard"][0]["size"] = 1;
     },
     "states[0].shard: state \"parameters\" is not cut over the first axes of bucket \"table\""},
    {"kind", [](Json &p) { p["buffers"][0]["kind"] = "temporary"; },
     "buffer \"parameters\" is not of kind state"},
    {"type", [](Json &p) { p["buffers"][0]["dtype"] = "i32"; },
     "buffer \"parameters\" is i32, bucket \"table\" is f32"},
    {"length", [](Json &p) { p["buckets"][0]["length"] = 127; },
     "length 127 of bucket \"table\" is not a multiple of its 2 shards"},
    {"beyond", [](Json &p) { p["buckets"][0]["items"][1]["offset"] = 126; },
     "\"head.bias\" at 126 with 3 elements ends beyond the bucket of 128"},
    {"overflow", [](Json &p) { p["buckets"][0]["items"][1]["offset"] = INT64_MAX; },
     "ends beyond the bucket of 128"},
    {"overlap", [](Json &p) { p["buckets"][0]["items"][1]["offset"] = 9; },
     "\"head.bias\" begins at 9, \"table.weight\" ends at 10"},
    {"item type", [](Json &p) { p["buckets"][0]["items"][1]["dtype"] = "i8"; },
     "\"head.bias\" is i8, which does not convert to the bucket's f32"},
    {"axis", [](Json &p) { p["buckets"][0]["items"][1]["shard"][0] = p["buckets"][0]["shard"]; },
     "\"head.bias\" and the bucket \"table\" are both sharded over axis \"dp_shard\""},
    {"one tensor", [](Json &p) { p["buckets"][0]["items"][1]["tensor"] = "table.weight"; },
     "\"table.weight\" in bucket \"table\" overlaps its part in bucket \"table\""},
    {"segments",
     [](Json &p) {
       Json &items = p["buckets"][0]["items"];
       items[1]["tensor"] = "table.weight";
       items[1]["segment"] = {{"dim", 0}, {"offset", 9}, {"size", 3}};
       items[0]["segment"] = {{"dim", 0}, {"offset", 0}, {"size", 10}};
     },
     "overlaps its part in bucket"},
    {"segment type",
     [](Json &p) {
       Json &items = p["buckets"][0]["items"];
       items[1]["tensor"] = "table.weight";
       items[1]["segment"] = {{"dim", 0}, {"offset", 10}, {"size", 3}};
       items[0]["segment"] = {{"dim", 0}, {"offset", 0}, {"size", 10}};
       items[1]["dtype"] = "bf16";
     },
     "\"table.weight\" has segments [3] bf16 and [10] f32, which are not of one tensor"},
    {"results", [](Json &p) { p["entries"][0]["commands"][2]["results"] = 9; },
     "9 results of 8 buffers"},
};

TEST(States, DamageIsNamed) {
  const Mesh mesh{{{"dp_shard", 2}, {"tp", 1}}};
  for (const Damage &damage : damages) {
    SCOPED_TRACE(damage.what);
    Json program = trainingBundle().program;
    EXPECT_NO_THROW(readProgram(program.dump(), "p", mesh, 48));
    damage.apply(program);
    try {
      readProgram(program.dump(), "p", mesh, 48);
      ADD_FAILURE() << "accepted";
    } catch (const Error &error) {
      EXPECT_HAS(error.what(), damage.message);
    }
  }
}

TEST(States, ConversionRoundsToNearestEven) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> values = {0,     -1.5f,  1.00390625f, 1.01171875f,   65504,     65520,
                               6e-8f, -3e-8f, inf,         std::nanf(""), 3.3895e38f};
  auto through = [&](DType dtype) {
    std::vector<std::byte> narrow(values.size() * 2);
    std::vector<float> result(values.size());
    convert(SHARDRT_F32, reinterpret_cast<const std::byte *>(values.data()), dtype, narrow.data(),
            static_cast<int64_t>(values.size()));
    convert(dtype, narrow.data(), SHARDRT_F32, reinterpret_cast<std::byte *>(result.data()),
            static_cast<int64_t>(values.size()));
    return result;
  };
  std::vector<float> bf16 = through(SHARDRT_BF16), f16 = through(SHARDRT_F16);
  EXPECT_EQ(bf16[1], -1.5f);
  EXPECT_EQ(bf16[2], 1.0f);      // a tie, to the even neighbour
  EXPECT_EQ(bf16[3], 1.015625f); // a tie, upwards
  EXPECT_EQ(bf16[8], inf);
  EXPECT_TRUE(std::isnan(bf16[9]));
  EXPECT_EQ(bf16[10], 0x1.fep127f);
  EXPECT_EQ(f16[2], 1.00390625f);
  EXPECT_EQ(f16[4], 65504.0f);
  EXPECT_EQ(f16[5], inf); // halfway beyond the largest
  EXPECT_EQ(f16[6], 0x1p-24f);
  EXPECT_EQ(f16[7], -0x1p-24f);
  EXPECT_TRUE(std::isnan(f16[9]));
  EXPECT_EQ(findNonFinite(SHARDRT_F32, reinterpret_cast<std::byte *>(values.data()), 8), -1);
  EXPECT_EQ(findNonFinite(SHARDRT_F32, reinterpret_cast<std::byte *>(values.data()), 11), 8);
}

/// What a rank's state must hold, made with other means: the tensor's local slice, laid into the
/// whole bucket, of which the rank takes its part.
std::vector<float> expectedState(const Mesh &mesh, int rank, const Bucket &bucket,
                                 const SubAxes &shard,
                                 const std::map<std::string, std::pair<Shape, float>> &tensors) {
  std::vector<float> all(bucket.length);
  for (const BucketItem &item : bucket.items) {
    const auto &[whole, first] = tensors.at(item.tensor);
    std::vector<float> values(*checkedCount(whole));
    std::iota(values.begin(), values.end(), first);
    Shape strides = rowMajorStrides(whole);
    int64_t skip = item.segment.dim < 0 ? 0 : item.segment.offset * strides[item.segment.dim];
    copyToLocal(slicesOf(mesh, rank, item.shape, item.sharding), strides, 4,
                reinterpret_cast<std::byte *>(values.data() + skip),
                reinterpret_cast<std::byte *>(all.data() + item.offset));
  }
  int64_t part = bucket.length / sizeOf(shard), index = mesh.indexAlong(rank, shard);
  return {all.begin() + index * part, all.begin() + (index + 1) * part};
}

/// Three buckets on replicate × shard × tp, with uneven slices, a scalar, segments, parts that
/// cut through rows, and replicas that share shards.
struct Layout2 {
  Mesh mesh{{{"dp_replicate", 2}, {"dp_shard", 4}, {"tp", 2}}};
  std::map<std::string, std::pair<Shape, float>> tensors = {{"a", {{7, 5}, 1000}},
                                                            {"b", {{4, 3, 5}, 2000}},
                                                            {"scale", {{}, 3000}},
                                                            {"c", {{3, 20}, 5000}},
                                                            {"qkv", {{9, 4}, 4000}}};
  std::vector<Bucket> buckets;
  Layout2() {
    SubAxes tp = {{2, 1, 2}}, shard = {{1, 1, 4}}, half = {{1, 2, 2}},
            both = {{1, 1, 4}, {0, 1, 2}};
    Segment none{-1, 0, 0};
    buckets.push_back({"first",
                       SHARDRT_F32,
                       128,
                       shard,
                       {{"a", SHARDRT_F32, {7, 5}, none, {tp, {}}, 0},
                        {"b", SHARDRT_F32, {4, 3, 5}, none, {{}, {}, tp}, 20},
                        {"scale", SHARDRT_F32, {}, none, {}, 100}}});
    buckets.push_back({"second",
                       SHARDRT_F32,
                       64,
                       half,
                       {{"qkv", SHARDRT_F32, {6, 4}, {0, 0, 6}, {{}, {tp}}, 4},
                        {"qkv", SHARDRT_F32, {3, 4}, {0, 6, 3}, {{tp}, {}}, 30}}});
    buckets.push_back(
        {"third", SHARDRT_F32, 64, both, {{"c", SHARDRT_F32, {3, 20}, none, {{}, tp}, 3}}});
  }
  /// The first axes of a bucket's.
  SubAxes cut(int bucket, size_t axes) const {
    const SubAxes &all = buckets[bucket].shard;
    return {all.begin(), all.begin() + std::min(axes, all.size())};
  }
};

TEST(States, WeightsAreLoadedItemByItem) {
  Layout2 layout;
  TemporaryDirectory directory;
  std::map<std::string, Tensor> file;
  for (const auto &[name, tensor] : layout.tensors) {
    std::vector<float> values(*checkedCount(tensor.first));
    std::iota(values.begin(), values.end(), tensor.second);
    file[name] = {"F32", tensor.first, rawBytes(values)};
  }
  writeText(directory / "w.safetensors", safetensorsText(file));
  WeightFiles weights(directory / "w.safetensors");
  for (size_t axes : {0, 1, 2})
    for (int rank = 0; rank < 16; ++rank) {
      Program program;
      program.buckets = layout.buckets;
      int64_t at = 0;
      for (int b = 0; b < 3; ++b) {
        SubAxes cut = layout.cut(b, axes);
        int64_t count = heldLength(layout.buckets[b], cut);
        program.buffers.push_back(
            {"state", SHARDRT_F32, {count}, at * 4, count * 4, BufferKind::State});
        program.states.push_back({"state" + std::to_string(b), b, StateRole::Parameter, b, cut});
        at += count;
      }
      std::vector<float> arena(at);
      HostMemory memory(reinterpret_cast<std::byte *>(arena.data()));
      loadStates(program, layout.mesh, rank, weights, memory);
      for (int b = 0; b < 3; ++b) {
        std::vector<float> expected = expectedState(layout.mesh, rank, layout.buckets[b],
                                                    layout.cut(b, axes), layout.tensors);
        EXPECT_EQ(std::vector<float>(arena.begin() + program.buffers[b].offset / 4,
                                     arena.begin() + program.buffers[b].offset / 4 +
                                         static_cast<int64_t>(expected.size())),
                  expected)
            << "rank " << rank << " bucket " << b;
      }
    }
}

/// The owners' runs cover every element of every tensor exactly once.
TEST(States, EveryElementHasOneOwner) {
  Layout2 layout;
  for (size_t axes : {0, 1, 2}) {
    std::map<std::string, std::vector<int>> owners;
    for (const auto &[name, tensor] : layout.tensors)
      owners[name].resize(*checkedCount(tensor.first));
    for (int rank = 0; rank < 16; ++rank)
      for (int b = 0; b < 3; ++b)
        for (const BucketItem &item : layout.buckets[b].items)
          if (ownsItem(layout.mesh, rank, item, layout.cut(b, axes)))
            for (const BucketRun &run :
                 bucketRuns(layout.mesh, rank, layout.buckets[b], item, layout.cut(b, axes),
                            layout.tensors[item.tensor].first))
              for (int64_t i = 0; i < run.count; ++i)
                ++owners[item.tensor][run.tensor + i];
    for (const auto &[name, counts] : owners)
      EXPECT_EQ(counts, std::vector<int>(counts.size(), 1)) << name;
  }
}

TEST(States, RowsThatTouchAreOneRun) {
  Mesh mesh{{{"dp", 2}, {"tp", 1}}};
  Bucket bucket{"b", SHARDRT_F32, 64, {{0, 1, 2}}, {}};
  BucketItem item{"w", SHARDRT_F32, {6, 10}, {-1, 0, 0}, {{}, {}}, 2};
  std::vector<BucketRun> runs = bucketRuns(mesh, 1, bucket, item, bucket.shard, {6, 10});
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].state, 0);
  EXPECT_EQ(runs[0].tensor, 30);
  EXPECT_EQ(runs[0].count, 30);
}

std::string sessionError(const BundleBuilder &given) {
  BundleBuilder builder = given;
  TemporaryDirectory directory;
  builder.write(directory / "b");
  shardrt_bundle bundle = nullptr;
  EXPECT_EQ(shardrt_bundle_open((directory / "b").c_str(), nullptr, &bundle), SHARDRT_OK)
      << shardrt_last_error();
  shardrt_bundle_facts facts;
  shardrt_bundle_info(bundle, &facts);
  shardrt_channel_options options = {};
  options.ranks = facts.ranks;
  options.arena_bytes = facts.arena_bytes;
  options.max_groups = facts.max_groups;
  std::vector<shardrt_channel> channels(facts.ranks);
  shardrt_channel_create_inprocess(&options, channels.data());
  shardrt_session session = nullptr;
  EXPECT_EQ(shardrt_session_create(bundle, channels[0], nullptr, &session), SHARDRT_BAD_WEIGHTS);
  std::string error = shardrt_last_error();
  for (shardrt_channel channel : channels)
    shardrt_channel_release(channel);
  shardrt_bundle_release(bundle);
  return error;
}

TEST(States, WeightsThatDoNotFitAreListed) {
  BundleBuilder builder = trainingBundle();
  builder.weights.erase("head.bias");
  builder.weights["table.weight"] = {"F32", {9}, rawBytes(std::vector<float>(9))};
  std::string error = sessionError(builder);
  EXPECT_HAS(error, "2 of 2 weights do not fit");
  EXPECT_HAS(error, "\"table.weight\" has shape [9], the program wants [10]");
  EXPECT_HAS(error, "\"head.bias\" is missing");
  builder = trainingBundle();
  builder.weights["head.bias"] = {"I32", {3}, rawBytes(std::vector<int>(3))};
  EXPECT_HAS(sessionError(builder), "\"head.bias\" has dtype I32, which does not convert to f32");
}

} // namespace
