//===- Archive.cpp - A bundle as one file ---------------------------------===//
//
// A zip file that needs no unpacking: members are stored, an extra field in front of each makes its
// data begin at a multiple of 64 bytes, or of a page if it is code or weights. What follows the
// members is as in any zip file: central directory, ZIP64's end record and locator where a number
// does not fit, end record. The reader is the runtime's (runtime/core/Archive.h).
//
//===----------------------------------------------------------------------===//
#include "shardc/Bundle/Archive.h"

#include "BundleFiles.h"
#include "runtime/core/Archive.h"

#include "llvm/Support/CRC.h"
#include "llvm/Support/EndianStream.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace shardc {

static constexpr uint16_t kAlignmentExtra = 0xd935; ///< Android's: alignment, then zeros
static constexpr uint16_t kVersion = 20, kZip64Version = 45, kMadeOnUnix = 3 << 8;
static constexpr uint16_t kDate = 1 << 5 | 1; ///< 1980-01-01: equal bundles give equal files
static constexpr uint32_t kRegularFile = 0100644u << 16;

using FileBuffer = std::unique_ptr<llvm::MemoryBuffer>;

static llvm::Expected<FileBuffer> readFile(const Twine &path) {
  auto buffer =
      llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return ioError(path.str(), "cannot read", buffer.getError());
  return std::move(*buffer);
}

namespace {
/// Writes members one after the other, then what finds them.
class ZipWriter {
public:
  ZipWriter(llvm::raw_fd_ostream &os, uint64_t zip64From)
      : os(os), out(os, llvm::endianness::little), zip64From(zip64From) {}
  void add(StringRef name, StringRef contents);
  void finish();

private:
  struct Member {
    std::string name;
    uint64_t begin, size;
    uint32_t crc;
  };
  bool isLarge(uint64_t value) const { return value >= zip64From; }
  uint32_t narrow(uint64_t value) const {
    return isLarge(value) ? UINT32_MAX : static_cast<uint32_t>(value);
  }
  void writeCentral(const Member &member);
  template <typename... T> void write(T... values) { (out.write(values), ...); }

  llvm::raw_fd_ostream &os;
  llvm::support::endian::Writer out;
  uint64_t zip64From;
  std::vector<Member> members;
};
} // namespace

static uint64_t alignmentOf(StringRef name) {
  bool isMapped = name.starts_with("kernels-") || name.starts_with("weights/");
  return isMapped ? shardrt::archivePageBytes : shardrt::archiveAlignment;
}

void ZipWriter::add(StringRef name, StringRef contents) {
  Member member{name.str(), os.tell(), contents.size(),
                llvm::crc32(llvm::arrayRefFromStringRef(contents))};
  bool isLong = isLarge(member.size);
  uint16_t longBytes = isLong ? 20 : 0, alignment = static_cast<uint16_t>(alignmentOf(name));
  uint64_t headers = 30 + name.size() + longBytes + 6, end = member.begin + headers;
  uint16_t padding = static_cast<uint16_t>(llvm::alignTo(end, alignment) - end);
  write(shardrt::localSignature, isLong ? kZip64Version : kVersion, uint16_t(0), uint16_t(0),
        uint16_t(0), kDate, member.crc, narrow(member.size), narrow(member.size),
        uint16_t(name.size()), uint16_t(longBytes + 6 + padding));
  os << name;
  if (isLong)
    write(shardrt::zip64Extra, uint16_t(16), member.size, member.size);
  write(kAlignmentExtra, uint16_t(2 + padding), alignment);
  os.write_zeros(padding);
  os << contents;
  members.push_back(std::move(member));
}

void ZipWriter::writeCentral(const Member &member) {
  SmallVector<uint64_t> large;
  if (isLarge(member.size))
    large.append(2, member.size);
  if (isLarge(member.begin))
    large.push_back(member.begin);
  uint16_t extraBytes = large.empty() ? 0 : 4 + 8 * large.size(),
           version = large.empty() ? kVersion : kZip64Version;
  write(shardrt::centralSignature, uint16_t(kMadeOnUnix | version), version, uint16_t(0),
        uint16_t(0), uint16_t(0), kDate, member.crc, narrow(member.size), narrow(member.size),
        uint16_t(member.name.size()), extraBytes, uint16_t(0), uint16_t(0), uint16_t(0),
        kRegularFile, narrow(member.begin));
  os << member.name;
  if (large.empty())
    return;
  write(shardrt::zip64Extra, uint16_t(8 * large.size()));
  for (uint64_t value : large)
    out.write(value);
}

void ZipWriter::finish() {
  uint64_t begin = os.tell(), count = members.size();
  for (const Member &member : members)
    writeCentral(member);
  uint64_t end = os.tell(), size = end - begin;
  if (isLarge(begin) || isLarge(size)) {
    write(shardrt::end64Signature, uint64_t(44), uint16_t(kMadeOnUnix | kZip64Version),
          kZip64Version, uint32_t(0), uint32_t(0), count, count, size, begin);
    write(shardrt::locatorSignature, uint32_t(0), end, uint32_t(1));
  }
  write(shardrt::endSignature, uint16_t(0), uint16_t(0), uint16_t(count), uint16_t(count),
        narrow(size), narrow(begin), uint16_t(0));
}

//===----------------------------------------------------------------------===//
// What belongs to a bundle
//===----------------------------------------------------------------------===//

