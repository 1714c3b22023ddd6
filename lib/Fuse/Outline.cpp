//===- Outline.cpp - Groups of ops to kernel functions --------------------===//
//
// For each group: clone its members, and the ops inlined into them, into a function whose arguments
// are what is read from memory and whose results are the members' values that are used outside.
// Functions of equal text are one.
//
//===----------------------------------------------------------------------===//
#include "Outline.h"
#include "mlir/IR/IRMapping.h"
#include "shardc/Lower/EinsumPlan.h"
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Support/SortOps.h"

using namespace mlir;

namespace shardc {
namespace {

/// One kernel under construction.
struct KernelBuilder {
  const Grouping &grouping;
  const KernelGroup &group;
  OpBuilder builder;
  Block *block;
  IRMapping map;
  SmallVector<Value> arguments; ///< values of the caller

  KernelBuilder(const Grouping &grouping, const KernelGroup &group, Block *block)
      : grouping(grouping), group(group), builder(OpBuilder::atBlockEnd(block)), block(block) {}

  Value argument(Value value) {
    if (!map.contains(value)) {
      arguments.push_back(value);
      map.map(value, block->addArgument(value.getType(), builder.getUnknownLoc()));
    }
    return map.lookup(value);
  }

  void cloneOp(Operation *op) {
    Operation *copy = builder.clone(*op, map);
    copy->setDiscardableAttrs(DictionaryAttr::get(op->getContext()));
    copy->setLoc(builder.getUnknownLoc());
  }

  /// Makes `value` available: what lies between it and `base` is cloned.
  void demandFrom(Value value, Value base) {
    if (map.contains(value))
      return;
    if (value == base) {
      argument(value);
      return;
    }
    Operation *op = value.getDefiningOp();
    demandFrom(op->getOperand(0), base);
    cloneOp(op);
  }

  void demand(OpOperand &operand) {
    if (map.contains(operand.get()))
      return;
    if (Value base = grouping.strideBase(operand))
      return demandFrom(operand.get(), base);
    if (grouping.isFromMemory(operand)) {
      argument(operand.get());
      return;
    }
    Operation *op = operand.get().getDefiningOp();
    if (grouping.groupOf(op))
      return; // a member, cloned in its turn
    for (OpOperand &inner : op->getOpOperands())
      demand(inner);
    cloneOp(op);
  }
};

} // namespace

KernelOutliner::KernelOutliner(ModuleOp module) : module(module) {
  // Kernels that are there already keep their names.
  for (auto function : module.getOps<func::FuncOp>())
    if (function.getSymName().starts_with("kernel_"))
      ++count;
}

/// The parameter whose transposes an operand is, and the letters of the parameter's dimensions.
static std::optional<std::string> lettersOfBase(Value operand, StringRef letters, Value base) {
  std::string own = letters.str();
  for (Value at = operand; at != base; at = at.getDefiningOp()->getOperand(0)) {
    auto transpose = at.getDefiningOp<graph::TransposeOp>();
    if (!transpose)
      return std::nullopt;
    std::string inner(own.size(), ' ');
    for (auto [i, p] : llvm::enumerate(transpose.getPermutation()))
      inner[p] = own[i];
    own = inner;
  }
  return own;
}

/// A weight that is the B of a matrix multiplication is packed when it is loaded.
static void packWeight(func::FuncOp kernel, ArrayRef<Value> arguments,
                       llvm::function_ref<bool(Value)> isParameter) {
  graph::EinsumOp op;
  kernel.walk([&](graph::EinsumOp found) { op = found; });
  if (!op)
    return;
  StridedView lhs = viewOf(op.getLhs()), rhs = viewOf(op.getRhs());
  auto stored =
      stridesWhenStoredAs(op.getResult(), kernel.getBody().front().getTerminator()->getOperand(0));
  if (!stored)
    stored = contiguousStrides(op.getType().getShape());
  std::optional<EinsumPlan> plan =
      planEinsum(op, lhs.strides, rhs.strides, *stored, /*packed=*/true);
  if (!plan || lhs.base == rhs.base)
    return;
  Value operand = plan->swapped ? op.getLhs() : op.getRhs();
  StringRef text = plan->swapped ? op.getLetters().lhs : op.getLetters().rhs;
  auto argument = dyn_cast<BlockArgument>(plan->swapped ? lhs.base : rhs.base);
  if (!argument || !argument.hasOneUse() || !isParameter(arguments[argument.getArgNumber()]))
    return;
  std::optional<std::string> letters = lettersOfBase(operand, text, argument);
  if (!letters)
    return;
  EinsumPlan::Panels panels = plan->panels(*letters);
  Builder b(kernel.getContext());
  kernel.setArgAttr(
      argument.getArgNumber(), kPanelsAttr,
      b.getDictionaryAttr({b.getNamedAttr("n_dims", b.getDenseI64ArrayAttr(panels.nDims)),
                           b.getNamedAttr("k_dims", b.getDenseI64ArrayAttr(panels.kDims)),
                           b.getNamedAttr("batch_dims", b.getDenseI64ArrayAttr(panels.batchDims)),
                           b.getNamedAttr("n_tile", b.getI64IntegerAttr(plan->spec.nTile))}));
}

/// The kernel, or an equal one that exists.
func::FuncOp KernelOutliner::share(func::FuncOp kernel, StringRef hint) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  kernel.print(stream, OpPrintingFlags().useLocalScope());
  auto [it, isNew] = byStructure.try_emplace(text, kernel);
  if (!isNew) {
    kernel.erase();
    return it->second;
  }
  kernel.setSymName(("kernel_" + Twine(count++) + "_" + hint).str());
  return kernel;
}

