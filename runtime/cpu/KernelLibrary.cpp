#include "runtime/cpu/KernelLibrary.h"
#include "runtime/core/Error.h"

#include <cstring>
#include <dlfcn.h>

using namespace shardrt;

KernelLibrary::KernelLibrary(const std::string &path, const std::vector<std::string> &symbols) {
  // A name without a slash would be searched in the system's library path.
  std::string name = path.find('/') == std::string::npos ? "./" + path : path;
  handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": cannot load kernels: ", dlerror()));
  try {
    const char *abi = static_cast<const char *>(dlsym(handle, "shardrt_abi"));
    if (!abi || std::strncmp(abi, SHARDRT_ABI, sizeof(SHARDRT_ABI)) != 0)
      throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": kernels have ABI \"", abi ? abi : "none",
                                          "\", this runtime calls \"", SHARDRT_ABI, "\""));
    for (const std::string &symbol : symbols) {
      void *address = dlsym(handle, symbol.c_str());
      if (!address)
        throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": kernel \"", symbol, "\" is missing"));
      kernels.push_back(reinterpret_cast<shardrt_kernel>(address));
    }
  } catch (...) {
    dlclose(handle);
    throw;
  }
}

KernelLibrary::~KernelLibrary() { dlclose(handle); }
