// Reads program.json.
//   1. Buffers: 64-byte aligned, inside the arena (of GPUs: or the host memory behind it), large enough for dtype and shape.
//   2. Parameters, constants, axis indices: refer to buffers that are large enough for this mesh's
//      local shapes.
//   3. Storage that is filled while loading (parameters, constants, axis indices, state) never
//      overlaps other storage; another buffer may only be a view that lies wholly inside it.
//   4. Buckets and states (StateReader.cpp).
//   5. Groups, kernels (of GPUs: CudaReader.cpp), entries (EntryReader.cpp) with their commands
//      (CommandReader.cpp).
#include "runtime/core/ProgramReader.h"

#include <algorithm>
#include <set>

using namespace shardrt;

static const int64_t programVersion = 2; // since 2, commands belong to entries

SubAxes shardrt::readSubAxes(const JsonNode &node, const Mesh &mesh) {
  SubAxes result;
  for (size_t i = 0; i < node.size(); ++i) {
    JsonNode item = node.at(i);
    SubAxis sub;
    sub.axis = item.get("axis").index(mesh.axes.size(), "mesh axis");
    int64_t size = mesh.axes[sub.axis].size;
    sub.pre = item.get("pre").integer(1, size);
    sub.size = item.get("size").integer(1, size);
    if (size % (sub.pre * sub.size) != 0)
      item.fail(cat("pre ", sub.pre, " times size ", sub.size, " does not divide axis \"",
                    mesh.axes[sub.axis].name, "\" of size ", size));
    result.push_back(sub);
  }
  return result;
}

