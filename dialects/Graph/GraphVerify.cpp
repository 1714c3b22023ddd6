//===- GraphVerify.cpp - Verifiers of the graph dialect, in the order of the ODS constraints -===//

#include "dialects/Graph/Graph.h"
#include "shardc/Support/ElementBytes.h"

#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

/// Error unless 0 <= dim < rank.
static LogicalResult checkDim(Operation *op, int64_t dim, int64_t rank, StringRef what) {
  if (dim >= 0 && dim < rank)
    return success();
  return op->emitOpError() << what << " " << dim << " is outside the rank " << rank;
}

static LogicalResult checkShape(Operation *op, ArrayRef<int64_t> given, ArrayRef<int64_t> expected,
                                StringRef what) {
  if (given == expected)
    return success();
  auto diag = op->emitOpError() << what << " has shape [";
  llvm::interleaveComma(given, diag);
  diag << "], expected [";
  llvm::interleaveComma(expected, diag);
  return diag << "]";
}

static LogicalResult checkElement(Operation *op, Type given, Type expected, StringRef what) {
  if (getElementTypeOrSelf(given) == getElementTypeOrSelf(expected))
    return success();
  return op->emitOpError() << what << " has element type " << getElementTypeOrSelf(given)
                           << ", expected " << getElementTypeOrSelf(expected);
}

static LogicalResult checkRank(Operation *op, RankedTensorType type, int64_t rank, StringRef what) {
  if (type.getRank() == rank)
    return success();
  return op->emitOpError() << what << " has rank " << type.getRank() << ", expected " << rank;
}

static LogicalResult checkCount(Operation *op, int64_t given, int64_t expected, StringRef what) {
  if (given == expected)
    return success();
  return op->emitOpError() << what << " has " << given << " entries for rank " << expected;
}

//===----------------------------------------------------------------------===//
// Sources and movement
//===----------------------------------------------------------------------===//

LogicalResult ParameterOp::verify() {
  if (Attribute attr = (*this)->getAttr(GraphDialect::kGlobalTypeAttr)) {
    auto typeAttr = dyn_cast<TypeAttr>(attr);
    auto global = typeAttr ? dyn_cast<RankedTensorType>(typeAttr.getValue()) : RankedTensorType();
    if (!global || !global.hasStaticShape() || global.getRank() != getType().getRank() ||
        global.getElementType() != getType().getElementType())
      return emitOpError() << "global type " << attr << " does not fit the result type "
                           << getType();
  }
  RankedTensorType type = getGlobalType();
  // parameter_c1
  if (auto segment = getSegment()) {
    if (segment->size() != 3 || !getWhole())
      return emitOpError() << "segment needs [dim, offset, size] and the whole size";
    int64_t dim = (*segment)[0], offset = (*segment)[1], size = (*segment)[2];
    if (failed(checkDim(*this, dim, type.getRank(), "segment dim")))
      return failure();
    if (size != type.getDimSize(dim))
      return emitOpError() << "segment size " << size << " is not the size " << type.getDimSize(dim)
                           << " of dimension " << dim;
    if (offset < 0 || offset + size > static_cast<int64_t>(*getWhole()))
      return emitOpError() << "segment [" << offset << ", " << offset + size
                           << ") lies outside the whole of " << *getWhole();
  }
  // parameter_c2
  if (getValue() && getValue()->getType() != type)
    return emitOpError() << "value has type " << getValue()->getType() << ", expected " << type;
  return success();
}

LogicalResult IotaOp::verify() { return checkDim(*this, getDim(), getType().getRank(), "dim"); }

LogicalResult ReshapeOp::verify() {
  if (failed(checkElement(*this, getType(), getInput().getType(), "result")))
    return failure();
  if (getInput().getType().getNumElements() != getType().getNumElements())
    return emitOpError() << "input has " << getInput().getType().getNumElements()
                         << " elements, result has " << getType().getNumElements();
  return success();
}

