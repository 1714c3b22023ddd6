//===- Masks.cpp - Which keys a mask shows to a query ---------------------===//
//
// 1. A constant mask is read row by row: what a row sees must be one interval, and its ends move
//    with the row.
// 2. A computed mask is built from comparisons of positions: each side is an affine function of the
//    indices (iotas, constants that turn out affine, sums, views), so a comparison is a half plane
//    in (query, key), `and` intersects and `not` complements. This is what remains of a mask that
//    is too large for an exporter to fold.
//
// Hidden means -inf, or so far below zero (-1e4) that exp underflows. A row without any key would
// become an average under a finite mask and zeros under an attribute: such masks are left alone.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Masks.h"
#include "lib/Raise/Match.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

constexpr double kHidden = -1e4;
constexpr int64_t kMaxConstant = INT64_C(1)
                                 << 26; ///< elements of a constant that are worth reading

/// Where the query and the key position stand among a value's dimensions; -1 if the value does not
/// vary along it.
struct Position {
  int64_t query, key;
};

/// c + sum of slope[d] * index[d]
struct Affine {
  int64_t constant = 0;
  SmallVector<int64_t> slopes;
};

/// For each dimension of a movement op's input the result's dimension that it becomes (-1: of size
/// one and gone).
std::optional<SmallVector<int64_t>> dimMap(Operation *op) {
  ArrayRef<int64_t> from = getShape(op->getOperand(0)), to = getShape(op->getResult(0));
  SmallVector<int64_t> map(from.size(), -1);
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    llvm::copy(broadcast.getDims(), map.begin());
  } else if (auto transpose = dyn_cast<TransposeOp>(op)) {
    for (auto [result, input] : llvm::enumerate(transpose.getPermutation()))
      map[input] = result;
  } else if (isa<SliceOp>(op)) {
    llvm::copy(llvm::seq<int64_t>(0, from.size()), map.begin());
  } else if (isa<ReshapeOp>(op)) { // units only
    size_t at = 0;
    for (auto [dim, size] : llvm::enumerate(from)) {
      if (size == 1)
        continue;
      while (at < to.size() && to[at] == 1)
        ++at;
      if (at == to.size() || to[at] != size)
        return std::nullopt;
      map[dim] = at++;
    }
  } else {
    return std::nullopt;
  }
  return map;
}

//===----------------------------------------------------------------------===//
// Affine values
//===----------------------------------------------------------------------===//

/// An integer constant as an affine function of its indices, if it is one.
std::optional<Affine> affineConstant(ConstantOp op) {
  if (op.getType().getNumElements() > kMaxConstant || !op.getType().getElementType().isIntOrIndex())
    return std::nullopt;
  auto shape = op.getType().getShape();
  Affine affine;
  affine.slopes.assign(shape.size(), 0);
  if (auto splat = splatValue(op.getResult())) {
    affine.constant = static_cast<int64_t>(*splat);
    return affine;
  }
  FailureOr<HostTensor> tensor = HostTensor::fromAttr(op.getValue());
  if (failed(tensor) || tensor->i.empty())
    return std::nullopt;
  affine.constant = tensor->i[0];
  SmallVector<int64_t> strides = rowMajorStrides(shape);
  for (auto [dim, size] : llvm::enumerate(shape))
    if (size > 1)
      affine.slopes[dim] = tensor->i[strides[dim]] - tensor->i[0];
  bool fits = true;
  forEachIndex(shape, [&](ArrayRef<int64_t> index, int64_t at) {
    int64_t expected = affine.constant;
    for (auto [i, slope] : llvm::zip_equal(index, affine.slopes))
      expected += i * slope;
    fits &= tensor->i[at] == expected;
  });
  return fits ? std::optional(affine) : std::nullopt;
}

std::optional<Affine> affineOf(Value value);

std::optional<Affine> affineMovement(Operation *op) {
  auto map = dimMap(op);
  auto input = map ? affineOf(op->getOperand(0)) : std::nullopt;
  if (!input)
    return std::nullopt;
  Affine affine;
  affine.constant = input->constant;
  affine.slopes.assign(getShape(op->getResult(0)).size(), 0);
  auto slice = dyn_cast<SliceOp>(op);
  for (auto [dim, result] : llvm::enumerate(*map)) {
    int64_t slope = input->slopes[dim];
    if (slice) {
      affine.constant += slope * slice.getStarts()[dim];
      slope *= slice.getStrides()[dim];
    }
    if (result >= 0 && getShape(op->getOperand(0))[dim] != 1)
      affine.slopes[result] = slope;
  }
  return affine;
}

