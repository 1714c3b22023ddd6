// The files of a bundle, which is a directory, or a zip file of one whose members are used in
// place.
#pragma once

#include "runtime/core/Archive.h"
#include "runtime/core/MappedFile.h"
#include <optional>

namespace shardrt {

class BundleFiles {
public:
  /// Of nothing.
  BundleFiles() = default;
  /// Throws SHARDRT_BAD_BUNDLE unless `path` is one of the two.
  explicit BundleFiles(const std::string &path);

  const std::string &path() const { return root; }
  bool isArchive() const { return archive.has_value(); }
  /// For messages; of a directory also the file's path.
  std::string pathOf(const std::string &file) const { return root + "/" + file; }
  /// Bytes of a file, or empty if there is none.
  std::optional<int64_t> sizeOf(const std::string &file) const;
  /// Throws unless the file is there.
  MappedFile open(const std::string &file) const;
  /// Of an archive.
  const std::vector<ArchiveMember> &members() const { return list; }

private:
  const ArchiveMember *find(const std::string &file) const;
  std::string root;
  std::optional<MappedFile> archive;
  std::vector<ArchiveMember> list; // by name
};

} // namespace shardrt
