//===- ArchiveTest.cpp - A bundle's directory as one zip file -------------===//
//
// What packBundle writes is read by the runtime's reader here, and by Python's zipfile in
// test/python/test_archive.py.
//
//===----------------------------------------------------------------------===//
#include "shardc/Bundle/Archive.h"

#include "runtime/core/Archive.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include "gtest/gtest.h"

using namespace shardc;
using llvm::StringRef;

namespace {

class ArchiveTest : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("shardc-archive", folder));
    write("program.json", "{}");
    write("kernels-x86-64-v3.so", std::string(5000, 'k'));
    write("weights/model.safetensors", std::string(300, 'w'));
    write("weights/other.safetensors", std::string(70, 'o')); // in no list: a user's
    write("weights/model.safetensors.index.json", "{}");
    write("manifest.json", R"({"files": [{"path": "program.json", "bytes": 2},
        {"path": "kernels-x86-64-v3.so", "bytes": 5000}, {"path": "weights/model.safetensors", "bytes": 300}]})");
  }
  void TearDown() override { (void)llvm::sys::fs::remove_directories(folder); }

  std::string path(StringRef name) const { return (folder + "/" + name).str(); }
  std::string bundle() const { return path("b"); }
  void write(StringRef name, StringRef text) const {
    std::string file = bundle() + "/" + name.str();
    ASSERT_FALSE(llvm::sys::fs::create_directories(StringRef(file).rsplit('/').first));
    std::error_code code;
    llvm::raw_fd_ostream(file, code) << text;
    ASSERT_FALSE(code);
  }
  std::string pack(StringRef zip, bool force = false, uint64_t zip64From = UINT32_MAX) const {
    return llvm::toString(packBundle(bundle(), path(zip), force, zip64From));
  }

  llvm::SmallString<128> folder;
};

TEST_F(ArchiveTest, ReaderFindsAlignedMembers) {
  // From 0 on all numbers, from 200 on those of the second half, are 64 bits wide.
  for (uint64_t zip64From : {uint64_t(0), uint64_t(200), uint64_t(4000), uint64_t(UINT32_MAX)}) {
    ASSERT_EQ(pack("a.zip", /*force=*/true, zip64From), "");
    auto buffer = llvm::MemoryBuffer::getFile(path("a.zip"), /*IsText=*/false,
                                              /*RequiresNullTerminator=*/false);
    ASSERT_TRUE(bool(buffer));
    StringRef bytes = (*buffer)->getBuffer();
    std::vector<shardrt::ArchiveMember> members;
    ASSERT_EQ(shardrt::readArchive({bytes.data(), bytes.size()}, members), "");
    ASSERT_EQ(members.size(), 5u);
    for (const shardrt::ArchiveMember &member : members) {
      bool isMapped = StringRef(member.name).contains('-') || StringRef(member.name).contains('/');
      EXPECT_EQ(member.offset % (isMapped ? 4096 : 64), 0u) << member.name;
      auto original = llvm::MemoryBuffer::getFile(bundle() + "/" + member.name);
      ASSERT_TRUE(bool(original)) << member.name;
      EXPECT_EQ(bytes.substr(member.offset, member.size), (*original)->getBuffer());
      auto file = readBundleFile(path("a.zip"), member.name);
      ASSERT_TRUE(bool(file));
      EXPECT_EQ((*file)->getBuffer(), (*original)->getBuffer());
    }
  }
}

TEST_F(ArchiveTest, EqualBundlesGiveEqualFiles) {
  ASSERT_EQ(pack("a.zip"), "");
  ASSERT_EQ(pack("b.zip"), "");
  auto a = llvm::MemoryBuffer::getFile(path("a.zip")),
       b = llvm::MemoryBuffer::getFile(path("b.zip"));
  EXPECT_EQ((*a)->getBuffer(), (*b)->getBuffer());
}

TEST_F(ArchiveTest, Refusals) {
  auto expect = [](const std::string &text, StringRef part) {
    EXPECT_TRUE(StringRef(text).contains(part)) << text;
  };
  ASSERT_EQ(pack("a.zip"), "");
  expect(pack("a.zip"), "a.zip: exists; remove it or use force");
  std::error_code code;
  llvm::raw_fd_ostream(path("text.zip"), code) << "a diary";
  expect(pack("text.zip", /*force=*/true), "text.zip: exists and is no bundle");
  ASSERT_FALSE(llvm::sys::fs::create_directory(path("folder.zip")));
  expect(pack("folder.zip", /*force=*/true), "folder.zip: exists and is a directory");
  expect(pack("missing/a.zip"), "cannot write: ");
  write("program.json", "{ }");
  expect(pack("c.zip"), "program.json: has 3 bytes, manifest.json says 2");
  write("manifest.json", R"({"files": [{"path": "../secret", "bytes": 2}]})");
  expect(pack("c.zip"), "manifest.json: \"../secret\" is no file of a bundle");
  write("manifest.json", R"({"files": [{"path": "constants.bin", "bytes": 2}]})");
  expect(pack("c.zip"), "constants.bin: is listed in manifest.json, and cannot be read: ");
  write("manifest.json", "[1]");
  expect(pack("c.zip"), "manifest.json: is no bundle's");
  EXPECT_FALSE(llvm::sys::fs::exists(path("c.zip")));
}

} // namespace