std::optional<Affine> affineOf(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto constant = dyn_cast_or_null<ConstantOp>(op))
    return affineConstant(constant);
  if (auto iota = dyn_cast_or_null<IotaOp>(op)) {
    Affine affine;
    affine.slopes.assign(iota.getType().getRank(), 0);
    affine.slopes[iota.getDim()] = 1;
    return affine;
  }
  if (auto cast = dyn_cast_or_null<CastOp>(op))
    return cast.getType().getElementType().isInteger(1) ? std::nullopt : affineOf(cast.getInput());
  if (isa_and_nonnull<AddOp, SubOp>(op)) {
    auto lhs = affineOf(op->getOperand(0)), rhs = affineOf(op->getOperand(1));
    if (!lhs || !rhs)
      return std::nullopt;
    int64_t sign = isa<AddOp>(op) ? 1 : -1;
    lhs->constant += sign * rhs->constant;
    for (auto [mine, other] : llvm::zip_equal(lhs->slopes, rhs->slopes))
      mine += sign * other;
    return lhs;
  }
  if (isa_and_nonnull<BroadcastOp, ReshapeOp, TransposeOp, SliceOp>(op))
    return affineMovement(op);
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Bands
//===----------------------------------------------------------------------===//

constexpr Band kEverything;
constexpr Band kNothing{1, 0};

Band intersect(Band a, Band b) { return {std::max(a.low, b.low), std::min(a.high, b.high)}; }
bool isEverything(Band band) { return band.low <= -Band::kNone && band.high >= Band::kNone; }
bool isNothing(Band band) { return band.low > band.high; }

std::optional<Band> complement(Band band) {
  if (isEverything(band))
    return kNothing;
  if (isNothing(band))
    return kEverything;
  if (band.low <= -Band::kNone)
    return Band{band.high + 1, Band::kNone};
  if (band.high >= Band::kNone)
    return Band{-Band::kNone, band.low - 1};
  return std::nullopt; // two pieces
}

/// Solutions of constant + slope * (key - query) <= 0.
std::optional<Band> solve(int64_t constant, int64_t slope) {
  if (slope == 0)
    return constant <= 0 ? kEverything : kNothing;
  if (slope == 1)
    return Band{-Band::kNone, -constant};
  if (slope == -1)
    return Band{constant, Band::kNone};
  return std::nullopt;
}

std::optional<Band> bandOfComparison(CompareOp op, Position at) {
  auto lhs = affineOf(op.getLhs()), rhs = affineOf(op.getRhs());
  if (!lhs || !rhs)
    return std::nullopt;
  int64_t constant = lhs->constant - rhs->constant, query = 0, key = 0;
  for (int64_t dim = 0, rank = lhs->slopes.size(); dim < rank; ++dim) {
    int64_t slope = lhs->slopes[dim] - rhs->slopes[dim];
    if (dim == at.query)
      query = slope;
    else if (dim == at.key)
      key = slope;
    else if (slope != 0)
      return std::nullopt;
  }
  if (at.query < 0) // one query: its slope does not matter
    query = -key;
  if (query != -key)
    return std::nullopt;
  switch (op.getPredicate()) {
  case Predicate::LE:
    return solve(constant, key);
  case Predicate::LT:
    return solve(constant + 1, key);
  case Predicate::GE:
    return solve(-constant, -key);
  case Predicate::GT:
    return solve(1 - constant, -key);
  case Predicate::EQ:
    return key == 0 ? std::optional(constant == 0 ? kEverything : kNothing) : std::nullopt;
  case Predicate::NE:
    return key == 0 ? std::optional(constant != 0 ? kEverything : kNothing) : std::nullopt;
  }
  return std::nullopt;
}

/// Narrows `band` so that its ends in row `query` are first and last; ends at the edge of the mask
/// say less.
bool narrow(Band &band, int64_t query, int64_t first, int64_t last, int64_t keys) {
  if (first > 0) {
    if (band.low > -Band::kNone && band.low != first - query)
      return false;
    band.low = first - query;
  }
  if (last < keys - 1) {
    if (band.high < Band::kNone && band.high != last - query)
      return false;
    band.high = last - query;
  }
  return true;
}

/// The band of a constant that is at most kMaxConstant large, read twice: once to find the ends,
/// once to prove them.
std::optional<Band> readBand(ConstantOp op, Position at) {
  RankedTensorType type = op.getType();
  if (type.getNumElements() > kMaxConstant)
    return std::nullopt;
  bool isBool = type.getElementType().isInteger(1);
  if (!isBool && !isa<FloatType>(type.getElementType()))
    return std::nullopt;
  if (auto splat = splatValue(op.getResult())) {
    if (isBool || *splat == 0 || *splat <= kHidden)
      return (isBool ? *splat != 0 : *splat == 0) ? kEverything : kNothing;
    return std::nullopt;
  }
  FailureOr<HostTensor> tensor = HostTensor::fromAttr(op.getValue());
  if (failed(tensor) || at.key < 0)
    return std::nullopt;
  auto isSeen = [&](int64_t index) {
    return isBool ? tensor->i[index] != 0 : tensor->f[index] == 0;
  };
  auto rowOf = [&](ArrayRef<int64_t> index) { return at.query < 0 ? 0 : index[at.query]; };
  ArrayRef<int64_t> shape = type.getShape();
  int64_t keys = shape[at.key], stride = rowMajorStrides(shape)[at.key];

  Band band;
  bool fits = true;
  forEachIndex(shape, [&](ArrayRef<int64_t> index, int64_t linear) {
    if (!isBool && tensor->f[linear] != 0 && !(tensor->f[linear] <= kHidden))
      fits = false;
    if (!fits || index[at.key] != 0)
      return;
    int64_t first = 0, last = keys - 1;
    while (first < keys && !isSeen(linear + first * stride))
      ++first;
    while (last >= first && !isSeen(linear + last * stride))
      --last;
    fits &= first <= last && narrow(band, rowOf(index), first, last, keys);
  });
  if (!fits)
    return std::nullopt;
  forEachIndex(shape, [&](ArrayRef<int64_t> index, int64_t linear) {
    int64_t offset = index[at.key] - rowOf(index);
    fits &= isSeen(linear) == (band.low <= offset && offset <= band.high);
  });
  return fits ? std::optional(band) : std::nullopt;
}