LogicalResult TransposeOp::verify() {
  auto input = getInput().getType();
  if (failed(checkElement(*this, getType(), input, "result")) ||
      failed(checkCount(*this, getPermutation().size(), input.getRank(), "permutation")) ||
      failed(checkRank(*this, getType(), input.getRank(), "result")))
    return failure();
  SmallVector<bool> seen(input.getRank(), false);
  SmallVector<int64_t> shape;
  for (int64_t p : getPermutation()) {
    if (failed(checkDim(*this, p, input.getRank(), "permutation entry")))
      return failure();
    if (seen[p])
      return emitOpError() << "permutation names dimension " << p << " twice";
    seen[p] = true;
    shape.push_back(input.getDimSize(p));
  }
  return checkShape(*this, getType().getShape(), shape, "result");
}

LogicalResult BroadcastOp::verify() {
  auto input = getInput().getType();
  if (failed(checkElement(*this, getType(), input, "result")) ||
      failed(checkCount(*this, getDims().size(), input.getRank(), "dims")))
    return failure();
  int64_t previous = -1;
  for (auto [i, dim] : llvm::enumerate(getDims())) {
    if (failed(checkDim(*this, dim, getType().getRank(), "dims entry")))
      return failure();
    if (dim <= previous)
      return emitOpError() << "dims are not increasing: " << previous << " before " << dim;
    previous = dim;
    int64_t size = input.getDimSize(i);
    if (size != 1 && size != getType().getDimSize(dim))
      return emitOpError() << "input dimension " << i << " of size " << size
                           << " cannot become result dimension " << dim << " of size "
                           << getType().getDimSize(dim);
  }
  return success();
}

LogicalResult SliceOp::verify() {
  auto input = getInput().getType();
  int64_t rank = input.getRank();
  if (failed(checkElement(*this, getType(), input, "result")) ||
      failed(checkRank(*this, getType(), rank, "result")) ||
      failed(checkCount(*this, getStarts().size(), rank, "starts")) ||
      failed(checkCount(*this, getStrides().size(), rank, "strides")))
    return failure();
  for (int64_t d = 0; d < rank; ++d) {
    int64_t start = getStarts()[d], stride = getStrides()[d], count = getType().getDimSize(d);
    if (start < 0 || stride < 1)
      return emitOpError() << "start " << start << " and stride " << stride << " of dimension " << d
                           << " must be at least 0 and 1";
    if (count > 0 && start + (count - 1) * stride >= input.getDimSize(d))
      return emitOpError() << "last element " << start + (count - 1) * stride << " of dimension "
                           << d << " lies outside its size " << input.getDimSize(d);
  }
  return success();
}

LogicalResult ReverseOp::verify() {
  if (getInput().getType() != getType())
    return emitOpError() << "result type differs from the input's";
  for (int64_t dim : getDims())
    if (failed(checkDim(*this, dim, getType().getRank(), "dim")))
      return failure();
  return success();
}

LogicalResult PadOp::verify() {
  auto input = getInput().getType();
  int64_t rank = input.getRank();
  if (failed(checkElement(*this, getType(), input, "result")) ||
      failed(checkCount(*this, getLow().size(), rank, "low")) ||
      failed(checkCount(*this, getHigh().size(), rank, "high")))
    return failure();
  if (getPadding().getType() != input.getElementType())
    return emitOpError() << "padding has type " << getPadding().getType() << ", expected "
                         << input.getElementType();
  SmallVector<int64_t> shape;
  for (int64_t d = 0; d < rank; ++d) {
    if (getLow()[d] < 0 || getHigh()[d] < 0)
      return emitOpError() << "padding of dimension " << d << " is negative";
    shape.push_back(getLow()[d] + input.getDimSize(d) + getHigh()[d]);
  }
  return checkShape(*this, getType().getShape(), shape, "result");
}

LogicalResult ConcatOp::verify() {
  if (getInputs().empty())
    return emitOpError() << "needs an input";
  if (failed(checkDim(*this, getDim(), getType().getRank(), "dim")))
    return failure();
  SmallVector<int64_t> shape(getType().getShape());
  shape[getDim()] = 0;
  for (Value input : getInputs()) {
    auto type = cast<RankedTensorType>(input.getType());
    if (failed(checkElement(*this, type, getType(), "input")) ||
        failed(checkRank(*this, type, getType().getRank(), "input")))
      return failure();
    shape[getDim()] += type.getDimSize(getDim());
    for (int64_t d = 0; d < type.getRank(); ++d)
      if (d != static_cast<int64_t>(getDim()) && type.getDimSize(d) != shape[d])
        return emitOpError() << "input dimension " << d << " has size " << type.getDimSize(d)
                             << ", expected " << shape[d];
  }
  return checkShape(*this, getType().getShape(), shape, "result");
}

