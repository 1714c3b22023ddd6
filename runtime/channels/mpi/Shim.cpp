#include "runtime/channels/mpi/Shim.h"
#include "runtime/core/Error.h"

#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>

using namespace shardrt;
namespace fs = std::filesystem;

std::vector<std::string> shardrt::shimCandidates(const std::string &path, bool openMpi) {
  const char *forced = path.empty() ? std::getenv("SHARDRT_MPI_SHIM") : path.c_str();
  if (forced && *forced)
    return {forced};
  std::error_code ignored;
  fs::path here = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  std::vector<std::string> candidates;
  for (const fs::path &directory : {here, here.parent_path() / "lib"})
    for (const char *name :
         {openMpi ? "libshardrt-mpi-openmpi.so" : "libshardrt-mpi-mpich.so", "libshardrt-mpi.so"})
      candidates.push_back((directory / name).string());
  return candidates;
}

static std::string firstExisting(const std::vector<std::string> &candidates) {
  std::error_code ignored;
  for (const std::string &candidate : candidates)
    if (fs::exists(candidate, ignored))
      return candidate;
  return "";
}

bool shardrt::haveShim(const std::string &path, bool openMpi) {
  return !firstExisting(shimCandidates(path, openMpi)).empty();
}

const shardrt_mpi_shim &shardrt::loadShim(const std::string &path, bool openMpi) {
  std::vector<std::string> candidates = shimCandidates(path, openMpi);
  std::string found = firstExisting(candidates);
  if (found.empty()) {
    std::string places;
    for (const std::string &candidate : candidates)
      places += "\n  " + candidate;
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("no MPI shim library found; build one with "
                                              "runtime/channels/mpi/build-shim.sh as one of:",
                                              places));
  }
  // Global, because Open MPI's plug-ins look for its symbols.
  void *handle = dlopen(found.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!handle)
    throw Error(SHARDRT_INVALID_ARGUMENT, cat(found, ": cannot load: ", dlerror()));
  auto table = reinterpret_cast<shardrt_mpi_shim_function>(dlsym(handle, SHARDRT_MPI_SHIM_SYMBOL));
  if (!table || table()->version != SHARDRT_MPI_SHIM_VERSION)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat(found, ": is not an MPI shim of version ", SHARDRT_MPI_SHIM_VERSION));
  return *table();
}
