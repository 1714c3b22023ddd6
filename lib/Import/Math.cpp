//===- Math.cpp - Products and convolutions -------------------------------===//
//
// Every contraction becomes graph.einsum; transposes of operands disappear into its letters.
//
//===----------------------------------------------------------------------===//

#include "NodeContext.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

static LogicalResult importMatMul(NodeContext &n) {
  Value a = n.input(0), b = n.input(1);
  int64_t rankA = rankOf(a), rankB = rankOf(b);
  if (rankA < 1 || rankB < 1 || rankA > kMaxProductRank || rankB > kMaxProductRank)
    return n.error() << "operands have ranks " << rankA << " and " << rankB;
  ArrayRef<int64_t> shapeA = shapeOf(a), shapeB = shapeOf(b);
  int64_t innerA = shapeA.back(), innerB = rankB == 1 ? shapeB[0] : shapeB[rankB - 2];
  if (innerA != innerB)
    return n.error() << "operands of shapes " << shapeText(shapeA) << " and " << shapeText(shapeB)
                     << " contract sizes " << innerA << " and " << innerB;
  if (!broadcastShapes(shapeA.drop_back(std::min<int64_t>(rankA, 2)),
                       shapeB.drop_back(std::min<int64_t>(rankB, 2))))
    return n.error() << "batch dimensions of shapes " << shapeText(shapeA) << " and "
                     << shapeText(shapeB) << " do not broadcast together";
  return n.done(n.matmul(a, b));
}

LogicalResult importGemm(NodeContext &n) {
  Value a = n.input(0), b = n.input(1);
  if (failed(n.checkRank(a, 2, "A")) || failed(n.checkRank(b, 2, "B")))
    return failure();
  std::string lettersA = n.getInt("transA", 0) ? "km" : "mk",
              lettersB = n.getInt("transB", 0) ? "nk" : "kn";
  int64_t innerA = shapeOf(a)[lettersA.find('k')], innerB = shapeOf(b)[lettersB.find('k')];
  if (innerA != innerB)
    return n.error() << "A contracts size " << innerA << ", B size " << innerB;
  double alpha = n.getFloat("alpha", 1), beta = n.getFloat("beta", 1);
  Value y = n.einsum(a, lettersA, b, lettersB, "mn");
  if (alpha != 1)
    y = n.binary<MulOp>(y, alpha);
  Value c = n.input(2);
  if (!c || beta == 0)
    return n.done(y);
  std::optional<Shape> shape = broadcastShapes(shapeOf(y), shapeOf(c));
  if (!shape || *shape != shapeOf(y))
    return n.error() << "C of shape " << shapeText(shapeOf(c)) << " does not broadcast to "
                     << shapeText(shapeOf(y));
  if (beta != 1)
    c = n.binary<MulOp>(c, beta);
  return n.done(n.binary<AddOp>(y, c));
}

//===----------------------------------------------------------------------===//
// Einsum
//===----------------------------------------------------------------------===//

namespace {
/// An operand on its way through the contraction.
struct Labelled {
  Value value;
  std::string letters;
};
} // namespace

/// A letter that stands twice: only the diagonal counts. `select(i == j, x, 0)` summed over j.
static void takeDiagonals(NodeContext &n, Labelled &operand) {
  for (size_t i = 0; i < operand.letters.size(); ++i) {
    size_t j = operand.letters.find(operand.letters[i], i + 1);
    if (j == std::string::npos)
      continue;
    ArrayRef<int64_t> shape = shapeOf(operand.value);
    Type index = n.b.getI64Type();
    Value isDiagonal = n.compare(Predicate::EQ, n.iota(shape, i, index), n.iota(shape, j, index));
    Value kept = n.select(isDiagonal, operand.value, n.splatLike(operand.value, 0));
    operand.value = n.reduce(Reduction::Sum, kept, {static_cast<int64_t>(j)}, false);
    operand.letters.erase(j, 1);
    --i; // it may stand a third time
  }
}

/// One operand to the letters of the result: sum over the others, then transpose.
static Value arrange(NodeContext &n, Labelled operand, StringRef result) {
  Shape sums, permutation;
  std::string kept;
  for (auto [d, letter] : llvm::enumerate(operand.letters)) {
    if (result.contains(letter))
      kept += letter;
    else
      sums.push_back(d);
  }
  Value value = n.reduce(Reduction::Sum, operand.value, sums, false);
  for (char letter : result)
    permutation.push_back(kept.find(letter));
  return n.transpose(value, permutation);
}