LogicalResult GatherOp::verify() {
  auto data = getData().getType();
  if (failed(checkElement(*this, getType(), data, "result")) ||
      failed(checkDim(*this, getAxis(), data.getRank(), "axis")))
    return failure();
  SmallVector<int64_t> shape(data.getShape().take_front(getAxis()));
  llvm::append_range(shape, getIndices().getType().getShape());
  llvm::append_range(shape, data.getShape().drop_front(getAxis() + 1));
  return checkShape(*this, getType().getShape(), shape, "result");
}

LogicalResult GatherNdOp::verify() {
  auto data = getData().getType(), indices = getIndices().getType();
  int64_t batch = getBatchDims();
  if (failed(checkElement(*this, getType(), data, "result")))
    return failure();
  if (batch < 0 || batch >= indices.getRank() || batch > data.getRank())
    return emitOpError() << "batch " << batch << " does not fit data of rank " << data.getRank()
                         << " and indices of rank " << indices.getRank();
  int64_t depth = indices.getShape().back();
  if (batch + depth > data.getRank())
    return emitOpError() << "index tuples of " << depth << " after " << batch
                         << " batch dimensions exceed the data's rank " << data.getRank();
  if (data.getShape().take_front(batch) != indices.getShape().take_front(batch))
    return emitOpError() << "batch dimensions of data and indices differ";
  SmallVector<int64_t> shape(indices.getShape().drop_back());
  llvm::append_range(shape, data.getShape().drop_front(batch + depth));
  return checkShape(*this, getType().getShape(), shape, "result");
}

LogicalResult GatherElementsOp::verify() {
  auto data = getData().getType();
  if (failed(checkElement(*this, getType(), data, "result")) ||
      failed(checkDim(*this, getAxis(), data.getRank(), "axis")) ||
      failed(checkRank(*this, getIndices().getType(), data.getRank(), "indices")))
    return failure();
  for (int64_t d = 0; d < data.getRank(); ++d)
    if (d != static_cast<int64_t>(getAxis()) &&
        getIndices().getType().getDimSize(d) > data.getDimSize(d))
      return emitOpError() << "indices dimension " << d << " of size "
                           << getIndices().getType().getDimSize(d) << " exceeds the data's "
                           << data.getDimSize(d);
  return checkShape(*this, getType().getShape(), getIndices().getType().getShape(), "result");
}

LogicalResult ScatterElementsOp::verify() {
  auto data = getData().getType();
  if (failed(checkElement(*this, getUpdates().getType(), data, "updates")) ||
      failed(checkDim(*this, getAxis(), data.getRank(), "axis")) ||
      failed(checkRank(*this, getIndices().getType(), data.getRank(), "indices")))
    return failure();
  return checkShape(*this, getUpdates().getType().getShape(), getIndices().getType().getShape(),
                    "updates");
}

LogicalResult ScatterNdOp::verify() {
  auto data = getData().getType(), indices = getIndices().getType();
  if (failed(checkElement(*this, getUpdates().getType(), data, "updates")))
    return failure();
  if (indices.getRank() < 1 || indices.getShape().back() > data.getRank())
    return emitOpError() << "index tuples do not fit data of rank " << data.getRank();
  SmallVector<int64_t> shape(indices.getShape().drop_back());
  llvm::append_range(shape, data.getShape().drop_front(indices.getShape().back()));
  return checkShape(*this, getUpdates().getType().getShape(), shape, "updates");
}

LogicalResult ScatterSumOp::verify() {
  auto updates = getUpdates().getType();
  if (failed(checkElement(*this, updates, getType(), "updates")) ||
      failed(checkDim(*this, getAxis(), getType().getRank(), "axis")))
    return failure();
  // scatter_sum_c1
  SmallVector<int64_t> shape(getType().getShape().take_front(getAxis()));
  llvm::append_range(shape, getIndices().getType().getShape());
  llvm::append_range(shape, getType().getShape().drop_front(getAxis() + 1));
  return checkShape(*this, updates.getShape(), shape, "updates");
}

