//===- Rope.cpp - Rotary position embedding -------------------------------===//
//
// 1. x * cos + rotate_half(x) * sin, with tables whose two halves are provably equal
//      -> rope with half-width tables
// 2. concat(a * cos - b * sin, b * cos + a * sin)
//      -> rope of concat(a, b)
// 3. concat(rope(first features of x), the other features of x)
//      -> rope that passes the others on
//
// The value has four dimensions. Which of them are the positions is where the tables vary: [batch,
// heads, positions, features] stays, [batch, positions, heads, features] is transposed there and
// back. Limit: features that rotate with their neighbours and stay neighbours (GPT-J) are not
// recognised.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Halves.h"
#include "lib/Raise/Patterns.h"
#include "lib/Raise/View.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

constexpr int64_t kFeatures = 3;

/// The value that a slice takes `size` features from, beginning with feature `start`, or nothing.
Value matchFeatures(Value value, int64_t start, int64_t size) {
  auto slice = definedBy<SliceOp>(value);
  if (!slice)
    return {};
  int64_t last = slice.getType().getRank() - 1;
  SmallVector<int64_t> starts(last + 1, 0), shape(getShape(slice.getInput()));
  starts[last] = start;
  shape[last] = size;
  bool fits = slice.getStarts() == ArrayRef(starts) &&
              slice.getType().getShape() == ArrayRef(shape) &&
              llvm::all_of(slice.getStrides(), [](int64_t stride) { return stride == 1; });
  return fits ? slice.getInput() : Value();
}

/// x where value is concat(-x[half:], x[:half]).
Value matchRotatedHalf(Value value) {
  auto concat = definedBy<ConcatOp>(value);
  if (!concat || concat.getInputs().size() != 2 ||
      static_cast<int64_t>(concat.getDim()) != concat.getType().getRank() - 1)
    return {};
  auto negated = matchScaled(concat.getInputs()[0]);
  int64_t size = concat.getType().getShape().back();
  if (!negated || negated->factor != -1)
    return {};
  Value x = matchFeatures(negated->value, size / 2, size / 2);
  return x && x.getType() == concat.getType() &&
                 matchFeatures(concat.getInputs()[1], 0, size / 2) == x
             ? x
             : Value();
}

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

/// cos and sin as [batch or 1, positions, features], and where the positions stand in the rotated
/// value.
struct Tables {
  View cos, sin;
  int64_t positionDim = 2;
};

/// Tables broadcast to the rotated value's shape, each reduced to the dimensions that it varies
/// along.
std::optional<Tables> matchTables(Value cos, Value sin) {
  Tables tables{View::of(cos), View::of(sin)};
  if (tables.cos.dims.size() != kFeatures + 1)
    return std::nullopt;
  auto varies = [&](int64_t dim) {
    return !raise::isRepetition(tables.cos.dims[dim]) || !raise::isRepetition(tables.sin.dims[dim]);
  };
  if (varies(1) && varies(2))
    return std::nullopt; // positions and heads
  tables.positionDim = varies(1) ? 1 : 2;
  bool batched = varies(0);
  for (View *view : {&tables.cos, &tables.sin}) {
    AtomGroup batch = view->dims[0];
    if (!batched)
      batch.clear();
    view->dims = {batch, view->dims[tables.positionDim], view->dims[kFeatures]};
  }
  return tables;
}

/// Whether the features of a table are two equal halves; then `emit…` may take the first.
bool tableHasEqualHalves(const View &table, ConstantFacts &facts) {
  const AtomGroup &features = table.dims.back();
  if (features.size() != 1 || features[0].size % 2)
    return false;
  const Atom &atom = features[0];
  return atom.isRepetition() || (atom.size == getShape(table.base)[atom.baseDim] &&
                                 hasEqualHalves(table.base, atom.baseDim, facts));
}

Value emitHalfTable(View table, OpMaker &maker, ConstantFacts &facts) {
  Atom &atom = table.dims.back()[0];
  if (!atom.isRepetition())
    table.base = firstHalf(table.base, atom.baseDim, maker, facts);
  atom.size /= 2;
  return table.materialize(maker);
}

/// rope of x, around transposes if the positions come before the heads.
Value emitRope(Value x, Value cos, Value sin, int64_t positionDim, OpMaker &maker) {
  const int64_t swap[] = {0, 2, 1, 3};
  if (positionDim == 1)
    x = maker.create<TransposeOp>(x, swap);
  Value y = maker.create<RopeOp>(x.getType(), x, cos, sin);
  return positionDim == 1 ? Value(maker.create<TransposeOp>(y, swap)) : y;
}

//===----------------------------------------------------------------------===//
// Patterns
//===----------------------------------------------------------------------===//

