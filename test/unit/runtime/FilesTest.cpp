// SHA-256, npy and safetensors.
#include "BundleBuilder.h"
#include "runtime/core/Error.h"
#include "runtime/core/Npy.h"
#include "runtime/core/Safetensors.h"
#include "runtime/core/Sha256.h"

#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>

using namespace shardrt;
using namespace shardrt_test;

namespace {

template <typename Body> std::string errorOf(Body &&body) {
  try {
    body();
    return "no error";
  } catch (const Error &error) {
    return error.what();
  }
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256Hex("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256Hex("abc", 3),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::string million(1000000, 'a');
  EXPECT_EQ(sha256Hex(million.data(), million.size()),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Npy, WritesWhatItReads) {
  TemporaryDirectory directory;
  std::string path = directory / "x.npy";
  for (int i = SHARDRT_F64; i <= SHARDRT_F8E5M2; ++i)
    for (const Shape &shape : {Shape{}, Shape{3}, Shape{2, 3}, Shape{0, 4}}) {
      DType dtype = static_cast<DType>(i);
      std::string data(*checkedBytes(shape, dtype), '\x01');
      writeNpy(path, dtype, shape, data.data(), data.size());
      std::string text = readText(path);
      NpyHeader header = readNpyHeader(text, path);
      EXPECT_TRUE(npyHolds(header.descr, dtype)) << header.descr;
      EXPECT_EQ(header.shape, shape);
      EXPECT_EQ(header.dataOffset % 64, 0u);
      EXPECT_EQ(text.substr(header.dataOffset), data);
    }
}

TEST(Npy, TypesAreNotMixed) {
  EXPECT_TRUE(npyHolds("<u2", SHARDRT_BF16));
  EXPECT_TRUE(npyHolds("|V2", SHARDRT_BF16));
  EXPECT_FALSE(npyHolds("<f2", SHARDRT_BF16));
  EXPECT_FALSE(npyHolds(">f4", SHARDRT_F32));
  EXPECT_TRUE(npyHolds("|u1", SHARDRT_F8E4M3FN));
  EXPECT_TRUE(npyHolds("|V1", SHARDRT_F8E5M2));
  EXPECT_FALSE(npyHolds("|i1", SHARDRT_F8E5M2));
  EXPECT_FALSE(npyHolds("|V1", SHARDRT_UI8));
  EXPECT_FALSE(npyHolds("", SHARDRT_BOOL));
}

TEST(Npy, Errors) {
  auto read = [](const std::string &text) {
    return errorOf([&] { readNpyHeader(text, "a.npy"); });
  };
  std::string good = npyHeaderFor(SHARDRT_F32, {2, 3});
  EXPECT_HAS(read("hello"), "a.npy: not a .npy file");
  EXPECT_HAS(read(good.substr(0, 30)), "in a file of 30 bytes");
  std::string fortran = good;
  fortran.replace(fortran.find("False"), 5, "True ");
  EXPECT_HAS(read(fortran), "Fortran order");
  std::string huge = good;
  huge.replace(huge.find("(2, 3, )"), 8, "(9999999");
  EXPECT_HAS(read(huge), "npy header");
}

std::map<std::string, Tensor> twoTensors() {
  return {{"a", {"F32", {2, 2}, rawBytes<float>({1, 2, 3, 4})}},
          {"b", {"I64", {1}, rawBytes<int64_t>({7})}}};
}

TEST(Safetensors, FileDirectoryAndIndex) {
  TemporaryDirectory directory;
  auto tensors = twoTensors();
  writeText(directory / "one.safetensors", safetensorsText({*tensors.begin()}));
  writeText(directory / "two.safetensors", safetensorsText({*tensors.rbegin()}));
  WeightFiles folder(directory.path);
  EXPECT_TRUE(folder.find("a") && folder.find("b"));
  EXPECT_FALSE(folder.find("c"));
  WeightFiles single(directory / "two.safetensors");
  EXPECT_FALSE(single.find("a"));
  int64_t value = 0;
  std::memcpy(&value, single.find("b")->data, 8);
  EXPECT_EQ(value, 7);
  Json index = {{"weight_map",
                 {{"a", "one.safetensors"}, {"c", "one.safetensors"}, {"d", "none.safetensors"}}}};
  writeText(directory / "model.safetensors.index.json", index.dump());
  WeightFiles indexed(directory.path);
  EXPECT_TRUE(indexed.find("a"));
  EXPECT_FALSE(indexed.find("b")); // the index decides
  EXPECT_HAS(errorOf([&] { indexed.find("c"); }), "the index says that tensor \"c\" is here");
  EXPECT_HAS(errorOf([&] { indexed.find("d"); }), "none.safetensors: cannot open");
}

TEST(Safetensors, Errors) {
  auto read = [](const std::string &text) {
    return errorOf([&] { readSafetensorsHeader(text, "w.safetensors"); });
  };
  std::string good = safetensorsText(twoTensors());
  EXPECT_EQ(read(good), "no error");
  EXPECT_HAS(read("abc"), "has 3 bytes");
  auto withHeader = [](const std::string &json) {
    uint64_t length = json.size();
    return std::string(reinterpret_cast<char *>(&length), 8) + json;
  };
  EXPECT_HAS(read(withHeader(std::string(100000, '['))), "nested 100000 deep");
  EXPECT_HAS(read(withHeader("{\"a\": 1e999}")), "not valid JSON");
  EXPECT_HAS(read(good.substr(0, 40)), "does not fit into the file of 40 bytes");
  EXPECT_HAS(read(good.substr(0, good.size() - 1)),
             "w.safetensors: b.data_offsets: [16, 24) is not inside the 23 bytes");
  std::string wrong = good;
  wrong.replace(wrong.find("[2,2]"), 5, "[2,3]");
  EXPECT_HAS(read(wrong),
             "w.safetensors: a.data_offsets: [0, 16) has 16 bytes, F32 [2, 3] needs 24");
  TemporaryDirectory directory;
  EXPECT_HAS(errorOf([&] { WeightFiles files(directory.path); }), "holds neither");
  EXPECT_HAS(errorOf([&] { WeightFiles files(directory / "x"); }), "no such weight file");
  writeText(directory / "a.safetensors", good);
  writeText(directory / "b.safetensors", good);
  EXPECT_HAS(errorOf([&] { WeightFiles files(directory.path); }), "is also in");
}

} // namespace