//===----------------------------------------------------------------------===//
// Contraction, reduction, normalisation
//===----------------------------------------------------------------------===//

/// einsum_c1 to c3.
template <typename Op> static LogicalResult verifyLetters(Op op) {
  auto emitOpError = [&] { return op.emitOpError(); };
  if (!op.getSpec().contains("->") || op.getSpec().count(',') != 1)
    return emitOpError() << "spec \"" << op.getSpec() << "\" is not of the form \"ab,bc->ac\"";
  EinsumLetters letters = op.getLetters();
  llvm::SmallDenseMap<char, int64_t> sizes;
  std::pair<StringRef, RankedTensorType> operands[] = {{letters.lhs, op.getLhs().getType()},
                                                       {letters.rhs, op.getRhs().getType()},
                                                       {letters.result, op.getType()}};
  for (auto [n, operand] : llvm::enumerate(operands)) {
    auto [names, type] = operand;
    // einsum_c1
    if (static_cast<int64_t>(names.size()) != type.getRank())
      return emitOpError() << "\"" << names << "\" names " << names.size()
                           << " dimensions of a tensor of rank " << type.getRank();
    for (auto [d, letter] : llvm::enumerate(names)) {
      if (!llvm::isAlpha(letter))
        return emitOpError() << "'" << Twine(letter) << "' in the spec is not a letter";
      if (names.find(letter, d + 1) != StringRef::npos)
        return emitOpError() << "letter '" << Twine(letter) << "' stands twice in \"" << names
                             << "\"";
      auto [known, isNew] = sizes.try_emplace(letter, type.getDimSize(d));
      // einsum_c3
      if (isNew && n == 2)
        return emitOpError() << "letter '" << Twine(letter) << "' of the result is in no operand";
      // einsum_c2
      if (known->second != type.getDimSize(d))
        return emitOpError() << "letter '" << Twine(letter) << "' has size " << known->second
                             << " and " << type.getDimSize(d);
    }
  }
  return success();
}

/// grouped_matmul_c1, grouped_matmul_grad_c1
static LogicalResult checkBlocks(Operation *op, int64_t blocks, int64_t rows, int64_t experts) {
  if (blocks < 1 || rows % blocks || experts % blocks)
    return op->emitOpError() << "has " << blocks << " blocks, which do not divide " << rows
                             << " rows and " << experts << " experts";
  return success();
}

LogicalResult EinsumOp::verify() {
  if (failed(verifyLetters(*this)))
    return failure();
  // einsum_c4
  if (isFloat8(getLhs().getType()) && isFloat8(getRhs().getType()))
    return checkElement(*this, getType(), Float32Type::get(getContext()), "result of 8-bit floats");
  if (failed(checkElement(*this, getRhs().getType(), getLhs().getType(), "rhs")))
    return failure();
  return checkElement(*this, getType(), getLhs().getType(), "result");
}

LogicalResult ScaledEinsumOp::verify() {
  // scaled_einsum_c1
  if (failed(verifyLetters(*this)))
    return failure();
  // scaled_einsum_c2
  if (failed(checkRank(*this, getLhsScale().getType(), 0, "scale of lhs")) ||
      failed(checkRank(*this, getRhsScale().getType(), 0, "scale of rhs")))
    return failure();
  // scaled_einsum_c3
  if (!isFloat8(getGradient()))
    return emitOpError() << "gradient is of type " << getGradient() << ", expected an 8-bit float";
  return success();
}

LogicalResult CastOp::verify() {
  // cast_c1
  if (getSaturate() && !isFloat8(getType()))
    return emitOpError() << "saturates, which is for casts to 8-bit floats, not to "
                         << getType().getElementType();
  return success();
}

