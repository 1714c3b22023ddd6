//===- WeightStoreTest.cpp - Weights by name, to and from safetensors -----===//

#include "shardc/Support/WeightStore.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <gtest/gtest.h>

using namespace shardc;
using llvm::StringRef;

namespace {

Weight weightOf(std::vector<float> values, llvm::ArrayRef<int64_t> shape,
                bool isTransposed = false) {
  auto owner = std::make_shared<std::vector<float>>(std::move(values));
  Weight weight;
  weight.shape.assign(shape.begin(), shape.end());
  weight.bytes =
      llvm::ArrayRef<char>(reinterpret_cast<const char *>(owner->data()), owner->size() * 4);
  weight.owner = owner;
  weight.hasValue = true;
  weight.isTransposed = isTransposed;
  return weight;
}

std::vector<float> floats(const WeightStore &store, StringRef name) {
  std::vector<char> storage;
  auto bytes = store.read(name, storage);
  if (!bytes) {
    ADD_FAILURE() << llvm::toString(bytes.takeError());
    return {};
  }
  const auto *data = reinterpret_cast<const float *>(bytes->data());
  return std::vector<float>(data, data + bytes->size() / 4);
}

/// A folder that disappears.
struct Folder {
  llvm::SmallString<128> path;
  Folder() { llvm::sys::fs::createUniqueDirectory("weights", path); }
  ~Folder() { llvm::sys::fs::remove_directories(path); }
  std::string file(StringRef name) const { return (path + "/" + name).str(); }
  std::string write(StringRef name, StringRef content) const {
    std::error_code code;
    llvm::raw_fd_ostream(file(name), code) << content;
    return file(name);
  }
};

/// A safetensors file with that header.
std::string withHeader(StringRef header, StringRef data) {
  uint64_t size = header.size();
  std::string content(reinterpret_cast<const char *>(&size), 8);
  return content + header.str() + data.str();
}

std::string messageOf(llvm::Error error) {
  return error ? llvm::toString(std::move(error)) : "success";
}

TEST(WeightStore, ReadsATransposedWeightInItsOwnOrientation) {
  WeightStore store;
  store.add("w",
            weightOf({1, 2, 3, 4, 5, 6}, {3, 2}, /*isTransposed=*/true)); // the bytes are [2, 3]
  EXPECT_EQ(floats(store, "w"), (std::vector<float>{1, 4, 2, 5, 3, 6}));
}

TEST(WeightStore, DoesNotCopyOthers) {
  WeightStore store;
  Weight weight = weightOf({1, 2}, {2});
  const char *data = weight.bytes.data();
  store.add("w", std::move(weight));
  std::vector<char> storage;
  EXPECT_EQ(llvm::cantFail(store.read("w", storage)).data(), data);
}

TEST(WeightStore, RefusesATakenName) {
  WeightStore store;
  EXPECT_TRUE(store.add("w", weightOf({1}, {1})));
  EXPECT_FALSE(store.add("w", weightOf({2}, {1})));
}

TEST(WeightStore, SafetensorsRoundTrip) {
  Folder folder;
  WeightStore store;
  store.add("b", weightOf({1, 2, 3, 4, 5, 6}, {3, 2}, true));
  store.add("a", weightOf({7}, {}));
  ASSERT_EQ(messageOf(store.writeSafetensors(folder.file("model.safetensors"))), "success");
  WeightStore back;
  ASSERT_EQ(messageOf(back.addFromSafetensors(folder.path)), "success");
  EXPECT_EQ(floats(back, "b"), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(floats(back, "a"), (std::vector<float>{7}));
  EXPECT_EQ(back.find("b")->shape, (llvm::SmallVector<int64_t, 4>{3, 2}));
}

TEST(WeightStore, FillsDeclaredWeightsAndListsTheOthers) {
  Folder folder;
  WeightStore file, store;
  file.add("a", weightOf({1, 2}, {2}));
  file.add("b", weightOf({3, 4}, {2}));
  file.add("head.weight", weightOf({5}, {1}));
  file.add("unused", weightOf({6}, {1}));
  ASSERT_EQ(messageOf(file.writeSafetensors(folder.file("m.safetensors"))), "success");
  auto declare = [&](StringRef name, llvm::ArrayRef<int64_t> shape) {
    Weight weight;
    weight.shape.assign(shape.begin(), shape.end());
    store.add(name, weight);
  };
  declare("a", {2});
  declare("b", {3});
  declare("c", {1});
  declare("embed.weight", {1});
  store.addAlias("head.weight", "embed.weight"); // tied: the checkpoint has the other name
  std::string message = messageOf(store.fillFromSafetensors(folder.path));
  EXPECT_NE(message.find("\"b\" is F32[2], the model wants F32[3]"), std::string::npos) << message;
  EXPECT_NE(message.find("\"c\" F32[1] is missing"), std::string::npos) << message;
  EXPECT_EQ(message.find("embed"), std::string::npos) << message;
  EXPECT_EQ(floats(store, "a"), (std::vector<float>{1, 2}));
  EXPECT_EQ(floats(store, "embed.weight"), (std::vector<float>{5}));
}

TEST(WeightStore, RoundsACheckpointOfAnotherFloat) {
  Folder folder;
  WeightStore file;
  // Halfway cases of bf16 go to the even neighbour; 65520 is f16's first that is infinite.
  std::vector<float> values = {1.0f + 0x1p-8f, 1.0f + 0x3p-8f, -65520.0f};
  file.add("w", weightOf(values, {3}));
  ASSERT_EQ(messageOf(file.writeSafetensors(folder.file("m.safetensors"))), "success");
  auto readAs = [&](DType dtype, StringRef path) {
    WeightStore store;
    Weight weight;
    weight.shape = {3};
    weight.dtype = dtype;
    store.add("w", weight);
    EXPECT_EQ(messageOf(store.fillFromSafetensors(path)), "success");
    return store;
  };
  auto halves = [](const WeightStore &store) {
    std::vector<char> storage;
    llvm::ArrayRef<char> bytes = llvm::cantFail(store.read("w", storage));
    std::vector<uint16_t> bits(bytes.size() / 2);
    std::memcpy(bits.data(), bytes.data(), bytes.size());
    return bits;
  };
  WeightStore bf16 = readAs(DType::BF16, folder.path);
  EXPECT_EQ(halves(bf16), (std::vector<uint16_t>{0x3F80, 0x3F82, 0xC780}));
  EXPECT_EQ(halves(readAs(DType::F16, folder.path)),
            (std::vector<uint16_t>{0x3C04, 0x3C0C, 0xFC00}));
  ASSERT_EQ(messageOf(bf16.writeSafetensors(folder.file("n.safetensors"))), "success");
  EXPECT_EQ(floats(readAs(DType::F32, folder.file("n.safetensors")), "w"),
            (std::vector<float>{1.0f, 1.0f + 0x1p-6f, -65536.0f}));
}

TEST(WeightStore, ReadsAnIndex) {
  Folder folder;
  WeightStore one, two, store;
  one.add("a", weightOf({1}, {1}));
  two.add("b", weightOf({2}, {1}));
  ASSERT_EQ(messageOf(one.writeSafetensors(folder.file("1.safetensors"))), "success");
  ASSERT_EQ(messageOf(two.writeSafetensors(folder.file("2.safetensors"))), "success");
  folder.write("model.safetensors.index.json",
               R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})");
  ASSERT_EQ(messageOf(store.addFromSafetensors(folder.path)), "success");
  EXPECT_EQ(floats(store, "b"), (std::vector<float>{2}));
  folder.write("model.safetensors.index.json", R"({"weight_map": {"a": "../1.safetensors"}})");
  EXPECT_NE(messageOf(WeightStore().addFromSafetensors(folder.path)).find("outside its folder"),
            std::string::npos);
}

TEST(WeightStore, RefusesDamagedFiles) {
  Folder folder;
  std::pair<std::string, StringRef> cases[] = {
      {"", "not a safetensors file: 0 bytes"},
      {std::string(8, '\xff'), "exceeds the file's 8"},
      {withHeader("{", ""), "header is not JSON"},
      {withHeader("[]", ""), "header is not an object"},
      {withHeader(R"({"a": 1})", ""), "tensor \"a\": entry is not an object"},
      {withHeader(R"({"a": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}})", "1"),
       "dtype F8_E8M0 is not supported"},
      {withHeader(R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", "1234"),
       "shape is not a list of sizes"},
      {withHeader(
           R"({"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 4]}})",
           "1234"),
       "shape is not a list of sizes"},
      {withHeader(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}})", "1234"),
       "lie outside the 4 bytes"},
      {withHeader(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})", "1234"),
       "take 8 bytes, data_offsets span 4"}};
  for (auto &[content, expected] : cases) {
    std::string message =
        messageOf(WeightStore().addFromSafetensors(folder.write("x.safetensors", content)));
    EXPECT_NE(StringRef(message).find(expected), StringRef::npos)
        << message << "\ninstead of " << expected.str();
  }
}

} // namespace
