//===- AttentionOperands.cpp - Grouped heads, and masks as attributes -----===//
//
// Clean-up of graph.attention, raised or imported as one operator:
// 1. key and value heads that are repeated for a group of query heads lose the repetition;
// 2. masks that hide nothing go; causal ones, with or without a window, become attributes; of a
//    conjunction only the rest stays an operand;
// 3. a mask select(c, 0, -inf) becomes c; dimensions that a mask only repeats shrink to one;
// 4. the exporters' guards around it go: nan -> 0, and a choice on a condition that is known.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Masks.h"
#include "lib/Raise/Patterns.h"
#include "lib/Raise/View.h"

#include <cmath>
#include <numeric>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

constexpr int64_t kHeads = 1, kQueries = 2;

/// Repetitions at the minor end of a dimension: how many neighbours are equal.
int64_t trailingRepetition(const AtomGroup &group) {
  int64_t count = 1;
  for (const Atom &atom : llvm::reverse(group)) {
    if (!atom.isRepetition())
      break;
    count *= atom.size;
  }
  return count;
}

/// key, value [B, Hkv * g, S, D] that repeat each head g times -> [B, Hkv, S, D]
struct GroupHeads : OpRewritePattern<AttentionOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AttentionOp op, PatternRewriter &rewriter) const override {
    View key = View::of(op.getKey()), value = View::of(op.getValue());
    int64_t group =
        std::gcd(trailingRepetition(key.dims[kHeads]), trailingRepetition(value.dims[kHeads]));
    if (group == 1)
      return rewriter.notifyMatchFailure(op, "key and value heads are not repeated");
    for (View *view : {&key, &value}) {
      AtomGroup &heads = view->dims[kHeads];
      auto cut = splitGroup(heads, groupSize(heads) / group);
      if (!cut)
        return rewriter.notifyMatchFailure(op, "repetition of the heads is uneven");
      heads = cut->first;
    }
    OpMaker maker(rewriter, op);
    Value grouped[] = {key.materialize(maker), value.materialize(maker)};
    rewriter.modifyOpInPlace(op, [&] {
      op.getKeyMutable().assign(grouped[0]);
      op.getValueMutable().assign(grouped[1]);
    });
    return success();
  }
};

void setKeyRange(AttentionOp op, const KeyRange &range) {
  op.setCausal(range.causal);
  op.setCausalOffset(range.offset);
  op.setWindow(range.window);
}

/// A mask that is a band becomes attributes. One that hides nothing goes even if the attention is
/// causal already.
struct MaskToAttributes : OpRewritePattern<AttentionOp> {
  MaskToAttributes(MLIRContext *context, ConstantFacts &facts)
      : OpRewritePattern(context), facts(facts) {}
  LogicalResult matchAndRewrite(AttentionOp op, PatternRewriter &rewriter) const override {
    if (!op.getMask())
      return rewriter.notifyMatchFailure(op, "no mask");
    std::optional<KeyRange> range = rangeOf(op, op.getMask());
    if (range)
      return replace(op, *range, Value(), rewriter);
    // Of a conjunction, one side may be a band; the rest stays.
    View view = View::of(op.getMask());
    if (!isa_and_nonnull<AndOp>(view.base.getDefiningOp()) || view.shape() != getShape(view.base))
      return rewriter.notifyMatchFailure(op, "mask is no band of positions");
    auto conjunction = definedBy<AndOp>(op.getMask());
    for (unsigned side = 0; conjunction && side < 2; ++side)
      if ((range = rangeOf(op, conjunction->getOperand(side))))
        return replace(op, *range, conjunction->getOperand(1 - side), rewriter);
    return rewriter.notifyMatchFailure(op, "no part of the mask is a band of positions");
  }

private:
  /// The range that a mask says, if the attention's attributes can take it too.
  std::optional<KeyRange> rangeOf(AttentionOp op, Value mask) const {
    std::optional<Band> band = analyzeMask(mask, facts);
    auto range = band ? keyRangeOf(*band, getShape(op.getQuery())[2], getShape(op.getKey())[2])
                      : std::nullopt;
    bool agrees = range && (!op.getCausal() || !range->causal ||
                            (range->offset == static_cast<int64_t>(op.getCausalOffset()) &&
                             range->window == static_cast<int64_t>(op.getWindow())));
    return agrees ? range : std::nullopt;
  }

