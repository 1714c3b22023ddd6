//===- Float8Call.cpp - Products of 8-bit floats by cuBLASLt --------------===//
//
// Its kernels for them (sm_89, sm_90) read both factors along the sum. A factor that lies otherwise
// is transposed into scratch memory first: in a training step the weight for the gradient of the
// input, and both factors of a weight's gradient. The units are read from device memory, so that
// nothing waits for the host.
//
// What it does not take (sizes that are no multiples of 16, batches) is multiplied as bf16, which
// holds every 8-bit float: the same sums, not as fast. The kernel's note says why.
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

/// nullopt, with the reason, if it is another product.
static std::optional<Call> callOf(graph::EinsumOp op, const EinsumPlan &plan, std::string &reason) {
  const GemmSpec &spec = plan.spec;
  std::optional<Float8Product> product = matchFloat8Product(op);
  if (!spec.batch.empty()) {
    reason = "is a batch of " + std::to_string(ShapedType::getNumElements(spec.batch));
    return std::nullopt;
  }
  for (auto [what, size] : {std::pair("sums are over ", spec.k), std::pair("rows have ", spec.n)})
    if (size % 16 != 0) {
      reason = what + std::to_string(size) + " elements, which is no multiple of 16";
      return std::nullopt;
    }
  auto a = linesOf(spec.m, spec.k, spec.a.rowStride, spec.a.columnStride),
       b = linesOf(spec.n, spec.k, spec.b.columnStride, spec.b.rowStride);
  if (!product || !fitFloat8(spec) || !a || !b || !isa<BlockArgument>(product->unit.getLhs()) ||
      !isa<BlockArgument>(product->unit.getRhs())) {
    reason = "factors and result do not lie as cuBLASLt wants it";
    return std::nullopt;
  }
  return Call{plan, *product, *a, *b};
}

bool isFloat8Product(graph::EinsumOp op) {
  if (!isFloat8(op.getLhs().getType()))
    return false;
  std::optional<EinsumPlan> plan = planOf(op);
  return plan && fitBlas(plan->spec);
}

/// Appends a kernel that makes one tensor of another, in scratch memory.
static LogicalResult prepare(CudaKernel &kernel, Location loc, const Twine &name,
                             RankedTensorType type, CudaArgument from, CudaArgument to,
                             gpu::GPUModuleOp kernels,
                             llvm::function_ref<Value(OpBuilder &, Value)> make) {
  OpBuilder builder(kernels.getContext());
  OwningOpRef<func::FuncOp> function =
      func::FuncOp::create(loc, name.str(), builder.getFunctionType(TypeRange(type), {}));
  Block *block = function->addEntryBlock();
  builder.setInsertionPointToEnd(block);
  Value made = make(builder, block->getArgument(0));
  func::ReturnOp::create(builder, loc, made);
  function->setFunctionType(builder.getFunctionType(TypeRange(type), made.getType()));
  FailureOr<CudaKernel> generated = lowerCudaKernel(*function, kernels);
  if (failed(generated))
    return failure();
  for (CudaCall &call : generated->calls) {
    forEachArgument(call, [&](CudaArgument &argument) { argument = argument.buffer ? to : from; });
    kernel.calls.push_back(std::move(call));
  }
  return success();
}

/// The factors are widened into scratch memory in front.
static FailureOr<CudaKernel> wideCall(func::FuncOp function, graph::EinsumOp op,
                                      const EinsumPlan &plan, gpu::GPUModuleOp kernels) {
  const GemmSpec &spec = plan.spec;
  Value a = op.getLhs(), b = op.getRhs(),
        result = function.getBody().front().getTerminator()->getOperand(0);
  if (plan.swapped)
    std::swap(a, b);
  CudaKernel kernel;
  kernel.name = function.getSymName().str();
  bool isWhole = op.getResult() == result || storedStrides(op);
  int64_t scratch = isWhole ? 0 : llvm::alignTo(tensorBytes(op.getType()), kCudaAlignment);
  Type wide = BFloat16Type::get(op.getContext());
  auto factor = [&](Value tensor, const GemmOperand &how,
                    StringRef suffix) -> FailureOr<CudaMatrix> {
    Value base = viewOf(tensor).base;
    auto type = cast<RankedTensorType>(base.getType());
    CudaMatrix matrix{CudaArgument::ofScratch(scratch), nameOf(wide), how.rowStride,
                      how.columnStride, how.batch};
    scratch += llvm::alignTo(tensorBytes(type.clone(wide)), kCudaAlignment);
    auto widen = [&](OpBuilder &builder, Value x) {
      return graph::castTo(builder, op.getLoc(), x, wide);
    };
    if (failed(prepare(kernel, op.getLoc(), function.getSymName() + suffix, type,
                       CudaArgument::ofBuffer(bufferOf(function, base)), matrix.argument, kernels,
                       widen)))
      return failure();
    return matrix;
  };
  FailureOr<CudaMatrix> left = factor(a, spec.a, "_a");
  FailureOr<CudaMatrix> right = failed(left) ? left : factor(b, spec.b, "_b");
  if (failed(right))
    return failure();
  CudaMatrix d{
      isWhole ? CudaArgument::ofBuffer(bufferOf(function, result)) : CudaArgument::ofScratch(0),
      nameOf(op.getType().getElementType()), spec.c.rowStride, spec.c.columnStride, spec.c.batch};
  kernel.calls.push_back(CudaGemm{spec.batch, spec.m, spec.n, spec.k, *left, *right, d});
  if (!isWhole && failed(addEpilogue(kernel, function, op.getResult(), kernels)))
    return failure();
  kernel.scratchBytes = std::max(kernel.scratchBytes, scratch);
  return kernel;
}

FailureOr<CudaKernel> float8Call(func::FuncOp function, graph::EinsumOp op,
                                 gpu::GPUModuleOp kernels) {
  EinsumPlan plan = *planOf(op);
  std::string reason;
  std::optional<Call> fits = callOf(op, plan, reason);
  if (!fits) {
    FailureOr<CudaKernel> kernel = wideCall(function, op, plan, kernels);
    setNote(function, "fp8: " + reason + ": multiplied as bf16");
    return kernel;
  }
  Call &call = *fits;
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
      auto turn = [&](OpBuilder &builder, Value x) -> Value {
        return graph::TransposeOp::create(builder, op.getLoc(), x, ArrayRef<int64_t>{1, 0});
      };
      if (failed(prepare(kernel, op.getLoc(), function.getSymName() + suffix,
                         RankedTensorType::get({spec.k, count}, element), argument, copy, kernels,
                         turn)))
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
