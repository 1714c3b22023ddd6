// The parts of program.json that only programs for GPUs have.
//   1. Areas: inside the arena, behind all buffers, apart from each other; host memory behind it.
//   2. Kernels (CudaKernelReader.cpp).
//   3. Commands: enough buffers, each as large as the kernel's calls need; staged collectives fit
//      the staging area and complete at once; neither products nor NCCL work on host memory.
#include "runtime/core/ProgramReader.h"
#include "shardrt/staging.h"

#include <algorithm>

using namespace shardrt;

static const int64_t alignment = 256; // of areas

const char *shardrt::targetName(Target target) { return target == Target::Cuda ? "cuda" : "cpu"; }

Target shardrt::readTarget(const JsonNode &root) {
  if (!root.has("target"))
    return Target::Cpu;
  std::string name = root.get("target").string();
  for (Target target : {Target::Cpu, Target::Cuda})
    if (name == targetName(target))
      return target;
  root.get("target").fail(cat("unknown target \"", name, "\", this runtime runs cpu and cuda"));
}

static CudaArea readArea(const JsonNode &node, const Program &program) {
  CudaArea area{node.get("offset").integer(0), node.get("bytes").integer(0)};
  if (area.offset % alignment)
    node.get("offset").fail(cat("offset ", area.offset, " is not a multiple of ", alignment));
  std::optional<int64_t> end = checkedAdd(area.offset, area.bytes);
  if (!end || *end > program.arenaBytes)
    node.fail(cat("the area at offset ", area.offset, " with ", area.bytes,
                  " bytes ends beyond the arena of ", program.arenaBytes, " bytes"));
  if (area.bytes)
    for (const Buffer &buffer : program.buffers)
      if (!program.isOnHost(buffer) && buffer.offset + buffer.bytes > area.offset)
        node.fail(cat("the area begins at ", area.offset, ", buffer \"", buffer.name, "\" ends at ",
                      buffer.offset + buffer.bytes));
  return area;
}

/// Memory of this machine, in which states may lie. It begins where the arena ends, so that an offset
/// says which of the two is meant.
CudaArea shardrt::readHostArea(const JsonNode &areas, const Program &program) {
  if (!areas.has("host"))
    return {program.arenaBytes, 0};
  JsonNode node = areas.get("host");
  CudaArea host{node.get("offset").integer(0), node.get("bytes").integer(1, int64_t(1) << 48)};
  if (host.offset != program.arenaBytes)
    node.get("offset").fail(
        cat("begins at ", host.offset, ", the arena ends at ", program.arenaBytes));
  return host;
}

/// Only states lie there, and parts of them: what is loaded otherwise is read by products.
static void checkHostBuffers(const JsonNode &node, const Program &program) {
  std::vector<const Buffer *> states;
  for (const Buffer &buffer : program.buffers)
    if (buffer.kind == BufferKind::State && program.isOnHost(buffer))
      states.push_back(&buffer);
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const Buffer &buffer = program.buffers[i];
    if (!program.isOnHost(buffer) || buffer.kind == BufferKind::State)
      continue;
    bool isPart = std::any_of(states.begin(), states.end(), [&](const Buffer *state) {
      return state->offset <= buffer.offset &&
             buffer.offset + buffer.bytes <= state->offset + state->bytes;
    });
    if (!isPart || buffer.kind != BufferKind::Temporary)
      node.at(i).fail(cat("buffer \"", buffer.name, "\" lies in host memory, and is no state"));
  }
}

static void checkApart(const JsonNode &node, const CudaProgram &cuda) {
  struct {
    const char *name;
    const CudaArea &area;
  } areas[] = {{"scratch", cuda.scratch}, {"workspace", cuda.workspace}, {"staging", cuda.staging}};
  for (const auto &[name, area] : areas)
    for (const auto &[other, taken] : areas)
      if (&area != &taken && area.bytes && taken.bytes && area.offset >= taken.offset &&
          area.offset < taken.offset + taken.bytes)
        node.get(name).fail(cat("begins at ", area.offset, " inside of ", other, " [", taken.offset,
                                ", ", taken.offset + taken.bytes, ")"));
}

