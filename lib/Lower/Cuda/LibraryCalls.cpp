//===- LibraryCalls.cpp - What libraries do on GPUs ------------------------===//
//
// A contraction is described as cuBLASLt sees it: D[b, m, n] = A[b, m, k] · B[b, k, n] under
// strides in elements, where transposes and reshapes beside it are part of the strides; what else
// is behind it is a generated kernel that follows. Attention is described by the strides of its
// operands and its mask.
//
//===----------------------------------------------------------------------===//
#include "LibraryCalls.h"
#include "dialects/Graph/Graph.h"
#include "shardc/Lower/EinsumPlan.h"

using namespace mlir;
namespace json = llvm::json;

namespace shardc {

static std::string nameOf(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

static json::Array list(ArrayRef<int64_t> values) { return json::Array(values); }

static Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

/// Number of the buffer that a value lies in: arguments, then results.
static int64_t bufferOf(func::FuncOp function, Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return argument.getArgNumber();
  auto results = function.getBody().front().getTerminator()->getOperands();
  return function.getNumArguments() + (llvm::find(results, value) - results.begin());
}

/// The buffer behind an operand and how it is read.
static FailureOr<json::Object> readOperand(func::FuncOp function, Value operand) {
  StridedView view = viewOf(operand);
  if (!isa<BlockArgument>(view.base))
    return failure();
  auto type = cast<RankedTensorType>(operand.getType());
  return json::Object{{"buffer", bufferOf(function, view.base)},
                      {"dtype", nameOf(type.getElementType())},
                      {"shape", list(type.getShape())},
                      {"strides", list(view.strides)}};
}

static FailureOr<json::Object> writeResult(func::FuncOp function, Value value) {
  for (Value stored : function.getBody().front().getTerminator()->getOperands())
    if (std::optional<Strides> strides = stridesWhenStoredAs(value, stored))
      return json::Object{{"buffer", bufferOf(function, stored)},
                          {"dtype", nameOf(elementOf(value))},
                          {"shape", list(cast<RankedTensorType>(value.getType()).getShape())},
                          {"strides", list(*strides)}};
  return failure();
}

/// Strides of a contraction's result: as it is stored, if only transposes and reshapes are behind
/// it.
static std::optional<Strides> storedStrides(graph::EinsumOp op) {
  auto function = op->getParentOfType<func::FuncOp>();
  return stridesWhenStoredAs(op.getResult(),
                             function.getBody().front().getTerminator()->getOperand(0));
}

static std::optional<EinsumPlan> planOf(graph::EinsumOp op) {
  StridedView lhs = viewOf(op.getLhs()), rhs = viewOf(op.getRhs());
  if (!isa<BlockArgument>(lhs.base) || !isa<BlockArgument>(rhs.base))
    return std::nullopt;
  Strides stored = storedStrides(op).value_or(contiguousStrides(op.getType().getShape()));
  return planEinsum(op, lhs.strides, rhs.strides, stored, /*packed=*/false);
}

bool isLibraryCall(Operation *anchor) {
  if (auto einsum = dyn_cast<graph::EinsumOp>(anchor))
    return planOf(einsum).has_value();
  return isa<graph::AttentionOp, graph::AttentionGradOp, graph::GroupedMatmulOp,
             graph::GroupedMatmulGradOp>(anchor);
}

/// What is behind the contraction, as a kernel of its own: one more argument, the contraction's
/// result.
static OwningOpRef<func::FuncOp> splitEpilogue(func::FuncOp function, graph::EinsumOp op) {
  OwningOpRef<func::FuncOp> epilogue(function.clone());
  auto position = std::distance(op->getBlock()->begin(), op->getIterator());
  Block &body = epilogue->getBody().front();
  Operation *einsum = &*std::next(body.begin(), position);
  (void)epilogue->insertArgument(epilogue->getNumArguments(), op.getType(), {}, op.getLoc());
  einsum->getResult(0).replaceAllUsesWith(body.getArguments().back());
  for (Operation &dead : llvm::make_early_inc_range(llvm::reverse(body)))
    if (dead.use_empty() && !dead.hasTrait<OpTrait::IsTerminator>())
      dead.erase();
  return epilogue;
}

static FailureOr<CudaKernel> gemm(func::FuncOp function, graph::EinsumOp op,
                                  gpu::GPUModuleOp kernels) {
  StridedView lhs = viewOf(op.getLhs()), rhs = viewOf(op.getRhs());
  Value result = function.getBody().front().getTerminator()->getOperand(0);
  std::optional<EinsumPlan> plan = planOf(op);
  bool hasEpilogue = !storedStrides(op);
  const GemmSpec &spec = plan->spec;
  auto operand = [&](int64_t buffer, Value tensor, const GemmOperand &how) {
    return json::Object{{"buffer", buffer},
                        {"dtype", nameOf(elementOf(tensor))},
                        {"row", how.rowStride},
                        {"column", how.columnStride},
                        {"batch", list(how.batch)}};
  };
  CudaKernel kernel;
  kernel.library = "gemm";
  Value a = plan->swapped ? rhs.base : lhs.base, b = plan->swapped ? lhs.base : rhs.base;
  int64_t scratch = function.getNumArguments() + function.getNumResults();
  if (hasEpilogue) {
    OwningOpRef<func::FuncOp> epilogue = splitEpilogue(function, op);
    FailureOr<CudaKernel> generated = lowerCudaKernel(*epilogue, kernels);
    if (failed(generated))
      return failure();
    kernel.launch = generated->launch;
    kernel.scratchBytes =
        op.getType().getNumElements() * elementBytes(op.getType().getElementType());
    for (int64_t i = 0; i < scratch; ++i) {
      if (i == function.getNumArguments())
        kernel.buffers.push_back(scratch);
      kernel.buffers.push_back(i);
    }
  }
  kernel.name = function.getSymName().str();
  kernel.call = json::Object{
      {"batch", list(spec.batch)},
      {"m", spec.m},
      {"n", spec.n},
      {"k", spec.k},
      {"a", operand(bufferOf(function, a), a, spec.a)},
      {"b", operand(bufferOf(function, b), b, spec.b)},
      {"d", operand(hasEpilogue ? scratch : bufferOf(function, result), op.getResult(), spec.c)}};
  return kernel;
}

template <typename Op>
static bool describeAttention(func::FuncOp function, Op op, json::Object &call) {
  bool fits = true;
  auto read = [&](StringRef name, Value operand) {
    FailureOr<json::Object> described = readOperand(function, operand);
    if (succeeded(described))
      call[name] = std::move(*described);
    fits &= succeeded(described);
  };
  read("query", op.getQuery());
  read("key", op.getKey());
  read("value", op.getValue());
  if (op.getMask())
    read("mask", op.getMask());
  if (op.getSinks())
    read("sinks", op.getSinks());
  call["scale"] = op.getScale().convertToDouble();
  call["softcap"] = op.getSoftcap().convertToDouble();
  call["causal"] = op.getCausal();
  call["causal_offset"] = static_cast<int64_t>(op.getCausalOffset());
  call["window"] = static_cast<int64_t>(op.getWindow());
  return fits;
}

static FailureOr<CudaKernel> attention(func::FuncOp function, Operation *anchor) {
  CudaKernel kernel;
  kernel.name = function.getSymName().str();
  bool fits = true;
  auto write = [&](StringRef name, Value result) {
    if (!result)
      return;
    FailureOr<json::Object> described = writeResult(function, result);
    if (succeeded(described))
      kernel.call[name] = std::move(*described);
    fits &= succeeded(described);
  };
  if (auto op = dyn_cast<graph::AttentionOp>(anchor)) {
    kernel.library = "attention";
    fits = describeAttention(function, op, kernel.call);
    write("result", op.getResult());
  } else {
    auto grad = cast<graph::AttentionGradOp>(anchor);
    kernel.library = "attention_grad";
    fits = describeAttention(function, grad, kernel.call);
    FailureOr<json::Object> cotangent = readOperand(function, grad.getCotangent());
    fits &= succeeded(cotangent);
    if (succeeded(cotangent))
      kernel.call["cotangent"] = std::move(*cotangent);
    write("dquery", grad.getDquery());
    write("dkey", grad.getDkey());
    write("dvalue", grad.getDvalue());
    write("dsinks", grad.getDsinks());
  }
  if (!fits)
    return anchor->emitOpError() << "is not between transposes and reshapes of memory";
  return kernel;
}

/// grouped_matmul and its gradient: named operands and one result.
static FailureOr<CudaKernel> grouped(func::FuncOp function, Operation *op, StringRef library,
                                     ArrayRef<StringRef> names) {
  CudaKernel kernel;
  kernel.name = function.getSymName().str();
  kernel.library = library.str();
  FailureOr<json::Object> result = writeResult(function, op->getResult(0));
  bool fits = succeeded(result);
  if (fits)
    kernel.call["result"] = std::move(*result);
  for (auto [name, operand] : llvm::zip(names, op->getOperands())) {
    FailureOr<json::Object> described = readOperand(function, operand);
    fits &= succeeded(described);
    if (succeeded(described))
      kernel.call[name] = std::move(*described);
  }
  if (!fits)
    return op->emitOpError() << "is not between transposes and reshapes of memory";
  return kernel;
}

FailureOr<CudaKernel> libraryCall(func::FuncOp function, Operation *anchor,
                                  gpu::GPUModuleOp kernels) {
  if (auto einsum = dyn_cast<graph::EinsumOp>(anchor))
    return gemm(function, einsum, kernels);
  if (isa<graph::GroupedMatmulOp>(anchor))
    return grouped(function, anchor, "grouped_gemm", {"input", "weight", "groups"});
  if (isa<graph::GroupedMatmulGradOp>(anchor))
    return grouped(function, anchor, "grouped_gemm_grad", {"input", "cotangent", "groups"});
  return attention(function, anchor);
}

} // namespace shardc
