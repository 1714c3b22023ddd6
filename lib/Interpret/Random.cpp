//===- Random.cpp - Seeded inputs and weights for runs without data -------===//

#include "shardc/Interpret/Random.h"

#include "dialects/Graph/Graph.h"

#include "llvm/Support/xxhash.h"

#include <cmath>

using namespace mlir;
using namespace shardc;

/// SplitMix64: the n-th number of a stream without its predecessors (Steele, Lea and Flood 2014).
static uint64_t randomBits(uint64_t seed, uint64_t n) {
  uint64_t z = seed + (n + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static uint64_t seedFor(uint64_t seed, StringRef name) { return seed ^ llvm::xxh3_64bits(name); }

HostTensor shardc::randomTensor(RankedTensorType type, uint64_t seed, double scale, int64_t bound) {
  HostTensor tensor(type);
  for (int64_t n = 0; n < tensor.size(); ++n) {
    uint64_t bits = randomBits(seed, n);
    if (tensor.isFloat())
      tensor.f[n] = (static_cast<double>(bits >> 11) * 0x1p-52 - 1) * scale;
    else if (type.getElementType().isInteger(1))
      tensor.i[n] = bits % 4 != 0;
    else
      tensor.i[n] = static_cast<int64_t>(bits % static_cast<uint64_t>(std::max<int64_t>(1, bound)));
  }
  tensor.round();
  return tensor;
}

ParameterSource shardc::randomParameters(uint64_t seed) {
  return [seed](StringRef name, RankedTensorType stored) -> Result<HostTensor> {
    uint64_t own = seedFor(seed, name);
    if (stored.getRank() >= 2)
      return randomTensor(stored, own,
                          std::sqrt(3.0 / std::max<int64_t>(1, stored.getShape().back())));
    HostTensor vector = randomTensor(stored, own, 0.1);
    for (double &x : vector.f)
      x += 1;
    vector.round();
    return vector;
  };
}

/// The size that bounds an integer used at `use`, or nothing.
static std::optional<int64_t> boundOfUse(OpOperand &use) {
  Operation *op = use.getOwner();
  auto dimSize = [](Value value, int64_t dim) {
    return cast<RankedTensorType>(value.getType()).getDimSize(dim);
  };
  if (use.getOperandNumber() == 1) {
    if (auto gather = dyn_cast<graph::GatherOp>(op))
      return dimSize(gather.getData(), gather.getAxis());
    if (auto gather = dyn_cast<graph::GatherElementsOp>(op))
      return dimSize(gather.getData(), gather.getAxis());
    if (auto loss = dyn_cast<graph::SoftmaxCrossEntropyOp>(op))
      return loss.getLogits().getType().getShape().back();
  }
  return std::nullopt;
}

/// The smallest bound of an integer input over its uses, through views, casts and calls.
static int64_t boundOf(Value value, int depth = 0) {
  constexpr int64_t kDefault = 8;
  int64_t bound = std::numeric_limits<int64_t>::max();
  for (OpOperand &use : value.getUses()) {
    Operation *op = use.getOwner();
    if (std::optional<int64_t> size = boundOfUse(use)) {
      bound = std::min(bound, *size);
    } else if (auto call = dyn_cast<func::CallOp>(op)) {
      auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(op, call.getCalleeAttr());
      if (callee && !callee.isExternal() && depth < 8)
        bound = std::min(bound, boundOf(callee.getArgument(use.getOperandNumber()), depth + 1));
    } else if (isa<graph::CastOp, graph::ReshapeOp, graph::BroadcastOp, graph::TransposeOp,
                   graph::SliceOp, shard::ConstraintOp, shard::ReshardOp>(op) &&
               depth < 64) {
      bound = std::min(bound, boundOf(op->getResult(0), depth + 1));
    }
  }
  return bound == std::numeric_limits<int64_t>::max() ? kDefault : bound;
}

SmallVector<HostTensor> shardc::randomInputs(const EntryInterface &entry, uint64_t seed) {
  func::FuncOp function = entry.function;
  SmallVector<HostTensor> inputs;
  for (auto [input, argument] : llvm::zip(entry.inputs, function.getArguments())) {
    bool isInteger = isa<IntegerType>(input.type.getElementType());
    inputs.push_back(
        randomTensor(input.type, seedFor(seed, input.name), 1, isInteger ? boundOf(argument) : 1));
  }
  return inputs;
}
