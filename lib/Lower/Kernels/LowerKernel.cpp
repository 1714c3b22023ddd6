//===- LowerKernel.cpp - Kernel functions of graph ops to code ------------===//
//
// Input: a function of graph ops that Fuse made one kernel. Output: the same as loops over flat
// buffers. The kind follows from the strongest op inside: a contraction or attention, else an op
// that fills buffers, else a row op, else index lambdas only.
//
//===----------------------------------------------------------------------===//
#include "KernelLowering.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using shardc::graph::LoweringClass;

namespace shardc {

KernelBody CpuLowering::begin(int64_t scratchBytes) {
  SmallVector<MemRefType> buffers;
  for (Type type : function.getArgumentTypes())
    buffers.push_back(bufferType(cast<RankedTensorType>(type)));
  for (Type type : function.getResultTypes())
    buffers.push_back(bufferType(cast<RankedTensorType>(type)));
  KernelBody body = beginKernel(builder, module, function.getSymName(), buffers, scratchBytes);
  for (unsigned i = function.getNumArguments(); i < buffers.size(); ++i)
    body.function.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), builder.getUnitAttr());
  shareBuffers(body);
  return body;
}

Kernel CpuLowering::forEach(Emitter &e, KernelBody &body, int64_t count, int64_t work,
                            llvm::function_ref<void(Value)> item) {
  int64_t perTile = std::clamp<int64_t>(kTileElements / std::max<int64_t>(work, 1), 1,
                                        std::max<int64_t>(count, 1));
  Value end = e.min(e.mul(body.tileEnd, perTile), e.index(count));
  e.loop(e.mul(body.tileBegin, perTile), end, 1, item);
  return {function.getSymName().str(), static_cast<int64_t>(llvm::divideCeil(count, perTile)), 0};
}

void CpuLowering::setScratch(KernelBody &body, int64_t bytes) {
  MLIRContext *context = body.function.getContext();
  body.scratch.setType(
      MemRefType::get({std::max<int64_t>(bytes, 1)}, IntegerType::get(context, 8)));
  SmallVector<Type> inputs(body.function.getArgumentTypes());
  inputs.back() = body.scratch.getType();
  body.function.setType(FunctionType::get(context, inputs, {}));
}

void KernelLowering::bindArguments(BodyEmitter &emitter, const KernelBody &body) {
  for (BlockArgument argument : function.getArguments())
    emitter.bindBuffer(argument, body.buffers[argument.getArgNumber()]);
}

void CpuLowering::adoptBuffers(ArrayRef<Value> buffers) {
  auto generated = cast<func::FuncOp>(module.getBody()->back());
  unsigned arguments = function.getNumArguments(), count = buffers.size();
  auto placeOf = [&](Value value) -> unsigned {
    if (auto argument = dyn_cast<BlockArgument>(value))
      return argument.getArgNumber();
    return arguments + llvm::find(results(), value) - results().begin();
  };
  // New arguments behind the old ones' places, in our order; then the old ones go.
  SmallVector<Type> types;
  for (Type type : llvm::concat<const Type>(function.getArgumentTypes(), function.getResultTypes()))
    types.push_back(bufferType(cast<RankedTensorType>(type)));
  for (auto [old, value] : llvm::zip(generated.getArguments().take_front(count), buffers))
    types[placeOf(value)] = old.getType();
  for (auto [i, type] : llvm::enumerate(types))
    (void)generated.insertArgument(count + i, type, {}, loc());
  for (auto [old, value] : llvm::zip(generated.getArguments().take_front(count), buffers)) {
    Value mine = generated.getArgument(count + placeOf(value));
    if (mine.getType() != old.getType()) { // one buffer under two views
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(&generated.getBody().front());
      mine = UnrealizedConversionCastOp::create(builder, loc(), old.getType(), mine).getResult(0);
    }
    old.replaceAllUsesWith(mine);
  }
  (void)generated.eraseArguments(llvm::BitVector(generated.getNumArguments(), false).set(0, count));
}

FailureOr<KernelLowering::Anchor> KernelLowering::findAnchor() {
  Anchor anchor{LoweringClass::Source, nullptr};
  for (Operation &op : function.getBody().front().without_terminator()) {
    auto lowerable = dyn_cast<graph::LoweringOpInterface>(&op);
    if (!lowerable)
      return op.emitOpError() << "cannot be part of a kernel";
    if (lowerable.getLoweringClass() > anchor.kind)
      anchor = {lowerable.getLoweringClass(), &op};
  }
  return anchor;
}

FailureOr<Kernel> lowerKernel(func::FuncOp function, ModuleOp kernels, const CpuTarget &target) {
  OpBuilder builder(kernels.getContext());
  CpuLowering lowering(function, builder, kernels, target);
  if (failed(lowering.readInPlace()))
    return failure();
  FailureOr<KernelLowering::Anchor> found = lowering.findAnchor();
  if (failed(found))
    return failure();
  Operation *anchor = found->op;
  switch (found->kind) {
  case LoweringClass::Source:
  case LoweringClass::Element:
    return lowerElementKernel(lowering);
  case LoweringClass::Row:
    return isColumnReduction(anchor) ? lowerColumnKernel(lowering) : lowerRowKernel(lowering);
  case LoweringClass::Library:
    if (isa<graph::EinsumOp>(anchor))
      return lowerEinsumKernel(lowering);
    if (isa<graph::AttentionOp, graph::AttentionGradOp>(anchor))
      return lowerAttentionKernel(lowering);
    return lowerGroupedKernel(lowering);
  case LoweringClass::Loops:
    if (auto sum = dyn_cast<graph::ScatterSumOp>(anchor))
      return lowerScatterSum(lowering, sum);
    return lowerLoopKernel(lowering);
  }
  llvm_unreachable("lowering class");
}

} // namespace shardc
