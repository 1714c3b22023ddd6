//===- Attention.cpp - Attention out of einsums and softmax ---------------===//
//
// Input: probabilities * values, an einsum whose one operand is a softmax of scores.
// Output: graph.attention on all query heads, with the mask as an operand; AttentionOperands.cpp
// then removes the repetition of key/value heads and turns masks into attributes.
//
// 1. From the einsum with the values up: casts, the safe-softmax guard (NaN -> 0), the sink
//    column's slice, the softmax.
// 2. From the softmax up: sinks, masks (added, or selected against -inf), soft cap, scale, in any
//    sensible order.
// 3. The einsum of queries and keys. Its letters tell the roles of dimensions: the softmax's is the
//    key position, the last one that only queries have is the query position, summed ones are
//    features, the rest is batch and heads.
// 4. Operands become [batch, heads, position, feature] through their views, so that it does not
//    matter how many reshapes and transposes the exporter put between, or whether batch and heads
//    are one dimension.
//
// Limits: the softmax runs along the last dimension; queries have a position dimension (it may be
// of size one).
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Patterns.h"
#include "lib/Raise/View.h"

#include <cmath>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

/// A mask of the scores' shape: float (added) or bool (true = attend, or the opposite).
struct MaskPart {
  Value value;
  bool negated = false;
};

/// What lies between the scores and the probabilities.
struct ScoreChain {
  EinsumOp scores;
  double scale = 1, softcap = 0;
  SmallVector<MaskPart> masks;
  Value sinks; ///< of the scores' shape, but one key: a column that joins the softmax
};

/// Letters of the scores' einsum by role; `lead` in the order of the scores' dimensions.
struct ScoreLetters {
  std::string lead, features;
  char query = 0, key = 0;
  bool keyIsLhs = false;
};

//===----------------------------------------------------------------------===//
// Probabilities to scores
//===----------------------------------------------------------------------===//

/// select(is_nan(p), 0, p) -> p
Value skipNanGuard(Value value) {
  auto select = definedBy<SelectOp>(value);
  auto isNan = select ? definedBy<IsNanOp>(select.getCondition()) : IsNanOp();
  bool guards = isNan && isNan.getInput() == select.getOnFalse() && isSplat(select.getOnTrue(), 0);
  return guards ? select.getOnFalse() : value;
}

/// The softmax that a value is the probabilities of, and whether a last column is cut off.
SoftmaxOp matchProbabilities(Value value, bool &cutsColumn) {
  value = skipFloatCasts(skipNanGuard(skipFloatCasts(value)));
  cutsColumn = false;
  if (auto slice = definedBy<SliceOp>(value)) {
    SmallVector<int64_t> widened(slice.getType().getShape());
    ++widened.back();
    if (getShape(slice.getInput()) != ArrayRef(widened) ||
        llvm::any_of(slice.getStarts(), [](int64_t s) { return s; }))
      return {};
    cutsColumn = true;
    value = skipFloatCasts(skipNanGuard(skipFloatCasts(slice.getInput())));
  }
  return definedBy<SoftmaxOp>(value);
}

/// Whether a number hides a key when it is selected in place of a score.
bool isHiddenScore(Value value) {
  std::optional<double> splat = splatValue(value);
  return splat && *splat == -INFINITY;
}

/// The scores in select(mask, s, -inf) or select(mask, -inf, s).
Value matchSelectMask(Value value, SmallVectorImpl<MaskPart> &masks) {
  auto select = definedBy<SelectOp>(value);
  if (!select || (!isHiddenScore(select.getOnFalse()) && !isHiddenScore(select.getOnTrue())))
    return {};
  bool negated = isHiddenScore(select.getOnTrue());
  masks.push_back({select.getCondition(), negated});
  return negated ? select.getOnFalse() : select.getOnTrue();
}

/// c * tanh(s / c): s, already divided.
Value matchSoftcap(Value value, double &softcap) {
  auto capped = matchScaled(value);
  auto tanh = capped ? definedBy<TanhOp>(skipFloatCasts(capped->value)) : TanhOp();
  if (!tanh || capped->factor <= 0)
    return {};
  softcap = capped->factor;
  return tanh.getInput();
}

