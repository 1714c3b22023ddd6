#include "runtime/cpu/KernelLibrary.h"
#include "runtime/core/Error.h"

#include <cstring>
#include <dlfcn.h>

using namespace shardrt;

KernelLibrary::Handle::Handle(const std::string &path) {
  // A name without a slash would be searched in the system's library path.
  std::string name = path.find('/') == std::string::npos ? "./" + path : path;
  handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": cannot load kernels: ", dlerror()));
  const char *abi = static_cast<const char *>(dlsym(handle, "shardrt_abi"));
  if (abi && std::strncmp(abi, SHARDRT_ABI, sizeof(SHARDRT_ABI)) == 0)
    return;
  std::string found = abi ? abi : "none";
  dlclose(handle);
  throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": kernels have ABI \"", found,
                                      "\", this runtime calls \"", SHARDRT_ABI, "\""));
}

KernelLibrary::Handle::~Handle() {
  if (handle)
    dlclose(handle);
}

KernelLibrary::KernelLibrary(const std::vector<std::string> &files,
                             const std::vector<std::string> &symbols) {
  for (const std::string &file : files)
    handles.emplace_back(file);
  for (const std::string &symbol : symbols) {
    void *address = nullptr;
    for (size_t i = 0; i < handles.size() && !address; ++i)
      address = dlsym(handles[i].handle, symbol.c_str());
    if (!address)
      throw Error(SHARDRT_BAD_BUNDLE, cat(files.back(), ": kernel \"", symbol, "\" is missing"));
    kernels.push_back(reinterpret_cast<shardrt_kernel>(address));
  }
}

KernelLibrary::~KernelLibrary() = default;
