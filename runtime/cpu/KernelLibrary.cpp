#include "runtime/cpu/KernelLibrary.h"
#include "runtime/core/Error.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace shardrt;

/// The loader of shared libraries takes files only, from their beginning.
static int copyToMemory(const MappedFile &file) {
  int fd = memfd_create("shardrt-kernels", MFD_CLOEXEC);
  if (fd < 0)
    throw Error(SHARDRT_IO, cat(file.path(), ": no memory file for kernels: ", systemError()));
  for (size_t done = 0; done < file.size();) {
    ssize_t written = write(fd, file.data() + done, file.size() - done);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0) {
      std::string reason = systemError();
      close(fd);
      throw Error(SHARDRT_IO, cat(file.path(), ": cannot copy ", file.size(), " bytes: ", reason));
    }
    done += written;
  }
  return fd;
}

KernelLibrary::Handle::Handle(const BundleFiles &bundle, const std::string &file) {
  std::string path = bundle.pathOf(file);
  try {
    if (bundle.isArchive()) {
      fd = copyToMemory(bundle.open(file));
      open(cat("/proc/self/fd/", fd), path);
    } else { // a name without a slash would be searched in the system's library path
      open(path.find('/') == std::string::npos ? "./" + path : path, path);
    }
  } catch (...) {
    release();
    throw;
  }
}

void KernelLibrary::Handle::open(const std::string &name, const std::string &path) {
  handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": cannot load kernels: ", dlerror()));
  const char *abi = static_cast<const char *>(dlsym(handle, "shardrt_abi"));
  if (!abi || std::strncmp(abi, SHARDRT_ABI, sizeof(SHARDRT_ABI)) != 0)
    throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": kernels have ABI \"", abi ? abi : "none",
                                        "\", this runtime calls \"", SHARDRT_ABI, "\""));
}

void KernelLibrary::Handle::release() {
  if (handle)
    dlclose(handle);
  if (fd >= 0) // only now: the loader knows libraries by name, and the next one must have another
    close(fd);
}

KernelLibrary::KernelLibrary(const BundleFiles &bundle, const std::vector<std::string> &files,
                             const std::vector<std::string> &symbols) {
  for (const std::string &file : files)
    handles.emplace_back(bundle, file);
  for (const std::string &symbol : symbols) {
    void *address = nullptr;
    for (size_t i = 0; i < handles.size() && !address; ++i)
      address = dlsym(handles[i].handle, symbol.c_str());
    if (!address)
      throw Error(SHARDRT_BAD_BUNDLE,
                  cat(bundle.pathOf(files.back()), ": kernel \"", symbol, "\" is missing"));
    kernels.push_back(reinterpret_cast<shardrt_kernel>(address));
  }
}

KernelLibrary::~KernelLibrary() = default;
