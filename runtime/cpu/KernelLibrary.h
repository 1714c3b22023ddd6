// The kernels of a bundle's chosen level.
#pragma once

#include "runtime/core/BundleFiles.h"
#include "shardrt/abi.h"
#include <string>
#include <vector>

namespace shardrt {

class KernelLibrary {
public:
  /// Each symbol from the first of the files that has it. Throws SHARDRT_BAD_BUNDLE when a library
  /// cannot be loaded or has another ABI, or no library has a symbol.
  KernelLibrary(const BundleFiles &bundle, const std::vector<std::string> &files,
                const std::vector<std::string> &symbols);
  ~KernelLibrary();
  KernelLibrary(const KernelLibrary &) = delete;
  KernelLibrary &operator=(const KernelLibrary &) = delete;
  shardrt_kernel operator[](size_t index) const { return kernels[index]; }

private:
  struct Handle {
    Handle(const BundleFiles &bundle, const std::string &file);
    Handle(Handle &&other) : handle(other.handle), fd(other.fd) {
      other.handle = nullptr;
      other.fd = -1;
    }
    ~Handle() { release(); }
    void release();
    void open(const std::string &name, const std::string &path);
    void *handle = nullptr;
    int fd = -1; // of the copy of an archive's member
  };
  std::vector<Handle> handles;
  std::vector<shardrt_kernel> kernels;
};

} // namespace shardrt
