//===- InPlace.cpp - Results in the buffers of arguments ------------------===//
//
// A kernel of index lambdas computes element i of all its results before it stores them, and tiles
// are ranges of i: an argument that is read at i only may hold a result. A scatter copies its data
// and changes some of the copy: in place it leaves out the copy. In such a kernel the argument's
// pointer stands for both, so that nothing is said to LLVM that is not true and loops are
// vectorised without checks at run time. What is behind a contraction, or a reduction over columns,
// reads accumulators in storage of their own, then its element of the argument.
//
//===----------------------------------------------------------------------===//
#include "KernelLowering.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;

namespace shardc {

/// Do all users of a value read of it only the element that they compute, up to the results?
static bool isReadPointwise(Value value, llvm::SmallPtrSetImpl<Operation *> &seen) {
  for (Operation *user : value.getUsers()) {
    if (user->hasTrait<OpTrait::IsTerminator>() || !seen.insert(user).second)
      continue;
    if (!user->hasTrait<OpTrait::Elementwise>() && !isa<graph::ReshapeOp>(user))
      return false;
    if (!isReadPointwise(user->getResult(0), seen))
      return false;
  }
  return true;
}

/// The tensor that a kernel of one scatter changes, or null.
static Value scatterTarget(func::FuncOp kernel) {
  Operation &op = kernel.getBody().front().front();
  return isa<graph::ScatterElementsOp, graph::ScatterNdOp>(op) ? op.getOperand(0) : Value();
}

bool canRunInPlace(func::FuncOp kernel, unsigned argument, unsigned result) {
  auto from = cast<RankedTensorType>(kernel.getArgumentTypes()[argument]),
       to = cast<RankedTensorType>(kernel.getResultTypes()[result]);
  if (from.getNumElements() != to.getNumElements() ||
      elementBytes(from.getElementType()) != elementBytes(to.getElementType()) ||
      kernel.getArgAttr(argument, kPanelsAttr))
    return false;
  if (Value target = scatterTarget(kernel))
    return kernel.getArgument(argument) == target && target.hasOneUse() && from == to;
  for (Operation &op : kernel.getBody().front().without_terminator()) {
    auto lowerable = dyn_cast<graph::LoweringOpInterface>(&op);
    if (!lowerable || (lowerable.getLoweringClass() > graph::LoweringClass::Element &&
                       !isa<graph::EinsumOp>(op) && !isColumnReduction(&op)))
      return false;
  }
  llvm::SmallPtrSet<Operation *, 16> seen;
  return isReadPointwise(kernel.getArgument(argument), seen);
}

bool isElementwise(func::FuncOp kernel) {
  return llvm::all_of(kernel.getBody().front().without_terminator(), [](Operation &op) {
    auto lowerable = dyn_cast<graph::LoweringOpInterface>(&op);
    return lowerable && lowerable.getLoweringClass() <= graph::LoweringClass::Element;
  });
}

bool isStreamed(func::FuncOp kernel, unsigned argument) {
  llvm::SmallPtrSet<Operation *, 16> seen;
  return isElementwise(kernel) && isReadPointwise(kernel.getArgument(argument), seen);
}

LogicalResult KernelLowering::readInPlace() {
  Attribute attr = function->getAttr(kInPlaceAttr);
  if (!attr)
    return success();
  auto pairs = dyn_cast<ArrayAttr>(attr);
  auto malformed = [&] {
    return function.emitError() << kInPlaceAttr << " is " << attr
                                << ", expected pairs of an argument and a result";
  };
  if (!pairs)
    return malformed();
  llvm::SmallDenseSet<int64_t> results;
  for (Attribute entry : pairs) {
    auto pair = dyn_cast<DenseI64ArrayAttr>(entry);
    if (!pair || pair.size() != 2 || pair[0] < 0 || pair[0] >= function.getNumArguments() ||
        pair[1] < 0 || pair[1] >= function.getNumResults())
      return malformed();
    if (!canRunInPlace(function, pair[0], pair[1]))
      return function.emitError() << "result " << pair[1] << " cannot be in place of argument "
                                  << pair[0];
    if (!results.insert(pair[1]).second || !inPlace.try_emplace(pair[0], pair[1]).second)
      return function.emitError() << "argument " << pair[0] << " or result " << pair[1]
                                  << " is in two pairs of " << kInPlaceAttr;
  }
  return success();
}

void KernelLowering::shareBuffers(KernelBody &body) {
  for (auto [argument, result] : inPlace) {
    Value &place = body.buffers[function.getNumArguments() + result],
          shared = body.buffers[argument];
    if (place.getType() != shared.getType()) // f32 in place of i32
      shared =
          UnrealizedConversionCastOp::create(builder, loc(), place.getType(), shared).getResult(0);
    place = shared;
    if (!body.function) // a target that has said so already
      continue;
    body.function.setArgAttr(argument, LLVM::LLVMDialect::getNoAliasAttrName(),
                             builder.getUnitAttr());
  }
}

} // namespace shardc
