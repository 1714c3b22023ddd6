//===- Movement.cpp - Shorter ways to move elements -----------------------===//
//
// Exporters split, scatter and join where nothing moves, and flatten batch and positions around
// each product. These patterns undo that, so that the subjects' patterns and sharding see one plain
// form:
// 1. concat of neighbouring slices, slice of a concat
// 2. scatter_nd of contiguous rows -> concat
// 3. transpose of a concat whose parts are transposed anyway
// 4. einsum and elementwise ops on flattened rows -> on the rows' own dimensions
// 5. gather of rows that are known and follow each other -> slice; slices of a transposed packed
//    value -> of the value
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Patterns.h"
#include "lib/Raise/View.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

bool hasUnitStrides(SliceOp op) {
  return llvm::all_of(op.getStrides(), [](int64_t stride) { return stride == 1; });
}

Value emitSlice(Value input, int64_t dim, int64_t start, int64_t size, OpMaker &maker) {
  SmallVector<int64_t> shape(getShape(input)), starts(shape.size(), 0), strides(shape.size(), 1);
  if (size == shape[dim])
    return input;
  shape[dim] = size;
  starts[dim] = start;
  return maker.create<SliceOp>(getType(input).clone(shape), input, starts, strides);
}

/// The only dimension that a slice cuts, or -1.
int64_t cutDim(SliceOp op) {
  int64_t cut = -1;
  for (auto [dim, sizes] :
       llvm::enumerate(llvm::zip_equal(op.getType().getShape(), getShape(op.getInput())))) {
    if (std::get<0>(sizes) == std::get<1>(sizes))
      continue;
    if (cut >= 0)
      return -1;
    cut = dim;
  }
  return cut;
}

/// concat(x[0:a], x[a:n]) -> x
struct JoinSlices : OpRewritePattern<ConcatOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ConcatOp op, PatternRewriter &rewriter) const override {
    int64_t dim = op.getDim(), next = 0;
    Value source;
    for (Value input : op.getInputs()) {
      auto slice = definedBy<SliceOp>(input);
      if (!slice || (source && slice.getInput() != source) || !hasUnitStrides(slice) ||
          cutDim(slice) != dim || slice.getStarts()[dim] != next)
        return rewriter.notifyMatchFailure(op, "inputs are not neighbouring slices of one value");
      source = slice.getInput();
      next += slice.getType().getDimSize(dim);
    }
    if (!source || source.getType() != op.getType())
      return rewriter.notifyMatchFailure(op, "slices do not cover their value");
    rewriter.replaceOp(op, source);
    return success();
  }
};

/// A slice within one input of a concat -> slice of that input; over whole inputs -> concat of
/// those
struct SliceOfConcat : OpRewritePattern<SliceOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(SliceOp op, PatternRewriter &rewriter) const override {
    auto concat = definedBy<ConcatOp>(op.getInput());
    if (!concat || !hasUnitStrides(op) || cutDim(op) != static_cast<int64_t>(concat.getDim()))
      return rewriter.notifyMatchFailure(op, "not a slice of a concat along its dimension");
    int64_t dim = concat.getDim(), begin = op.getStarts()[dim],
            end = begin + op.getType().getDimSize(dim), at = 0;
    SmallVector<Value> covered;
    OpMaker maker(rewriter, op);
    for (Value input : concat.getInputs()) {
      int64_t size = getShape(input)[dim];
      if (begin >= at && end <= at + size) {
        rewriter.replaceOp(op, emitSlice(input, dim, begin - at, end - begin, maker));
        return success();
      }
      if (at >= begin && at + size <= end)
        covered.push_back(input);
      at += size;
      if (at > begin && at - size < begin)
        return rewriter.notifyMatchFailure(op, "slice begins within an input");
    }
    int64_t size = 0;
    for (Value input : covered)
      size += getShape(input)[dim];
    if (size != end - begin)
      return rewriter.notifyMatchFailure(op, "slice ends within an input");
    rewriter.replaceOp(op, maker.create<ConcatOp>(op.getType(), covered, dim));
    return success();
  }
};

/// gather(x, [i, i + 1, …]) -> slice, reshaped for a single index
struct GatherOfKnownRows : OpRewritePattern<GatherOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(GatherOp op, PatternRewriter &rewriter) const override {
    auto indices = constantValue(op.getIndices());
    int64_t axis = op.getAxis(), rows = getShape(op.getData())[axis];
    if (!indices || indices->rank() > 1 || indices->i.empty())
      return rewriter.notifyMatchFailure(op, "indices are not a known list");
    int64_t first = indices->i.front(), count = indices->i.size();
    for (auto [n, index] : llvm::enumerate(indices->i))
      if (index != first + static_cast<int64_t>(n))
        return rewriter.notifyMatchFailure(op, "indices do not follow each other");
    if (first < 0 || first + count > rows) // reads zeros there
      return rewriter.notifyMatchFailure(op, "indices are out of range");
    OpMaker maker(rewriter, op);
    Value slice = emitSlice(op.getData(), axis, first, count, maker);
    rewriter.replaceOp(op, slice.getType() == op.getType()
                               ? slice
                               : maker.create<ReshapeOp>(op.getType(), slice).getResult());
    return success();
  }
};

