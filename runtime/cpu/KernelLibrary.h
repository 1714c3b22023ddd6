// The kernels of a bundle's chosen level.
#pragma once

#include "shardrt/abi.h"
#include <string>
#include <vector>

namespace shardrt {

class KernelLibrary {
public:
  /// Each symbol from the first of the files that has it. Throws SHARDRT_BAD_BUNDLE when a library
  /// cannot be loaded or has another ABI, or no library has a symbol.
  KernelLibrary(const std::vector<std::string> &files, const std::vector<std::string> &symbols);
  ~KernelLibrary();
  KernelLibrary(const KernelLibrary &) = delete;
  KernelLibrary &operator=(const KernelLibrary &) = delete;
  shardrt_kernel operator[](size_t index) const { return kernels[index]; }

private:
  struct Handle {
    explicit Handle(const std::string &path);
    Handle(Handle &&other) : handle(other.handle) { other.handle = nullptr; }
    ~Handle();
    void *handle;
  };
  std::vector<Handle> handles;
  std::vector<shardrt_kernel> kernels;
};

} // namespace shardrt