/// x * cos + rotate_half(x) * sin, in any order
struct RaiseHalfRope : OpRewritePattern<AddOp> {
  RaiseHalfRope(MLIRContext *context, ConstantFacts &facts)
      : OpRewritePattern(context), facts(facts) {}
  LogicalResult matchAndRewrite(AddOp op, PatternRewriter &rewriter) const override {
    for (unsigned side = 0; side < 2; ++side) {
      auto plain = definedBy<MulOp>(op->getOperand(side)),
           rotated = definedBy<MulOp>(op->getOperand(1 - side));
      for (unsigned i = 0; plain && rotated && i < 2; ++i) {
        Value x = matchRotatedHalf(rotated->getOperand(i));
        if (!x || (plain.getLhs() != x && plain.getRhs() != x))
          continue;
        Value cos = plain.getLhs() == x ? plain.getRhs() : plain.getLhs();
        return rewrite(op, x, cos, rotated->getOperand(1 - i), rewriter);
      }
    }
    return rewriter.notifyMatchFailure(op, "not x * cos + rotate_half(x) * sin");
  }

private:
  LogicalResult rewrite(AddOp op, Value x, Value cos, Value sin, PatternRewriter &rewriter) const {
    std::optional<Tables> tables = matchTables(cos, sin);
    if (!tables)
      return rewriter.notifyMatchFailure(
          op, "tables vary along other dimensions than batch and positions");
    if (!tableHasEqualHalves(tables->cos, facts) || !tableHasEqualHalves(tables->sin, facts))
      return rewriter.notifyMatchFailure(op, "the tables' halves are not known to be equal");
    OpMaker maker(rewriter, op);
    Value halfCos = emitHalfTable(tables->cos, maker, facts),
          halfSin = emitHalfTable(tables->sin, maker, facts);
    rewriter.replaceOp(op, emitRope(x, halfCos, halfSin, tables->positionDim, maker));
    return success();
  }

  ConstantFacts &facts;
};

/// concat(a * cos - b * sin, b * cos + a * sin): the halves may come from anywhere (DeepSeek takes
/// every second feature)
struct RaiseSplitRope : OpRewritePattern<ConcatOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ConcatOp op, PatternRewriter &rewriter) const override {
    bool isPair = op.getInputs().size() == 2 && op.getType().getRank() == kFeatures + 1 &&
                  static_cast<int64_t>(op.getDim()) == kFeatures;
    auto sub = isPair ? definedBy<SubOp>(op.getInputs()[0]) : SubOp();
    auto add = isPair ? definedBy<AddOp>(op.getInputs()[1]) : AddOp();
    auto aCos = sub ? definedBy<MulOp>(sub.getLhs()) : MulOp(),
         bSin = sub ? definedBy<MulOp>(sub.getRhs()) : MulOp();
    if (!add || !aCos || !bSin)
      return rewriter.notifyMatchFailure(op, "not the two halves of a rotation");
    for (unsigned i = 0; i < 4; ++i) {
      Value a = aCos->getOperand(i & 1), cos = aCos->getOperand(1 - (i & 1));
      Value b = bSin->getOperand(i >> 1), sin = bSin->getOperand(1 - (i >> 1));
      if (!isSumOfProducts(add, b, cos, a, sin))
        continue;
      std::optional<Tables> tables = matchTables(cos, sin);
      if (!tables)
        continue; // perhaps the factors the other way round
      OpMaker maker(rewriter, op);
      Value x = maker.create<ConcatOp>(op.getType(), ValueRange{a, b}, kFeatures);
      Value cosTable = tables->cos.materialize(maker), sinTable = tables->sin.materialize(maker);
      rewriter.replaceOp(op, emitRope(x, cosTable, sinTable, tables->positionDim, maker));
      return success();
    }
    return rewriter.notifyMatchFailure(op, "the halves are not of one rotation");
  }

private:
  static bool isProduct(Value value, Value x, Value y) {
    auto mul = definedBy<MulOp>(value);
    return mul &&
           ((mul.getLhs() == x && mul.getRhs() == y) || (mul.getLhs() == y && mul.getRhs() == x));
  }
  static bool isSumOfProducts(AddOp add, Value a, Value b, Value c, Value d) {
    return (isProduct(add.getLhs(), a, b) && isProduct(add.getRhs(), c, d)) ||
           (isProduct(add.getLhs(), c, d) && isProduct(add.getRhs(), a, b));
  }
};

/// concat(rope(x[:r]), x[r:]) -> rope x
struct WidenPartialRope : OpRewritePattern<ConcatOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ConcatOp op, PatternRewriter &rewriter) const override {
    auto rope = op.getInputs().size() == 2 && static_cast<int64_t>(op.getDim()) == kFeatures
                    ? definedBy<RopeOp>(op.getInputs()[0])
                    : RopeOp();
    if (!rope)
      return rewriter.notifyMatchFailure(op, "first part is no rope");
    int64_t rotated = rope.getType().getShape().back(), all = op.getType().getShape().back();
    Value x = matchFeatures(rope.getInput(), 0, rotated);
    if (!x || x.getType() != op.getType() ||
        matchFeatures(op.getInputs()[1], rotated, all - rotated) != x)
      return rewriter.notifyMatchFailure(op, "parts are not of one value");
    OpMaker maker(rewriter, op);
    rewriter.replaceOp(op, maker.create<RopeOp>(x.getType(), x, rope.getCos(), rope.getSin(),
                                                rope.getInterleaved()));
    return success();
  }
};

} // namespace

void raise::populateRopePatterns(RewritePatternSet &patterns, ConstantFacts &facts) {
  patterns.add<RaiseHalfRope>(patterns.getContext(), facts);
  patterns.add<RaiseSplitRope, WidenPartialRope>(patterns.getContext());
}
