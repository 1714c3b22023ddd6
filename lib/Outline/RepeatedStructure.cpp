//===- RepeatedStructure.cpp - Layers of a model without names ------------===//
//
// 1. Every op gets a symbol: its name, attributes and types, not its weights or constants.
// 2. The tandem repeat (period p, at least two copies) that covers most of the sequence is the
//    layer list; of those that cover nearly as much the shortest period wins, so that one layer is
//    not seen as two.
// 3. A repeat can start anywhere in its period: the start with the fewest values crossing the
//    boundaries is taken, which is the residual stream.
//
//===----------------------------------------------------------------------===//

#include "Layers.h"

#include "dialects/Graph/Graph.h"
#include "llvm/ADT/Hashing.h"

using namespace mlir;

namespace shardc {

static llvm::hash_code symbolOf(Operation *op) {
  llvm::hash_code hash = llvm::hash_value(op->getName().getAsOpaquePointer());
  hash = llvm::hash_combine(hash, op->getPropertiesAsAttribute().getAsOpaquePointer());
  for (Type type : op->getOperandTypes())
    hash = llvm::hash_combine(hash, type.getAsOpaquePointer());
  for (Type type : op->getResultTypes())
    hash = llvm::hash_combine(hash, type.getAsOpaquePointer());
  return hash;
}

namespace {
struct Repeat {
  size_t start = 0, period = 0, copies = 0;
  size_t covered() const { return period * copies; }
};
} // namespace

/// Longest run with seq[i] == seq[i + period], as whole copies.
static Repeat bestRun(ArrayRef<size_t> seq, size_t period) {
  Repeat best;
  size_t run = 0;
  for (size_t i = 0; i + period < seq.size(); ++i) {
    run = seq[i] == seq[i + period] ? run + 1 : 0;
    size_t copies = run / period + 1;
    if (copies >= 2 && copies * period > best.covered())
      best = {i + 1 - run, period, copies};
  }
  return best;
}

/// Values that cross the point before `at`.
static size_t crossing(ArrayRef<Operation *> ops,
                       const llvm::DenseMap<Operation *, size_t> &position, size_t at) {
  size_t count = 0;
  for (size_t i = 0; i < at; ++i)
    for (Value result : ops[i]->getResults())
      count += llvm::any_of(result.getUsers(), [&](Operation *user) {
        auto found = position.find(user);
        return found == position.end() || found->second >= at;
      });
  return count;
}

std::vector<Layer> findLayersByStructure(func::FuncOp function) {
  SmallVector<Operation *> ops;
  SmallVector<size_t> seq;
  llvm::DenseMap<Operation *, size_t> position;
  for (Operation &op : function.getBody().front().without_terminator()) {
    if (isLeaf(&op))
      continue;
    position[&op] = ops.size();
    ops.push_back(&op);
    seq.push_back(symbolOf(&op));
  }
  // A layer has at least a handful of ops; anything shorter is a pattern inside one.
  constexpr size_t kMinPeriod = 6;
  Repeat best;
  for (size_t period = kMinPeriod; period * 2 <= seq.size(); ++period) {
    Repeat run = bestRun(seq, period);
    // A longer period must cover clearly more.
    if (run.covered() > best.covered() + best.covered() / 8)
      best = run;
  }
  if (best.copies < 2 || best.covered() * 2 < seq.size())
    return {};

  // Slide the start within the run while all copies still fit.
  size_t end = best.start + best.covered();
  while (end < seq.size() && seq[end] == seq[end - best.period])
    ++end;
  size_t slack = end - best.start - best.covered(), start = best.start;
  size_t fewest = SIZE_MAX;
  for (size_t shift = 0; shift <= slack && shift < best.period; ++shift) {
    size_t cuts = crossing(ops, position, best.start + shift + best.period);
    if (cuts < fewest) {
      fewest = cuts;
      start = best.start + shift;
    }
  }
  std::vector<Layer> layers(best.copies);
  for (size_t copy = 0; copy < best.copies; ++copy) {
    layers[copy].list = "layer";
    layers[copy].path = "layer." + std::to_string(copy);
    auto from = ops.begin() + start + copy * best.period;
    layers[copy].ops.assign(from, from + best.period);
  }
  return layers;
}

} // namespace shardc
