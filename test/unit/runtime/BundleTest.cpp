// Damaged and contradictory bundles: each is refused with the file, the key and the numbers.
#include "BundleBuilder.h"
#include "runtime/cpu/IsaLevel.h"
#include "shardrt/runtime.h"

#include <filesystem>
#include <functional>
#include <gtest/gtest.h>

using namespace shardrt_test;
using shardrt::chooseIsaLevel;
using shardrt::cpuRuns;

namespace {

std::string openError(const std::string &path, const char *isa = nullptr,
                      int status = SHARDRT_BAD_BUNDLE) {
  shardrt_bundle bundle = nullptr;
  shardrt_status actual = shardrt_bundle_open(path.c_str(), isa, &bundle);
  if (actual == SHARDRT_OK)
    shardrt_bundle_release(bundle);
  EXPECT_EQ(actual, status) << shardrt_last_error();
  return actual == SHARDRT_OK ? "" : shardrt_last_error();
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

TEST(Bundle, Opens) {
  TemporaryDirectory directory;
  sumBundle().write(directory / "b");
  shardrt_bundle bundle;
  ASSERT_EQ(shardrt_bundle_open((directory / "b").c_str(), nullptr, &bundle), SHARDRT_OK)
      << shardrt_last_error();
  shardrt_bundle_facts facts;
  shardrt_bundle_info(bundle, &facts);
  EXPECT_STREQ(facts.model, "test model");
  EXPECT_EQ(facts.ranks, 4);
  shardrt_value_facts value;
  ASSERT_EQ(shardrt_bundle_input(bundle, 0, 0, &value), SHARDRT_OK);
  EXPECT_STREQ(value.name, "x");
  EXPECT_EQ(value.bytes, 24u);
  EXPECT_EQ(shardrt_bundle_output(bundle, 0, 1, &value), SHARDRT_INVALID_ARGUMENT);
  shardrt_bundle_release(bundle);
}

/// One way to damage a bundle, and what must be said about it.
struct Damage {
  const char *what;
  std::function<void(BundleBuilder &)> apply;
  const char *message;
};

const Damage damages[] = {
    {"major", [](BundleBuilder &b) { b.manifest["format"]["major"] = 2; },
     "manifest.json: format: bundle format 2.0, this runtime reads format 1.x"},
    {"ranks", [](BundleBuilder &b) { b.manifest["ranks"] = 5; },
     "ranks: 5 ranks, but the mesh has 4"},
    {"mesh", [](BundleBuilder &b) { b.manifest.erase("mesh"); }, "key \"mesh\" is missing"},
    {"huge mesh", [](BundleBuilder &b) { b.manifest["mesh"]["axes"][0]["size"] = 1 << 20; },
     "above the largest"},
    {"escape", [](BundleBuilder &b) { b.manifest["kernels"][0]["file"] = "../k.so"; },
     "is not a path inside the bundle"},
    {"arena", [](BundleBuilder &b) { b.manifest["memory"]["arena_bytes"] = 5; },
     "memory.arena_bytes is 5, program.json has an arena of 256"},
    {"version", [](BundleBuilder &b) { b.program["version"] = 1; },
     "program.json: version: version 1, this runtime reads version 2; compile the model again"},
    {"no entry", [](BundleBuilder &b) { b.program["entries"] = Json::array(); },
     "entries: there is no entry"},
    {"entry twice",
     [](BundleBuilder &b) { b.program["entries"].push_back(b.program["entries"][0]); },
     "entries[1].name: entry \"main\" appears twice"},
    {"entry points", [](BundleBuilder &b) { b.manifest["entry_points"] = {"main", "step"}; },
     "entry_points are main, step, program.json has the entries main"},
    {"same input",
     [](BundleBuilder &b) {
       Json entry = b.program["entries"][0];
       entry["name"] = "step";
       entry["inputs"][0]["dtype"] = "i32";
       b.program["entries"].push_back(entry);
     },
     "entries[1].inputs: input \"x\" is i32 [6], in entry \"main\" it is f32 [6]"},
    {"cache of another type",
     [](BundleBuilder &b) {
       b.program["entries"][0]["inputs"][0]["cache"] = {{"capacity", 4}, {"step", 1}};
     },
     "entries[0].inputs[0].cache: the length of a cache is i64 [], \"x\" is f32 [6]"},
    {"input that stays",
     [](BundleBuilder &b) {
       Json entry = b.program["entries"][0];
       b.program["buffers"][0]["kind"] = "state";
       entry["name"] = "step";
       entry["inputs"][0]["shape"] = Json::array({5});
       b.program["entries"].push_back(entry);
     },
     "entries[1].inputs: input \"x\" is f32 [5], in entry \"main\" it is f32 [6]"},
    {"input that stays elsewhere",
     [](BundleBuilder &b) {
       int other = b.buffer("x", "f32", {8}, "state");
       Json entry = b.program["entries"][0];
       entry["name"] = "step";
       entry["inputs"][0]["buffer"] = other;
       b.program["entries"].push_back(entry);
     },
     "entries[1].inputs: input \"x\" stays between runs in buffer"},
    {"offset", [](BundleBuilder &b) { b.program["buffers"][0]["offset"] = 8; },
     "buffers[0].offset: offset 8 of buffer \"x\" is not a multiple of 64"},
    {"range", [](BundleBuilder &b) { b.program["buffers"][2]["offset"] = 256; },
     "buffers[2]: buffer \"shifted\" at offset 256 with 64 bytes ends beyond the arena of 256 "
     "bytes"},
    {"negative", [](BundleBuilder &b) { b.program["buffers"][2]["offset"] = -64; },
     "-64 is below the smallest allowed value 0"},
    {"overflow",
     [](BundleBuilder &b) {
       b.program["buffers"][0]["shape"] = Json::array({1ll << 40, 1ll << 40});
     },
     "more elements than a 64-bit integer"},
    {"fraction", [](BundleBuilder &b) { b.program["buffers"][0]["bytes"] = 64.5; },
     "expected an integer, found number"},
    {"too small", [](BundleBuilder &b) { b.program["buffers"][0]["shape"] = Json::array({17}); },
     "buffer \"x\" has 64 bytes, its f32 [17] needs 68"},
    {"kind", [](BundleBuilder &b) { b.program["buffers"][0]["kind"] = "thing"; },
     "unknown buffer kind \"thing\""},
    {"dtype", [](BundleBuilder &b) { b.program["buffers"][0]["dtype"] = "f8"; },
     "unknown dtype \"f8\""},
    {"overlap", [](BundleBuilder &b) { b.program["buffers"][1]["offset"] = 0; }, "overlaps buffer"},
    {"input buffer", [](BundleBuilder &b) { b.entry()["inputs"][0]["buffer"] = 4; },
     "entries[0].inputs[0].buffer: buffer 4 does not exist, there are 4"},
    {"input size", [](BundleBuilder &b) { b.entry()["inputs"][0]["shape"] = Json::array({100}); },
     "x needs 400 bytes, buffer 0 \"x\" has 64"},
    {"twice", [](BundleBuilder &b) { b.entry()["inputs"].push_back(b.entry()["inputs"][0]); },
     "\"x\" appears twice"},
    {"shard rank", [](BundleBuilder &b) { b.entry()["inputs"][0]["shard"] = Json::array(); },
     "sharding has 0 dimensions, the tensor has 1"},
    {"sub-axis",
     [](BundleBuilder &b) {
       b.entry()["inputs"][0]["shard"][0] = Json::array({BundleBuilder::axis(0, 3)});
     },
     "pre 1 times size 3 does not divide axis \"tp\" of size 4"},
    {"axis twice",
     [](BundleBuilder &b) {
       b.entry()["inputs"][0]["shard"][0] = {BundleBuilder::axis(0, 4), BundleBuilder::axis(0, 2)};
     },
     "uses a part of axis \"tp\" twice"},
    {"alias", [](BundleBuilder &b) { b.entry()["outputs"][0]["alias"] = "y"; },
     "entries[0].outputs[0].alias: input \"y\" does not exist"},
    {"constant",
     [](BundleBuilder &b) {
       b.program["constants"] = Json::array({{{"buffer", 2}, {"offset", 0}, {"bytes", 8}}});
     },
     "constant at offset 0 with 8 bytes ends beyond constants.bin of 0 bytes"},
    {"command", [](BundleBuilder &b) { b.entry()["commands"][0]["op"] = "jump"; },
     "entries[0].commands[0].op: unknown command \"jump\""},
    {"kernel", [](BundleBuilder &b) { b.entry()["commands"][0]["kernel"] = 1; },
     "kernel 1 does not exist, there are 1"},
    {"launch buffer", [](BundleBuilder &b) { b.entry()["commands"][0]["buffers"][1] = -1; },
     "entries[0].commands[0].buffers[1]: buffer -1 does not exist, there are 4"},
    {"group", [](BundleBuilder &b) { b.entry()["commands"][1]["group"] = 1; },
     "entries[0].commands[1].group: group 1 does not exist, there are 1"},
    {"count", [](BundleBuilder &b) { b.entry()["commands"][1]["count"] = 17; },
     "entries[0].commands[1].src: the command touches 68 bytes, buffer 2 \"shifted\" has 64"},
    {"reduce", [](BundleBuilder &b) { b.entry()["commands"][1]["reduce"] = "mean"; },
     "unknown reduction \"mean\""},
    {"never waited", [](BundleBuilder &b) { b.entry()["commands"][1]["ticket"] = 3; },
     "entries[0].commands[1]: ticket 3 is never waited for"},
    {"not started", [](BundleBuilder &b) { b.command({{"op", "wait"}, {"ticket", 0}}); },
     "entries[0].commands[2]: ticket 0 is not under way"},
    {"gather rows",
     [](BundleBuilder &b) {
       b.command({{"op", "all_gather"},
                  {"group", 0},
                  {"dtype", "f32"},
                  {"src", 0},
                  {"dst", 3},
                  {"outer", 1},
                  {"inner", 1},
                  {"total", 5}});
     },
     "4 ranks of 1 do not cover 5"},
    {"gather onto itself",
     [](BundleBuilder &b) {
       b.command({{"op", "all_gather"},
                  {"group", 0},
                  {"dtype", "f32"},
                  {"src", 3},
                  {"dst", 3},
                  {"outer", 1},
                  {"inner", 2},
                  {"total", 8}});
     },
     "overlap"},
    {"permute twice",
     [](BundleBuilder &b) {
       b.command({{"op", "permute"},
                  {"group", 0},
                  {"dtype", "f32"},
                  {"src", 0},
                  {"dst", 3},
                  {"count", 1},
                  {"pairs", {{0, 1}, {2, 1}}}});
     },
     "rank 1 receives twice"},
    {"all_to_all",
     [](BundleBuilder &b) {
       b.command({{"op", "all_to_all"},
                  {"group", 0},
                  {"dtype", "f32"},
                  {"src", 0},
                  {"dst", 3},
                  {"shape", {4, 2}},
                  {"split_dim", 0},
                  {"concat_dim", 1},
                  {"split_total", 4},
                  {"concat_total", 4}});
     },
     "a group of 4 needs 1 to make 4"}};

TEST(Bundle, DamageIsNamed) {
  for (const Damage &damage : damages) {
    SCOPED_TRACE(damage.what);
    TemporaryDirectory directory;
    BundleBuilder builder = sumBundle();
    builder.manifest["memory"] = {{"arena_bytes", builder.program["arena"]["bytes"]}};
    damage.apply(builder);
    builder.write(directory / "b");
    EXPECT_HAS(openError(directory / "b"), damage.message);
  }
}

TEST(Bundle, ViewsOfLoadedBuffersAreAllowed) {
  TemporaryDirectory directory;
  BundleBuilder builder = sumBundle();
  builder.program["buffers"].push_back({{"name", "view"},
                                        {"dtype", "i64"},
                                        {"shape", {1}},
                                        {"offset", 64},
                                        {"bytes", 8},
                                        {"kind", "temporary"}});
  builder.write(directory / "b");
  EXPECT_EQ(openError(directory / "b", nullptr, SHARDRT_OK), "");
}

TEST(Bundle, MissingAndChangedFiles) {
  TemporaryDirectory directory;
  std::string path = directory / "b";
  EXPECT_HAS(openError(path), "cannot open bundle: No such file");
  std::filesystem::create_directory(path);
  EXPECT_HAS(openError(path), "not a bundle, manifest.json is missing");
  sumBundle().write(path);
  EXPECT_HAS(openError(path + "/manifest.json"), "a bundle is a directory, or a zip file of one");
  std::string program = readText(path + "/program.json");
  writeText(path + "/program.json", program.substr(1));
  EXPECT_HAS(openError(path), "program.json: has " + std::to_string(program.size() - 1) +
                                  " bytes, manifest.json says " + std::to_string(program.size()));
  std::string changed = program;
  changed[program.size() / 2] ^= 1;
  writeText(path + "/program.json", changed);
  EXPECT_HAS(openError(path), "program.json: sha256 is ");
  std::filesystem::remove(path + "/program.json");
  EXPECT_HAS(openError(path), "program.json: listed in manifest.json, but missing");
  writeText(path + "/manifest.json", "{\"format\": ");
  EXPECT_HAS(openError(path), "manifest.json: not valid JSON at byte");
}

TEST(Bundle, BestLevelIsChosen) {
  const std::vector<std::string> offered = {"riscv64",   "x86-64",    "x86-64-v4+avx512bf16",
                                            "x86-64-v4", "x86-64-v3", "x86-64-v4+amx-bf16"};
  const std::string best = offered[chooseIsaLevel(offered, "")];
  EXPECT_TRUE(cpuRuns(best));
  for (const char *level : {"x86-64-v4+amx-bf16", "x86-64-v4", "x86-64-v3"})
    if (cpuRuns(level)) { // on AMD's processors dot products are better than x86-64-v4
      EXPECT_TRUE(best == level || best == "x86-64-v4+avx512bf16") << best << ", not " << level;
      break;
    }
  EXPECT_EQ(chooseIsaLevel(offered, "x86-64"), 1u);
}

TEST(Bundle, KernelLevels) {
  TemporaryDirectory directory;
  BundleBuilder builder = sumBundle();
  builder.write(directory / "b");
  EXPECT_HAS(openError(directory / "b", "x86-64-v4", SHARDRT_UNSUPPORTED_CPU),
             "x86-64-v4 was asked for");
  builder.manifest["kernels"][0]["level"] = "riscv64";
  builder.write(directory / "c");
  EXPECT_HAS(openError(directory / "c", nullptr, SHARDRT_UNSUPPORTED_CPU),
             "the bundle has kernels for riscv64, this processor runs x86-64");
}

} // namespace
