//===- SinkGradients.cpp - What is done with a layer's gradients, in the layer -===//
//
// Input:  entries that call layer functions, behind FSDP.
// Output: the same; where every call of a layer function widens one of its results, or adds it to
//         what is in a bucket's state, the function does, with the state's part as an argument.
//
//     %dw = call @layer_backward(%x)          %v = bucket_view %state at 64
//     %v = bucket_view %state at 64      ->   %new = call @layer_backward(%x, %v)
//     %new = add %v, (cast %dw)               … which ends with cast and add
//
// What makes the gradient can then write it as it is kept, and add it in place: no kernel of its
// own reads all of it again.
//
//===----------------------------------------------------------------------===//

#include "shardc/FSDP/Passes.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"

using namespace mlir;

namespace shardc {
#define GEN_PASS_DEF_SINKGRADIENTSPASS
#include "lib/FSDP/Passes.h.inc"

namespace {

/// What all calls do with one result of a layer function: widen it, add it to a view of a state, or
/// both.
struct Chain {
  unsigned result;
  RankedTensorType widened;    ///< null: it is not
  SmallVector<Value> addends;  ///< by call: a view of a state; empty: it is added to nothing
  SmallVector<Value> finished; ///< by call: the end of the chain
};

} // namespace

/// The same op in all calls, as the only user of these values; null if there is none.
template <typename Op> static SmallVector<Op> onlyUsers(ArrayRef<Value> values) {
  SmallVector<Op> users;
  for (Value value : values) {
    auto user = value.hasOneUse() ? dyn_cast<Op>(*value.user_begin()) : Op();
    if (!user || (!users.empty() && user.getType() != users.front().getType()))
      return {};
    users.push_back(user);
  }
  return users;
}

/// A part of a state, which is there from the start.
static Value stateView(graph::AddOp add, Value gradient) {
  Value other = add.getLhs() == gradient ? add.getRhs() : add.getLhs();
  auto view = other.getDefiningOp<shard::BucketViewOp>();
  return view && isa<BlockArgument>(view.getInput()) && view->hasOneUse() ? other : Value();
}

static std::optional<Chain> findChain(ArrayRef<func::CallOp> calls, unsigned result) {
  Chain chain{result, {}, {}, {}};
  for (func::CallOp call : calls)
    chain.finished.push_back(call.getResult(result));
  if (SmallVector<graph::CastOp> casts = onlyUsers<graph::CastOp>(chain.finished); !casts.empty()) {
    Type from = casts.front().getInput().getType().getElementType(),
         to = casts.front().getType().getElementType();
    if (!from.isIntOrFloat() || !isa<FloatType>(from) || !isa<FloatType>(to) ||
        from.getIntOrFloatBitWidth() >= to.getIntOrFloatBitWidth())
      return std::nullopt;
    chain.widened = casts.front().getType();
    for (auto [value, cast] : llvm::zip(chain.finished, casts))
      value = cast.getResult();
  }
  if (SmallVector<graph::AddOp> adds = onlyUsers<graph::AddOp>(chain.finished); !adds.empty()) {
    for (auto [value, add] : llvm::zip(chain.finished, adds))
      if (Value view = stateView(add, value))
        chain.addends.push_back(view);
    if (chain.addends.size() != adds.size())
      chain.addends.clear();
    else
      for (auto [value, add] : llvm::zip(chain.finished, adds))
        value = add.getResult();
  }
  if (!chain.widened && chain.addends.empty())
    return std::nullopt;
  return chain;
}

static void sinkIntoFunction(func::FuncOp function, ArrayRef<Chain> chains) {
  Operation *ret = function.getBody().front().getTerminator();
  OpBuilder b(ret);
  for (const Chain &chain : chains) {
    OpOperand &operand = ret->getOpOperand(chain.result);
    if (chain.widened)
      operand.set(graph::CastOp::create(b, operand.get().getLoc(), operand.get(),
                                        chain.widened.getElementType()));
    if (chain.addends.empty())
      continue;
    (void)function.insertArgument(function.getNumArguments(), operand.get().getType(), {},
                                  function.getLoc());
    operand.set(graph::AddOp::create(b, operand.get().getLoc(), function.getArguments().back(),
                                     operand.get()));
  }
  function.setType(b.getFunctionType(function.getArgumentTypes(), ret->getOperandTypes()));
}

static void sinkIntoCall(func::CallOp call, size_t number, func::FuncOp function,
                         ArrayRef<Chain> chains) {
  SmallVector<Value> operands(call.getOperands());
  for (const Chain &chain : chains)
    if (!chain.addends.empty()) {
      Operation *view = chain.addends[number].getDefiningOp();
      view->moveBefore(call);
      operands.push_back(chain.addends[number]);
    }
  OpBuilder b(call);
  auto made = func::CallOp::create(b, call.getLoc(), function, operands);
  made->setDiscardableAttrs(call->getDiscardableAttrDictionary());
  for (const Chain &chain : chains) {
    Value finished = chain.finished[number];
    finished.replaceAllUsesWith(made.getResult(chain.result));
    for (Operation *op = finished.getDefiningOp();
         op != call;) { // from the end of the chain to the call
      Operation *before = nullptr;
      for (Value operand : op->getOperands())
        if (!isa_and_nonnull<shard::BucketViewOp>(operand.getDefiningOp()))
          before = operand.getDefiningOp();
      op->erase();
      op = before;
    }
  }
  for (auto [old, value] : llvm::zip(call.getResults(), made.getResults()))
    if (old.getType() == value.getType())
      old.replaceAllUsesWith(value);
  call.erase();
}

namespace {
struct SinkGradientsPass : impl::SinkGradientsPassBase<SinkGradientsPass> {
  using SinkGradientsPassBase::SinkGradientsPassBase;

  void runOnOperation() override {
    llvm::MapVector<StringRef, SmallVector<func::CallOp>> calls;
    getOperation().walk([&](func::CallOp call) { calls[call.getCallee()].push_back(call); });
    SymbolTable symbols(getOperation());
    for (auto &[name, list] : calls) {
      auto function = symbols.lookup<func::FuncOp>(name);
      if (!function || !function.isPrivate() || function.isExternal())
        continue;
      SmallVector<Chain> chains;
      for (unsigned result = 0; result < function.getNumResults(); ++result)
        if (std::optional<Chain> chain = findChain(list, result))
          chains.push_back(std::move(*chain));
      if (chains.empty())
        continue;
      sinkIntoFunction(function, chains);
      for (auto [number, call] : llvm::enumerate(list))
        sinkIntoCall(call, number, function, chains);
    }
  }
};
} // namespace

} // namespace shardc
