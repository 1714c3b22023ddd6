#include "runtime/core/MappedFile.h"
#include "runtime/core/Error.h"

#include <cstdint>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace shardrt;

MappedFile::MappedFile(const std::string &path) : name(path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    throw Error(SHARDRT_IO, cat(path, ": cannot open: ", systemError()));
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    throw Error(SHARDRT_IO, cat(path, ": not a regular file"));
  }
  length = static_cast<size_t>(info.st_size);
  if (length) {
    void *address = mmap(nullptr, length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) {
      std::string reason = systemError();
      close(fd);
      throw Error(SHARDRT_IO, cat(path, ": cannot map ", length, " bytes: ", reason));
    }
    base = static_cast<const std::byte *>(address);
    mapping.reset(base, [size = length](const std::byte *begin) {
      munmap(const_cast<std::byte *>(begin), size);
    });
  }
  close(fd);
}

MappedFile::MappedFile(const MappedFile &whole, size_t offset, size_t size, std::string name)
    : name(std::move(name)), mapping(whole.mapping), base(whole.base + offset), length(size) {}

void MappedFile::release(size_t begin, size_t end) const {
  const uintptr_t page = 4096, start = reinterpret_cast<uintptr_t>(base);
  // A neighbour may still need the rest of a page.
  uintptr_t first = (start + begin + page - 1) / page * page, last = (start + end) / page * page;
  if (first < last)
    madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
}