/// Splits an equation into terms and replaces every "..." by capital letters for the broadcast
/// dimensions.
static LogicalResult parseEquation(NodeContext &n, SmallVectorImpl<Labelled> &operands,
                                   std::string &result) {
  std::string equation;
  for (char c : n.getString("equation", ""))
    if (!llvm::isSpace(c))
      equation += c;
  auto [inputs, output] = StringRef(equation).split("->");
  SmallVector<StringRef> terms;
  inputs.split(terms, ',');
  if (terms.size() != n.numInputs())
    return n.error() << "equation \"" << equation << "\" has " << terms.size() << " terms for "
                     << n.numInputs() << " operands";
  // Capital letters that the equation leaves free, last dimension first.
  std::string free;
  for (char c = 'Z'; c >= 'A'; --c)
    if (equation.find(c) == std::string::npos)
      free += c;
  size_t widest = 0;
  auto expand = [&](StringRef term, size_t width) {
    std::string dims = free.substr(0, width);
    std::reverse(dims.begin(), dims.end());
    auto [before, after] = term.split("...");
    return term.contains("...") ? before.str() + dims + after.str() : term.str();
  };
  for (auto [i, term] : llvm::enumerate(terms)) {
    size_t named = term.contains("...") ? term.size() - 3 : term.size();
    size_t rank = rankOf(n.input(i));
    if (named > rank || (named < rank && !term.contains("...")) || rank - named > free.size())
      return n.error() << "term \"" << term << "\" does not fit an operand of rank " << rank;
    if (term.contains("..."))
      widest = std::max(widest, rank - named);
    operands.push_back({n.input(i), expand(term, rank - named)});
    if (!llvm::all_of(operands.back().letters, [](char c) { return llvm::isAlpha(c); }))
      return n.error() << "term \"" << term << "\" is not made of letters";
  }
  if (StringRef(equation).contains("->")) {
    result = expand(output, widest);
  } else { // broadcast dimensions, then the letters that stand once, sorted
    result = free.substr(0, widest);
    std::reverse(result.begin(), result.end());
    std::string sorted = equation;
    llvm::sort(sorted);
    for (char c : sorted)
      if (llvm::isAlpha(c) && StringRef(equation).count(c) == 1)
        result += c;
  }
  for (auto [at, c] : llvm::enumerate(result)) {
    bool isKnown = llvm::any_of(
        operands, [c = c](const Labelled &o) { return o.letters.find(c) != std::string::npos; });
    if (!isKnown || result.find(c, at + 1) != std::string::npos)
      return n.error() << "equation \"" << equation << "\" has no valid result";
  }
  return success();
}

/// Checks that a letter has one size (or 1, which repeats and is dropped where another operand is
/// larger).
static LogicalResult unifySizes(NodeContext &n, SmallVectorImpl<Labelled> &operands) {
  llvm::SmallDenseMap<char, int64_t> sizes;
  for (Labelled &operand : operands)
    for (auto [d, letter] : llvm::enumerate(operand.letters)) {
      int64_t size = shapeOf(operand.value)[d];
      int64_t &known = sizes.try_emplace(letter, size).first->second;
      if (known != size && known != 1 && size != 1)
        return n.error() << "letter '" << StringRef(&operand.letters[d], 1) << "' has sizes "
                         << known << " and " << size;
      known = std::max(known, size);
    }
  for (Labelled &operand : operands) {
    std::string kept;
    Shape shape;
    for (auto [d, letter] : llvm::enumerate(operand.letters)) {
      int64_t size = shapeOf(operand.value)[d];
      if (size != sizes[letter])
        continue;
      kept += letter;
      shape.push_back(size);
    }
    operand.value = n.reshape(operand.value, shape);
    operand.letters = kept;
  }
  return success();
}

static LogicalResult importEinsum(NodeContext &n) {
  SmallVector<Labelled> operands;
  std::string result;
  if (failed(parseEquation(n, operands, result)) || failed(unifySizes(n, operands)))
    return failure();
  for (Labelled &operand : operands)
    takeDiagonals(n, operand);
  // From the left, two at a time; a letter lives as long as a later operand or the result has it.
  Labelled product = operands[0];
  for (size_t k = 1; k < operands.size(); ++k) {
    std::string later = result;
    for (const Labelled &operand : ArrayRef(operands).drop_front(k + 1))
      later += operand.letters;
    bool isLast = k + 1 == operands.size();
    std::string kept = isLast ? result : std::string();
    if (!isLast)
      for (char c : product.letters + operands[k].letters)
        if (StringRef(later).contains(c) && !StringRef(kept).contains(c))
          kept += c;
    product = {
        n.einsum(product.value, product.letters, operands[k].value, operands[k].letters, kept),
        kept};
  }
  return n.done(arrange(n, product, result));
}

//===----------------------------------------------------------------------===//
// Convolution and pooling
//===----------------------------------------------------------------------===//