/// Whether a value leads to an einsum through scaling, masks, caps and casts: the scores' side of
/// an addition.
bool leadsToScores(Value value) {
  for (int steps = 0; steps < 8; ++steps) {
    value = skipFloatCasts(value);
    if (definedBy<EinsumOp>(value))
      return true;
    if (auto scaled = matchScaled(value))
      value = scaled->value;
    else if (auto tanh = definedBy<TanhOp>(value))
      value = tanh.getInput();
    else if (auto select = definedBy<SelectOp>(value))
      value = splatValue(select.getOnFalse()) ? select.getOnTrue() : select.getOnFalse();
    else if (auto add = definedBy<AddOp>(value))
      value = leadsToScores(add.getLhs()) ? add.getLhs() : add.getRhs();
    else
      return false;
  }
  return false;
}

/// Everything between the softmax and the scores.
FailureOr<ScoreChain> matchScoreChain(SoftmaxOp softmax, bool hasSinks, PatternRewriter &rewriter) {
  ScoreChain chain;
  Value at = skipFloatCasts(softmax.getInput());
  if (hasSinks) {
    auto concat = definedBy<ConcatOp>(at);
    int64_t last = softmax.getType().getRank() - 1;
    if (!concat || concat.getInputs().size() != 2 ||
        static_cast<int64_t>(concat.getDim()) != last ||
        getShape(concat.getInputs()[1]).back() != 1)
      return rewriter.notifyMatchFailure(softmax,
                                         "a column of probabilities is dropped that is not a sink");
    chain.sinks = concat.getInputs()[1];
    at = concat.getInputs()[0];
  }
  bool masksDone = false;
  for (;;) {
    at = skipFloatCasts(at);
    if ((chain.scores = definedBy<EinsumOp>(at)))
      return chain;
    if (!masksDone)
      if (Value next = matchSelectMask(at, chain.masks)) {
        at = next;
        continue;
      }
    if (auto add = definedBy<AddOp>(at); add && !masksDone) {
      bool isLhs = leadsToScores(add.getLhs());
      chain.masks.push_back({isLhs ? add.getRhs() : add.getLhs()});
      at = isLhs ? add.getLhs() : add.getRhs();
      continue;
    }
    masksDone = true;
    double softcap = 0;
    if (Value next = matchSoftcap(at, softcap); next && chain.softcap == 0 && chain.scale == 1) {
      chain.softcap = softcap;
      chain.scale = softcap; // the division by the cap follows as a scale
      at = next;
      continue;
    }
    auto scaled = matchScaled(at);
    if (!scaled)
      return rewriter.notifyMatchFailure(softmax, "softmax of something that is no score");
    chain.scale *= scaled->factor;
    at = scaled->value;
  }
}

//===----------------------------------------------------------------------===//
// Letters and views
//===----------------------------------------------------------------------===//

std::optional<ScoreLetters> classifyLetters(EinsumOp scores) {
  EinsumOp::Letters all = scores.getLetters();
  if (all.result.empty())
    return std::nullopt;
  ScoreLetters letters;
  letters.key = all.result.back();
  letters.keyIsLhs = all.lhs.contains(letters.key);
  StringRef query = letters.keyIsLhs ? all.rhs : all.lhs,
            key = letters.keyIsLhs ? all.lhs : all.rhs;
  if (query.contains(letters.key))
    return std::nullopt;
  for (char c : llvm::reverse(all.result.drop_back()))
    if (!letters.query && query.contains(c) && !key.contains(c))
      letters.query = c;
  for (char c : all.result.drop_back())
    if (c != letters.query) {
      letters.lead.push_back(c);
      if (!query.contains(c))
        return std::nullopt; // the keys have more heads than the queries
    }
  for (char c : query)
    if (!all.result.contains(c)) {
      letters.features.push_back(c);
      if (!key.contains(c))
        return std::nullopt;
    }
  if (!letters.query || letters.features.empty() ||
      llvm::any_of(key, [&](char c) { return !all.result.contains(c) && !query.contains(c); }))
    return std::nullopt;
  return letters;
}