LogicalResult GroupedMatmulOp::verify() {
  auto x = getInput().getType(), w = getWeight().getType(), groups = getGroups().getType();
  if (failed(checkRank(*this, x, 2, "input")) || failed(checkRank(*this, w, 3, "weight")) ||
      failed(checkRank(*this, groups, 1, "groups")) ||
      failed(checkElement(*this, w, x, "weight")) ||
      failed(checkElement(*this, getType(), x, "result")))
    return failure();
  if (x.getDimSize(1) != w.getDimSize(2))
    return emitOpError() << "input has " << x.getDimSize(1) << " features, weight "
                         << w.getDimSize(2);
  if (groups.getDimSize(0) != x.getDimSize(0))
    return emitOpError() << "groups has " << groups.getDimSize(0) << " rows, input "
                         << x.getDimSize(0);
  if (failed(checkBlocks(*this, getBlocks(), x.getDimSize(0), w.getDimSize(0))))
    return failure();
  return checkShape(*this, getType().getShape(), {x.getDimSize(0), w.getDimSize(1)}, "result");
}

LogicalResult GroupedMatmulGradOp::verify() {
  auto x = getInput().getType(), dy = getCotangent().getType(), groups = getGroups().getType();
  if (failed(checkRank(*this, x, 2, "input")) || failed(checkRank(*this, dy, 2, "cotangent")) ||
      failed(checkRank(*this, groups, 1, "groups")) ||
      failed(checkRank(*this, getType(), 3, "result")) ||
      failed(checkElement(*this, dy, x, "cotangent")) ||
      failed(checkElement(*this, getType(), x, "result")))
    return failure();
  if (dy.getDimSize(0) != x.getDimSize(0))
    return emitOpError() << "cotangent has " << dy.getDimSize(0) << " rows, input "
                         << x.getDimSize(0);
  if (groups.getDimSize(0) != x.getDimSize(0))
    return emitOpError() << "groups has " << groups.getDimSize(0) << " rows, input "
                         << x.getDimSize(0);
  if (failed(checkBlocks(*this, getBlocks(), x.getDimSize(0), getType().getDimSize(0))))
    return failure();
  return checkShape(*this, getType().getShape(),
                    {getType().getDimSize(0), dy.getDimSize(1), x.getDimSize(1)}, "result");
}

LogicalResult ConvOp::verify() {
  auto x = getInput().getType(), w = getWeight().getType();
  int64_t spatial = x.getRank() - 2;
  if (spatial < 1)
    return emitOpError() << "input has rank " << x.getRank() << ", expected at least 3";
  if (failed(checkRank(*this, w, x.getRank(), "weight")) ||
      failed(checkCount(*this, getStrides().size(), spatial, "strides")) ||
      failed(checkCount(*this, getPadLow().size(), spatial, "padLow")) ||
      failed(checkCount(*this, getPadHigh().size(), spatial, "padHigh")) ||
      failed(checkCount(*this, getDilations().size(), spatial, "dilations")) ||
      failed(checkElement(*this, w, x, "weight")) ||
      failed(checkElement(*this, getType(), x, "result")))
    return failure();
  int64_t group = getGroup();
  if (group < 1 || x.getDimSize(1) % group || w.getDimSize(0) % group)
    return emitOpError() << "group " << group << " does not divide " << x.getDimSize(1)
                         << " input and " << w.getDimSize(0) << " output channels";
  if (w.getDimSize(1) != x.getDimSize(1) / group)
    return emitOpError() << "weight has " << w.getDimSize(1) << " input channels a group, expected "
                         << x.getDimSize(1) / group;
  SmallVector<int64_t> shape{x.getDimSize(0), w.getDimSize(0)};
  for (int64_t d = 0; d < spatial; ++d) {
    if (getStrides()[d] < 1 || getDilations()[d] < 1)
      return emitOpError() << "stride and dilation of spatial dimension " << d
                           << " must be positive";
    int64_t extent = (w.getDimSize(d + 2) - 1) * getDilations()[d] + 1;
    int64_t padded = x.getDimSize(d + 2) + getPadLow()[d] + getPadHigh()[d];
    if (padded < extent)
      return emitOpError() << "kernel extent " << extent << " exceeds the padded size " << padded
                           << " of spatial dimension " << d;
    shape.push_back((padded - extent) / getStrides()[d] + 1);
  }
  return checkShape(*this, getType().getShape(), shape, "result");
}

