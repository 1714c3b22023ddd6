// The kernels-<level>.so of a bundle.
#pragma once

#include "shardrt/abi.h"
#include <string>
#include <vector>

namespace shardrt {

class KernelLibrary {
public:
  /// Throws SHARDRT_BAD_BUNDLE when the library cannot be loaded, has another ABI, or lacks a
  /// symbol.
  KernelLibrary(const std::string &path, const std::vector<std::string> &symbols);
  ~KernelLibrary();
  KernelLibrary(const KernelLibrary &) = delete;
  KernelLibrary &operator=(const KernelLibrary &) = delete;
  shardrt_kernel operator[](size_t index) const { return kernels[index]; }

private:
  void *handle;
  std::vector<shardrt_kernel> kernels;
};

} // namespace shardrt