/// Atoms by letter; letters that an operand lacks repeat it.
using LetterGroups = llvm::DenseMap<char, AtomGroup>;

LetterGroups groupsOf(const View &view, StringRef letters) {
  LetterGroups groups;
  for (auto [group, letter] : llvm::zip_equal(view.dims, letters))
    groups[letter] = group;
  return groups;
}

/// How the leading letters divide into batch and heads.
struct Lead {
  std::string letters;
  SmallVector<int64_t> sizes;
  int64_t batch = 1; ///< elements of the batch; what remains are heads
  int64_t heads = 1;
};

/// With two letters or more the first one is the batch. A single one is cut where the query's view
/// or the key's is cut, and holds heads alone if there is no cut: correct either way, but batches
/// and heads shard differently.
Lead divideLead(EinsumOp scores, const ScoreLetters &letters, ArrayRef<AtomGroup> hints) {
  Lead lead;
  lead.letters = letters.lead;
  for (char c : letters.lead) {
    lead.sizes.push_back(scores.getLetterSize(c));
    lead.heads *= lead.sizes.back();
  }
  if (lead.sizes.size() > 1)
    lead.batch = lead.sizes[0];
  else
    for (const AtomGroup &hint : hints)
      if (lead.batch == 1 && hint.size() > 1)
        lead.batch = hint[0].size;
  lead.heads /= lead.batch;
  return lead;
}

/// An operand as [batch, heads, …rest]; `rest` are groups of letters. Nothing if an atom spans
/// batch and heads unevenly.
std::optional<View> arrange(Value base, LetterGroups &groups, const Lead &lead,
                            ArrayRef<std::string> rest) {
  AtomGroup leading;
  for (auto [letter, size] : llvm::zip_equal(lead.letters, lead.sizes)) {
    if (groups.count(letter))
      leading.append(groups[letter]);
    else if (size != 1)
      leading.push_back(Atom::repetition(size));
  }
  auto cut = splitGroup(leading, lead.batch);
  if (!cut)
    return std::nullopt;
  View arranged;
  arranged.base = base;
  arranged.dims = {cut->first, cut->second};
  for (const std::string &letters : rest) {
    AtomGroup group;
    for (char c : letters)
      group.append(groups[c]);
    arranged.dims.push_back(group);
  }
  return arranged;
}

/// A mask or sinks column of the scores' shape as [B or 1, H or 1, Sq or 1, Sk]: dimensions that
/// only repeat shrink to one.
std::optional<View> arrangeMask(Value mask, StringRef scoreLetters, const ScoreLetters &letters,
                                const Lead &lead) {
  View view = View::of(mask);
  LetterGroups groups = groupsOf(view, scoreLetters);
  auto arranged = arrange(view.base, groups, lead,
                          {std::string(1, letters.query), std::string(1, letters.key)});
  if (arranged)
    for (AtomGroup &group : MutableArrayRef(arranged->dims).drop_back())
      if (raise::isRepetition(group))
        group.clear();
  return arranged;
}

/// Several masks as one of the scores' shape.
Value joinMasks(ArrayRef<MaskPart> parts, OpMaker &maker) {
  Value bools, floats;
  for (const MaskPart &part : parts) {
    if (getType(part.value).getElementType().isInteger(1)) {
      Value mask = part.negated ? Value(maker.create<NotOp>(part.value)) : part.value;
      bools = bools ? Value(maker.create<AndOp>(bools, mask)) : mask;
    } else {
      Value mask = part.value;
      if (floats && mask.getType() != floats.getType())
        mask = maker.create<CastOp>(mask, getType(floats).getElementType());
      floats = floats ? Value(maker.create<AddOp>(floats, mask)) : mask;
    }
  }
  if (!bools || !floats)
    return bools ? bools : floats;
  Value hidden = ConstantOp::splat(maker.rewriter, floats.getLoc(), getType(floats), -INFINITY);
  return maker.create<SelectOp>(floats.getType(), bools, floats, hidden);
}