/// No digit of an axis may be used twice, or ranks would collide.
void shardrt::checkDisjoint(const JsonNode &node, const SubAxes &axes, const Mesh &mesh) {
  for (size_t i = 0; i < axes.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (overlap(axes[i], axes[j]))
        node.fail(cat("uses a part of axis \"", mesh.axes[axes[i].axis].name, "\" twice"));
}

Sharding shardrt::readSharding(const JsonNode &node, const Mesh &mesh, const Shape &shape) {
  if (node.size() != shape.size())
    node.fail(cat("sharding has ", node.size(), " dimensions, the tensor has ", shape.size()));
  Sharding sharding;
  SubAxes all;
  for (size_t i = 0; i < node.size(); ++i) {
    sharding.push_back(readSubAxes(node.at(i), mesh));
    all.insert(all.end(), sharding.back().begin(), sharding.back().end());
  }
  checkDisjoint(node, all, mesh);
  return sharding;
}

std::vector<SubAxes> shardrt::readGroups(const JsonNode &node, const Mesh &mesh) {
  std::vector<SubAxes> groups;
  for (size_t i = 0; i < node.size(); ++i) {
    JsonNode axes = node.at(i).get("axes");
    groups.push_back(readSubAxes(axes, mesh));
    checkDisjoint(axes, groups.back(), mesh);
  }
  return groups;
}

static BufferKind readKind(const JsonNode &node) {
  static const char *const names[] = {"input",      "output",    "parameter", "constant",
                                      "axis_index", "temporary", "state"};
  std::string name = node.string();
  for (int i = 0; i < 7; ++i)
    if (name == names[i])
      return static_cast<BufferKind>(i);
  node.fail(cat("unknown buffer kind \"", name, "\""));
}

static Buffer readBuffer(const JsonNode &node, const Program &program) {
  Buffer buffer;
  buffer.name = node.get("name").string();
  buffer.dtype = node.get("dtype").dtype();
  buffer.shape = node.get("shape").shape();
  buffer.offset = node.get("offset").integer(0);
  buffer.bytes = node.get("bytes").integer(0);
  buffer.kind = readKind(node.get("kind"));
  if (buffer.offset % 64 != 0)
    node.get("offset").fail(
        cat("offset ", buffer.offset, " of buffer \"", buffer.name, "\" is not a multiple of 64"));
  std::optional<int64_t> end = checkedAdd(buffer.offset, buffer.bytes);
  const CudaArea &host = program.cuda.host;
  if (end && program.isOnHost(buffer)) {
    if (*end > host.offset + host.bytes)
      node.fail(cat("buffer \"", buffer.name, "\" at offset ", buffer.offset, " with ",
                    buffer.bytes, " bytes ends beyond the host memory [", host.offset, ", ",
                    host.offset + host.bytes, ")"));
  } else if (!end || *end > program.arenaBytes) {
    node.fail(cat("buffer \"", buffer.name, "\" at offset ", buffer.offset, " with ", buffer.bytes,
                  " bytes ends beyond the arena of ", program.arenaBytes, " bytes"));
  }
  std::optional<int64_t> needed = checkedBytes(buffer.shape, buffer.dtype);
  if (!needed || *needed > buffer.bytes)
    node.get("bytes").fail(cat("buffer \"", buffer.name, "\" has ", buffer.bytes, " bytes, its ",
                               dtypeName(buffer.dtype), " ", shapeString(buffer.shape), " needs ",
                               needed ? std::to_string(*needed) : "more than a 64-bit count"));
  return buffer;
}

int shardrt::readBufferIndex(const JsonNode &node, const Program &program, const char *what,
                             std::optional<int64_t> bytes) {
  int index = node.index(program.buffers.size(), "buffer");
  const Buffer &buffer = program.buffers[index];
  if (!bytes || *bytes > buffer.bytes)
    node.fail(cat(what, " needs ", bytes ? std::to_string(*bytes) : "more than a 64-bit count of",
                  " bytes, buffer ", index, " \"", buffer.name, "\" has ", buffer.bytes));
  return index;
}

static std::vector<int> readDims(const JsonNode &node, size_t dims, std::vector<bool> &used) {
  std::vector<int> result;
  for (size_t i = 0; i < node.size(); ++i) {
    result.push_back(node.at(i).index(dims, "dimension"));
    if (used[result.back()])
      node.fail(cat("dimension ", result.back(), " appears twice in the layout"));
    used[result.back()] = true;
  }
  return result;
}

static Layout readLayout(const JsonNode &node, Target target, size_t dims) {
  Layout layout;
  std::string kind = node.get("kind").string();
  if (kind == "row_major")
    return layout;
  if (kind != "panels")
    node.get("kind").fail(cat("unknown layout \"", kind, "\""));
  if (target != Target::Cpu)
    node.get("kind").fail(
        cat("panels are a layout of processors, the target is ", targetName(target)));
  std::vector<bool> used(dims);
  layout.nDims = readDims(node.get("n_dims"), dims, used);
  layout.kDims = readDims(node.get("k_dims"), dims, used);
  layout.batchDims = readDims(node.get("batch_dims"), dims, used);
  layout.nTile = node.get("n_tile").integer(1, 1 << 20);
  size_t count = layout.nDims.size() + layout.kDims.size() + layout.batchDims.size();
  if (count != dims)
    node.fail(cat("panels name ", count, " dimensions, the parameter has ", dims));
  return layout;
}

static std::optional<int64_t> productOver(const Shape &shape, const std::vector<int> &dims) {
  Shape picked;
  for (int dim : dims)
    picked.push_back(shape[dim]);
  return checkedCount(picked);
}

std::optional<int64_t> shardrt::layoutBytes(const Layout &layout, const Shape &local, DType dtype) {
  if (!layout.isPanels())
    return checkedBytes(local, dtype);
  std::optional<int64_t> n = productOver(local, layout.nDims), k = productOver(local, layout.kDims),
                         b = productOver(local, layout.batchDims);
  if (!n || !k || !b || *n > INT64_MAX - layout.nTile)
    return std::nullopt;
  bool pairs = dtype == SHARDRT_BF16 || dtype == SHARDRT_F16;
  int64_t depth = pairs ? ceilDiv(*k, 2) : *k;
  return checkedBytes({*b, ceilDiv(*n, layout.nTile), depth, layout.nTile, pairs ? 2 : 1}, dtype);
}

Segment shardrt::readSegment(const JsonNode &node, const Shape &shape) {
  if (!node.has("segment"))
    return {-1, 0, 0};
  JsonNode item = node.get("segment");
  int dim = item.get("dim").index(shape.size(), "dimension");
  Segment segment{dim, item.get("offset").integer(0), item.get("size").integer(0)};
  if (segment.size != shape[dim])
    item.get("size").fail(
        cat("segment size ", segment.size, " is not the size ", shape[dim], " of dimension ", dim));
  if (!checkedAdd(segment.offset, segment.size))
    item.get("offset").fail(cat("offset ", segment.offset, " is too large"));
  return segment;
}

static Parameter readParameter(const JsonNode &node, const Program &program, const Mesh &mesh) {
  Parameter parameter;
  parameter.tensor = node.get("tensor").string();
  parameter.dtype = node.get("dtype").dtype();
  parameter.shape = node.get("shape").shape();
  parameter.segment = readSegment(node, parameter.shape);
  parameter.sharding = readSharding(node.get("shard"), mesh, parameter.shape);
  parameter.layout = readLayout(node.get("layout"), program.target, parameter.shape.size());
  std::optional<int64_t> bytes = layoutBytes(
      parameter.layout, localShape(parameter.shape, parameter.sharding), parameter.dtype);
  parameter.buffer = readBufferIndex(node.get("buffer"), program, parameter.tensor.c_str(), bytes);
  return parameter;
}

static Constant readConstant(const JsonNode &node, const Program &program, int64_t fileBytes) {
  Constant constant;
  constant.offset = node.get("offset").integer(0);
  constant.bytes = node.get("bytes").integer(0);
  std::optional<int64_t> end = checkedAdd(constant.offset, constant.bytes);
  if (!end || *end > fileBytes)
    node.fail(cat("constant at offset ", constant.offset, " with ", constant.bytes,
                  " bytes ends beyond constants.bin of ", fileBytes, " bytes"));
  constant.buffer = readBufferIndex(node.get("buffer"), program, "the constant", constant.bytes);
  return constant;
}

static bool isLoaded(BufferKind kind) {
  return kind == BufferKind::Parameter || kind == BufferKind::Constant ||
         kind == BufferKind::AxisIndex || kind == BufferKind::State;
}

/// Sweeps the buffers by offset; only overlaps that involve a loaded buffer matter, since the rest
/// of the arena is shared by buffers with disjoint lifetimes.
static void checkOverlaps(const JsonNode &node, const Program &program) {
  std::vector<int> order;
  for (size_t i = 0; i < program.buffers.size(); ++i)
    if (program.buffers[i].bytes > 0)
      order.push_back(static_cast<int>(i));
  const std::vector<Buffer> &buffers = program.buffers;
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { // of two at one place the larger first, so that it can be the outer
              return buffers[a].offset != buffers[b].offset ? buffers[a].offset < buffers[b].offset
                                                            : buffers[a].bytes > buffers[b].bytes;
            });
  int last = -1, lastLoaded = -1; // those that end last so far
  auto complain = [&](int a, int b) {
    node.at(b).fail(cat("buffer \"", buffers[b].name, "\" [", buffers[b].offset, ", ",
                        buffers[b].offset + buffers[b].bytes, ") overlaps buffer ", a, " \"",
                        buffers[a].name, "\" [", buffers[a].offset, ", ",
                        buffers[a].offset + buffers[a].bytes, ")"));
  };
  auto end = [&](int i) { return i < 0 ? 0 : buffers[i].offset + buffers[i].bytes; };
  auto mayView = [&](int outer, int inner) { // a temporary or output wholly inside loaded storage
    BufferKind kind = buffers[inner].kind;
    return (kind == BufferKind::Temporary || kind == BufferKind::Output ||
            buffers[outer].kind == BufferKind::State) &&
           buffers[outer].offset <= buffers[inner].offset && end(inner) <= end(outer);
  };
  for (int i : order) {
    if (isLoaded(buffers[i].kind)) {
      if (buffers[i].offset < end(last) && !mayView(i, last))
        complain(last, i);
      if (end(i) > end(lastLoaded))
        lastLoaded = i;
    } else if (buffers[i].offset < end(lastLoaded) && !mayView(lastLoaded, i)) {
      complain(lastLoaded, i);
    }
    if (end(i) > end(last))
      last = i;
  }
}