LogicalResult ReduceOp::verify() {
  auto input = getInput().getType();
  if (failed(checkElement(*this, getType(), input, "result")))
    return failure();
  bool isLogical = getKind() == Reduction::And || getKind() == Reduction::Or;
  if (input.getElementType().isInteger(1) != isLogical)
    return emitOpError() << stringifyReduction(getKind()) << " does not apply to element type "
                         << input.getElementType();
  SmallVector<int64_t> shape;
  for (int64_t d = 0; d < input.getRank(); ++d)
    if (!llvm::is_contained(getDims(), d))
      shape.push_back(input.getDimSize(d));
  for (int64_t d : getDims())
    if (failed(checkDim(*this, d, input.getRank(), "dim")))
      return failure();
  return checkShape(*this, getType().getShape(), shape, "result");
}

LogicalResult ArgReduceOp::verify() {
  auto input = getInput().getType();
  if (failed(checkDim(*this, getDim(), input.getRank(), "dim")))
    return failure();
  SmallVector<int64_t> shape(input.getShape());
  shape.erase(shape.begin() + getDim());
  return checkShape(*this, getType().getShape(), shape, "result");
}

LogicalResult CumsumOp::verify() { return checkDim(*this, getDim(), getType().getRank(), "dim"); }

LogicalResult TopKOp::verify() {
  auto input = getInput().getType();
  if (failed(checkDim(*this, getDim(), input.getRank(), "dim")) ||
      failed(checkElement(*this, getValues().getType(), input, "values")))
    return failure();
  SmallVector<int64_t> shape(input.getShape());
  int64_t k = getValues().getType().getRank() == input.getRank()
                  ? getValues().getType().getDimSize(getDim())
                  : 0;
  if (k > input.getDimSize(getDim()))
    return emitOpError() << "k " << k << " exceeds the size " << input.getDimSize(getDim())
                         << " of dimension " << getDim();
  shape[getDim()] = k;
  if (failed(checkShape(*this, getValues().getType().getShape(), shape, "values")))
    return failure();
  return checkShape(*this, getIndices().getType().getShape(), shape, "indices");
}

LogicalResult SoftmaxOp::verify() { return checkDim(*this, getDim(), getType().getRank(), "dim"); }

/// The last normDims dimensions of a normalised tensor; failure if there are not that many.
static FailureOr<ArrayRef<int64_t>> normShape(Operation *op, RankedTensorType type,
                                              int64_t normDims) {
  if (normDims < 1 || normDims > type.getRank()) {
    op->emitOpError() << "normDims " << normDims << " does not fit rank " << type.getRank();
    return failure();
  }
  return type.getShape().take_back(normDims);
}

LogicalResult RmsNormOp::verify() {
  auto shape = normShape(*this, getType(), getNormDims());
  if (failed(shape))
    return failure();
  if (!getWeight())
    return success();
  if (failed(checkElement(*this, getWeight().getType(), getType(), "weight")))
    return failure();
  return checkShape(*this, getWeight().getType().getShape(), *shape, "weight");
}

LogicalResult LayerNormOp::verify() {
  auto shape = normShape(*this, getType(), getNormDims());
  if (failed(shape))
    return failure();
  std::pair<TypedValue<RankedTensorType>, StringRef> operands[] = {{getWeight(), "weight"},
                                                                   {getBias(), "bias"}};
  for (auto [value, what] : operands)
    if (value && (failed(checkElement(*this, value.getType(), getType(), what)) ||
                  failed(checkShape(*this, value.getType().getShape(), *shape, what))))
      return failure();
  return success();
}

//===----------------------------------------------------------------------===//
// Transformer blocks
//===----------------------------------------------------------------------===//

LogicalResult RopeOp::verify() {
  auto x = getInput().getType(), cos = getCos().getType();
  if (failed(checkRank(*this, x, 4, "input")) || failed(checkRank(*this, cos, 3, "cos")) ||
      failed(checkShape(*this, getSin().getType().getShape(), cos.getShape(), "sin")) ||
      failed(checkElement(*this, cos, x, "cos")))
    return failure();
  if (cos.getDimSize(0) != 1 && cos.getDimSize(0) != x.getDimSize(0))
    return emitOpError() << "cos has batch " << cos.getDimSize(0) << ", input " << x.getDimSize(0);
  if (cos.getDimSize(1) != x.getDimSize(2))
    return emitOpError() << "cos has " << cos.getDimSize(1) << " positions, input "
                         << x.getDimSize(2);
  if (2 * cos.getDimSize(2) > x.getDimSize(3))
    return emitOpError() << "cos rotates " << 2 * cos.getDimSize(2) << " features of "
                         << x.getDimSize(3);
  return success();
}

