//===- Float8Call.cpp - Products of 8-bit floats by cuBLASLt --------------===//
//
// Its kernels for them (sm_89, sm_90) read both factors along the sum. A factor that lies otherwise
// is transposed into scratch memory first: in a training step the weight for the gradient of the
// input, and both factors of a weight's gradient. The units are read from device memory, so that
// nothing waits for the host.
//
//===----------------------------------------------------------------------===//
#include "LibraryCalls.h"
#include "shardc/Lower/Float8Product.h"

using namespace mlir;

namespace shardc {

/// A factor as rows of sums, k × 1 apart.
struct Lines {
  bool isTransposed; ///< it lies as columns, without gaps
  int64_t stride;    ///< from line to line as it is multiplied
};

/// nullopt if it can be neither read nor transposed.
static std::optional<Lines> linesOf(int64_t lines, int64_t k, int64_t lineStride,
                                    int64_t sumStride) {
  if (sumStride == 1 && lineStride >= k && lineStride % 16 == 0)
    return Lines{false, lineStride};
  if (lineStride == 1 && sumStride == lines)
    return Lines{true, k};
  return std::nullopt;
}

namespace {
struct Call {
  EinsumPlan plan;
  Float8Product product;
  Lines a, b;
};
} // namespace

static std::optional<Call> callOf(graph::EinsumOp op) {
  std::optional<Float8Product> product = matchFloat8Product(op);
  std::optional<EinsumPlan> plan = product ? planOf(op) : std::nullopt;
  if (!plan || !fitBlas(plan->spec) || !fitFloat8(plan->spec))
    return std::nullopt;
  const GemmSpec &spec = plan->spec;
  auto a = linesOf(spec.m, spec.k, spec.a.rowStride, spec.a.columnStride),
       b = linesOf(spec.n, spec.k, spec.b.columnStride, spec.b.rowStride);
  if (!a || !b || !isa<BlockArgument>(product->unit.getLhs()) ||
      !isa<BlockArgument>(product->unit.getRhs()))
    return std::nullopt;
  return Call{*plan, *product, *a, *b};
}

bool isFloat8Call(graph::EinsumOp op) { return callOf(op).has_value(); }

/// Appends a kernel that transposes a matrix of rows × columns into scratch memory.
static LogicalResult transpose(CudaKernel &kernel, Location loc, const Twine &name, Type element,
                               int64_t rows, int64_t columns, CudaArgument from, CudaArgument to,
                               gpu::GPUModuleOp kernels) {
  OpBuilder builder(kernels.getContext());
  auto type = RankedTensorType::get({rows, columns}, element),
       result = RankedTensorType::get({columns, rows}, element);
  OwningOpRef<func::FuncOp> function = func::FuncOp::create(
      loc, name.str(), builder.getFunctionType(TypeRange(type), TypeRange(result)));
  Block *block = function->addEntryBlock();
  builder.setInsertionPointToEnd(block);
  Value transposed =
      graph::TransposeOp::create(builder, loc, block->getArgument(0), ArrayRef<int64_t>{1, 0});
  func::ReturnOp::create(builder, loc, transposed);
  FailureOr<CudaKernel> generated = lowerCudaKernel(*function, kernels);
  if (failed(generated))
    return failure();
  for (CudaCall &call : generated->calls) {
    forEachArgument(call, [&](CudaArgument &argument) { argument = argument.buffer ? to : from; });
    kernel.calls.push_back(std::move(call));
  }
  return success();
}

FailureOr<CudaKernel> float8Call(func::FuncOp function, graph::EinsumOp op,
                                 gpu::GPUModuleOp kernels) {
  Call call = *callOf(op);
  const GemmSpec &spec = call.plan.spec;
  Value a = op.getLhs(), b = op.getRhs(), aUnit = call.product.unit.getLhs(),
        bUnit = call.product.unit.getRhs(), end = call.product.end(),
        result = function.getBody().front().getTerminator()->getOperand(0);
  if (call.plan.swapped) {
    std::swap(a, b);
    std::swap(aUnit, bUnit);
  }
  CudaKernel kernel;
  kernel.name = function.getSymName().str();
  bool isWhole = end == result;
  auto endType = cast<RankedTensorType>(end.getType());
  int64_t scratch = isWhole ? 0 : llvm::alignTo(tensorBytes(endType), kCudaAlignment);
  auto factor = [&](Value tensor, Value unit, const Lines &lines, int64_t count,
                    StringRef suffix) -> FailureOr<CudaMatrix> {
    auto argument = CudaArgument::ofBuffer(bufferOf(function, viewOf(tensor).base));
    Type element = cast<RankedTensorType>(tensor.getType()).getElementType();
    if (lines.isTransposed) {
      auto copy = CudaArgument::ofScratch(scratch);
      if (failed(transpose(kernel, op.getLoc(), function.getSymName() + suffix, element, spec.k,
                           count, argument, copy, kernels)))
        return failure();
      argument = copy;
      scratch += llvm::alignTo(spec.k * count, kCudaAlignment);
    }
    CudaMatrix matrix{argument, nameOf(element), lines.stride, 1};
    matrix.scale = CudaArgument::ofBuffer(bufferOf(function, unit));
    return matrix;
  };
  FailureOr<CudaMatrix> left = factor(a, aUnit, call.a, spec.m, "_a");
  FailureOr<CudaMatrix> right = failed(left) ? left : factor(b, bUnit, call.b, spec.n, "_b");
  if (failed(right))
    return failure();
  std::swap(right->row, right->column); // B is k × n
  CudaMatrix d{isWhole ? CudaArgument::ofBuffer(bufferOf(function, result))
                       : CudaArgument::ofScratch(0),
               nameOf(endType.getElementType()), spec.c.rowStride, 1};
  kernel.calls.push_back(CudaGemm{{}, spec.m, spec.n, spec.k, *left, *right, d});
  kernel.scratchBytes = scratch;
  if (isWhole)
    return kernel;
  if (failed(addEpilogue(kernel, function, end, kernels)))
    return failure();
  kernel.scratchBytes = std::max(kernel.scratchBytes, scratch);
  return kernel;
}

} // namespace shardc
