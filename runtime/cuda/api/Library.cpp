#include "runtime/cuda/api/Library.h"

#include <cstdlib>
#include <dlfcn.h>

using namespace shardrt;
using namespace shardrt::cuda;

static std::string loaderError() {
  const char *text = dlerror();
  return text ? text : "unknown reason";
}

Library::Library(const Source &source) {
  const char *given = std::getenv(source.variable);
  std::vector<std::string> files = source.files;
  if (given && *given)
    files = {given};
  std::string reasons;
  for (const std::string &file : files) {
    handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle) {
      path = file;
      return;
    }
    reasons += (reasons.empty() ? "" : "; ") + loaderError();
  }
  std::string where = given && *given ? cat(", which ", source.variable, " names") : "";
  throw Error(SHARDRT_NO_DEVICE, cat("cannot load ", files.front(), where, ": ", reasons, "; ",
                                     source.advice, ", or set ", source.variable, " to the file"));
}

void *Library::find(const char *symbol) const {
  if (void *address = dlsym(handle, symbol))
    return address;
  throw Error(SHARDRT_NO_DEVICE, cat(path, ": has no function ", symbol,
                                     ", it is of another version: ", loaderError()));
}