std::optional<Band> bandOfConstant(ConstantOp op, Position at, ConstantFacts &facts) {
  auto [entry, isNew] = facts.bands.try_emplace({op.getValue(), {at.query, at.key}});
  if (isNew)
    entry->second = readBand(op, at);
  return entry->second;
}

std::optional<Band> bandOf(Value mask, Position at, ConstantFacts &facts);

/// select(c, shown, hidden) of floats or bools.
std::optional<Band> bandOfChoice(SelectOp op, Position at, ConstantFacts &facts) {
  auto condition = bandOf(op.getCondition(), at, facts), onTrue = bandOf(op.getOnTrue(), at, facts),
       onFalse = bandOf(op.getOnFalse(), at, facts);
  auto otherwise = condition ? complement(*condition) : std::nullopt;
  if (!condition || !onTrue || !onFalse)
    return std::nullopt;
  if (isNothing(*onFalse))
    return intersect(*condition, *onTrue);
  if (isNothing(*onTrue) && otherwise)
    return intersect(*otherwise, *onFalse);
  return std::nullopt;
}

std::optional<Band> bandOf(Value mask, Position at, ConstantFacts &facts) {
  Operation *op = mask.getDefiningOp();
  if (!op)
    return std::nullopt;
  if (auto constant = dyn_cast<ConstantOp>(op))
    return bandOfConstant(constant, at, facts);
  if (auto compare = dyn_cast<CompareOp>(op))
    return bandOfComparison(compare, at);
  if (auto select = dyn_cast<SelectOp>(op))
    return bandOfChoice(select, at, facts);
  if (auto cast = dyn_cast<CastOp>(op)) {
    bool isBool = getType(cast.getInput()).getElementType().isInteger(1);
    bool staysBool = cast.getType().getElementType().isInteger(1);
    return isBool == staysBool ? bandOf(cast.getInput(), at, facts) : std::nullopt;
  }
  if (isa<NotOp>(op)) {
    auto band = bandOf(op->getOperand(0), at, facts);
    return band ? complement(*band) : std::nullopt;
  }
  // The sum of masks hides what one of them hides.
  if (isa<AndOp>(op) || isa<AddOp>(op)) {
    auto lhs = bandOf(op->getOperand(0), at, facts),
         rhs = lhs ? bandOf(op->getOperand(1), at, facts) : std::nullopt;
    return rhs ? std::optional(intersect(*lhs, *rhs)) : std::nullopt;
  }
  auto map = isa<BroadcastOp, ReshapeOp, TransposeOp>(op) ? dimMap(op) : std::nullopt;
  if (!map)
    return std::nullopt;
  Position inner{-1, -1};
  for (auto [dim, result] : llvm::enumerate(*map)) {
    if (getShape(op->getOperand(0))[dim] == 1)
      continue;
    if (result == at.query)
      inner.query = dim;
    if (result == at.key)
      inner.key = dim;
  }
  std::optional<Band> band = bandOf(op->getOperand(0), inner, facts);
  // A band that does not depend on a position of several must hold for all of them: then it is
  // everything or nothing.
  bool isRepeated =
      (inner.query < 0 && at.query >= 0 && getShape(op->getResult(0))[at.query] != 1) ||
      (inner.key < 0 && at.key >= 0 && getShape(op->getResult(0))[at.key] != 1);
  return band && isRepeated && !isEverything(*band) && !isNothing(*band) ? std::nullopt : band;
}

} // namespace

std::optional<Band> raise::analyzeMask(Value mask, ConstantFacts &facts) {
  int64_t rank = getType(mask).getRank();
  if (rank < 2)
    return std::nullopt;
  bool oneQuery = getShape(mask)[rank - 2] == 1;
  return bandOf(mask, {oneQuery ? -1 : rank - 2, rank - 1}, facts);
}

std::optional<KeyRange> raise::keyRangeOf(Band band, int64_t queries, int64_t keys) {
  // Ends outside the mask say nothing.
  bool above = band.high<keys - 1, below = band.low> - (queries - 1);
  if (band.low > band.high || band.high < 0 || queries - 1 + band.low > keys - 1)
    return std::nullopt; // some query sees no key
  if (!above && below)
    return std::nullopt; // attributes cannot hide the past without hiding the future
  KeyRange range;
  range.causal = above;
  range.offset = above ? band.high : 0;
  range.window = below ? band.high - band.low + 1 : 0;
  return range;
}
