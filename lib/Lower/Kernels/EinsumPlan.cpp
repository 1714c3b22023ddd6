//===- EinsumPlan.cpp - A contraction as a matrix multiplication ----------===//
//
// 1. The letter that is contiguous in the result decides which operand is B: the one that alone has
//    it.
// 2. Letters are in the order of the result's memory. Rows and columns are the innermost run of
//    their letters that is one dimension in memory; what is left outside of the run becomes batch,
//    with stride zero in the other operand.
// 3. The sum must be one run, in some order.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/EinsumPlan.h"

using namespace mlir;

namespace shardc {
namespace {

struct Letters {
  std::map<char, int64_t> size, lhs, rhs, result; ///< size, and stride where it occurs
  void add(graph::EinsumOp op, StringRef text, ArrayRef<int64_t> strides,
           std::map<char, int64_t> &to) {
    for (auto [letter, stride] : llvm::zip(text, strides)) {
      int64_t extent = op.getLetterSize(letter);
      if (extent == 1)
        continue;
      size[letter] = extent;
      to[letter] = stride;
    }
  }
};

/// Is `outer` followed by `inner` one dimension of this memory?
bool isOneRun(const std::map<char, int64_t> &strides, const std::map<char, int64_t> &size,
              char outer, char inner) {
  return strides.at(outer) == strides.at(inner) * size.at(inner);
}

} // namespace

EinsumPlan::Panels EinsumPlan::panels(StringRef letters) const {
  Panels result;
  auto dimsOf = [&](StringRef wanted, SmallVector<int64_t> &dims) {
    for (char letter : wanted)
      if (size_t at = letters.find(letter); at != StringRef::npos)
        dims.push_back(at);
  };
  dimsOf(batch, result.batchDims);
  dimsOf(n, result.nDims);
  dimsOf(k, result.kDims);
  for (int64_t d = 0; d < static_cast<int64_t>(letters.size()); ++d) // of size one
    if (!llvm::is_contained(result.batchDims, d) && !llvm::is_contained(result.nDims, d) &&
        !llvm::is_contained(result.kDims, d))
      result.batchDims.push_back(d);
  return result;
}

std::optional<EinsumPlan> planEinsum(graph::EinsumOp op, ArrayRef<int64_t> lhs,
                                     ArrayRef<int64_t> rhs, ArrayRef<int64_t> result, bool packed) {
  Letters letters;
  auto text = op.getLetters();
  letters.add(op, text.lhs, lhs, letters.lhs);
  letters.add(op, text.rhs, rhs, letters.rhs);
  letters.add(op, text.result, result, letters.result);

  std::string order; // of the result's memory, outermost first
  for (auto [letter, stride] : letters.result)
    order += letter;
  llvm::stable_sort(order, [&](char a, char b) { return letters.result[a] > letters.result[b]; });

  EinsumPlan plan;
  auto inLhs = [&](char c) { return letters.lhs.count(c) != 0; };
  auto inRhs = [&](char c) { return letters.rhs.count(c) != 0; };
  char last = order.empty() ? 0 : order.back();
  plan.swapped = last && inLhs(last) && !inRhs(last);
  const auto &a = plan.swapped ? letters.rhs : letters.lhs,
             &b = plan.swapped ? letters.lhs : letters.rhs;
  const auto &c = letters.result, &size = letters.size;

  std::string rows, columns, sum;
  for (char letter : order)
    (a.count(letter) && b.count(letter) ? plan.batch : a.count(letter) ? rows : columns) += letter;
  for (auto [letter, extent] : size)
    if (!c.count(letter)) {
      if (!a.count(letter) || !b.count(letter))
        return std::nullopt; // a sum over one operand alone
      sum += letter;
    }
  if (!columns.empty() && c.at(columns.back()) != 1)
    return std::nullopt;

  // The innermost run; the rest is batch.
  auto takeRun = [&](std::string letters, std::string &run, auto fits) {
    for (int64_t i = letters.size() - 1; i >= 0; --i) {
      if (!run.empty() && !fits(letters[i], run.front())) {
        plan.batch = letters.substr(0, i + 1) + plan.batch;
        return;
      }
      run.insert(run.begin(), letters[i]);
    }
  };
  takeRun(columns, plan.n, [&](char outer, char inner) {
    return isOneRun(c, size, outer, inner) && (packed || isOneRun(b, size, outer, inner));
  });
  takeRun(rows, plan.m, [&](char outer, char inner) {
    return isOneRun(c, size, outer, inner) && isOneRun(a, size, outer, inner);
  });
  llvm::stable_sort(plan.batch, [&](char x, char y) { return c.at(x) > c.at(y); });
  llvm::stable_sort(sum, [&](char x, char y) { return a.at(x) > a.at(y); });
  for (size_t i = 0; i + 1 < sum.size(); ++i)
    if (!isOneRun(a, size, sum[i], sum[i + 1]) ||
        (!packed && !isOneRun(b, size, sum[i], sum[i + 1])))
      return std::nullopt;
  plan.k = sum;

  auto extent = [&](StringRef run) {
    int64_t product = 1;
    for (char letter : run)
      product *= size.at(letter);
    return product;
  };
  auto strideOf = [](const std::map<char, int64_t> &strides, StringRef run, int64_t none) {
    return run.empty() ? none : strides.at(run.back());
  };
  GemmSpec &spec = plan.spec;
  spec.m = extent(plan.m);
  spec.n = extent(plan.n);
  spec.k = extent(plan.k);
  auto typeOf = [](Value tensor) -> Type {
    Type type = cast<RankedTensorType>(tensor.getType()).getElementType();
    auto integer = dyn_cast<IntegerType>(type);
    return integer ? IntegerType::get(type.getContext(), integer.getWidth()) : type;
  };
  Value left = plan.swapped ? op.getRhs() : op.getLhs(),
        right = plan.swapped ? op.getLhs() : op.getRhs();
  spec.a = {typeOf(left), strideOf(a, plan.m, 0), strideOf(a, plan.k, 1), {}};
  spec.b = {
      typeOf(right), packed ? 0 : strideOf(b, plan.k, 0), packed ? 1 : strideOf(b, plan.n, 1), {}};
  spec.c = {typeOf(op.getResult()), strideOf(c, plan.m, 0), 1, {}};
  spec.packedB = packed;
  spec.nTile = preferredNTile(spec.n);
  int64_t sets = 1;
  SmallVector<int64_t> setStride(plan.batch.size(),
                                 0); // of packed B: letters that it has, the last fastest
  for (int64_t i = plan.batch.size() - 1; i >= 0; --i)
    if (b.count(plan.batch[i])) {
      setStride[i] = sets;
      sets *= size.at(plan.batch[i]);
    }
  auto strideAt = [](const std::map<char, int64_t> &strides, char letter) {
    auto it = strides.find(letter);
    return it == strides.end() ? 0 : it->second;
  };
  for (auto [i, letter] : llvm::enumerate(plan.batch)) {
    spec.batch.push_back(size.at(letter));
    spec.a.batch.push_back(strideAt(a, letter));
    spec.b.batch.push_back(packed ? setStride[i] : strideAt(b, letter));
    spec.c.batch.push_back(strideAt(c, letter));
  }
  return plan;
}

Value biasOf(graph::AddOp op, Value product) {
  Value other = op.getLhs() == product ? op.getRhs() : op.getLhs();
  auto broadcast = other.getDefiningOp<graph::BroadcastOp>();
  if (!broadcast || other == product)
    return {};
  auto type = cast<RankedTensorType>(broadcast.getInput().getType());
  int64_t last = broadcast.getType().getRank() - 1;
  bool isAlongRows = type.getRank() == 1 && broadcast.getDims().front() == last &&
                     type.getDimSize(0) == broadcast.getType().getDimSize(last);
  return isAlongRows ? Value(broadcast.getInput()) : Value();
}

Value addendOf(graph::AddOp op, Value product) {
  Value other = op.getLhs() == product ? op.getRhs() : op.getLhs();
  return other == product || other.getDefiningOp<graph::BroadcastOp>() ? Value() : other;
}

bool isWidening(Operation *op) {
  auto cast = dyn_cast<graph::CastOp>(op);
  if (!cast || !cast.getType().getElementType().isF32())
    return false;
  Type from = cast.getInput().getType().getElementType();
  return from.isF16() || from.isBF16();
}

/// Where a dimension has one element, its stride is anything.
static bool fixStrides(int64_t rows, int64_t columns, GemmOperand &matrix) {
  int64_t &row = matrix.rowStride, &column = matrix.columnStride;
  if (rows == 1 && (column == 1 || columns == 1)) {
    row = columns;
    column = 1;
  } else if (rows == 1) {
    row = 1;
  } else if (columns == 1 && row == 1) {
    column = rows;
  } else if (columns == 1) {
    column = 1;
  }
  return (column == 1 && row >= columns) || (row == 1 && column >= rows);
}

bool fitBlas(GemmSpec &spec) {
  return spec.m * spec.n * spec.k > 0 && fixStrides(spec.m, spec.k, spec.a) &&
         fixStrides(spec.k, spec.n, spec.b) && fixStrides(spec.m, spec.n, spec.c);
}

} // namespace shardc
