// Finds and loads the shim library.
#pragma once

#include "runtime/channels/mpi/shim.h"
#include <string>
#include <vector>

namespace shardrt {

/// Where a shim is looked for; `path` (or SHARDRT_MPI_SHIM) is the only place if given. `openMpi`:
/// started by Open MPI.
std::vector<std::string> shimCandidates(const std::string &path, bool openMpi);
/// Whether one of them exists.
bool haveShim(const std::string &path, bool openMpi);
/// Throws SHARDRT_INVALID_ARGUMENT that lists the places and says how to build one.
const shardrt_mpi_shim &loadShim(const std::string &path, bool openMpi);

} // namespace shardrt