void KernelOutliner::outline(func::FuncOp function, const Grouping &grouping,
                             llvm::function_ref<bool(Value)> isParameter) {
  OpBuilder builder(module.getContext());
  SmallVector<std::pair<Value, Value>> replacements;
  for (const auto &group : grouping.getGroups()) {
    builder.setInsertionPointToEnd(module.getBody());
    Location unknown = builder.getUnknownLoc();
    auto kernel = func::FuncOp::create(builder, unknown, "kernel", builder.getFunctionType({}, {}));
    kernel.setPrivate();
    kernel->setAttr(kExecKernelAttr, builder.getUnitAttr());
    Block *block = kernel.addEntryBlock();
    KernelBuilder body(grouping, *group, block);
    SmallVector<Value> results, inside;
    for (Operation *member : group->members) {
      for (OpOperand &operand : member->getOpOperands())
        body.demand(operand);
      body.cloneOp(member);
      for (Value result : member->getResults()) {
        bool isUsed = llvm::any_of(result.getUses(), [&](OpOperand &use) {
          const KernelGroup *user = grouping.groupOf(use.getOwner());
          return user != group.get();
        });
        // A kernel writes what its op computes, even if nobody reads it.
        if (isUsed || group->members.size() == 1 ||
            (member == group->anchor && result.use_empty())) {
          results.push_back(result);
          inside.push_back(body.map.lookup(result));
        }
      }
    }
    func::ReturnOp::create(body.builder, unknown, inside);
    kernel.setFunctionType(
        builder.getFunctionType(block->getArgumentTypes(), ValueRange(inside).getTypes()));
    packWeight(kernel, body.arguments, isParameter);
    Operation *last = group->members.back();
    kernel = share(kernel, (group->anchor ? group->anchor : last)->getName().stripDialect());

    builder.setInsertionPoint(last);
    auto call = func::CallOp::create(builder, last->getLoc(), kernel, body.arguments);
    if (Attribute path = last->getDiscardableAttr(graph::GraphDialect::kPathAttr))
      call->setDiscardableAttr(graph::GraphDialect::kPathAttr, path);
    for (auto [old, value] : llvm::zip(results, call.getResults()))
      replacements.push_back({old, value});
  }
  for (auto [old, value] : replacements) // not before: the grouping speaks of the old values
    old.replaceAllUsesWith(value);
  // What is left of the groups and of inlined ops has no use any more.
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
    if (op.use_empty() && isa<graph::GraphDialect>(op.getDialect()) && !isa<graph::ParameterOp>(op))
      op.erase();
  pullProducersUp(function.getBody().front());
}

} // namespace shardc