//===----------------------------------------------------------------------===//
// The pattern
//===----------------------------------------------------------------------===//

struct RaiseAttention : OpRewritePattern<EinsumOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(EinsumOp op, PatternRewriter &rewriter) const override {
    if (op.getType().getElementType().isF64())
      return rewriter.notifyMatchFailure(op, "no kernel attends in f64");
    for (unsigned side = 0; side < 2; ++side) {
      bool hasSinks = false;
      if (SoftmaxOp softmax = matchProbabilities(op->getOperand(side), hasSinks))
        return rewrite(op, side, softmax, hasSinks, rewriter);
    }
    return rewriter.notifyMatchFailure(op, "no operand is a softmax");
  }

private:
  static LogicalResult rewrite(EinsumOp op, unsigned side, SoftmaxOp softmax, bool hasSinks,
                               PatternRewriter &rewriter) {
    if (static_cast<int64_t>(softmax.getDim()) != softmax.getType().getRank() - 1)
      return rewriter.notifyMatchFailure(op, "softmax is not along the last dimension");
    if (!op->getOperand(side).hasOneUse())
      return rewriter.notifyMatchFailure(op, "probabilities have other uses");
    FailureOr<ScoreChain> chain = matchScoreChain(softmax, hasSinks, rewriter);
    if (failed(chain))
      return failure();
    EinsumOp scores = chain->scores;
    std::optional<ScoreLetters> letters = classifyLetters(scores);
    if (!letters)
      return rewriter.notifyMatchFailure(op, "scores are not a product of queries and keys");

    // The values' letters, renamed to the scores'.
    std::string valueLetters = op.getLetters().rhs.str(),
                resultLetters = op.getLetters().result.str();
    StringRef ownLetters = side ? op.getLetters().rhs : op.getLetters().lhs;
    if (side)
      valueLetters = op.getLetters().lhs.str();
    std::string features =
        renameLetters(ownLetters, scores.getLetters().result, valueLetters, resultLetters);
    std::string wantedResult = letters->lead + letters->query + features;
    std::string allowedValue = letters->lead + letters->key + features;
    bool isContraction = valueLetters.find(letters->key) != std::string::npos &&
                         resultLetters.size() == wantedResult.size();
    for (char c : valueLetters)
      isContraction &= allowedValue.find(c) != std::string::npos;
    for (char c : wantedResult)
      isContraction &= resultLetters.find(c) != std::string::npos;
    if (!isContraction)
      return rewriter.notifyMatchFailure(
          op, "probabilities are not contracted with values along the keys");
    OpMaker maker(rewriter, op);
    return emit(op, *chain, *letters, op->getOperand(1 - side), valueLetters, resultLetters,
                features, maker);
  }

  /// Renames the probabilities' letters to the scores', in the values and the result; other letters
  /// (features of the values) become no letters at all, so that none collides; it returns them in
  /// the result's order.
  static std::string renameLetters(StringRef own, StringRef scores, std::string &value,
                                   std::string &result) {
    auto rename = [&](char c) -> char {
      size_t at = own.find(c);
      return at != StringRef::npos ? scores[at] : static_cast<char>(c ^ 0x80);
    };
    std::string features;
    llvm::transform(value, value.begin(), rename);
    for (char &c : result) {
      bool isFeature = !own.contains(c);
      c = rename(c);
      if (isFeature)
        features.push_back(c);
    }
    return features;
  }

  static LogicalResult emit(EinsumOp op, ScoreChain &chain, const ScoreLetters &letters,
                            Value values, StringRef valueLetters, StringRef resultLetters,
                            const std::string &features, OpMaker &maker) {
    EinsumOp scores = chain.scores;
    Value queries = letters.keyIsLhs ? scores.getRhs() : scores.getLhs();
    Value keys = letters.keyIsLhs ? scores.getLhs() : scores.getRhs();
    EinsumOp::Letters all = scores.getLetters();
    View queryView = View::of(queries, &chain.scale), keyView = View::of(keys, &chain.scale),
         valueView = View::of(values);
    LetterGroups queryGroups = groupsOf(queryView, letters.keyIsLhs ? all.rhs : all.lhs);
    LetterGroups keyGroups = groupsOf(keyView, letters.keyIsLhs ? all.lhs : all.rhs);
    LetterGroups valueGroups = groupsOf(valueView, valueLetters);
    char first = letters.lead.empty() ? 0 : letters.lead[0];
    Lead lead = divideLead(scores, letters, {queryGroups.lookup(first), keyGroups.lookup(first)});

    std::string queryDim(1, letters.query), keyDim(1, letters.key);
    auto queryAs = arrange(queryView.base, queryGroups, lead, {queryDim, letters.features});
    auto keyAs = arrange(keyView.base, keyGroups, lead, {keyDim, letters.features});
    auto valueAs = arrange(valueView.base, valueGroups, lead, {keyDim, features});
    if (!queryAs || !keyAs || !valueAs)
      return maker.rewriter.notifyMatchFailure(op, "batch and heads cannot be told apart");
    for (const MaskPart &part : chain.masks)
      if (!arrangeMask(part.value, all.result, letters, lead))
        return maker.rewriter.notifyMatchFailure(op, "a mask mixes batch and heads");
    std::optional<View> sinksAs;
    if (chain.sinks) {
      sinksAs = arrangeMask(chain.sinks, all.result, letters, lead);
      if (!sinksAs || sinksAs->shape() != ArrayRef<int64_t>({1, lead.heads, 1, 1}))
        return maker.rewriter.notifyMatchFailure(op, "sinks are not one number a head");
      sinksAs->dims = {sinksAs->dims[1]};
    }

    Value query = queryAs->materialize(maker), key = keyAs->materialize(maker),
          value = valueAs->materialize(maker);
    Value sinks = sinksAs ? sinksAs->materialize(maker) : Value();
    Value mask = joinMasks(chain.masks, maker);
    if (mask)
      if (auto maskAs = arrangeMask(mask, all.result, letters, lead))
        mask = maskAs->materialize(maker);
    Type element = op.getType().getElementType();
    for (Value *operand : {&query, &key, &value})
      if (getType(*operand).getElementType() != element)
        *operand = maker.create<CastOp>(*operand, element);
    int64_t positions = getShape(query)[2], valueDim = getShape(value)[3];
    auto type = RankedTensorType::get({lead.batch, lead.heads, positions, valueDim}, element);
    auto attention =
        maker.create<AttentionOp>(type, query, key, value, mask, sinks, APFloat(chain.scale), false,
                                  0, 0, APFloat(chain.softcap));
    maker.rewriter.replaceOp(op, arrangeResult(op, attention, letters, lead, valueLetters,
                                               valueGroups, resultLetters, features, maker));
    return success();
  }

  /// The attention's result in the einsum's order of dimensions.
  static Value arrangeResult(EinsumOp op, Value attention, const ScoreLetters &letters,
                             const Lead &lead, StringRef valueLetters, LetterGroups &valueGroups,
                             StringRef resultLetters, const std::string &features, OpMaker &maker) {
    std::string order = lead.letters + letters.query + features;
    SmallVector<int64_t> sizes(lead.sizes);
    sizes.push_back(getShape(attention)[2]);
    for (char c : features)
      sizes.push_back(groupSize(valueGroups[c]));
    View view = View::identity(attention);
    if (failed(view.reshape(sizes)))
      return maker.reshape(
          attention,
          op.getType().getShape()); // unreachable: the sizes are products of the dimensions
    SmallVector<int64_t> permutation;
    for (char c : resultLetters)
      permutation.push_back(order.find(c));
    view.transpose(permutation);
    return view.materialize(maker);
  }
};

} // namespace

void raise::populateAttentionPatterns(RewritePatternSet &patterns) {
  patterns.add<RaiseAttention>(patterns.getContext());
}
