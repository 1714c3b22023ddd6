//===- Fuse.cpp - Kernels out of graph ops --------------------------------===//
//
// Input: functions of local graph ops, collectives and calls of layers. Output: the same, with
// every graph op that computes inside of a kernel function (Grouping.h decides which belong
// together, Outline.h makes the functions).
//
//     %a = graph.exp %x; %b = graph.mul %a, %y   ->   %b = call @kernel_0_mul(%x, %y)
//
//===----------------------------------------------------------------------===//
#include "Outline.h"
#include "shardc/Fuse/Passes.h"
#include "shardc/Lower/LowerKernels.h"

using namespace mlir;

namespace shardc {

#define GEN_PASS_DEF_FUSEPASS
#include "lib/Fuse/Passes.h.inc"

namespace {

/// Which arguments are a weight in every call.
class ParameterArguments {
public:
  explicit ParameterArguments(ModuleOp module) : symbols(module) {
    for (auto function : module.getOps<func::FuncOp>())
      if (function.isPrivate())
        for (BlockArgument argument : function.getArguments())
          weights.insert(argument);
    for (bool changed = true; changed;) {
      changed = false;
      module.walk([&](func::CallOp call) {
        auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
        for (auto [argument, operand] : llvm::zip(callee.getArguments(), call.getOperands()))
          if (!isWeight(operand))
            changed |= weights.erase(argument);
      });
    }
  }
  bool isWeight(Value value) const {
    return value.getDefiningOp<graph::ParameterOp>() || weights.contains(value);
  }

private:
  SymbolTable symbols;
  llvm::DenseSet<Value> weights;
};

/// Transposes and broadcasts that only move or add dimensions of size one are reshapes, which cost
/// nothing.
void relabel(func::FuncOp function) {
  auto withoutOnes = [](ArrayRef<int64_t> shape) {
    SmallVector<int64_t> result;
    llvm::copy_if(shape, std::back_inserter(result), [](int64_t size) { return size != 1; });
    return result;
  };
  function.walk([&](Operation *op) {
    if (!isa<graph::TransposeOp, graph::BroadcastOp>(op))
      return;
    auto from = cast<RankedTensorType>(op->getOperand(0).getType()),
         to = cast<RankedTensorType>(op->getResult(0).getType());
    if (auto transpose = dyn_cast<graph::TransposeOp>(op)) {
      SmallVector<int64_t> order;
      llvm::copy_if(transpose.getPermutation(), std::back_inserter(order),
                    [&](int64_t d) { return from.getDimSize(d) != 1; });
      if (!llvm::is_sorted(order))
        return;
    } else if (withoutOnes(from.getShape()) != withoutOnes(to.getShape())) {
      return;
    }
    OpBuilder builder(op);
    auto reshape = graph::ReshapeOp::create(builder, op->getLoc(), to, op->getOperand(0));
    reshape->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    op->replaceAllUsesWith(reshape);
    op->erase();
  });
}

/// A broadcast for each user that reads elements: repetition is free, and what several ops read
/// need not be in memory for it.
void splitBroadcasts(func::FuncOp function) {
  function.walk([](graph::BroadcastOp op) {
    for (OpOperand &use : llvm::make_early_inc_range(op->getUses())) {
      graph::LoweringClass user = loweringClass(use.getOwner());
      if (op->hasOneUse() ||
          (user != graph::LoweringClass::Element && user != graph::LoweringClass::Row))
        continue;
      OpBuilder builder(op);
      use.set(builder.clone(*op)->getResult(0));
    }
  });
}

/// On GPUs a row is a block's at most: a long reduction over few rows becomes one of parts, which many blocks make, and one over those. 16-bit
/// types stay in f32 in between.
void splitLongReductions(func::FuncOp function) {
  constexpr int64_t kFewRows = 32, kLong = 1 << 16, kShortestPart = 4096, kMostParts = 1024;
  function.walk([=](graph::ReduceOp op) {
    RankedTensorType type = op.getInput().getType(), result = op.getType();
    int64_t count = trailingDims(op), rows = result.getNumElements();
    int64_t columns = ShapedType::getNumElements(type.getShape().take_back(count));
    int64_t parts = std::min(kMostParts, columns / kShortestPart);
    while (parts > 1 && columns % (parts * 8) != 0) // whole vectors
      --parts;
    if (count == 0 || rows > kFewRows || columns < kLong || parts < 2)
      return;
    OpBuilder b(op);
    Type element = type.getElementType(),
         wide = element.isF16() || element.isBF16() ? b.getF32Type() : element;
    auto cast = [&](Value value, Type to) {
      return to == element && wide == element
                 ? value
                 : graph::CastOp::create(b, op.getLoc(), value, to).getResult();
    };
    SmallVector<int64_t> shape(result.getShape());
    int64_t rank = shape.size();
    shape.append({parts, columns / parts});
    Value cut = graph::ReshapeOp::create(b, op.getLoc(), RankedTensorType::get(shape, wide),
                                         cast(op.getInput(), wide));
    Value partial = graph::ReduceOp::create(b, op.getLoc(), op.getKind(), cut, {rank + 1});
    Value whole = graph::ReduceOp::create(b, op.getLoc(), op.getKind(), partial, {rank});
    op.replaceAllUsesWith(cast(whole, element));
    op.erase();
  });
}

struct FusePass : impl::FusePassBase<FusePass> {
  using FusePassBase::FusePassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    ParameterArguments parameters(module);
    KernelOutliner outliner(module);
    SmallVector<func::FuncOp> functions;
    for (auto function : module.getOps<func::FuncOp>())
      if (!function.isExternal() && !function->hasAttr(kExecKernelAttr))
        functions.push_back(function);
    for (func::FuncOp function : functions) {
      if (!function.getBody().hasOneBlock()) {
        function.emitError() << "has control flow, which cannot become a command list";
        return signalPassFailure();
      }
      expandScaledProducts(function);
      relabel(function);
      if (target == Target::Cuda)
        splitLongReductions(function);
      splitBroadcasts(function);
      outliner.outline(function, Grouping(function, target), [&](Value value) {
        return target == Target::Cpu && parameters.isWeight(value);
      });
    }
  }
};

} // namespace
} // namespace shardc
