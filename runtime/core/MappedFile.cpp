#include "runtime/core/MappedFile.h"
#include "runtime/core/Error.h"

#include <cerrno>
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
    void *mapping = mmap(nullptr, length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapping == MAP_FAILED) {
      std::string reason = systemError();
      close(fd);
      throw Error(SHARDRT_IO, cat(path, ": cannot map ", length, " bytes: ", reason));
    }
    base = static_cast<const std::byte *>(mapping);
  }
  close(fd);
}

void MappedFile::release(size_t begin, size_t end) const {
  const size_t page = 4096;
  begin = (begin + page - 1) / page * page; // a neighbour may still need the rest of a page
  end = end / page * page;
  if (begin < end)
    madvise(const_cast<std::byte *>(base) + begin, end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (base)
    munmap(const_cast<std::byte *>(base), length);
}