CudaProgram shardrt::readCudaProgram(const JsonNode &root, const Program &program) {
  CudaProgram cuda;
  JsonNode areas = root.get("cuda");
  cuda.host = program.cuda.host;
  checkHostBuffers(root.get("buffers"), program);
  cuda.scratch = readArea(areas.get("scratch"), program);
  cuda.workspace = readArea(areas.get("workspace"), program);
  cuda.staging = readArea(areas.get("staging"), program);
  checkApart(areas, cuda);
  JsonNode kernels = root.get("kernels");
  for (size_t i = 0; i < kernels.size(); ++i)
    cuda.kernels.push_back(readCudaKernel(kernels.at(i), cuda));
  return cuda;
}

void shardrt::checkCudaLaunch(const JsonNode &node, const Program &program,
                              const Command &command) {
  const CudaKernel &kernel = program.cuda.kernels[command.kernel];
  if (command.buffers.size() < kernel.bytes.size())
    node.get("buffers").fail(cat("kernel \"", kernel.name, "\" works on ", kernel.bytes.size(),
                                 " buffers, given ", command.buffers.size()));
  for (size_t i = 0; i < kernel.bytes.size(); ++i) {
    const Buffer &buffer = program.buffers[command.buffers[i]];
    if (kernel.bytes[i] && program.isOnHost(buffer)) // a generated kernel may
      node.get("buffers").at(i).fail(cat("kernel \"", kernel.name, "\" multiplies or fills buffer ",
                                         command.buffers[i], " \"", buffer.name,
                                         "\", which lies in host memory"));
    if (kernel.bytes[i] > buffer.bytes)
      node.get("buffers").at(i).fail(cat("kernel \"", kernel.name, "\" touches ", kernel.bytes[i],
                                         " bytes, buffer ", command.buffers[i], " \"", buffer.name,
                                         "\" has ", buffer.bytes));
  }
}

int64_t shardrt::cudaStagingBytes(const Collective &call, int64_t ranks) {
  int64_t size = dtypeSize(call.dtype);
  switch (call.kind) {
  case CollectiveKind::AllGather:
  case CollectiveKind::ReduceScatter:
    return ranks == 1 ? 0 : shardrt_rows_staging(ranks, size, call.outer, call.inner, call.total);
  case CollectiveKind::AllToAll:
    return ranks == 1 ? 0
                      : shardrt_all_to_all_staging(ranks, size, call.shape.data(),
                                                   static_cast<int32_t>(call.shape.size()),
                                                   call.splitDim, call.shape[call.splitDim]);
  default:
    return 0;
  }
}

void shardrt::checkCudaCollective(const JsonNode &node, const Program &program,
                                  const Command &command) {
  const Collective &call = command.collective;
  bool isSlice = command.kind == CommandKind::Slice;
  int64_t ranks = sizeOf(program.groups[call.group]),
          staging = isSlice ? 0 : cudaStagingBytes(call, ranks);
  bool gathersInPlace = !isSlice && call.kind == CollectiveKind::AllGather && ranks > 1 && !staging;
  for (int side : {command.src, command.dst})
    if (const Buffer &buffer = program.buffers[side];
        program.isOnHost(buffer) && (side == command.dst || !gathersInPlace))
      node.fail(
          cat("works on buffer ", side, " \"", buffer.name,
              "\", which lies in host memory: only a gather into a whole buffer reads from there"));
  if (isSlice) {
    if (call.outer > 1 &&
        program.buffers[command.src].offset == program.buffers[command.dst].offset)
      node.fail(cat("a slice of ", call.outer, " rows onto itself: GPUs copy rows in any order"));
    return;
  }
  bool reduces =
      call.kind == CollectiveKind::AllReduce || call.kind == CollectiveKind::ReduceScatter;
  bool isRefused = call.dtype == SHARDRT_I16 || call.dtype == SHARDRT_UI16 ||
                   isFloat8(call.dtype); // 8-bit floats: not before NCCL 2.24
  if (reduces && isRefused)
    node.get("dtype").fail(cat("NCCL reduces no ", dtypeName(call.dtype)));
  if (staging > program.cuda.staging.bytes)
    node.fail(cat("the command stages ", staging, " bytes, the staging area has ",
                  program.cuda.staging.bytes));
  if (staging && command.ticket >= 0)
    node.get("ticket").fail("a staged collective completes at once, it carries no ticket");
}
