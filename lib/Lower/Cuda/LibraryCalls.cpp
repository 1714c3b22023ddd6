//===- LibraryCalls.cpp - What libraries do on GPUs -----------------------===//
//
// A contraction is described as cuBLASLt sees it: D[b, m, n] = A[b, m, k] · B[b, k, n] under
// strides in elements, where transposes and reshapes beside it are part of the strides, and a bias,
// an activation or another tensor behind it of the call; what else is behind it is a generated
// kernel that follows. A result that is widened to f32 is what cuBLASLt has summed, unrounded.
//
//===----------------------------------------------------------------------===//
#include "LibraryCalls.h"
#include "dialects/Graph/Graph.h"
#include "shardc/Lower/EinsumPlan.h"

using namespace mlir;

namespace shardc {

std::string nameOf(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

int64_t bufferOf(func::FuncOp function, Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return argument.getArgNumber();
  auto results = function.getBody().front().getTerminator()->getOperands();
  return function.getNumArguments() + (llvm::find(results, value) - results.begin());
}

/// Strides of a contraction's result: as it is stored, if only transposes and reshapes are behind
/// it.
static std::optional<Strides> storedStrides(graph::EinsumOp op) {
  auto function = op->getParentOfType<func::FuncOp>();
  return stridesWhenStoredAs(op.getResult(),
                             function.getBody().front().getTerminator()->getOperand(0));
}

std::optional<EinsumPlan> planOf(graph::EinsumOp op) {
  StridedView lhs = viewOf(op.getLhs()), rhs = viewOf(op.getRhs());
  if (!isa<BlockArgument>(lhs.base) || !isa<BlockArgument>(rhs.base))
    return std::nullopt;
  Strides stored = storedStrides(op).value_or(contiguousStrides(op.getType().getShape()));
  return planEinsum(op, lhs.strides, rhs.strides, stored, /*packed=*/false);
}

static std::optional<EinsumPlan> gemmPlanOf(graph::EinsumOp op) {
  Type type = op.getType().getElementType();
  if (!type.isF32() && !type.isF64() && !type.isF16() && !type.isBF16())
    return std::nullopt;
  if (op.getLhs().getType().getElementTypeBitWidth() == 8)
    return std::nullopt; // Float8Call.cpp
  std::optional<EinsumPlan> plan = planOf(op);
  return plan && fitBlas(plan->spec) ? plan : std::nullopt;
}

bool isLibraryCall(graph::EinsumOp op) { return gemmPlanOf(op).has_value(); }

/// What is behind `value`, as a kernel of its own: one more argument, that value.
static OwningOpRef<func::FuncOp> splitEpilogue(func::FuncOp function, Value value) {
  OwningOpRef<func::FuncOp> epilogue(function.clone());
  Operation *op = value.getDefiningOp();
  auto position = std::distance(op->getBlock()->begin(), op->getIterator());
  Block &body = epilogue->getBody().front();
  Operation *copy = &*std::next(body.begin(), position);
  (void)epilogue->insertArgument(epilogue->getNumArguments(), value.getType(), {}, op->getLoc());
  copy->getResult(0).replaceAllUsesWith(body.getArguments().back());
  for (Operation &dead : llvm::make_early_inc_range(llvm::reverse(body)))
    if (dead.use_empty() && !dead.hasTrait<OpTrait::IsTerminator>())
      dead.erase();
  return epilogue;
}

/// What cuBLASLt does behind a product, and the value that it ends with.
struct LibraryEpilogue {
  std::string name;
  Value bias, addend, end;
};

static LibraryEpilogue epilogueOf(graph::EinsumOp op, const GemmSpec &spec) {
  LibraryEpilogue epilogue{"none", {}, {}, op.getResult()};
  Value &end = epilogue.end;
  auto next = [&]() { return end.hasOneUse() ? *end.user_begin() : nullptr; };
  bool hasRows = op.getType().getRank() > 0 && spec.c.columnStride == 1 &&
                 spec.n == op.getType().getShape().back();
  if (hasRows && !op.getType().getElementType().isF64()) {
    auto add = dyn_cast_or_null<graph::AddOp>(next());
    Value bias = add ? biasOf(add, end) : Value();
    if (isa_and_nonnull<BlockArgument>(bias)) {
      epilogue.name = "bias";
      epilogue.bias = bias;
      end = add.getResult();
    }
    Operation *activation = next();
    if (isa_and_nonnull<graph::ReluOp, graph::GeluTanhOp>(activation)) {
      epilogue.name = isa<graph::ReluOp>(activation) ? "relu" : "gelu";
      epilogue.name += epilogue.bias ? "_bias" : "";
      end = activation->getResult(0);
      return epilogue;
    }
  }
  if (Operation *cast = next(); end == op.getResult() && cast && isWidening(cast))
    end = cast->getResult(0);
  if (auto add = dyn_cast_or_null<graph::AddOp>(next()))
    if (Value addend = addendOf(add, end); isa_and_nonnull<BlockArgument>(addend)) {
      epilogue.addend = addend;
      end = add.getResult();
    }
  return epilogue;
}

LogicalResult addEpilogue(CudaKernel &kernel, func::FuncOp function, Value product,
                          gpu::GPUModuleOp kernels) {
  OwningOpRef<func::FuncOp> epilogue = splitEpilogue(function, product);
  FailureOr<CudaKernel> generated = lowerCudaKernel(*epilogue, kernels);
  if (failed(generated))
    return failure();
  int64_t bytes =
      llvm::alignTo(tensorBytes(cast<RankedTensorType>(product.getType())), kCudaAlignment);
  int64_t arguments = function.getNumArguments();
  for (CudaCall &call : generated->calls) {
    forEachArgument(call, [&](CudaArgument &argument) {
      if (argument.buffer < 0)
        argument.scratch += bytes;
      else if (argument.buffer == arguments)
        argument = CudaArgument::ofScratch(0);
      else if (argument.buffer > arguments)
        --argument.buffer;
    });
    kernel.calls.push_back(std::move(call));
  }
  kernel.scratchBytes = bytes + generated->scratchBytes;
  return success();
}

FailureOr<CudaKernel> libraryCall(func::FuncOp function, graph::EinsumOp op,
                                  gpu::GPUModuleOp kernels) {
  EinsumPlan plan = *gemmPlanOf(op);
  const GemmSpec &spec = plan.spec;
  Value a = op.getLhs(), b = op.getRhs(),
        result = function.getBody().front().getTerminator()->getOperand(0);
  LibraryEpilogue epilogue = epilogueOf(op, spec);
  // Is what cuBLASLt writes the result, perhaps by other strides?
  bool isWhole = epilogue.end == result || (epilogue.end == op.getResult() && storedStrides(op));
  auto matrix = [&](CudaArgument argument, Value tensor, const GemmOperand &how) {
    std::string dtype = nameOf(cast<RankedTensorType>(tensor.getType()).getElementType());
    return CudaMatrix{argument, dtype, how.rowStride, how.columnStride, how.batch};
  };
  auto operand = [&](Value tensor) {
    return CudaArgument::ofBuffer(bufferOf(function, viewOf(tensor).base));
  };
  if (plan.swapped)
    std::swap(a, b);
  CudaGemm call{spec.batch,
                spec.m,
                spec.n,
                spec.k,
                matrix(operand(a), a, spec.a),
                matrix(operand(b), b, spec.b),
                matrix(isWhole ? CudaArgument::ofBuffer(bufferOf(function, result))
                               : CudaArgument::ofScratch(0),
                       epilogue.end, spec.c)};
  call.epilogue = epilogue.name;
  if (epilogue.bias)
    call.bias = CudaArgument::ofBuffer(bufferOf(function, epilogue.bias));
  if (epilogue.addend)
    call.c = CudaArgument::ofBuffer(bufferOf(function, epilogue.addend));
  if (call.d.dtype == "f64")
    call.compute = "f64";
  CudaKernel kernel;
  kernel.name = function.getSymName().str();
  kernel.calls.push_back(std::move(call));
  if (!isWhole && failed(addEpilogue(kernel, function, epilogue.end, kernels)))
    return failure();
  return kernel;
}

} // namespace shardc
