// Bundles as one file: what the reader takes, and by which name it refuses the rest. The zip files
// are written here, so that any field of them can be wrong.
#include "BundleBuilder.h"
#include "runtime/core/Bundle.h"
#include "runtime/core/Error.h"

#include <cstring>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>

using namespace shardrt;
using namespace shardrt_test;

namespace {

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

std::string little(uint64_t value, int bytes) {
  return std::string(reinterpret_cast<const char *>(&value), bytes);
}

struct Member {
  std::string name, data;
  uint16_t flags = 0, method = 0;
  std::string localName = ""; // empty: the name
  int64_t begin = -1;         // of the local header, in the directory; -1: where it is
  int64_t size = -1;          // in the directory; -1: that of the data
  bool isAligned = true;
};

/// A zip file. With `zip64` all sizes and offsets are in 64-bit fields.
struct Zip {
  std::vector<Member> members;
  bool zip64 = false;
  int extraMembers = 0; // that the end record counts, and nobody wrote
  uint16_t disks = 0, commentBytes = 0;

  std::string text() const {
    std::string bytes, directory;
    for (const Member &member : members) {
      uint64_t begin = bytes.size(), size = member.size < 0 ? member.data.size() : member.size;
      const std::string &name = member.localName.empty() ? member.name : member.localName;
      std::string head = little(0x04034b50, 4) + little(20, 2) + little(member.flags, 2) +
                         little(member.method, 2) + little(0, 8) + little(size, 4) +
                         little(size, 4) + little(name.size(), 2);
      uint64_t end = begin + head.size() + 2 + name.size();
      uint64_t extra = member.isAligned ? (64 - end % 64) % 64 : 0;
      bytes += head + little(extra, 2) + name + std::string(extra, '\0') + member.data;
      uint64_t place = member.begin < 0 ? begin : member.begin;
      std::string longs =
          little(1, 2) + little(24, 2) + little(size, 8) + little(size, 8) + little(place, 8);
      uint64_t all = UINT32_MAX;
      directory += little(0x02014b50, 4) + little(20, 2) + little(20, 2) + little(member.flags, 2) +
                   little(member.method, 2) + little(0, 8) + little(zip64 ? all : size, 4) +
                   little(zip64 ? all : size, 4) + little(member.name.size(), 2) +
                   little(zip64 ? longs.size() : 0, 2) + little(0, 10) +
                   little(zip64 ? all : place, 4) + member.name + (zip64 ? longs : "");
    }
    uint64_t at = bytes.size(), end = at + directory.size(), count = members.size() + extraMembers;
    bytes += directory;
    if (zip64)
      bytes += little(0x06064b50, 4) + little(44, 8) + little(45, 4) + little(disks, 4) +
               little(0, 4) + little(count, 8) + little(count, 8) + little(directory.size(), 8) +
               little(at, 8) + little(0x07064b50, 4) + little(0, 4) + little(end, 8) + little(1, 4);
    return bytes + little(0x06054b50, 4) + little(disks, 2) + little(0, 2) + little(count, 2) +
           little(count, 2) + little(zip64 ? UINT32_MAX : directory.size(), 4) +
           little(zip64 ? UINT32_MAX : at, 4) + little(commentBytes, 2);
  }
};

Zip goodZip() {
  Zip zip;
  zip.members = {{"manifest.json", "{}"},
                 {"program.json", "{\"version\": 2}"},
                 {"constants.bin", ""},
                 {"kernels-x86-64-v4+amx-bf16.so", std::string(100, 'k')},
                 {"weights/model.safetensors", std::string(200, 'w')}};
  return zip;
}

std::string problemOf(const std::string &text) {
  std::vector<ArchiveMember> members;
  return readArchive(text, members);
}

TEST(Archive, MembersAreFoundWhereTheyLie) {
  for (bool zip64 : {false, true}) {
    Zip zip = goodZip();
    zip.zip64 = zip64;
    std::string text = zip.text();
    std::vector<ArchiveMember> members;
    ASSERT_EQ(readArchive(text, members), "");
    ASSERT_EQ(members.size(), zip.members.size());
    for (const Member &expected : zip.members) {
      auto found = std::find_if(members.begin(), members.end(),
                                [&](const ArchiveMember &m) { return m.name == expected.name; });
      ASSERT_NE(found, members.end()) << expected.name;
      EXPECT_EQ(found->offset % archiveAlignment, 0u);
      EXPECT_EQ(text.substr(found->offset, found->size), expected.data);
    }
  }
}

TEST(Archive, WrongFilesAreRefusedByName) {
  struct Case {
    std::function<void(Zip &)> damage;
    const char *message;
  };
  const std::vector<Case> cases = {
      {[](Zip &z) { z.members[1].name = "../program.json"; },
       "member \"../program.json\", which is no file of a bundle"},
      {[](Zip &z) { z.members[4].name = "weights/../../model.safetensors"; },
       "member \"weights/../../model.safetensors\", which is no file of a bundle"},
      {[](Zip &z) { z.members[4].name = "weights/.safetensors"; }, "which is no file of a bundle"},
      {[](Zip &z) { z.members[3].name = "/kernels-x.so"; }, "which is no file of a bundle"},
      {[](Zip &z) { z.members[0].name = "README"; }, "which is no file of a bundle"},
      {[](Zip &z) { z.members[1].method = 8; },
       "member \"program.json\" of the zip file is compressed (method 8)"},
      {[](Zip &z) { z.members[4].flags = 1; },
       "member \"weights/model.safetensors\" of the zip file is encrypted"},
      {[](Zip &z) { z.members[2].localName = "program.json"; },
       "member \"constants.bin\" of the zip file is described otherwise at byte"},
      {[](Zip &z) { z.members[2].name = "program.json"; },
       "the zip file has two members \"program.json\""},
      {[](Zip &z) { z.members[1].isAligned = false; },
       "member \"program.json\" of the zip file begins at byte 108, which is no multiple of 64"},
      {[](Zip &z) { z.members[1].begin = 1; }, "should be at byte 1, and is not there"},
      {[](Zip &z) { z.members[1].begin = int64_t(1) << 31; }, "should be at byte 2147483648"},
      {[](Zip &z) { z.members[0].size = 100; },
       "members \"manifest.json\" and \"program.json\" of the zip file overlap at byte 66"},
      {[](Zip &z) { z.members[4].size = 100000; }, "has 100000 bytes at byte"},
      {[](Zip &z) { z.extraMembers = 1; }, "the zip file's directory is damaged at byte"},
      {[](Zip &z) { z.extraMembers = 1000; }, "cannot hold 1005 members"},
      {[](Zip &z) { z.extraMembers = -1; },
       "the zip file's directory goes on behind its 4 members"},
      {[](Zip &z) { z.disks = 1; }, "the zip file is one of several disks"},
      {[](Zip &z) { z.commentBytes = 5; }, "the zip file has a comment of 5 bytes"},
  };
  for (const Case &c : cases)
    for (bool zip64 : {false, true}) {
      Zip zip = goodZip();
      zip.zip64 = zip64;
      c.damage(zip);
      EXPECT_HAS(problemOf(zip.text()), c.message);
    }
}

TEST(Archive, NoLengthIsTaken) {
  for (bool zip64 : {false, true}) {
    Zip zip = goodZip();
    zip.zip64 = zip64;
    std::string text = zip.text();
    for (size_t length = 0; length < text.size(); ++length)
      EXPECT_HAS(problemOf(text.substr(0, length)),
                 length < 4 ? "this is no zip file" : "does not end with the end of its directory");
    EXPECT_HAS(problemOf(text + "x"), "it is truncated, or something was added to it");
    EXPECT_HAS(problemOf("x" + text), "this is no zip file");
    EXPECT_HAS(problemOf(text.substr(0, 4) + "x" + text.substr(4)), "byte"); // all moved by one
  }
}

TEST(Archive, BundleIsOpened) {
  TemporaryDirectory directory;
  BundleBuilder builder = sumBundle();
  builder.constants = std::string(64, 'c');
  builder.write(directory / "b");
  Zip zip;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(directory / "b"))
    if (entry.is_regular_file())
      zip.members.push_back({std::filesystem::relative(entry.path(), directory / "b").string(),
                             readText(entry.path().string())});
  writeText(directory / "b.zip", zip.text());
  std::unique_ptr<Bundle> bundle = openBundle(directory / "b.zip", "");
  EXPECT_TRUE(bundle->files.isArchive());
  EXPECT_EQ(bundle->ranks(), 4);
  EXPECT_EQ(bundle->constants->text(), builder.constants);
  EXPECT_EQ(bundle->fingerprint, openBundle(directory / "b", "")->fingerprint);
  auto errorOf = [&](const Zip &changed) -> std::string {
    writeText(directory / "c.zip", changed.text());
    try {
      openBundle(directory / "c.zip", "");
      return "no error";
    } catch (const Error &error) {
      EXPECT_EQ(error.status(), SHARDRT_BAD_BUNDLE);
      return error.what();
    }
  };
  for (size_t i = 0; i < zip.members.size(); ++i) {
    Zip changed = zip;
    std::string name = zip.members[i].name;
    changed.members.erase(changed.members.begin() + i);
    EXPECT_HAS(errorOf(changed), name == "manifest.json"
                                     ? "c.zip: not a bundle, manifest.json is missing"
                                     : "c.zip/" + name + ": listed in manifest.json, but missing");
    changed = zip;
    changed.members[i].data.back() ^= 1;
    EXPECT_HAS(errorOf(changed), name == "manifest.json" ? "manifest.json: not valid JSON"
                                                         : "c.zip/" + name + ": sha256 is ");
  }
}

} // namespace
