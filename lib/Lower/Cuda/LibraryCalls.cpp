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
#include "shardc/Lower/LowerKernels.h"

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

std::optional<Strides> storedStrides(graph::EinsumOp op) {
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

static void eraseDead(Block &body) {
  for (Operation &dead : llvm::make_early_inc_range(llvm::reverse(body)))
    if (dead.use_empty() && !dead.hasTrait<OpTrait::IsTerminator>())
      dead.erase();
}

/// What is behind `value`, as a kernel of its own: one more argument, that value.
static OwningOpRef<func::FuncOp> splitEpilogue(func::FuncOp function, Value value) {
  OwningOpRef<func::FuncOp> epilogue(function.clone());
  Operation *op = value.getDefiningOp();
  auto position = std::distance(op->getBlock()->begin(), op->getIterator());
  Block &body = epilogue->getBody().front();
  Operation *copy = &*std::next(body.begin(), position);
  (void)epilogue->insertArgument(epilogue->getNumArguments(), value.getType(), {}, op->getLoc());
  copy->getResult(0).replaceAllUsesWith(body.getArguments().back());
  eraseDead(body);
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

/// The function for one of its results, under another name.
static OwningOpRef<func::FuncOp> withResult(func::FuncOp function, unsigned kept,
                                            StringRef suffix) {
  OwningOpRef<func::FuncOp> part(function.clone());
  part->setSymName((function.getSymName() + suffix).str());
  Block &body = part->getBody().front();
  Operation *ret = body.getTerminator();
  ret->setOperands(ret->getOperand(kept));
  Builder b(function.getContext());
  part->setFunctionType(b.getFunctionType(part->getArgumentTypes(), ret->getOperandTypes()));
  if (auto pairs = function->getAttrOfType<ArrayAttr>(kInPlaceAttr)) {
    SmallVector<Attribute> own;
    for (auto pair : pairs.getAsRange<DenseI64ArrayAttr>())
      if (pair[1] == kept)
        own.push_back(b.getDenseI64ArrayAttr({pair[0], 0}));
    (*part)->setAttr(kInPlaceAttr, b.getArrayAttr(own));
  }
  eraseDead(body);
  return part;
}

static FailureOr<CudaKernel> productFor(func::FuncOp function, unsigned result,
                                        gpu::GPUModuleOp kernels) {
  OwningOpRef<func::FuncOp> part = withResult(function, result, "");
  return libraryCall(*part, *part->getOps<graph::EinsumOp>().begin(), kernels);
}

/// Appends another kernel's calls, whose buffers have these numbers here.
static void append(CudaKernel &kernel, CudaKernel &&other,
                   llvm::function_ref<int64_t(int64_t)> buffer) {
  for (CudaCall &call : other.calls) {
    forEachArgument(call, [&](CudaArgument &argument) {
      if (argument.buffer >= 0)
        argument.buffer = buffer(argument.buffer);
    });
    kernel.calls.push_back(std::move(call));
  }
  kernel.scratchBytes = std::max(kernel.scratchBytes, other.scratchBytes);
}

/// cuBLASLt does the second result beside the first, if it can: then `kernel`, which makes one
/// after the other, is what is done otherwise.
static void tryEpilogue(CudaKernel &kernel, ArrayRef<StringRef> wanted,
                        llvm::function_ref<void(CudaGemm &)> change) {
  auto *gemm = std::get_if<CudaGemm>(&kernel.calls.front());
  if (kernel.calls.size() != 2 || !gemm || !llvm::is_contained(wanted, gemm->epilogue) ||
      !gemm->batch.empty())
    return;
  kernel.otherwise = kernel.calls;
  kernel.calls.pop_back();
  change(std::get<CudaGemm>(kernel.calls.front()));
}

/// A product, and the sums of one of its factors over what disappears.
static FailureOr<CudaKernel> withBiasGradient(func::FuncOp function, graph::EinsumOp op,
                                              graph::ReduceOp sums, gpu::GPUModuleOp kernels) {
  int64_t second = function.getNumArguments() + 1;
  FailureOr<CudaKernel> kernel = productFor(function, 0, kernels);
  FailureOr<CudaKernel> rest = lowerCudaKernel(*withResult(function, 1, "_sums"), kernels);
  if (failed(kernel) || failed(rest))
    return failure();
  append(*kernel, std::move(*rest), [&](int64_t b) { return b == second - 1 ? second : b; });
  bool isA = (sums.getInput() == op.getLhs()) != gemmPlanOf(op)->swapped;
  tryEpilogue(*kernel, {"none"}, [&](CudaGemm &gemm) {
    gemm.epilogue = isA ? "bias_gradient_a" : "bias_gradient_b";
    gemm.bias = CudaArgument::ofBuffer(second);
  });
  return kernel;
}

/// A product, with its bias if it has one, and GELU of that: both are wanted.
static FailureOr<CudaKernel> withActivation(func::FuncOp function, gpu::GPUModuleOp kernels) {
  Value before = function.getBody().front().getTerminator()->getOperand(0);
  int64_t first = function.getNumArguments();
  FailureOr<CudaKernel> kernel = productFor(function, 0, kernels);
  OwningOpRef<func::FuncOp> behind = splitEpilogue(function, before);
  (*behind)->removeAttr(kInPlaceAttr);
  FailureOr<CudaKernel> rest = lowerCudaKernel(*withResult(*behind, 1, "_activation"), kernels);
  if (failed(kernel) || failed(rest))
    return failure();
  append(*kernel, std::move(*rest), [](int64_t b) { return b; }); // the first result is its input
  tryEpilogue(*kernel, {"none", "bias"}, [&](CudaGemm &gemm) {
    gemm.epilogue = gemm.bias ? "gelu_aux_bias" : "gelu_aux";
    gemm.aux = std::exchange(gemm.d.argument, CudaArgument::ofBuffer(first + 1));
  });
  return kernel;
}

FailureOr<CudaKernel> libraryCall(func::FuncOp function, graph::EinsumOp op,
                                  gpu::GPUModuleOp kernels) {
  if (function.getNumResults() == 2) {
    auto sums = function.getOps<graph::ReduceOp>();
    return sums.empty() ? withActivation(function, kernels)
                        : withBiasGradient(function, op, *sums.begin(), kernels);
  }
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
