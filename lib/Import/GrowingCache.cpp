//===- GrowingCache.cpp - Caches of a fixed capacity ----------------------===//
//
// A decoder exported with a key/value cache appends to it: present = concat(past, new), one entry
// longer in every run. Shapes are static here, so the buffer has its full size at once, and the
// length is a number that the program computes with. Which of the file's numbers depend on the
// length, and how, is found by importing the model for two lengths and comparing the two, op by op:
//
//   1. sizes that differ are the cache's dimension, all with the full size now; ops that mix it
//      with others are refused;
//   2. integers that differ are a + b * length; they become ops on the length. Anything else that
//      differs is refused;
//   3. appending becomes writing at the length:
//        %present = concat %past, %new dim 2      %at = length + iota; %present = scatter_elements
//        replace %past, %at, %new axis 2
//      and the output replaces the input, in place; so does length + step the length;
//   4. entries beyond the length take no part: softmax gets minus infinity there, contractions
//      zero, unless the model's own mask does it (CacheTail.cpp).
//
// Points 2 to 4 are BoundedOps.cpp. So `key <= query + length` and rotary tables for `length +
// iota` come out of the exporter's own shape arithmetic.
//
//===----------------------------------------------------------------------===//

#include "CacheBounder.h"

#include "shardc/Support/Alias.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

FailureOr<int64_t> entriesPerRun(func::FuncOp full, const CacheDim &cache) {
  int64_t step = 0;
  for (Operation &op : full.getBody().front()) {
    if (!isAppend(&op))
      continue;
    int64_t appended = shapeOf(op.getOperand(1))[cast<ConcatOp>(op).getDim()];
    if (step && appended != step)
      return mlir::emitError(op.getLoc())
             << "appends " << appended << " entries to a cache, others get " << step;
    step = appended;
  }
  if (!step)
    return mlir::emitError(full.getLoc())
           << "nothing is appended to an input along dimension \"" << cache.name << "\"";
  if (step >= cache.capacity)
    return mlir::emitError(full.getLoc())
           << "a cache of " << cache.capacity << " entries along \"" << cache.name
           << "\" has no room beside the " << step << " that each run appends";
  return step;
}

void dropUnused(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (op.use_empty() && !op.hasTrait<OpTrait::IsTerminator>() && isPure(&op))
      op.erase();
}

//===----------------------------------------------------------------------===//
// The two imports side by side
//===----------------------------------------------------------------------===//

LogicalResult CacheBounder::findGrown(Value value, Value other, Location loc) {
  for (auto [d, sizes] : llvm::enumerate(llvm::zip(shapeOf(value), shapeOf(other)))) {
    auto [size, larger] = sizes;
    if (size == larger)
      continue;
    if (larger - size != step)
      return mlir::emitError(loc)
             << "dimension " << d << " has size " << size << " with " << cache.capacity - step
             << " entries in the cache and " << larger << " with " << cache.capacity
             << "; only a dimension that grows by one with each entry can be bounded";
    bool isPast = isCache(value, d);
    if (!isPast && size != cache.capacity)
      return mlir::emitError(loc)
             << "dimension " << d << " of size " << size
             << " grows with the cache, but is not what the cache has after this run ("
             << cache.capacity << ")";
    grown.insert({value, d});
  }
  return success();
}

/// All but what boundAttention understands.
static DictionaryAttr attributes(Operation *op) {
  NamedAttrList list(op->getAttrDictionary());
  if (auto attention = dyn_cast<AttentionOp>(op))
    list.erase(attention.getCausalOffsetAttrName());
  return list.getDictionary(op->getContext());
}

LogicalResult CacheBounder::compare(Operation *op, Operation *other) {
  bool isSame = op->getName() == other->getName() &&
                op->getNumOperands() == other->getNumOperands() &&
                op->getNumResults() == other->getNumResults() &&
                llvm::all_of(llvm::zip(op->getResults(), other->getResults()), [](auto pair) {
                  return rankOf(std::get<0>(pair)) == rankOf(std::get<1>(pair));
                });
  isSame =
      isSame && llvm::all_of(llvm::zip(op->getOperands(), other->getOperands()), [&](auto pair) {
        return counterpart.lookup(std::get<0>(pair)) == std::get<1>(pair);
      });
  if (!isSame || (!isa<ConstantOp>(op) && attributes(op) != attributes(other)))
    return mlir::emitError(op->getLoc())
           << "depends on the number of entries in the cache in a way that is not supported";
  otherOf[op] = other;
  for (auto [result, larger] : llvm::zip(op->getResults(), other->getResults()))
    counterpart[result] = larger;
  for (auto [result, larger] : llvm::zip(op->getResults(), other->getResults()))
    if (failed(findGrown(result, larger, op->getLoc())))
      return failure();
  return success();
}

