//===- Partition.cpp - From the global view to one program for every device -===//
//
// Input:  a module on whole tensors with one `shard.mesh`; shardings on parameters, arguments and
// values, as
//         `--shard-propagate` leaves them (a value without one is as its op makes it).
// Output: the program that every device runs, SPMD (GSPMD, arXiv 2105.04663): local types, explicit
// collectives.
//
//   1. Functions are converted callees first (LocalFunction), so that a call knows what its callee
//      takes and gives.
//   2. The module is marked `shard.partitioned` and checked (verifyPartitioned).
//
//===----------------------------------------------------------------------===//

#include "shardc/Partition/Passes.h"

#include "LocalFunction.h"

using namespace mlir;
using namespace shardc;

namespace shardc {
#define GEN_PASS_DEF_SHARDPARTITION
#include "lib/Partition/Passes.h.inc"
} // namespace shardc

/// Appends `function` behind everything that it calls.
static LogicalResult appendCalleesFirst(func::FuncOp function, SymbolTable &symbols,
                                        llvm::DenseMap<Operation *, int> &state,
                                        SmallVectorImpl<func::FuncOp> &order) {
  enum { New, Open, Done };
  int &own = state[function];
  if (own == Done)
    return success();
  if (own == Open)
    return function.emitOpError() << "calls itself";
  own = Open;
  auto result = function.walk([&](func::CallOp call) {
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    return WalkResult(appendCalleesFirst(callee, symbols, state, order));
  });
  if (result.wasInterrupted())
    return failure();
  state[function] = Done;
  order.push_back(function);
  return success();
}

/// Arguments through which calls pass parameters, callers first so that they are followed inwards.
static Weights findWeightArguments(ArrayRef<func::FuncOp> calleesFirst, SymbolTable &symbols) {
  Weights weights;
  for (func::FuncOp function : llvm::reverse(calleesFirst))
    function.walk([&](func::CallOp call) {
      auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
      for (auto [operand, argument] : llvm::zip(call.getOperands(), callee.getArguments()))
        if (isWeight(operand, weights))
          weights.insert(argument);
    });
  return weights;
}

namespace {
struct ShardPartition : shardc::impl::ShardPartitionBase<ShardPartition> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    shard::MeshOp mesh = shard::requireOnlyMesh(module);
    if (!mesh)
      return signalPassFailure();
    SymbolTable symbols(module);
    llvm::DenseMap<Operation *, int> state;
    SmallVector<func::FuncOp> order;
    for (auto function : module.getOps<func::FuncOp>())
      if (failed(appendCalleesFirst(function, symbols, state, order)))
        return signalPassFailure();
    Resharder resharder(mesh);
    Signatures signatures;
    Weights weights = findWeightArguments(order, symbols);
    for (func::FuncOp function : order)
      if (failed(LocalFunction(function, resharder, signatures, weights).run()))
        return signalPassFailure();
    module->setAttr("shard.partitioned", UnitAttr::get(&getContext()));
    if (failed(verifyPartitioned(module)))
      signalPassFailure();
  }
};
} // namespace