namespace {
struct Window {
  Shape strides, dilations, low, high;
};
} // namespace

/// Strides, dilations and pads of a window of `kernel`, with `auto_pad` resolved.
static FailureOr<Window> windowOf(NodeContext &n, ArrayRef<int64_t> input,
                                  ArrayRef<int64_t> kernel) {
  size_t rank = kernel.size();
  Window w;
  w.strides = n.getInts("strides").value_or(Shape(rank, 1));
  w.dilations = n.getInts("dilations").value_or(Shape(rank, 1));
  Shape pads = n.getInts("pads").value_or(Shape(2 * rank, 0));
  constexpr int64_t kMax = int64_t(1) << 30;
  auto isSane = [&](ArrayRef<int64_t> values, size_t count, int64_t least) {
    return values.size() == count &&
           llvm::all_of(values, [&](int64_t x) { return x >= least && x < kMax; });
  };
  if (!isSane(w.strides, rank, 1) || !isSane(w.dilations, rank, 1) || !isSane(pads, 2 * rank, 0))
    return n.error() << "strides " << shapeText(w.strides) << ", dilations "
                     << shapeText(w.dilations) << " or pads " << shapeText(pads) << " do not fit "
                     << rank << " spatial dimensions";
  StringRef automatic = n.getString("auto_pad", "NOTSET");
  for (size_t d = 0; d < rank; ++d) {
    if (automatic.starts_with("SAME")) {
      int64_t out = (input[d] + w.strides[d] - 1) / w.strides[d];
      int64_t extent = (kernel[d] - 1) * w.dilations[d] + 1;
      int64_t total = std::max<int64_t>(0, (out - 1) * w.strides[d] + extent - input[d]);
      pads[d] = automatic == "SAME_LOWER" ? (total + 1) / 2 : total / 2;
      pads[d + rank] = total - pads[d];
    } else if (automatic == "VALID") {
      pads[d] = pads[d + rank] = 0;
    }
  }
  w.low.assign(pads.begin(), pads.begin() + rank);
  w.high.assign(pads.begin() + rank, pads.end());
  return w;
}

static LogicalResult importConv(NodeContext &n) {
  Value x = n.input(0), weight = n.input(1);
  if (rankOf(x) < 3 || rankOf(weight) != rankOf(x))
    return n.error() << "input and weight have shapes " << shapeText(shapeOf(x)) << " and "
                     << shapeText(shapeOf(weight));
  ArrayRef<int64_t> kernel = shapeOf(weight).drop_front(2), input = shapeOf(x).drop_front(2);
  if (auto given = n.getInts("kernel_shape"); given && ArrayRef(*given) != kernel)
    return n.error() << "kernel_shape " << shapeText(*given) << " differs from the weight's "
                     << shapeText(kernel);
  FailureOr<Window> w = windowOf(n, input, kernel);
  if (failed(w))
    return failure();
  Shape shape{shapeOf(x)[0], shapeOf(weight)[0]};
  for (size_t d = 0; d < kernel.size(); ++d) {
    int64_t extent = (kernel[d] - 1) * w->dilations[d] + 1,
            padded = input[d] + w->low[d] + w->high[d];
    if (extent > padded)
      return n.error() << "kernel of extent " << extent << " exceeds the padded size " << padded
                       << " of spatial dimension " << d;
    shape.push_back((padded - extent) / w->strides[d] + 1);
  }
  Value y = n.create<ConvOp>(typeOf(x).clone(shape), x, weight, w->strides, w->low, w->high,
                             w->dilations, n.getInt("group", 1));
  if (Value bias = n.input(2)) {
    if (shapeOf(bias) != ArrayRef<int64_t>{shape[1]})
      return n.error() << "bias has shape " << shapeText(shapeOf(bias)) << ", the result "
                       << shape[1] << " channels";
    y = n.create<AddOp>(y, n.broadcast(bias, {1}, shape));
  }
  return n.done(y);
}

static LogicalResult importGlobalAveragePool(NodeContext &n) {
  return n.done(n.mean(n.input(0), iotaDims(2, rankOf(n.input(0))), /*keepDims=*/true));
}

static LogicalResult importGlobalMaxPool(NodeContext &n) {
  return n.done(
      n.reduce(Reduction::Max, n.input(0), iotaDims(2, rankOf(n.input(0))), /*keepDims=*/true));
}

void addMath(OperatorTable &table) {
  table["MatMul"] = {importMatMul, 2};
  table["Gemm"] = {importGemm, 2};
  table["Einsum"] = {importEinsum};
  table["Conv"] = {importConv, 2};
  table["GlobalAveragePool"] = {importGlobalAveragePool};
  table["GlobalMaxPool"] = {importGlobalMaxPool};
}

} // namespace shardc::importer
