#include "BundleBuilder.h"
#include "runtime/core/Sha256.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace shardrt_test;
namespace fs = std::filesystem;

static std::string makeDirectory() {
  std::string pattern = (fs::temp_directory_path() / "shardrt-test-XXXXXX").string();
  if (!mkdtemp(pattern.data()))
    throw std::runtime_error("cannot create " + pattern);
  return pattern;
}

TemporaryDirectory::TemporaryDirectory() : path(makeDirectory()) {}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

std::string shardrt_test::readText(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void shardrt_test::writeText(const std::string &path, const std::string &text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string shardrt_test::safetensorsText(const std::map<std::string, Tensor> &tensors) {
  Json header = Json::object();
  std::string data;
  for (const auto &[name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
    data += tensor.data;
  }
  std::string text = header.dump();
  uint64_t length = text.size();
  return std::string(reinterpret_cast<char *>(&length), 8) + text + data;
}

BundleBuilder::BundleBuilder(const std::vector<std::pair<std::string, int>> &axes)
    : kernelFile(SHARDRT_TEST_KERNELS) {
  int ranks = 1;
  Json mesh = Json::array();
  for (const auto &[name, size] : axes) {
    mesh.push_back({{"name", name}, {"size", size}});
    ranks *= size;
  }
  manifest = {{"format", {{"major", 1}, {"minor", 0}}},
              {"producer", "test"},
              {"model", "test model"},
              {"entry_points", Json::array()},
              {"mesh", {{"axes", mesh}}},
              {"ranks", ranks},
              {"kernels", Json::array({{{"level", "x86-64"}, {"file", "kernels-x86-64.so"}}})}};
  program = {{"version", 2}, {"arena", {{"bytes", 0}}}};
  for (const char *key :
       {"buffers", "parameters", "constants", "axis_indices", "groups", "kernels", "entries"})
    program[key] = Json::array();
  beginEntry("main");
}

void BundleBuilder::beginEntry(const std::string &name) {
  program["entries"].push_back({{"name", name},
                                {"inputs", Json::array()},
                                {"outputs", Json::array()},
                                {"commands", Json::array()}});
  manifest["entry_points"].push_back(name);
}

int BundleBuilder::buffer(const std::string &name, const std::string &dtype,
                          const std::vector<int64_t> &shape, const std::string &kind) {
  int64_t bytes = *shardrt::checkedBytes(shape, *shardrt::parseDType(dtype)),
          at = program["arena"]["bytes"];
  bytes = (bytes + 63) / 64 * 64;
  program["arena"]["bytes"] = at + bytes;
  program["buffers"].push_back({{"name", name},
                                {"dtype", dtype},
                                {"shape", shape},
                                {"offset", at},
                                {"bytes", bytes},
                                {"kind", kind}});
  return static_cast<int>(program["buffers"].size()) - 1;
}

void BundleBuilder::input(const std::string &name, int buffer, const std::vector<int64_t> &shape,
                          const Json &shard) {
  entry()["inputs"].push_back({{"name", name},
                               {"buffer", buffer},
                               {"dtype", program["buffers"][buffer]["dtype"]},
                               {"shape", shape},
                               {"shard", shard}});
}

void BundleBuilder::output(const std::string &name, int buffer, const std::vector<int64_t> &shape,
                           const Json &shard, const std::string &alias) {
  entry()["outputs"].push_back({{"name", name},
                                {"buffer", buffer},
                                {"dtype", program["buffers"][buffer]["dtype"]},
                                {"shape", shape},
                                {"shard", shard},
                                {"alias", alias.empty() ? Json() : Json(alias)}});
}

void BundleBuilder::parameter(const std::string &tensor, int buffer,
                              const std::vector<int64_t> &shape, const Json &shard) {
  program["parameters"].push_back({{"buffer", buffer},
                                   {"tensor", tensor},
                                   {"dtype", program["buffers"][buffer]["dtype"]},
                                   {"shape", shape},
                                   {"segment", nullptr},
                                   {"shard", shard},
                                   {"layout", {{"kind", "row_major"}}}});
}

int BundleBuilder::group(const Json &axes) {
  program["groups"].push_back({{"axes", axes}});
  return static_cast<int>(program["groups"].size()) - 1;
}

void BundleBuilder::launch(const std::string &kernel, const std::vector<int> &buffers, int tiles,
                           int scratch, int results) {
  program["kernels"].push_back(kernel);
  command({{"op", "launch"},
           {"kernel", program["kernels"].size() - 1},
           {"buffers", buffers},
           {"tiles", tiles},
           {"scratch", scratch},
           {"results", results}});
}

void BundleBuilder::command(const Json &command) { entry()["commands"].push_back(command); }

Json BundleBuilder::axis(int axis, int size, int pre) {
  return {{"axis", axis}, {"pre", pre}, {"size", size}};
}

void BundleBuilder::write(const std::string &path) {
  fs::create_directories(path + "/weights");
  std::map<std::string, std::string> files = this->files;
  files["program.json"] = program.dump();
  if (!kernelFile.empty())
    files["kernels-x86-64.so"] = readText(kernelFile);
  if (!constants.empty())
    files["constants.bin"] = constants;
  Json list = Json::array();
  for (const auto &[name, text] : files) {
    writeText(path + "/" + name, text);
    list.push_back({{"path", name},
                    {"bytes", text.size()},
                    {"sha256", shardrt::sha256Hex(text.data(), text.size())}});
  }
  if (!weights.empty()) {
    std::string text = safetensorsText(weights);
    uint64_t header;
    std::memcpy(&header, text.data(), 8);
    writeText(path + "/weights/model.safetensors", text);
    list.push_back({{"path", "weights/model.safetensors"},
                    {"bytes", text.size()},
                    {"sha256", shardrt::sha256Hex(text.data(), 8 + header)}});
  }
  Json complete = manifest;
  if (!complete.contains("files"))
    complete["files"] = list;
  if (!complete.contains("memory"))
    complete["memory"] = {{"arena_bytes", program["arena"]["bytes"]}};
  writeText(path + "/manifest.json", complete.dump(2));
}

BundleBuilder shardrt_test::sumBundleWith(const std::string &kernel) {
  BundleBuilder builder({{"tp", 4}});
  Json whole = Json::array({Json::array()});
  int x = builder.buffer("x", "f32", {8}, "input"),
      index = builder.buffer("index", "i64", {1}, "axis_index");
  int shifted = builder.buffer("shifted", "f32", {8}, "temporary"),
      out = builder.buffer("out", "f32", {8}, "output");
  builder.input("x", x, {6}, whole);
  builder.output("out", out, {6}, whole);
  builder.program["axis_indices"] =
      Json::array({{{"buffer", index}, {"axes", Json::array({BundleBuilder::axis(0, 4)})}}});
  int group = builder.group(Json::array({BundleBuilder::axis(0, 4)}));
  builder.launch("test_add_index", {x, index, shifted}, 2);
  if (!kernel.empty())
    builder.launch(kernel, {index}, 1, 0, 0);
  builder.command({{"op", "all_reduce"},
                   {"group", group},
                   {"reduce", "sum"},
                   {"dtype", "f32"},
                   {"src", shifted},
                   {"dst", out},
                   {"count", 6}});
  return builder;
}

BundleBuilder shardrt_test::sumBundle() { return sumBundleWith(""); }
