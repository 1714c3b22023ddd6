//===- ShortCache.cpp - Does a short cache take the same way? -------------===//
//
// What depends on the length of a cache is inferred from two imports near its capacity
// (GrowingCache.cpp). A graph may take another way at short lengths, as Phi-3's rotary tables do,
// which change at 4096 positions. So a third import, for a few entries, must be what the two say:
// the same ops, sizes and numbers that are linear in the length.
//
//===----------------------------------------------------------------------===//

#include "CacheBounder.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

namespace {
/// The three imports side by side.
struct Trio {
  int64_t step;  ///< entries between `near` and `full`
  int64_t fewer; ///< entries between `near` and `few`

  int64_t expected(int64_t near, int64_t full) const { return near - (full - near) / step * fewer; }
  bool fits(RankedTensorType near, RankedTensorType full, RankedTensorType few) const {
    return near.getRank() == few.getRank() &&
           llvm::all_of(llvm::seq(near.getRank()), [&](int64_t d) {
             return few.getDimSize(d) == expected(near.getDimSize(d), full.getDimSize(d));
           });
  }
  bool fits(ConstantOp near, ConstantOp full, ConstantOp few) const;
};
} // namespace

bool Trio::fits(ConstantOp near, ConstantOp full, ConstantOp few) const {
  auto splatOf = [](ConstantOp op) {
    auto splat = dyn_cast<SplatElementsAttr>(op.getValue());
    return splat ? splat.getSplatValue<Attribute>() : Attribute();
  };
  if (splatOf(near) && splatOf(near) == splatOf(full))
    return splatOf(few) == splatOf(near);
  FailureOr<HostTensor> n = HostTensor::fromAttr(near.getValue()),
                        f = HostTensor::fromAttr(full.getValue()),
                        s = HostTensor::fromAttr(few.getValue());
  if (failed(n) || failed(f) || failed(s))
    return false;
  if (n->isFloat())
    return n->f != f->f || n->f == s->f; // what differs near the capacity is refused for that
  bool isGrown = near.getType() != full.getType(); // a range: the beginning of the longer one
  for (int64_t k = 0; k < s->size(); ++k)
    if (s->i[k] != (isGrown ? n->i[k] : expected(n->i[k], f->i[k])))
      return false;
  return true;
}

static DictionaryAttr attributesOf(Operation *op) {
  NamedAttrList list(op->getAttrDictionary());
  if (isa<ConstantOp>(op))
    list.erase(cast<ConstantOp>(op).getValueAttrName());
  if (auto attention = dyn_cast<AttentionOp>(op))
    list.erase(attention.getCausalOffsetAttrName());
  return list.getDictionary(op->getContext());
}

LogicalResult checkShortCache(func::FuncOp near, func::FuncOp full, func::FuncOp few,
                              const CacheDim &cache, int64_t step, int64_t length) {
  Trio trio{step, cache.capacity - step - length};
  Block &block = near.getBody().front(), &fullBlock = full.getBody().front(),
        &fewBlock = few.getBody().front();
  for (Block *each : {&block, &fullBlock, &fewBlock})
    dropUnused(*each);
  auto differs =
      [&](Location loc) {
        return mlir::emitError(loc)
               << "is another one with " << length << " entries along \"" << cache.name
               << "\" than with " << cache.capacity - step
               << ": a model that switches with the length of its cache is not supported";
      };
  if (block.getOperations().size() != fullBlock.getOperations().size())
    return success(); // which is said of those two
  if (block.getOperations().size() != fewBlock.getOperations().size())
    return differs(near.getLoc());
  DenseMap<Value, Value> counterpart;
  for (auto [argument, other] : llvm::zip(block.getArguments(), fewBlock.getArguments()))
    counterpart[argument] = other;
  for (auto [op, larger, smaller] :
       llvm::zip(block.without_terminator(), fullBlock.without_terminator(),
                 fewBlock.without_terminator())) {
    if (op.getName() != larger.getName() || op.getNumResults() != larger.getNumResults())
      return success(); // likewise
    bool isSame = op.getName() == smaller.getName() &&
                  op.getNumOperands() == smaller.getNumOperands() &&
                  op.getNumResults() == smaller.getNumResults() &&
                  attributesOf(&op) == attributesOf(&smaller);
    for (unsigned i = 0; isSame && i < op.getNumOperands(); ++i)
      isSame = counterpart.lookup(op.getOperand(i)) == smaller.getOperand(i);
    for (unsigned i = 0; isSame && i < op.getNumResults(); ++i) {
      auto type = [i](Operation &each) {
        return cast<RankedTensorType>(each.getResult(i).getType());
      };
      isSame = type(op).getRank() == type(larger).getRank() &&
               trio.fits(type(op), type(larger), type(smaller));
      counterpart[op.getResult(i)] = smaller.getResult(i);
    }
    if (isSame && isa<ConstantOp>(op))
      isSame = trio.fits(cast<ConstantOp>(op), cast<ConstantOp>(larger), cast<ConstantOp>(smaller));
    if (isSame && isa<AttentionOp>(op))
      isSame = cast<AttentionOp>(smaller).getCausalOffset() ==
               trio.expected(cast<AttentionOp>(op).getCausalOffset(),
                             cast<AttentionOp>(larger).getCausalOffset());
    if (!isSame)
      return differs(op.getLoc());
  }
  return success();
}

} // namespace shardc::importer