  static LogicalResult replace(AttentionOp op, const KeyRange &range, Value mask,
                               PatternRewriter &rewriter) {
    rewriter.modifyOpInPlace(op, [&] {
      op.getMaskMutable().clear();
      if (mask)
        op.getMaskMutable().assign(mask);
      if (range.causal)
        setKeyRange(op, range);
    });
    return success();
  }

  ConstantFacts &facts;
};

/// select(c, 0, -inf) -> c, select(c, -inf, 0) -> not c. A finite mask stays: it averages where
/// nothing is seen.
struct FloatMaskToBool : OpRewritePattern<AttentionOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AttentionOp op, PatternRewriter &rewriter) const override {
    auto select = op.getMask() ? definedBy<SelectOp>(op.getMask()) : SelectOp();
    auto onTrue = select ? splatValue(select.getOnTrue()) : std::nullopt;
    auto onFalse = select ? splatValue(select.getOnFalse()) : std::nullopt;
    if (!onTrue || !onFalse || !isa<FloatType>(select.getType().getElementType()))
      return rewriter.notifyMatchFailure(op, "mask is not a choice between two numbers");
    OpMaker maker(rewriter, op);
    Value seen;
    if (*onTrue == 0 && *onFalse == -INFINITY)
      seen = select.getCondition();
    else if (*onTrue == -INFINITY && *onFalse == 0)
      seen = maker.create<NotOp>(select.getCondition());
    else
      return rewriter.notifyMatchFailure(op, "mask does not choose between 0 and -inf");
    rewriter.modifyOpInPlace(op, [&] { op.getMaskMutable().assign(seen); });
    return success();
  }
};

/// A mask that repeats itself along batch, heads or queries -> size one there
struct ShrinkMask : OpRewritePattern<AttentionOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AttentionOp op, PatternRewriter &rewriter) const override {
    if (!op.getMask())
      return rewriter.notifyMatchFailure(op, "no mask");
    View view = View::of(op.getMask());
    bool changed = false;
    for (int64_t dim = 0; dim <= kQueries; ++dim)
      if (!view.dims[dim].empty() && raise::isRepetition(view.dims[dim])) {
        view.dims[dim].clear();
        changed = true;
      }
    if (!changed)
      return rewriter.notifyMatchFailure(op, "mask repeats nothing");
    OpMaker maker(rewriter, op);
    Value shrunk = view.materialize(maker);
    rewriter.modifyOpInPlace(op, [&] { op.getMaskMutable().assign(shrunk); });
    return success();
  }
};

/// select(nan(a), 0, a) -> a where a is an attention, which gives zeros by itself; select(false, x,
/// y) -> y
struct DropGuard : OpRewritePattern<SelectOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(SelectOp op, PatternRewriter &rewriter) const override {
    if (auto known = splatValue(op.getCondition())) {
      rewriter.replaceOp(op, *known != 0 ? op.getOnTrue() : op.getOnFalse());
      return success();
    }
    auto isNan = definedBy<IsNanOp>(op.getCondition());
    if (!isNan || isNan.getInput() != op.getOnFalse() || !isSplat(op.getOnTrue(), 0) ||
        !definedBy<AttentionOp>(View::of(op.getOnFalse()).base))
      return rewriter.notifyMatchFailure(op, "not a guard of attention");
    rewriter.replaceOp(op, op.getOnFalse());
    return success();
  }
};

} // namespace

void raise::populateAttentionOperandPatterns(RewritePatternSet &patterns, ConstantFacts &facts) {
  patterns.add<MaskToAttributes>(patterns.getContext(), facts);
  patterns.add<GroupHeads, FloatMaskToBool, ShrinkMask, DropGuard>(patterns.getContext());
}