/// Of attention and its gradient; `out` is the result's type, or the cotangent's.
template <typename Op>
static LogicalResult verifyAttention(Op op, RankedTensorType out, StringRef outName) {
  auto q = op.getQuery().getType(), k = op.getKey().getType(), v = op.getValue().getType();
  // attention_c1
  std::pair<RankedTensorType, StringRef> tensors[] = {
      {q, "query"}, {k, "key"}, {v, "value"}, {out, outName}};
  for (auto [type, what] : tensors)
    if (failed(checkRank(op, type, 4, what)) || failed(checkElement(op, type, q, what)))
      return failure();
  int64_t batch = q.getDimSize(0), heads = q.getDimSize(1), kvHeads = k.getDimSize(1);
  if (failed(checkShape(op, k.getShape(), {batch, kvHeads, k.getDimSize(2), q.getDimSize(3)},
                        "key")) ||
      failed(checkShape(op, v.getShape(), {batch, kvHeads, k.getDimSize(2), v.getDimSize(3)},
                        "value")) ||
      failed(checkShape(op, out.getShape(), {batch, heads, q.getDimSize(2), v.getDimSize(3)},
                        outName)))
    return failure();
  if (kvHeads == 0 || heads % kvHeads)
    return op.emitOpError() << heads << " query heads are not a multiple of " << kvHeads
                            << " key/value heads";
  // attention_c2
  if (op.getMask()) {
    auto mask = op.getMask().getType();
    int64_t full[] = {batch, heads, q.getDimSize(2), k.getDimSize(2)};
    if (failed(checkRank(op, mask, 4, "mask")))
      return failure();
    for (int64_t d = 0; d < 4; ++d)
      if (mask.getDimSize(d) != full[d] && mask.getDimSize(d) != 1)
        return op.emitOpError() << "mask dimension " << d << " of size " << mask.getDimSize(d)
                                << " does not broadcast to " << full[d];
    if (!isa<FloatType>(mask.getElementType()) && !mask.getElementType().isInteger(1))
      return op.emitOpError() << "mask has element type " << mask.getElementType()
                              << ", expected float or bool";
  }
  if (op.getSinks() && failed(checkShape(op, op.getSinks().getType().getShape(), {heads}, "sinks")))
    return failure();
  // attention_c3
  if (op.getWindow() < 0 || (op.getWindow() > 0 && !op.getCausal()))
    return op.emitOpError() << "window " << op.getWindow() << " needs causal attention";
  return success();
}

LogicalResult AttentionOp::verify() { return verifyAttention(*this, getType(), "result"); }

LogicalResult AttentionGradOp::verify() {
  // attention_grad_c1
  if (failed(verifyAttention(*this, getCotangent().getType(), "cotangent")))
    return failure();
  // attention_grad_c2
  std::tuple<Value, Value, StringRef> results[] = {{getDquery(), getQuery(), "dquery"},
                                                   {getDkey(), getKey(), "dkey"},
                                                   {getDvalue(), getValue(), "dvalue"},
                                                   {getDsinks(), getSinks(), "dsinks"}};
  for (auto [result, operand, what] : results) {
    if (!result != !operand)
      return emitOpError() << "has " << (result ? "dsinks without sinks" : "sinks without dsinks");
    if (result && result.getType() != operand.getType())
      return emitOpError() << what << " has type " << result.getType() << ", expected "
                           << operand.getType();
  }
  return success();
}

LogicalResult SoftmaxCrossEntropyOp::verify() {
  auto logits = getLogits().getType();
  if (logits.getRank() < 1)
    return emitOpError() << "logits have no vocabulary dimension";
  if (failed(checkShape(*this, getLabels().getType().getShape(), logits.getShape().drop_back(),
                        "labels")))
    return failure();
  return checkShape(*this, getType().getShape(), logits.getShape().drop_back(), "result");
}