/// The dimension's name, if no input or output has it.
static StringAttr lengthName(func::FuncOp main, StringRef dim) {
  auto is = [&](DictionaryAttr attrs) {
    return attrs && attrs.get(GraphDialect::kNameAttr) == StringAttr::get(main.getContext(), dim);
  };
  bool isTaken = llvm::any_of(llvm::seq(main.getNumArguments()),
                              [&](unsigned n) { return is(main.getArgAttrDict(n)); }) ||
                 llvm::any_of(llvm::seq(main.getNumResults()),
                              [&](unsigned n) { return is(main.getResultAttrDict(n)); });
  return StringAttr::get(main.getContext(), isTaken ? dim + "_length" : dim);
}

//===----------------------------------------------------------------------===//
// The function
//===----------------------------------------------------------------------===//

/// Outputs that are caches replace their inputs, and so does the new length.
LogicalResult CacheBounder::finish() {
  Operation *ret = block.getTerminator();
  auto nameOf = [&](BlockArgument argument) {
    return main.getArgAttrOfType<StringAttr>(argument.getArgNumber(), GraphDialect::kNameAttr);
  };
  llvm::DenseSet<Value> caches;
  for (auto [n, value] : llvm::enumerate(ret->getOperands())) {
    auto name = main.getResultAttrOfType<StringAttr>(n, GraphDialect::kNameAttr);
    auto scatter = value.getDefiningOp<ScatterElementsOp>();
    auto past = scatter ? dyn_cast<BlockArgument>(scatter.getData()) : BlockArgument();
    if (past && main.getArgAttr(past.getArgNumber(), kCacheDimAttr)) {
      if (!caches.insert(past).second)
        return mlir::emitError(main.getLoc())
               << "output \"" << name.getValue() << "\" is a second one for the cache \""
               << nameOf(past).getValue() << "\"";
      main.setResultAttr(n, kAliasAttr, nameOf(past));
      continue;
    }
    for (int64_t d = 0; d < rankOf(value); ++d)
      if (grows(value, d))
        return mlir::emitError(main.getLoc())
               << "output \"" << name.getValue()
               << "\" grows with the cache, but is no input with entries appended";
  }
  for (BlockArgument argument : block.getArguments())
    if (main.getArgAttr(argument.getArgNumber(), kCacheDimAttr)) {
      if (!caches.contains(argument))
        return mlir::emitError(main.getLoc())
               << "input \"" << nameOf(argument).getValue() << "\" grows along \"" << cache.name
               << "\", but no output is that input with entries appended";
      main.removeArgAttr(argument.getArgNumber(), kCacheDimAttr);
    }
  GraphBuilder g = at(ret);
  Value next = g.binary<AddOp>(length, static_cast<double>(step));
  ret->insertOperands(ret->getNumOperands(), next);
  StringAttr name = nameOf(cast<BlockArgument>(length));
  auto attrs = builder.getDictionaryAttr({builder.getNamedAttr(GraphDialect::kNameAttr, name),
                                          builder.getNamedAttr(kAliasAttr, name)});
  if (failed(main.insertResult(main.getNumResults(), next.getType(), attrs)))
    return failure();
  main.setFunctionType(builder.getFunctionType(block.getArgumentTypes(), ret->getOperandTypes()));
  return success();
}

LogicalResult CacheBounder::run() {
  Block &other = full.getBody().front();
  dropUnused(block);
  dropUnused(other);
  for (auto [argument, larger] : llvm::zip(block.getArguments(), other.getArguments())) {
    counterpart[argument] = larger;
    if (failed(findGrown(argument, larger, main.getLoc())))
      return failure();
  }
  if (block.getOperations().size() != other.getOperations().size())
    return mlir::emitError(main.getLoc())
           << "the model is another one with " << cache.capacity - step << " entries along \""
           << cache.name << "\" than with " << cache.capacity;
  SmallVector<Operation *> ops;
  for (auto [op, larger] : llvm::zip(block.without_terminator(), other.without_terminator())) {
    if (failed(compare(&op, &larger)))
      return failure();
    ops.push_back(&op);
  }
  auto attrs = builder.getDictionaryAttr(
      {builder.getNamedAttr(GraphDialect::kNameAttr, lengthName(main, cache.name)),
       builder.getNamedAttr(kCacheAttr, builder.getDenseI64ArrayAttr({cache.capacity, step}))});
  if (failed(main.insertArgument(main.getNumArguments(),
                                 RankedTensorType::get({}, builder.getI64Type()), attrs,
                                 main.getLoc())))
    return failure();
  length = block.getArguments().back();
  tails.emplace(length, step);
  for (Operation *op : ops)
    if (failed(bound(op)))
      return failure();
  if (failed(finish()))
    return failure();
  dropUnused(block);
  return success();
}

LogicalResult boundCache(func::FuncOp main, func::FuncOp full, const CacheDim &cache,
                         int64_t step) {
  return CacheBounder(main, full, cache, step).run();
}

} // namespace shardc::importer
