// The parts of program.json that only programs for GPUs have.
//   1. Areas: inside the arena, behind all buffers, apart from each other.
//   2. Kernels: every argument is a place, every matrix lies inside its place as far as that is
//      known here, launches are within the limits of any GPU.
//   3. Commands: enough buffers, each as large as the kernel's calls need; staged collectives fit
//      the staging area and complete at once.
#include "runtime/core/ProgramReader.h"
#include "shardrt/staging.h"

#include <algorithm>

using namespace shardrt;

static const int64_t alignment = 256;        // of areas, and of what lies in the scratch area
static const int64_t maxBlocks = INT32_MAX;  // of a grid's first dimension
static const int64_t maxThreads = 1024;      // of a block
static const int64_t maxShared = 227 * 1024; // dynamic, on the largest architectures
static const int64_t maxExtent = int64_t(1) << 40;

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

static bool isFloat8(DType dtype) { return dtype == SHARDRT_F8E4M3FN || dtype == SHARDRT_F8E5M2; }

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

namespace {
/// Reads one kernel, and notes what its calls touch.
class KernelReader {
public:
  explicit KernelReader(const CudaProgram &cuda) : cuda(cuda) {}

  CudaKernel read(const JsonNode &node) {
    kernel.name = node.get("name").string();
    JsonNode calls = node.get("calls");
    for (size_t i = 0; i < calls.size(); ++i)
      kernel.calls.push_back(readCall(calls.at(i)));
    return std::move(kernel);
  }

private:
  CudaCall readCall(const JsonNode &node) {
    std::string kind = node.get("kind").string();
    if (kind == "launch")
      return readLaunch(node);
    if (kind == "gemm")
      return readGemm(node);
    if (kind == "memset") {
      int64_t bytes = node.get("bytes").integer(0);
      return CudaMemset{readArgument(node.get("argument"), bytes), bytes};
    }
    node.get("kind").fail(cat("unknown call \"", kind, "\""));
  }

  /// A place of at least `bytes` bytes.
  CudaArgument readArgument(const JsonNode &node, int64_t bytes) {
    CudaArgument argument;
    if (!node.isObject()) {
      argument.buffer = static_cast<int>(node.integer(0, INT16_MAX));
      if (kernel.bytes.size() <= static_cast<size_t>(argument.buffer))
        kernel.bytes.resize(argument.buffer + 1);
      int64_t &most = kernel.bytes[argument.buffer];
      most = std::max(most, bytes);
      return argument;
    }
    argument.scratch = node.get("scratch").integer(0);
    if (argument.scratch % alignment)
      node.get("scratch").fail(
          cat("offset ", argument.scratch, " is not a multiple of ", alignment));
    std::optional<int64_t> end = checkedAdd(argument.scratch, std::max<int64_t>(bytes, 1));
    if (!end || *end > cuda.scratch.bytes)
      node.get("scratch").fail(cat("offset ", argument.scratch, " with ", bytes,
                                   " bytes ends beyond the scratch area of ", cuda.scratch.bytes,
                                   " bytes"));
    return argument;
  }

  CudaLaunch readLaunch(const JsonNode &node) {
    CudaLaunch launch;
    launch.symbol = node.get("symbol").string();
    launch.blocks = node.get("blocks").integer(1, maxBlocks);
    launch.threads = node.get("threads").integer(1, maxThreads);
    launch.sharedBytes = node.integerOr("shared", 0, 0);
    if (launch.sharedBytes > maxShared)
      node.get("shared").fail(
          cat(launch.sharedBytes, " bytes of shared memory, no GPU has more than ", maxShared));
    JsonNode arguments = node.get("arguments");
    for (size_t i = 0; i < arguments.size(); ++i)
      launch.arguments.push_back(readArgument(arguments.at(i), 0));
    return launch;
  }

