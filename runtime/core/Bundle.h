// A bundle after reading and checking everything but the weights.
#pragma once

#include "runtime/core/BundleFiles.h"
#include "runtime/core/Program.h"
#include "runtime/core/Training.h"
#include <memory>

namespace shardrt {

struct FileEntry {
  std::string path, sha256;
  int64_t bytes;
};

/// Code for one kind of processor (a level), or of GPU (an architecture).
struct KernelEntry {
  std::string level, file;
  bool isPtx = false;
  std::string rest = {}; // cpu: file of the kernels that `file` lacks; empty: it has them all
};

struct Manifest {
  Target target = Target::Cpu;
  std::string producer, model, launchOrderHash;
  std::vector<std::string> entryPoints;
  Mesh mesh;
  int64_t arenaBytes = -1, hostBytes = 0;
  std::vector<KernelEntry> kernels;
  std::vector<FileEntry> files;
  std::optional<Training> training;
};

Manifest readManifest(std::string_view text, const std::string &file);

struct Bundle {
  BundleFiles files;
  Manifest manifest;
  Program program;
  KernelEntry kernels;                 // of the chosen level; a GPU's rank chooses later
  std::string isa;                     // asked for, or empty
  std::optional<MappedFile> constants; // empty when the bundle has none
  uint64_t fingerprint = 0;            // of program and mesh

  int ranks() const { return static_cast<int>(manifest.mesh.ranks()); }
};

/// Throws unless the file is what manifest.json lists.
void checkBundleFile(const Bundle &bundle, const std::string &path);

/// `isa` forces a level; empty takes the best that this processor runs.
std::unique_ptr<Bundle> openBundle(const std::string &path, const std::string &isa);

} // namespace shardrt