/// slice(transpose(x)) -> transpose(slice(x)) where x is sliced along that dimension elsewhere, and
/// its transpose is only sliced: x is packed, and exporters take its pieces in different ways
/// (multi-query attention's heads of q, and its one of k and v).
struct SliceOfTransposedPacked : OpRewritePattern<SliceOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(SliceOp op, PatternRewriter &rewriter) const override {
    auto transpose = definedBy<TransposeOp>(op.getInput());
    int64_t cut = cutDim(op);
    if (!transpose || cut < 0 || !hasUnitStrides(op))
      return rewriter.notifyMatchFailure(op, "not a slice of a transposed value");
    Value packed = transpose.getInput();
    int64_t dim = transpose.getPermutation()[cut];
    auto cutsHere = [](Operation *user, int64_t dim) {
      auto slice = dyn_cast<SliceOp>(user);
      return slice && hasUnitStrides(slice) && cutDim(slice) == dim;
    };
    if (llvm::none_of(packed.getUsers(), [&](Operation *user) { return cutsHere(user, dim); }) ||
        !llvm::all_of(transpose->getUsers(), [&](Operation *user) { return cutsHere(user, cut); }))
      return rewriter.notifyMatchFailure(op, "its value is not a packed one");
    OpMaker maker(rewriter, op);
    Value slice = emitSlice(packed, dim, op.getStarts()[cut], op.getType().getDimSize(cut), maker);
    rewriter.replaceOp(op,
                       maker.create<TransposeOp>(op.getType(), slice, transpose.getPermutation()));
    return success();
  }
};

/// scatter_nd of rows n … n + k -> concat of what is before, the updates, and what is after
struct ScatterRowsToConcat : OpRewritePattern<ScatterNdOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ScatterNdOp op, PatternRewriter &rewriter) const override {
    auto indices = constantValue(op.getIndices());
    if (op.getCombine() != Combine::Replace || !indices || indices->rank() != 2 ||
        indices->shape()[1] != 1)
      return rewriter.notifyMatchFailure(op, "not a replacement of known rows");
    for (auto [row, index] : llvm::enumerate(indices->i))
      if (index != indices->i[0] + static_cast<int64_t>(row))
        return rewriter.notifyMatchFailure(op, "rows are not neighbours");
    int64_t rows = op.getType().getDimSize(0), begin = indices->i.empty() ? 0 : indices->i[0];
    int64_t end = begin + indices->size();
    if (indices->i.empty() || begin < 0 || end > rows)
      return rewriter.notifyMatchFailure(op, "rows lie outside");
    OpMaker maker(rewriter, op);
    SmallVector<Value> parts;
    if (begin > 0)
      parts.push_back(emitSlice(op.getData(), 0, 0, begin, maker));
    parts.push_back(op.getUpdates());
    if (end < rows)
      parts.push_back(emitSlice(op.getData(), 0, end, rows - end, maker));
    rewriter.replaceOp(op, maker.create<ConcatOp>(op.getType(), parts, 0));
    return success();
  }
};