Program shardrt::readProgram(std::string_view text, const std::string &file, const Mesh &mesh,
                             int64_t constantBytes) {
  JsonDocument document(text, file);
  JsonNode root = document.root();
  if (int64_t version = root.get("version").integer(INT64_MIN); version != programVersion)
    root.get("version").fail(cat("version ", version, ", this runtime reads version ",
                                 programVersion,
                                 version < programVersion ? "; compile the model again" : ""));
  Program program;
  program.target = readTarget(root);
  program.arenaBytes = root.get("arena").get("bytes").integer(0, int64_t(1) << 48);
  if (program.target == Target::Cuda)
    program.cuda.host = readHostArea(root.get("cuda"), program);
  JsonNode buffers = root.get("buffers");
  for (size_t i = 0; i < buffers.size(); ++i)
    program.buffers.push_back(readBuffer(buffers.at(i), program));
  checkOverlaps(buffers, program);
  JsonNode parameters = root.get("parameters");
  for (size_t i = 0; i < parameters.size(); ++i)
    program.parameters.push_back(readParameter(parameters.at(i), program, mesh));
  JsonNode constants = root.get("constants");
  for (size_t i = 0; i < constants.size(); ++i)
    program.constants.push_back(readConstant(constants.at(i), program, constantBytes));
  JsonNode indices = root.get("axis_indices");
  for (size_t i = 0; i < indices.size(); ++i)
    program.axisIndices.push_back(
        {readBufferIndex(indices.at(i).get("buffer"), program, "an axis index", 8),
         readSubAxes(indices.at(i).get("axes"), mesh)});
  program.groups = readGroups(root.get("groups"), mesh);
  JsonNode kernels = root.get("kernels");
  for (size_t i = 0; i < kernels.size(); ++i)
    program.kernels.push_back(program.target == Target::Cuda ? kernels.at(i).get("name").string()
                                                             : kernels.at(i).string());
  if (program.target == Target::Cuda)
    program.cuda = readCudaProgram(root, program);
  if (root.has("buckets"))
    program.buckets = readBuckets(root.get("buckets"), mesh);
  if (root.has("states"))
    program.states = readStates(root.get("states"), mesh, program);
  if (root.has("init"))
    program.init = readCommands(root.get("init"), program);
  program.entries = readEntries(root.get("entries"), program, mesh);
  return program;
}