/// A name from the manifest, if a bundle may have such a file and it has the size that is listed.
static llvm::Error checkListed(StringRef directory, const llvm::json::Value &value,
                               std::vector<std::string> &names) {
  const llvm::json::Object *entry = value.getAsObject();
  auto name = entry ? entry->getString("path") : std::nullopt;
  auto bytes = entry ? entry->getInteger("bytes") : std::nullopt;
  std::string manifest = (directory + "/manifest.json").str();
  if (!name || !bytes)
    return llvm::createStringError("%s: an entry of \"files\" has no path or no bytes",
                                   manifest.c_str());
  if (!shardrt::isBundleFileName({name->data(), name->size()}))
    return llvm::createStringError("%s: \"%s\" is no file of a bundle", manifest.c_str(),
                                   name->str().c_str());
  std::string path = (directory + "/" + *name).str();
  uint64_t size = 0;
  if (std::error_code code = llvm::sys::fs::file_size(path, size))
    return ioError(path, "is listed in manifest.json, and cannot be read", code);
  if (size != static_cast<uint64_t>(*bytes))
    return llvm::createStringError("%s: has %llu bytes, manifest.json says %lld", path.c_str(),
                                   static_cast<unsigned long long>(size),
                                   static_cast<long long>(*bytes));
  names.push_back(name->str());
  return llvm::Error::success();
}

/// The manifest first, what is large last.
static llvm::Expected<std::vector<std::string>> bundleFileNames(StringRef directory) {
  std::string path = (directory + "/manifest.json").str();
  llvm::Expected<FileBuffer> buffer = readFile(path);
  if (!buffer)
    return buffer.takeError();
  llvm::Expected<llvm::json::Value> manifest = llvm::json::parse((*buffer)->getBuffer());
  if (!manifest)
    return llvm::createStringError("%s: %s", path.c_str(),
                                   llvm::toString(manifest.takeError()).c_str());
  const llvm::json::Object *root = manifest->getAsObject();
  const llvm::json::Array *files = root ? root->getArray("files") : nullptr;
  if (!files)
    return llvm::createStringError("%s: is no bundle's, it has no \"files\"", path.c_str());
  std::vector<std::string> names;
  for (const llvm::json::Value &value : *files)
    if (llvm::Error error = checkListed(directory, value, names))
      return std::move(error);
  std::error_code code;
  for (llvm::sys::fs::directory_iterator it(directory + "/weights", code), end; it != end && !code;
       it.increment(code)) {
    std::string name = ("weights/" + llvm::sys::path::filename(it->path())).str();
    if (shardrt::isBundleFileName(name)) // an index says nothing that the files do not say
      names.push_back(name);
  }
  auto place = [](const std::string &name) {
    return std::make_tuple(StringRef(name).starts_with("weights/"),
                           StringRef(name).starts_with("kernels-"), name != "program.json", name);
  };
  llvm::sort(names,
             [&](const std::string &a, const std::string &b) { return place(a) < place(b); });
  names.erase(std::unique(names.begin(), names.end()), names.end());
  names.insert(names.begin(), "manifest.json");
  return names;
}

static llvm::Error writeMembers(StringRef directory, ArrayRef<std::string> names, StringRef path,
                                uint64_t zip64From) {
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  if (code)
    return ioError(path, "cannot write", code);
  ZipWriter zip(os, zip64From);
  for (const std::string &name : names) {
    llvm::Expected<FileBuffer> contents = readFile(directory + "/" + name);
    if (!contents) {
      os.close();
      os.clear_error();
      return contents.takeError();
    }
    zip.add(name, (*contents)->getBuffer());
  }
  zip.finish();
  os.close();
  if (!os.has_error())
    return llvm::Error::success();
  code = os.error();
  os.clear_error();
  return ioError(path, "cannot write", code);
}

llvm::Error packBundle(StringRef directory, StringRef path, bool force, uint64_t zip64From) {
  if (llvm::Error error = checkReplaceable(path, force))
    return error;
  llvm::Expected<std::vector<std::string>> names = bundleFileNames(directory);
  if (!names)
    return names.takeError();
  SmallString<128> temporary;
  llvm::sys::fs::createUniquePath(path + ".%%%%%%.partial", temporary, /*MakeAbsolute=*/false);
  llvm::Error error = writeMembers(directory, *names, temporary, zip64From);
  if (!error)
    if (std::error_code code = llvm::sys::fs::rename(temporary, path))
      error = ioError(path, "cannot move the finished bundle here", code);
  if (error)
    (void)llvm::sys::fs::remove(temporary);
  return error;
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> readBundleFile(StringRef bundle,
                                                                   StringRef file) {
  if (!llvm::sys::fs::exists(bundle))
    return ioError(bundle, "cannot open bundle",
                   std::make_error_code(std::errc::no_such_file_or_directory));
  if (llvm::sys::fs::is_directory(bundle))
    return readFile(bundle + "/" + file);
  llvm::Expected<FileBuffer> archive = readFile(bundle);
  if (!archive)
    return archive.takeError();
  StringRef bytes = (*archive)->getBuffer();
  std::vector<shardrt::ArchiveMember> members;
  std::string problem = shardrt::readArchive({bytes.data(), bytes.size()}, members);
  if (!problem.empty())
    return llvm::createStringError("%s: %s", bundle.str().c_str(), problem.c_str());
  for (const shardrt::ArchiveMember &member : members)
    if (file == member.name)
      return llvm::MemoryBuffer::getMemBufferCopy(bytes.substr(member.offset, member.size),
                                                  bundle + "/" + file);
  return llvm::createStringError("%s: has no %s", bundle.str().c_str(), file.str().c_str());
}

} // namespace shardc
