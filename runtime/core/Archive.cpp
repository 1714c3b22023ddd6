// From the end of a zip file: end record (and ZIP64's, if there is one) -> central directory ->
// local headers -> data. Every place is checked before it is read, and no two members share bytes.
// Names and values: PKWARE's APPNOTE 6.3.
#include "runtime/core/Archive.h"

#include <algorithm>
#include <cstring>

using namespace shardrt;

static constexpr uint64_t localBytes = 30, centralBytes = 46, endBytes = 22, end64Bytes = 56,
                          locatorBytes = 20;

template <typename T> static T load(std::string_view bytes, uint64_t at) {
  T value; // zip is little-endian, as are the processors that this runtime knows
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

static uint16_t u16(std::string_view bytes, uint64_t at) { return load<uint16_t>(bytes, at); }
static uint32_t u32(std::string_view bytes, uint64_t at) { return load<uint32_t>(bytes, at); }
static uint64_t u64(std::string_view bytes, uint64_t at) { return load<uint64_t>(bytes, at); }

/// Whether [begin, begin + size) lies inside `bytes`.
static bool fits(std::string_view bytes, uint64_t begin, uint64_t size) {
  return begin <= bytes.size() && size <= bytes.size() - begin;
}

static std::string number(uint64_t value) { return std::to_string(value); }

static bool endsWith(std::string_view text, std::string_view suffix) {
  return text.size() > suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

bool shardrt::isBundleFileName(std::string_view name) {
  if (name == "manifest.json" || name == "program.json" || name == "constants.bin")
    return true;
  bool isWeights = name.substr(0, 8) == "weights/", isKernels = name.substr(0, 8) == "kernels-";
  if (!isWeights && !isKernels)
    return false;
  std::string_view rest = name.substr(8);
  bool isPlain = std::all_of(rest.begin(), rest.end(), [](unsigned char c) {
    return c > ' ' && c != 0x7f && c != '/' && c != '\\';
  });
  if (!isPlain || rest.empty() || rest[0] == '.')
    return false;
  return isWeights ? endsWith(rest, ".safetensors")
                   : endsWith(rest, ".so") || endsWith(rest, ".cubin") || endsWith(rest, ".ptx");
}

namespace {
/// Where the central directory lies.
struct Directory {
  uint64_t offset = 0, size = 0, members = 0;
  uint64_t end = 0; // where the records behind it begin
};

struct Header {
  ArchiveMember member;
  uint64_t begin; // of the local header
  uint16_t flags, method;
};
} // namespace

static std::string readEnd(std::string_view bytes, Directory &directory) {
  if (bytes.size() < 4 || (u32(bytes, 0) != localSignature && u32(bytes, 0) != endSignature))
    return "this is no zip file";
  if (bytes.size() < endBytes || u32(bytes, bytes.size() - endBytes) != endSignature)
    return "the zip file does not end with the end of its directory: it is truncated, or something "
           "was added to it";
  uint64_t end = bytes.size() - endBytes;
  directory = {u32(bytes, end + 16), u32(bytes, end + 12), u16(bytes, end + 10), end};
  uint64_t disks = u16(bytes, end + 4), onThisDisk = u16(bytes, end + 8);
  if (u16(bytes, end + 20) != 0)
    return "the zip file has a comment of " + number(u16(bytes, end + 20)) + " bytes";
  if (end >= locatorBytes && u32(bytes, end - locatorBytes) == locatorSignature) {
    uint64_t end64 = u64(bytes, end - locatorBytes + 8);
    if (!fits(bytes, end64, end64Bytes + locatorBytes) || u32(bytes, end64) != end64Signature)
      return "the zip file's ZIP64 end record should be at byte " + number(end64) +
             ", and is not there";
    directory = {u64(bytes, end64 + 48), u64(bytes, end64 + 40), u64(bytes, end64 + 32), end64};
    disks = u32(bytes, end64 + 16);
    onThisDisk = u64(bytes, end64 + 24);
  }
  if (disks != 0 || onThisDisk != directory.members)
    return "the zip file is one of several disks";
  if (!fits(bytes, directory.offset, directory.size) ||
      directory.offset + directory.size != directory.end)
    return "the zip file's directory, " + number(directory.size) + " bytes at byte " +
           number(directory.offset) + ", does not end at byte " + number(directory.end) +
           ", where its end record begins";
  return "";
}

/// Takes the 64-bit values that stand for those which are too large for 32 bits.
static std::string readZip64(std::string_view extra, const std::string &name,
                             const std::vector<uint64_t *> &wanted) {
  if (wanted.empty())
    return "";
  for (uint64_t at = 0; fits(extra, at, 4); at += 4 + u16(extra, at + 2)) {
    uint64_t size = u16(extra, at + 2);
    if (u16(extra, at) != zip64Extra)
      continue;
    if (size < 8 * wanted.size() || !fits(extra, at + 4, size))
      break;
    for (size_t i = 0; i < wanted.size(); ++i)
      *wanted[i] = u64(extra, at + 4 + 8 * i);
    return "";
  }
  return "member \"" + name + "\" of the zip file lacks its 64-bit sizes";
}

/// One entry of the central directory, at `at`, which is advanced.
static std::string readCentral(std::string_view bytes, const Directory &directory, uint64_t &at,
                               Header &header) {
  uint64_t end = directory.offset + directory.size;
  if (end - at < centralBytes || u32(bytes, at) != centralSignature)
    return "the zip file's directory is damaged at byte " + number(at);
  uint64_t nameBytes = u16(bytes, at + 28), extraBytes = u16(bytes, at + 30),
           commentBytes = u16(bytes, at + 32);
  if (nameBytes + extraBytes + commentBytes > end - at - centralBytes)
    return "the zip file's directory is damaged at byte " + number(at);
  ArchiveMember &member = header.member;
  member.name = bytes.substr(at + centralBytes, nameBytes);
  header.flags = u16(bytes, at + 8);
  header.method = u16(bytes, at + 10);
  uint64_t compressed = u32(bytes, at + 20);
  member.size = u32(bytes, at + 24);
  header.begin = u32(bytes, at + 42);
  std::vector<uint64_t *> large; // in this order
  for (uint64_t *value : {&member.size, &compressed, &header.begin})
    if (*value == UINT32_MAX)
      large.push_back(value);
  std::string problem =
      readZip64(bytes.substr(at + centralBytes + nameBytes, extraBytes), member.name, large);
  if (problem.empty() && !isBundleFileName(member.name))
    problem = "the zip file has a member \"" + member.name + "\", which is no file of a bundle";
  else if (problem.empty() && (header.flags & 0x2041))
    problem = "member \"" + member.name + "\" of the zip file is encrypted";
  else if (problem.empty() && header.method != 0)
    problem = "member \"" + member.name + "\" of the zip file is compressed (method " +
              number(header.method) + "); a bundle's members are stored as they are";
  else if (problem.empty() && compressed != member.size)
    problem = "member \"" + member.name + "\" of the zip file is stored, but has " +
              number(compressed) + " bytes there and " + number(member.size) + " outside";
  at += centralBytes + nameBytes + extraBytes + commentBytes;
  return problem;
}

/// The local header: it says where the data begins.
static std::string readLocal(std::string_view bytes, const Directory &directory, Header &header) {
  ArchiveMember &member = header.member;
  std::string_view data = bytes.substr(0, directory.offset);
  std::string where = "member \"" + member.name + "\" of the zip file ";
  if (!fits(data, header.begin, localBytes) || u32(data, header.begin) != localSignature)
    return where + "should be at byte " + number(header.begin) + ", and is not there";
  uint64_t nameBytes = u16(data, header.begin + 26), extraBytes = u16(data, header.begin + 28);
  if (!fits(data, header.begin + localBytes, nameBytes + extraBytes) ||
      data.substr(header.begin + localBytes, nameBytes) != member.name ||
      u16(data, header.begin + 6) != header.flags || u16(data, header.begin + 8) != header.method)
    return where + "is described otherwise at byte " + number(header.begin) + ", where it lies";
  member.offset = header.begin + localBytes + nameBytes + extraBytes;
  if (!fits(data, member.offset, member.size))
    return where + "has " + number(member.size) + " bytes at byte " + number(member.offset) +
           ", the directory begins at byte " + number(directory.offset);
  if (member.offset % archiveAlignment != 0)
    return where + "begins at byte " + number(member.offset) + ", which is no multiple of " +
           number(archiveAlignment) + "; shardc pack aligns members";
  return "";
}

std::string shardrt::readArchive(std::string_view bytes, std::vector<ArchiveMember> &members) {
  Directory directory;
  if (std::string problem = readEnd(bytes, directory); !problem.empty())
    return problem;
  if (directory.members > directory.size / centralBytes)
    return "the zip file's directory of " + number(directory.size) + " bytes cannot hold " +
           number(directory.members) + " members";
  std::vector<Header> headers(directory.members);
  uint64_t at = directory.offset;
  for (Header &header : headers) {
    std::string problem = readCentral(bytes, directory, at, header);
    if (problem.empty())
      problem = readLocal(bytes, directory, header);
    if (!problem.empty())
      return problem;
  }
  if (at != directory.end)
    return "the zip file's directory goes on behind its " + number(directory.members) + " members";
  std::sort(headers.begin(), headers.end(),
            [](const Header &a, const Header &b) { return a.begin < b.begin; });
  for (size_t i = 1; i < headers.size(); ++i)
    if (const ArchiveMember &before = headers[i - 1].member;
        headers[i].begin < before.offset + before.size)
      return "members \"" + before.name + "\" and \"" + headers[i].member.name +
             "\" of the zip file overlap at byte " + number(headers[i].begin);
  members.clear();
  for (Header &header : headers)
    members.push_back(std::move(header.member));
  std::sort(members.begin(), members.end(),
            [](const ArchiveMember &a, const ArchiveMember &b) { return a.name < b.name; });
  for (size_t i = 1; i < members.size(); ++i)
    if (members[i - 1].name == members[i].name)
      return "the zip file has two members \"" + members[i].name + "\"";
  return "";
}
