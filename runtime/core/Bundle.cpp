// Opens a bundle: manifest, chosen kernel level, sizes and hashes of the files, program.
#include "runtime/core/Bundle.h"
#include "runtime/core/Error.h"
#include "runtime/core/ProgramReader.h"
#include "runtime/core/Safetensors.h"
#include "runtime/core/Sha256.h"
#include "runtime/cpu/IsaLevel.h"

#include <algorithm>
#include <cstdlib>

using namespace shardrt;

static bool hasSuffix(const std::string &text, const std::string &suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

static bool isKernelOfOtherLevel(const Bundle &bundle, const std::string &path) {
  for (const KernelEntry &entry : bundle.manifest.kernels)
    if (entry.file == path)
      return path != bundle.kernels.file && path != bundle.kernels.rest;
  return false;
}

/// Weight files may be huge, so their hash covers the header (which fixes names, shapes and
/// offsets) only.
static std::string hashOf(const MappedFile &file) {
  size_t bytes = file.size();
  if (hasSuffix(file.path(), ".safetensors"))
    bytes = safetensorsHeaderBytes(file.text(), file.path());
  return sha256Hex(file.data(), bytes);
}

static void checkFile(const Bundle &bundle, const FileEntry &entry, bool withHash) {
  std::string path = bundle.files.pathOf(entry.path);
  std::optional<int64_t> bytes = bundle.files.sizeOf(entry.path);
  if (!bytes)
    throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": listed in manifest.json, but missing"));
  if (*bytes != entry.bytes)
    throw Error(SHARDRT_BAD_BUNDLE,
                cat(path, ": has ", *bytes, " bytes, manifest.json says ", entry.bytes));
  if (entry.sha256.empty() || !withHash)
    return;
  if (std::string actual = hashOf(bundle.files.open(entry.path)); actual != entry.sha256)
    throw Error(SHARDRT_BAD_BUNDLE,
                cat(path, ": sha256 is ", actual, ", manifest.json says ", entry.sha256));
}

static KernelEntry chooseKernels(const Manifest &manifest, const std::string &isa) {
  std::vector<std::string> offered;
  if (manifest.kernels.empty() || manifest.target == Target::Cuda) // only collectives, or later
    return {};
  for (const KernelEntry &entry : manifest.kernels)
    offered.push_back(entry.level);
  return manifest.kernels[chooseIsaLevel(offered, isa)];
}

static void checkEntryPoints(const Bundle &bundle, const std::string &manifestPath) {
  std::string listed, present;
  for (const std::string &name : bundle.manifest.entryPoints)
    listed += (listed.empty() ? "" : ", ") + name;
  for (const Entry &entry : bundle.program.entries)
    present += (present.empty() ? "" : ", ") + entry.name;
  if (listed != present)
    throw Error(SHARDRT_BAD_BUNDLE, cat(manifestPath, ": entry_points are ", listed,
                                        ", program.json has the entries ", present));
}

void shardrt::checkBundleFile(const Bundle &bundle, const std::string &path) {
  for (const FileEntry &entry : bundle.manifest.files)
    if (entry.path == path)
      return checkFile(bundle, entry, true);
  throw Error(SHARDRT_BAD_BUNDLE,
              cat(bundle.files.pathOf("manifest.json"), ": files: \"", path, "\" is not listed"));
}

static bool launchesKernels(const Program &program) {
  if (program.target == Target::Cpu)
    return !program.kernels.empty();
  for (const CudaKernel &kernel : program.cuda.kernels)
    for (const std::vector<CudaCall> *calls : {&kernel.calls, &kernel.otherwise})
      for (const CudaCall &call : *calls)
        if (std::holds_alternative<CudaLaunch>(call))
          return true;
  return false;
}

std::unique_ptr<Bundle> shardrt::openBundle(const std::string &path, const std::string &isa) {
  auto bundle = std::make_unique<Bundle>();
  bundle->files = BundleFiles(path);
  const BundleFiles &files = bundle->files;
  std::string manifestPath = files.pathOf("manifest.json");
  if (!files.sizeOf("manifest.json"))
    throw Error(SHARDRT_BAD_BUNDLE, cat(path, ": not a bundle, manifest.json is missing"));
  bundle->manifest = readManifest(files.open("manifest.json").text(), manifestPath);
  bundle->isa = isa;
  bundle->kernels = chooseKernels(bundle->manifest, isa);
  for (const FileEntry &entry : bundle->manifest.files)
    checkFile(*bundle, entry, !isKernelOfOtherLevel(*bundle, entry.path));
  if (files.sizeOf("constants.bin"))
    bundle->constants.emplace(files.open("constants.bin"));
  MappedFile program = files.open("program.json");
  int64_t constantBytes = bundle->constants ? static_cast<int64_t>(bundle->constants->size()) : 0;
  bundle->program =
      readProgram(program.text(), program.path(), bundle->manifest.mesh, constantBytes);
  checkEntryPoints(*bundle, manifestPath);
  if (bundle->manifest.target != bundle->program.target)
    throw Error(SHARDRT_BAD_BUNDLE,
                cat(manifestPath, ": target is ", targetName(bundle->manifest.target),
                    ", program.json is for ", targetName(bundle->program.target)));
  if (bundle->manifest.kernels.empty() && launchesKernels(bundle->program))
    throw Error(SHARDRT_BAD_BUNDLE,
                cat(manifestPath, ": kernels: empty, but program.json launches kernels"));
  if (bundle->manifest.arenaBytes >= 0 && bundle->manifest.arenaBytes != bundle->program.arenaBytes)
    throw Error(SHARDRT_BAD_BUNDLE,
                cat(manifestPath, ": memory.arena_bytes is ", bundle->manifest.arenaBytes,
                    ", program.json has an arena of ", bundle->program.arenaBytes));
  if (bundle->manifest.arenaBytes >= 0 &&
      bundle->manifest.hostBytes != bundle->program.cuda.host.bytes)
    throw Error(SHARDRT_BAD_BUNDLE,
                cat(manifestPath, ": memory.host_bytes is ", bundle->manifest.hostBytes,
                    ", program.json has ", bundle->program.cuda.host.bytes, " of host memory"));
  std::string hash = sha256Hex(program.data(), program.size()) + bundle->manifest.launchOrderHash;
  bundle->fingerprint =
      std::strtoull(sha256Hex(hash.data(), hash.size()).substr(0, 16).c_str(), nullptr, 16);
  return bundle;
}
