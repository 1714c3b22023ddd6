// manifest.json: only what the runtime needs; the rest is for people and other tools.
#include "runtime/core/Bundle.h"
#include "runtime/core/ProgramReader.h"

#include <algorithm>

using namespace shardrt;

static const int64_t formatMajor = 1;
static const int64_t maxRanks = 1 << 16;

static Mesh readMesh(const JsonNode &root) {
  Mesh mesh;
  JsonNode axes = root.get("mesh").get("axes");
  int64_t ranks = 1;
  for (size_t i = 0; i < axes.size(); ++i) {
    JsonNode axis = axes.at(i);
    mesh.axes.push_back({axis.get("name").string(), axis.get("size").integer(1, maxRanks)});
    ranks *= mesh.axes.back().size;
    if (ranks > maxRanks)
      axes.fail(cat("the mesh has more than ", maxRanks, " ranks"));
  }
  if (int64_t given = root.get("ranks").integer(1); given != ranks)
    root.get("ranks").fail(cat(given, " ranks, but the mesh has ", ranks));
  return mesh;
}

/// File names come from the manifest: they must stay inside the bundle.
static std::string readPath(const JsonNode &node) {
  std::string path = node.string();
  bool leaves = path.empty() || path[0] == '/' || path.find('\0') != std::string::npos;
  for (size_t begin = 0; begin <= path.size() && !leaves;) {
    size_t end = std::min(path.find('/', begin), path.size());
    leaves = path.compare(begin, end - begin, "..") == 0;
    begin = end + 1;
  }
  if (leaves)
    node.fail(cat("\"", path, "\" is not a path inside the bundle"));
  return path;
}

static KernelEntry readKernels(const JsonNode &node, Target target) {
  if (target == Target::Cpu)
    return {node.get("level").string(), readPath(node.get("file")), false,
            node.has("rest") ? readPath(node.get("rest")) : ""};
  std::string format = node.get("format").string();
  if (format != "cubin" && format != "ptx")
    node.get("format").fail(cat("unknown format \"", format, "\", it is cubin or ptx"));
  return {node.get("arch").string(), readPath(node.get("file")), format == "ptx"};
}

Manifest shardrt::readManifest(std::string_view text, const std::string &file) {
  JsonDocument document(text, file);
  JsonNode root = document.root();
  JsonNode format = root.get("format");
  int64_t major = format.get("major").integer(0), minor = format.get("minor").integer(0);
  if (major != formatMajor)
    format.fail(cat("bundle format ", major, ".", minor, ", this runtime reads format ",
                    formatMajor, ".x"));
  Manifest manifest;
  manifest.target = readTarget(root);
  manifest.mesh = readMesh(root);
  manifest.producer = root.has("producer") ? root.get("producer").string() : "unknown";
  manifest.model = root.has("model") ? root.get("model").string() : "unnamed";
  JsonNode entryPoints = root.get("entry_points");
  for (size_t i = 0; i < entryPoints.size(); ++i)
    manifest.entryPoints.push_back(entryPoints.at(i).string());
  if (manifest.entryPoints.empty())
    entryPoints.fail("there is no entry point");
  JsonNode kernels = root.get("kernels");
  for (size_t i = 0; i < kernels.size(); ++i)
    manifest.kernels.push_back(readKernels(kernels.at(i), manifest.target));
  JsonNode files = root.get("files");
  for (size_t i = 0; i < files.size(); ++i) {
    JsonNode item = files.at(i);
    manifest.files.push_back({readPath(item.get("path")),
                              item.has("sha256") ? item.get("sha256").string() : "",
                              item.get("bytes").integer(0)});
  }
  if (root.has("memory")) {
    manifest.arenaBytes = root.get("memory").get("arena_bytes").integer(0);
    manifest.hostBytes = root.get("memory").integerOr("host_bytes", 0, 0);
  }
  if (root.has("launch_order_hash"))
    manifest.launchOrderHash = root.get("launch_order_hash").string();
  if (root.has("training"))
    manifest.training = readTraining(root.get("training"));
  return manifest;
}
