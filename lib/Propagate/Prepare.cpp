//===- Prepare.cpp - What must be separate before shardings spread --------===//
//
// Input:  a global module. Output: the same program, in which
//   - a constant, iota or broadcast scalar has one use (Shardy splits them likewise), and
//   - all calls of a function pass parameters of the same shardings.
//
//===----------------------------------------------------------------------===//

#include "Prepare.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace shardc;

static bool isFreeToRepeat(Operation &op) {
  if (op.hasAttr(shard::ShardDialect::kShardingsAttr))
    return false;
  if (isa<graph::ConstantOp, graph::IotaOp>(op))
    return true;
  auto broadcast = dyn_cast<graph::BroadcastOp>(op);
  auto constant =
      broadcast ? broadcast.getInput().getDefiningOp<graph::ConstantOp>() : graph::ConstantOp();
  return constant && isa<SplatElementsAttr>(constant.getValue());
}

void shardc::splitConstants(func::FuncOp function) {
  // Backwards: a broadcast is repeated before what it broadcasts.
  for (Block &block : function.getBody())
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block))) {
      if (!isFreeToRepeat(op) || op.use_empty())
        continue;
      OpBuilder builder(op.getBlock(), std::next(op.getIterator()));
      for (OpOperand &use : llvm::make_early_inc_range(llvm::drop_begin(op.getUses())))
        use.set(builder.clone(op)->getResult(0));
    }
}

namespace {
class Specialiser {
public:
  explicit Specialiser(ModuleOp module) : symbols(module) {
    module.walk([&](func::CallOp call) { called.insert(call.getCallee()); });
  }

  void run(ModuleOp module) {
    SmallVector<func::FuncOp> roots;
    for (auto function : module.getOps<func::FuncOp>())
      if (!called.contains(function.getName()))
        roots.push_back(function);
    for (func::FuncOp root : roots)
      visit(root, /*isRoot=*/true);
  }

private:
  /// Sharding of a parameter, directly or as a callee's argument. Activations do not count: they
  /// are resharded at the border if they must be.
  Attribute seedOf(Value value, bool isRoot) {
    bool isParameter =
        value.getDefiningOp<graph::ParameterOp>() || (isa<BlockArgument>(value) && !isRoot);
    shard::ShardingAttr sharding = isParameter ? shard::getSharding(value) : shard::ShardingAttr();
    return sharding ? Attribute(sharding) : UnitAttr::get(value.getContext());
  }

  void visit(func::FuncOp function, bool isRoot) {
    function.walk([&](func::CallOp call) {
      auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
      if (!callee || callee.isExternal())
        return;
      SmallVector<Attribute> key = {call.getCalleeAttr()};
      for (Value operand : call.getOperands())
        key.push_back(seedOf(operand, isRoot));
      auto [entry, isNew] = variants.try_emplace(ArrayAttr::get(call.getContext(), key));
      if (isNew) {
        entry->second = makeVariant(callee, key);
        passPlans(call, entry->second);
      }
      call.setCallee(entry->second.getName());
      if (isNew)
        visit(entry->second, /*isRoot=*/false);
    });
  }

  /// An argument knows the plan's line for the parameter that it gets, so that what follows from it
  /// can name it.
  static void passPlans(func::CallOp call, func::FuncOp callee) {
    StringRef name = shard::ShardDialect::kPlanAttr;
    for (auto [operand, argument] : llvm::zip(call.getOperands(), callee.getArguments())) {
      Attribute plan;
      if (auto passed = dyn_cast<BlockArgument>(operand))
        plan = call->getParentOfType<func::FuncOp>().getArgAttr(passed.getArgNumber(), name);
      else if (auto parameter = operand.getDefiningOp<graph::ParameterOp>())
        plan = parameter->getAttr(name);
      if (plan)
        callee.setArgAttr(argument.getArgNumber(), name, plan);
    }
  }

  /// The first variant is the function itself; `pristine` keeps how it looked for the others.
  func::FuncOp makeVariant(func::FuncOp callee, ArrayRef<Attribute> key) {
    auto [original, isFirst] = pristine.try_emplace(callee);
    if (isFirst)
      original->second = callee.clone();
    func::FuncOp variant = callee;
    if (!isFirst) {
      variant = cast<func::FuncOp>(original->second->clone());
      symbols.insert(variant, callee->getIterator());
    }
    for (auto [argument, seed] : llvm::zip(variant.getArguments(), key.drop_front()))
      if (auto sharding = dyn_cast<shard::ShardingAttr>(seed);
          sharding && !shard::getSharding(argument))
        shard::setSharding(argument, sharding);
    return variant;
  }

public:
  ~Specialiser() {
    for (auto &entry : pristine)
      entry.second->erase();
  }

private:
  SymbolTable symbols;
  llvm::StringSet<> called;
  llvm::DenseMap<Attribute, func::FuncOp> variants;
  llvm::MapVector<Operation *, Operation *> pristine;
};
} // namespace

void shardc::specialiseCallees(ModuleOp module) { Specialiser(module).run(module); }
