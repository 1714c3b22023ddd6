#include "runtime/core/BundleFiles.h"
#include "runtime/core/Error.h"

#include <algorithm>
#include <sys/stat.h>

using namespace shardrt;

BundleFiles::BundleFiles(const std::string &path) : root(path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0)
    throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": cannot open bundle: ", systemError()));
  if (S_ISDIR(info.st_mode))
    return;
  archive.emplace(path);
  if (std::string problem = readArchive(archive->text(), list); !problem.empty())
    throw Error(SHARDRT_BAD_BUNDLE,
                cat(path, ": a bundle is a directory, or a zip file of one: ", problem));
}

const ArchiveMember *BundleFiles::find(const std::string &file) const {
  auto it = std::lower_bound(
      list.begin(), list.end(), file,
      [](const ArchiveMember &member, const std::string &name) { return member.name < name; });
  return it != list.end() && it->name == file ? &*it : nullptr;
}

std::optional<int64_t> BundleFiles::sizeOf(const std::string &file) const {
  if (archive) {
    const ArchiveMember *member = find(file);
    return member ? std::optional<int64_t>(member->size) : std::nullopt;
  }
  struct stat info;
  if (stat(pathOf(file).c_str(), &info) != 0)
    return std::nullopt;
  return info.st_size;
}

MappedFile BundleFiles::open(const std::string &file) const {
  if (!archive)
    return MappedFile(pathOf(file));
  const ArchiveMember *member = find(file);
  if (!member)
    throw Error(SHARDRT_BAD_BUNDLE, cat(pathOf(file), ": is missing"));
  return MappedFile(*archive, member->offset, member->size, pathOf(file));
}