  CudaGemm readGemm(const JsonNode &node) {
    CudaGemm gemm;
    gemm.batch = node.get("batch").shape();
    gemm.m = node.get("m").integer(1, INT32_MAX);
    gemm.n = node.get("n").integer(1, INT32_MAX);
    gemm.k = node.get("k").integer(1, INT32_MAX);
    gemm.a = readMatrix(node.get("a"), gemm.batch, gemm.m, gemm.k);
    gemm.b = readMatrix(node.get("b"), gemm.batch, gemm.k, gemm.n);
    gemm.d = readMatrix(node.get("d"), gemm.batch, gemm.m, gemm.n);
    for (size_t i = 0; i < gemm.batch.size(); ++i)
      if (gemm.batch[i] > 1 && gemm.d.batch[i] == 0)
        node.get("d").fail(cat("all ", gemm.batch[i], " results along batch dimension ", i,
                               " have the same place"));
    readAddend(node, gemm);
    gemm.compute = readCompute(node.get("compute"), gemm);
    checkFloat8(node, gemm);
    readEpilogue(node, gemm);
    return gemm;
  }

  void readAddend(const JsonNode &node, CudaGemm &gemm) {
    bool accumulate = node.get("accumulate").boolean();
    if (!accumulate && node.has("c"))
      node.get("c").fail("there is a matrix to add, and accumulate is false");
    if (accumulate)
      gemm.c = node.has("c") ? readArgument(node.get("c"), bytesOf(gemm.d, gemm)) : gemm.d.argument;
  }

  /// Up to a matrix's last element; it was read, so that this does not overflow.
  static int64_t bytesOf(const CudaMatrix &matrix, const CudaGemm &gemm) {
    int64_t last = (gemm.m - 1) * matrix.row + (gemm.n - 1) * matrix.column;
    for (size_t i = 0; i < gemm.batch.size(); ++i)
      last += (gemm.batch[i] - 1) * matrix.batch[i];
    return (last + 1) * dtypeSize(matrix.dtype);
  }

  CudaMatrix readMatrix(const JsonNode &node, const Shape &batch, int64_t rows, int64_t columns) {
    CudaMatrix matrix;
    matrix.dtype = node.get("dtype").dtype();
    if (matrix.dtype > SHARDRT_BF16 && !isFloat8(matrix.dtype))
      node.get("dtype").fail(cat("a matrix is f64, f32, f16, bf16, f8E4M3FN or f8E5M2, not ",
                                 dtypeName(matrix.dtype)));
    if (node.has("scale")) {
      if (!isFloat8(matrix.dtype))
        node.get("scale").fail(
            cat("a matrix of ", dtypeName(matrix.dtype), " has no scale, one of 8-bit floats has"));
      matrix.scale = readArgument(node.get("scale"), dtypeSize(SHARDRT_F32));
    }
    matrix.row = node.get("row").integer(0, maxExtent);
    matrix.column = node.get("column").integer(0, maxExtent);
    checkStrides(node, matrix, rows, columns);
    JsonNode strides = node.get("batch");
    if (strides.size() != batch.size())
      strides.fail(cat(strides.size(), " strides for ", batch.size(), " batch dimensions"));
    std::optional<int64_t> extent = 1; // elements up to the last one
    auto walk = [&](int64_t count, int64_t stride) {
      std::optional<int64_t> way = checkedMul(count - 1, stride);
      extent = extent && way ? checkedAdd(*extent, *way) : std::nullopt;
    };
    walk(rows, matrix.row);
    walk(columns, matrix.column);
    for (size_t i = 0; i < batch.size(); ++i) {
      matrix.batch.push_back(strides.at(i).integer(0, maxExtent));
      if (batch[i] == 0)
        node.fail(cat("batch dimension ", i, " is empty"));
      walk(batch[i], matrix.batch[i]);
    }
    std::optional<int64_t> bytes = extent ? checkedMul(*extent, dtypeSize(matrix.dtype)) : extent;
    if (!bytes)
      node.fail("the matrix has more bytes than a 64-bit integer can count");
    matrix.argument = readArgument(node.get("argument"), *bytes);
    return matrix;
  }

