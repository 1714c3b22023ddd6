// A read-only memory-mapped file, or a part of one: pages are read when touched, so a rank reads
// only its part of a weight file.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace shardrt {

class MappedFile {
public:
  /// Throws SHARDRT_IO with the path and the reason.
  explicit MappedFile(const std::string &path);
  /// A part, which keeps the whole mapped. It must lie inside it.
  MappedFile(const MappedFile &whole, size_t offset, size_t size, std::string name);

  const std::byte *data() const { return base; }
  size_t size() const { return length; }
  std::string_view text() const { return {reinterpret_cast<const char *>(base), length}; }
  const std::string &path() const { return name; }
  /// Says that these bytes will not be read again soon: they leave this process's memory.
  void release(size_t begin, size_t end) const;

private:
  std::string name;
  std::shared_ptr<const std::byte> mapping; // the whole; null if it is empty
  const std::byte *base = nullptr;
  size_t length = 0;
};

} // namespace shardrt