/// transpose(concat(transpose(a), …)) -> concat(transpose(transpose(a)), …), which merge
struct TransposeOfConcat : OpRewritePattern<TransposeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(TransposeOp op, PatternRewriter &rewriter) const override {
    auto concat = definedBy<ConcatOp>(op.getInput());
    auto isTranspose = [](Value input) {
      return definedBy<TransposeOp>(input) || splatValue(input);
    };
    if (!concat || !concat->hasOneUse() || !llvm::all_of(concat.getInputs(), isTranspose))
      return rewriter.notifyMatchFailure(op, "not a concat of transposes");
    OpMaker maker(rewriter, op);
    SmallVector<Value> inputs;
    for (Value input : concat.getInputs())
      inputs.push_back(maker.create<TransposeOp>(input, op.getPermutation()));
    int64_t dim = llvm::find(op.getPermutation(), static_cast<int64_t>(concat.getDim())) -
                  op.getPermutation().begin();
    rewriter.replaceOp(op, maker.create<ConcatOp>(op.getType(), inputs, dim));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Flattened rows
//===----------------------------------------------------------------------===//

/// The input of a reshape [a, b, …, n] -> [a * b, …, n] that only merges leading dimensions, or
/// nothing.
Value matchFlattened(Value value) {
  auto reshape = definedBy<ReshapeOp>(value);
  if (!reshape)
    return {};
  ArrayRef<int64_t> from = getShape(reshape.getInput()), to = reshape.getType().getShape();
  bool merges =
      !to.empty() && from.size() > to.size() && from.take_back(to.size() - 1) == to.drop_front() &&
      llvm::none_of(from.drop_back(to.size() - 1), [](int64_t size) { return size == 1; });
  return merges ? reshape.getInput() : Value();
}

/// einsum of flattened rows -> flattened einsum of rows
struct EinsumOfFlattened : OpRewritePattern<EinsumOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(EinsumOp op, PatternRewriter &rewriter) const override {
    EinsumOp::Letters letters = op.getLetters();
    for (unsigned side = 0; side < 2; ++side) {
      Value rows = matchFlattened(op->getOperand(side));
      StringRef own = side ? letters.rhs : letters.lhs, other = side ? letters.lhs : letters.rhs;
      if (!rows || other.contains(own[0]) || letters.result.empty() || letters.result[0] != own[0])
        continue;
      std::string unflattened = freshLetters(op.getSpec(), getShape(rows).size() - own.size() + 1);
      std::string mine = unflattened + own.drop_front().str(),
                  result = unflattened + letters.result.drop_front().str();
      std::string spec = side ? other.str() + "," + mine : mine + "," + other.str();
      SmallVector<int64_t> shape(getShape(rows).take_front(unflattened.size()));
      llvm::append_range(shape, op.getType().getShape().drop_front());
      Value operands[] = {op.getLhs(), op.getRhs()};
      operands[side] = rows;
      OpMaker maker(rewriter, op);
      Value product = maker.create<EinsumOp>(op.getType().clone(shape), spec + "->" + result,
                                             operands[0], operands[1]);
      rewriter.replaceOp(op, maker.reshape(product, op.getType().getShape()));
      return success();
    }
    return rewriter.notifyMatchFailure(op, "no operand has flattened rows that only it has");
  }

private:
  static std::string freshLetters(StringRef used, size_t count) {
    std::string letters;
    for (char c = 'a'; c <= 'z' && letters.size() < count; ++c)
      if (!used.contains(c))
        letters.push_back(c);
    return letters;
  }
};

/// An elementwise op on flattened rows -> flattened op on rows, if its other operands are flattened
/// alike or repeat
struct ElementwiseOfFlattened : RewritePattern {
  ElementwiseOfFlattened(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 1, context) {}
  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!op->hasTrait<OpTrait::Elementwise>() || op->getNumResults() != 1)
      return rewriter.notifyMatchFailure(op, "not elementwise");
    Value rows;
    for (Value operand : op->getOperands())
      if (Value flattened = matchFlattened(operand); flattened && !rows)
        rows = flattened;
    if (!rows)
      return rewriter.notifyMatchFailure(op, "no operand has flattened rows");
    SmallVector<View> views;
    for (Value operand : op->getOperands()) {
      View view = View::of(operand);
      bool isAlike = matchFlattened(operand) && getShape(matchFlattened(operand)) == getShape(rows);
      bool repeats = splatValue(operand) || raise::isRepetition(view.dims[0]);
      if ((!isAlike && !repeats) || failed(view.reshape(getShape(rows))))
        return rewriter.notifyMatchFailure(op, "an operand has rows of its own");
      views.push_back(view);
    }
    OpMaker maker(rewriter, op);
    IRMapping mapping;
    for (auto [operand, view] : llvm::zip_equal(op->getOperands(), views)) {
      auto type = getType(operand).clone(getShape(rows));
      auto splat = splatValue(operand);
      mapping.map(operand, splat ? Value(ConstantOp::splat(rewriter, op->getLoc(), type, *splat))
                                 : view.materialize(maker));
    }
    Operation *clone = rewriter.clone(*op, mapping);
    auto type = getType(op->getResult(0));
    clone->getResult(0).setType(type.clone(getShape(rows)));
    rewriter.replaceOp(op, maker.reshape(clone->getResult(0), type.getShape()));
    return success();
  }
};

} // namespace

void raise::populateMovementPatterns(RewritePatternSet &patterns) {
  patterns
      .add<JoinSlices, SliceOfConcat, ScatterRowsToConcat, GatherOfKnownRows,
           SliceOfTransposedPacked, TransposeOfConcat, EinsumOfFlattened, ElementwiseOfFlattened>(
          patterns.getContext());
}