  /// What cuBLASLt takes of 8-bit floats: both factors along k, lines of 16 bytes.
  static void checkFloat8(const JsonNode &node, const CudaGemm &gemm) {
    if (isFloat8(gemm.d.dtype))
      node.get("d").get("dtype").fail("a result is not of 8-bit floats");
    if (isFloat8(gemm.a.dtype) != isFloat8(gemm.b.dtype))
      node.fail(cat("factors of ", dtypeName(gemm.a.dtype), " and ", dtypeName(gemm.b.dtype)));
    if (!isFloat8(gemm.a.dtype))
      return;
    if (gemm.compute != CudaCompute::F32)
      node.get("compute").fail("8-bit floats are summed in f32");
    bool aLies = gemm.a.column == 1 && gemm.a.row % 16 == 0,
         bLies = gemm.b.row == 1 && gemm.b.column % 16 == 0,
         dLies = gemm.d.column == 1 && gemm.d.row * dtypeSize(gemm.d.dtype) % 16 == 0;
    if (!aLies || !bLies || !dLies || gemm.k % 16 || gemm.n % 16)
      node.fail(cat("8-bit floats of m ", gemm.m, ", n ", gemm.n, ", k ", gemm.k, " with strides ",
                    gemm.a.row, " and ", gemm.a.column, ", ", gemm.b.row, " and ", gemm.b.column,
                    ": n, k and lines along k are multiples of 16"));
  }

  /// cuBLASLt wants neighbours along one dimension, and rows (or columns) that do not overlap.
  static void checkStrides(const JsonNode &node, const CudaMatrix &matrix, int64_t rows,
                           int64_t columns) {
    bool byRows = matrix.column == 1 || columns == 1, byColumns = matrix.row == 1 || rows == 1;
    if (!byRows && !byColumns)
      node.fail(cat("neither rows nor columns are contiguous: strides ", matrix.row, " and ",
                    matrix.column));
    bool fits = (byRows && (rows == 1 || matrix.row >= columns)) ||
                (byColumns && (columns == 1 || matrix.column >= rows));
    if (!fits)
      node.fail(cat("a ", rows, " x ", columns, " matrix with strides ", matrix.row, " and ",
                    matrix.column, " overlaps itself"));
  }

  static CudaCompute readCompute(const JsonNode &node, const CudaGemm &gemm) {
    std::string name = node.string();
    bool anyF64 = false, allF64 = true, allF32 = true;
    for (const CudaMatrix *matrix : {&gemm.a, &gemm.b, &gemm.d}) {
      anyF64 |= matrix->dtype == SHARDRT_F64;
      allF64 &= matrix->dtype == SHARDRT_F64;
      allF32 &= matrix->dtype == SHARDRT_F32;
    }
    if (name == "f64" && allF64)
      return CudaCompute::F64;
    if (name == "f32" && !anyF64)
      return CudaCompute::F32;
    if (name == "tf32" && allF32)
      return CudaCompute::Tf32;
    if (name != "f64" && name != "f32" && name != "tf32")
      node.fail(cat("unknown compute type \"", name, "\""));
    node.fail(cat(dtypeName(gemm.a.dtype), " by ", dtypeName(gemm.b.dtype), " to ",
                  dtypeName(gemm.d.dtype), " is not computed in ", name));
  }

  void readEpilogue(const JsonNode &node, CudaGemm &gemm) {
    std::string name = node.get("epilogue").string();
    bool hasBias = name == "bias" || name == "relu_bias" || name == "gelu_bias";
    if (name == "relu" || name == "relu_bias")
      gemm.activation = CudaGemm::Relu;
    else if (name == "gelu" || name == "gelu_bias")
      gemm.activation = CudaGemm::Gelu;
    else if (name != "none" && name != "bias")
      node.get("epilogue").fail(cat("unknown epilogue \"", name, "\""));
    if (hasBias != node.has("bias"))
      node.get("epilogue")
          .fail(cat("epilogue \"", name, "\" ", hasBias ? "needs" : "has", " a bias"));
    if (!hasBias)
      return;
    if (gemm.d.column != 1 && gemm.n != 1)
      node.get("bias").fail(
          cat("a bias along n needs contiguous rows, d has column stride ", gemm.d.column));
    gemm.bias = readArgument(node.get("bias"), gemm.n * dtypeSize(gemm.d.dtype));
  }

  const CudaProgram &cuda;
  CudaKernel kernel;
};
} // namespace

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
    cuda.kernels.push_back(KernelReader(cuda).read(kernels.at(i)));
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
