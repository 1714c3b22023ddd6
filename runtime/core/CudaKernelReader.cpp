// One kernel of a program for GPUs: every argument is a place, every matrix lies inside its place as
// far as that is known here, launches are within the limits of any GPU.
#include "runtime/core/ProgramReader.h"

#include <algorithm>

using namespace shardrt;

static const int64_t alignment = 256;        // of what lies in the scratch area
static const int64_t maxBlocks = INT32_MAX;  // of a grid's first dimension
static const int64_t maxThreads = 1024;      // of a block
static const int64_t maxShared = 227 * 1024; // dynamic, on the largest architectures
static const int64_t maxExtent = int64_t(1) << 40;

namespace {
/// Reads one kernel, and notes what its calls touch.
class KernelReader {
public:
  explicit KernelReader(const CudaProgram &cuda) : cuda(cuda) {}

  CudaKernel read(const JsonNode &node) {
    kernel.name = node.get("name").string();
    readCalls(node.get("calls"), kernel.calls);
    if (node.has("otherwise"))
      readCalls(node.get("otherwise"), kernel.otherwise);
    return std::move(kernel);
  }

private:
  void readCalls(const JsonNode &list, std::vector<CudaCall> &calls) {
    for (size_t i = 0; i < list.size(); ++i)
      calls.push_back(readCall(list.at(i)));
  }

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
    if (name == "bias_gradient_a" || name == "bias_gradient_b")
      return readBiasGradient(node, gemm, name == "bias_gradient_a");
    bool hasAux = name == "gelu_aux" || name == "gelu_aux_bias";
    bool hasBias =
        name == "bias" || name == "relu_bias" || name == "gelu_bias" || name == "gelu_aux_bias";
    if (name == "relu" || name == "relu_bias")
      gemm.activation = CudaGemm::Relu;
    else if (name == "gelu" || name == "gelu_bias" || hasAux)
      gemm.activation = CudaGemm::Gelu;
    else if (name != "none" && name != "bias")
      node.get("epilogue").fail(cat("unknown epilogue \"", name, "\""));
    if (hasBias != node.has("bias"))
      node.get("epilogue")
          .fail(cat("epilogue \"", name, "\" ", hasBias ? "needs" : "has", " a bias"));
    if (hasAux != node.has("aux"))
      node.get("epilogue")
          .fail(cat("epilogue \"", name, "\" ", hasAux ? "needs" : "has", " an aux"));
    if ((hasBias || hasAux) && gemm.d.column != 1 && gemm.n != 1)
      node.get("epilogue")
          .fail(cat("epilogue \"", name, "\" needs contiguous rows, d has column stride ",
                    gemm.d.column));
    if (hasBias)
      gemm.bias = readArgument(node.get("bias"), gemm.n * dtypeSize(gemm.d.dtype));
    if (hasAux && (gemm.d.row % 8 != 0 || !gemm.batch.empty()))
      node.get("aux").fail(cat("an aux needs rows at multiples of 8 elements and no batch, d has ",
                               gemm.d.row, " and ", gemm.batch.size(), " batch dimensions"));
    if (hasAux)
      gemm.aux = readArgument(node.get("aux"), bytesOf(gemm.d, gemm));
  }

  void readBiasGradient(const JsonNode &node, CudaGemm &gemm, bool ofA) {
    if (!gemm.batch.empty())
      node.get("epilogue")
          .fail(cat("a gradient of a bias is of one product, not of ", gemm.batch.size(),
                    " batch dimensions"));
    gemm.biasUse = ofA ? CudaGemm::SumsOfA : CudaGemm::SumsOfB;
    gemm.bias = readArgument(node.get("bias"), (ofA ? gemm.m : gemm.n) * dtypeSize(gemm.d.dtype));
  }

  const CudaProgram &cuda;
  CudaKernel kernel;
};
} // namespace

CudaKernel shardrt::readCudaKernel(const JsonNode &node, const CudaProgram &cuda) {
  return KernelReader(cuda).read(node);
}
