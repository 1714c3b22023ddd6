//===- Experts.cpp - Products with each row's expert ----------------------===//
//
// Exporters copy the chosen expert's matrix for every row (gather of [E, N, K] by expert ids) and
// multiply batched:
//   w = gather %experts, %ids axis 0 : [E, N, K], [T] -> [T, N, K]
//   y = einsum "tnk,tkm->tnm" w, x                          x [T, K, 1]
// That is graph.grouped_matmul x, experts by ids, without T copies of a matrix.
//
// Limit: the form with run-time group sizes (one product per expert on a split of sorted rows) has
// no static shapes.
//
//===----------------------------------------------------------------------===//

#include "lib/Raise/Patterns.h"
#include "lib/Raise/View.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;
using namespace shardc::raise;

namespace {

/// Matrices chosen by expert: experts [E, a, b], ids of any shape.
struct Chosen {
  Value experts, ids;
};

/// A gather of matrices along the experts, as gather or gather_nd.
std::optional<Chosen> matchChosen(Value value) {
  if (auto gather = definedBy<GatherOp>(value)) {
    if (gather.getAxis() != 0 || gather.getData().getType().getRank() != 3)
      return std::nullopt;
    return Chosen{gather.getData(), gather.getIndices()};
  }
  auto gather = definedBy<GatherNdOp>(value);
  if (!gather || gather.getBatchDims() != 0 || gather.getData().getType().getRank() != 3 ||
      gather.getIndices().getType().getShape().back() != 1)
    return std::nullopt;
  return Chosen{gather.getData(), gather.getIndices()};
}

struct RaiseGroupedMatmul : OpRewritePattern<EinsumOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(EinsumOp op, PatternRewriter &rewriter) const override {
    for (unsigned side = 0; side < 2; ++side) {
      View matrices = View::of(op->getOperand(side));
      if (auto chosen = matchChosen(matrices.base))
        return rewrite(op, side, matrices, *chosen, rewriter);
    }
    return rewriter.notifyMatchFailure(op, "no operand is a choice of matrices");
  }

private:
  static LogicalResult rewrite(EinsumOp op, unsigned side, const View &matrices,
                               const Chosen &chosen, PatternRewriter &rewriter) {
    EinsumOp::Letters all = op.getLetters();
    StringRef own = side ? all.rhs : all.lhs, other = side ? all.lhs : all.rhs;
    // Rows, output features and input features by their letters; the last two base dimensions are
    // the matrices.
    int64_t firstMatrixDim = getType(matrices.base).getRank() - 2;
    std::string rows, outputs, inputs;
    bool outputsFirst = true;
    for (auto [letter, group] : llvm::zip_equal(own, matrices.dims)) {
      if (group.empty() && !other.contains(letter) && !all.result.contains(letter))
        continue;
      bool isRow = llvm::all_of(group, [&](const Atom &atom) {
        return atom.baseDim >= 0 && atom.baseDim < firstMatrixDim;
      });
      bool isMatrix = group.size() == 1 && group[0].baseDim >= firstMatrixDim &&
                      group[0].size == getShape(matrices.base)[group[0].baseDim];
      if (isRow)
        rows.push_back(letter);
      else if (!isMatrix)
        return rewriter.notifyMatchFailure(op, "a letter is not a whole dimension of the matrices");
      else if (all.result.contains(letter) && !other.contains(letter))
        outputs.push_back(letter), outputsFirst = group[0].baseDim == firstMatrixDim;
      else if (!all.result.contains(letter) && other.contains(letter))
        inputs.push_back(letter);
      else
        return rewriter.notifyMatchFailure(op,
                                           "a letter is neither output nor input of the matrices");
    }
    bool rowsOrdered = true;
    for (char c : rows)
      rowsOrdered &= all.result.contains(c) && other.contains(c);
    for (char c : other)
      rowsOrdered &= own.contains(c) || op.getLetterSize(c) == 1;
    if (!rowsOrdered || outputs.size() != 1 || inputs.size() != 1 || !rowsAreOrdered(own, matrices))
      return rewriter.notifyMatchFailure(op, "not one product of a row with its matrix");
    emit(op, side, chosen, rows, outputs[0], inputs[0], outputsFirst, rewriter);
    return success();
  }

  /// Whether the rows' atoms keep the ids' order.
  static bool rowsAreOrdered(StringRef letters, const View &matrices) {
    int64_t firstMatrixDim = getType(matrices.base).getRank() - 2;
    View rows = matrices;
    llvm::erase_if(rows.dims, [&](const AtomGroup &group) {
      return llvm::any_of(group, [&](const Atom &atom) { return atom.baseDim >= firstMatrixDim; });
    });
    return rows.isOrdered(0, rows.dims.size());
  }

  static void emit(EinsumOp op, unsigned side, const Chosen &chosen, const std::string &rows,
                   char output, char input, bool outputsFirst, PatternRewriter &rewriter) {
    OpMaker maker(rewriter, op);
    EinsumOp::Letters all = op.getLetters();
    StringRef other = side ? all.lhs : all.rhs;
    int64_t count = 1, features = op.getLetterSize(input), results = op.getLetterSize(output);
    SmallVector<int64_t> order, shape;
    for (char c : rows) {
      order.push_back(other.find(c));
      count *= op.getLetterSize(c);
    }
    order.push_back(other.find(input));
    for (auto [dim, c] : llvm::enumerate(other)) // of size one
      if (!llvm::is_contained(order, static_cast<int64_t>(dim)))
        order.push_back(dim);
    View view = View::identity(op->getOperand(1 - side));
    view.transpose(order);
    Value x = maker.reshape(view.materialize(maker), {count, features});
    Value ids = maker.reshape(chosen.ids, {count});
    Value weight = chosen.experts;
    if (!outputsFirst)
      weight = maker.create<TransposeOp>(weight, ArrayRef<int64_t>{0, 2, 1});
    auto type = getType(x).clone(ArrayRef<int64_t>{count, results});
    Value y = maker.create<GroupedMatmulOp>(type, x, weight, ids);

    // [rows…, output] in the einsum's order; its other letters have size one.
    for (char c : rows)
      shape.push_back(op.getLetterSize(c));
    shape.push_back(results);
    std::string letters = rows + output;
    View result = View::identity(maker.reshape(y, shape));
    SmallVector<AtomGroup> dims;
    for (char c : all.result) {
      size_t at = letters.find(c);
      dims.push_back(at == std::string::npos ? AtomGroup() : result.dims[at]);
    }
    result.dims = dims;
    rewriter.replaceOp(op, result.materialize(maker));
  }
};

} // namespace

void raise::populateExpertPatterns(RewritePatternSet &patterns) {
  patterns.add<RaiseGroupedMatmul>(patterns.getContext());
}
