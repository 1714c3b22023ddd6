//===- Instances.cpp - One model for several shapes -----------------------===//
//
// Shapes are static, so that a model for several of them is imported and cut once for each; what
// comes out becomes one module with an entry function for each. From there on (Fuse, Schedule) they
// are a program with several entry points: weights and kernels that are equal exist once,
// temporaries share the arena.
//
//===----------------------------------------------------------------------===//

#include "Instances.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Support/Alias.h"

using namespace mlir;

namespace shardc {

static StringAttr argumentName(func::FuncOp function, unsigned i) {
  return function.getArgAttrOfType<StringAttr>(i, graph::GraphDialect::kNameAttr);
}

static RankedTensorType globalType(func::FuncOp function, unsigned i) {
  if (auto global = function.getArgAttrOfType<TypeAttr>(i, graph::GraphDialect::kGlobalTypeAttr))
    return cast<RankedTensorType>(global.getValue());
  return cast<RankedTensorType>(function.getArgumentTypes()[i]);
}

/// Whoever runs the model chooses by the shapes of inputs.
static bool hasSameInputs(func::FuncOp a, func::FuncOp b) {
  if (a.getNumArguments() != b.getNumArguments())
    return false;
  return llvm::all_of(llvm::seq(a.getNumArguments()), [&](unsigned i) {
    return argumentName(a, i) == argumentName(b, i) && globalType(a, i) == globalType(b, i);
  });
}

/// A weight that is cut otherwise is there twice.
static void warnOfOtherCuts(func::FuncOp first, func::FuncOp second) {
  llvm::DenseMap<std::pair<Attribute, Attribute>, graph::ParameterOp> known;
  for (auto op : first.getOps<graph::ParameterOp>())
    known[{op.getNameAttr(), op.getSegmentAttr()}] = op;
  for (auto op : second.getOps<graph::ParameterOp>()) {
    auto found = known.find({op.getNameAttr(), op.getSegmentAttr()});
    if (found != known.end() &&
        shard::getSharding(found->second.getResult()) != shard::getSharding(op.getResult()))
      op.emitWarning() << "weight \"" << op.getName() << "\" is cut otherwise in \""
                       << second.getSymName() << "\" than in \"" << first.getSymName()
                       << "\": ranks hold it twice";
  }
}

LogicalResult mergeInstance(ModuleOp module, ModuleOp other, const ShapeInstance &instance) {
  auto main = other.lookupSymbol<func::FuncOp>("main");
  for (auto entry : module.getOps<func::FuncOp>())
    if (entry.isPublic() && hasSameInputs(entry, main))
      return emitError(module.getLoc())
             << "--shape-instance " << instance.name << " has the same inputs as \""
             << entry.getSymName() << "\"";
  SymbolTable symbols(module), others(other);
  auto name = StringAttr::get(module.getContext(), "main@" + instance.name);
  if (failed(others.rename(main, name)))
    return failure();
  warnOfOtherCuts(module.lookupSymbol<func::FuncOp>("main"), main);
  for (Operation &op : llvm::make_early_inc_range(other.getOps())) {
    if (auto mesh = dyn_cast<shard::MeshOp>(op)) {
      auto own = module.lookupSymbol<shard::MeshOp>(mesh.getSymName());
      if (!own || own.getMesh().axes != mesh.getMesh().axes)
        return mesh.emitError() << "mesh \"" << mesh.getSymName()
                                << "\" is another one with --shape-instance " << instance.name;
      continue;
    }
    if (isa<SymbolOpInterface>(op) && symbols.lookup(SymbolTable::getSymbolName(&op)) &&
        failed(others.renameToUnique(&op, {&symbols})))
      return failure();
    op.remove();
    module.push_back(&op);
    symbols.insert(&op);
  }
  return success();
}

void mergeWeights(WeightStore &weights, const WeightStore &other) {
  for (const auto &[name, weight] : other.all())
    if (!weights.find(name))
      weights.add(name, weight);
}

} // namespace shardc
