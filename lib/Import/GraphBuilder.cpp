//===- GraphBuilder.cpp - Graph ops in one line ---------------------------===//

#include "GraphBuilder.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

Shape iotaDims(int64_t begin, int64_t end) {
  Shape dims;
  for (int64_t d = begin; d < end; ++d)
    dims.push_back(d);
  return dims;
}

std::optional<Shape> broadcastShapes(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  if (a.size() < b.size())
    std::swap(a, b);
  Shape shape(a);
  size_t shift = a.size() - b.size();
  for (auto [d, size] : llvm::enumerate(b)) {
    int64_t &mine = shape[shift + d];
    if (mine != size && mine != 1 && size != 1)
      return std::nullopt;
    if (mine == 1)
      mine = size;
  }
  return shape;
}

std::string shapeText(ArrayRef<int64_t> shape) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "[";
  llvm::interleaveComma(shape, os);
  os << "]";
  return text;
}

void GraphBuilder::finish(Operation *op) {
  if (path && !path.empty() && !isa<ConstantOp>(op))
    op->setAttr(GraphDialect::kPathAttr, path);
  if (failed(op->getName().verifyInvariants(op)))
    hadError = true;
  else
    folder.note(op);
}

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

Value GraphBuilder::constant(const HostTensor &tensor) {
  return create<ConstantOp>(tensor.toAttr());
}

Value GraphBuilder::ints(ArrayRef<int64_t> values) {
  return create<ConstantOp>(llvm::cast<ElementsAttr>(b.getI64TensorAttr(values)));
}

Value GraphBuilder::splat(RankedTensorType type, double value) {
  HostTensor scalar(type.clone(ArrayRef<int64_t>()));
  if (scalar.isFloat())
    scalar.f[0] = value;
  else
    scalar.i[0] = static_cast<int64_t>(value);
  scalar.round();
  return create<ConstantOp>(
      llvm::cast<ElementsAttr>(llvm::cast<DenseElementsAttr>(scalar.toAttr()).resizeSplat(type)));
}

Value GraphBuilder::iota(ArrayRef<int64_t> shape, int64_t dim, Type element) {
  return create<IotaOp>(RankedTensorType::get(shape, element), dim);
}

//===----------------------------------------------------------------------===//
// Views
//===----------------------------------------------------------------------===//

Value GraphBuilder::reshape(Value v, ArrayRef<int64_t> shape) {
  return shapeOf(v) == shape ? v : create<ReshapeOp>(typeOf(v).clone(shape), v);
}

Value GraphBuilder::transpose(Value v, ArrayRef<int64_t> permutation) {
  return llvm::equal(permutation, llvm::seq<int64_t>(0, permutation.size()))
             ? v
             : create<TransposeOp>(v, permutation);
}

Value GraphBuilder::swapLast(Value v) {
  Shape permutation = iotaDims(0, rankOf(v));
  std::swap(permutation[rankOf(v) - 1], permutation[rankOf(v) - 2]);
  return transpose(v, permutation);
}

Value GraphBuilder::slice(Value v, int64_t dim, int64_t start, int64_t size, int64_t stride) {
  Shape shape(shapeOf(v)), starts(rankOf(v), 0), strides(rankOf(v), 1);
  if (start == 0 && size == shape[dim] && stride == 1)
    return v;
  shape[dim] = size;
  starts[dim] = start;
  strides[dim] = stride;
  return create<SliceOp>(typeOf(v).clone(shape), v, starts, strides);
}

Value GraphBuilder::concat(ValueRange values, int64_t dim) {
  if (values.size() == 1)
    return values[0];
  Shape shape(shapeOf(values[0]));
  for (Value v : values.drop_front())
    shape[dim] += shapeOf(v)[dim];
  return create<ConcatOp>(typeOf(values[0]).clone(shape), values, dim);
}

Value GraphBuilder::broadcast(Value v, ArrayRef<int64_t> dims, ArrayRef<int64_t> shape) {
  if (shapeOf(v) == shape)
    return v;
  RankedTensorType type = typeOf(v).clone(shape);
  // A scalar becomes a splat of the wanted shape: one op, and the easiest one to match.
  if (auto constant = v.getDefiningOp<ConstantOp>())
    if (auto dense = dyn_cast<SplatElementsAttr>(constant.getValue()))
      return create<ConstantOp>(llvm::cast<ElementsAttr>(dense.resizeSplat(type)));
  return create<BroadcastOp>(type, v, dims);
}

Value GraphBuilder::broadcastTo(Value v, ArrayRef<int64_t> shape) {
  return broadcast(v, iotaDims(shape.size() - rankOf(v), shape.size()), shape);
}

Value GraphBuilder::insertDims(Value v, ArrayRef<int64_t> dims) {
  Shape shape(shapeOf(v));
  for (int64_t dim : dims)
    shape.insert(shape.begin() + dim, 1);
  return reshape(v, shape);
}

//===----------------------------------------------------------------------===//
// Elementwise and movement
//===----------------------------------------------------------------------===//

Value GraphBuilder::cast(Value v, Type element, bool saturate) {
  return elementOf(v) == element ? v : create<CastOp>(typeOf(v).clone(element), v, saturate);
}

Value GraphBuilder::pad(Value v, ArrayRef<int64_t> low, ArrayRef<int64_t> high, double padding) {
  Shape shape(shapeOf(v));
  for (size_t d = 0; d < shape.size(); ++d)
    shape[d] += low[d] + high[d];
  if (shape == shapeOf(v) && llvm::all_of(low, [](int64_t n) { return n == 0; }))
    return v;
  Type element = elementOf(v);
  TypedAttr attr = isFloat(v) ? TypedAttr(b.getFloatAttr(element, padding))
                              : TypedAttr(b.getIntegerAttr(element, static_cast<int64_t>(padding)));
  return create<PadOp>(typeOf(v).clone(shape), v, low, high, attr);
}

Value GraphBuilder::gather(Value data, Value indices, int64_t axis) {
  Shape shape(shapeOf(data).take_front(axis));
  llvm::append_range(shape, shapeOf(indices));
  llvm::append_range(shape, shapeOf(data).drop_front(axis + 1));
  return create<GatherOp>(typeOf(data).clone(shape), data, indices, axis);
}

Value GraphBuilder::compare(Predicate predicate, Value x, Value y) {
  Shape shape = *broadcastShapes(shapeOf(x), shapeOf(y));
  return create<CompareOp>(predicate, broadcastTo(x, shape), broadcastTo(y, shape));
}

Value GraphBuilder::select(Value condition, Value x, Value y) {
  Shape shape = *broadcastShapes(*broadcastShapes(shapeOf(x), shapeOf(y)), shapeOf(condition));
  x = broadcastTo(x, shape);
  return create<SelectOp>(x.getType(), broadcastTo(condition, shape), x, broadcastTo(y, shape));
}

//===----------------------------------------------------------------------===//
// Reductions and contractions
//===----------------------------------------------------------------------===//

Value GraphBuilder::reduce(Reduction kind, Value v, ArrayRef<int64_t> dims, bool keepDims) {
  if (dims.empty())
    return v;
  Shape kept(shapeOf(v));
  for (int64_t dim : dims)
    kept[dim] = 1;
  Value result = create<ReduceOp>(kind, v, dims);
  return keepDims ? reshape(result, kept) : result;
}

Value GraphBuilder::mean(Value v, ArrayRef<int64_t> dims, bool keepDims) {
  int64_t count = 1;
  for (int64_t dim : dims)
    count *= shapeOf(v)[dim];
  // The sum of many 16-bit numbers may overflow where their mean does not.
  Type element = elementOf(v);
  bool isNarrow = isNarrowFloat(element);
  Value wide = isNarrow ? cast(v, b.getF32Type()) : v;
  Value sum = reduce(Reduction::Sum, wide, dims, keepDims);
  return cast(binary<DivOp>(sum, static_cast<double>(count)), element);
}

/// The letters of a transpose's operand.
static std::string untranspose(StringRef letters, ArrayRef<int64_t> permutation) {
  std::string result(letters.size(), ' ');
  for (auto [i, p] : llvm::enumerate(permutation))
    result[p] = letters[i];
  return result;
}

Value GraphBuilder::einsum(Value a, std::string lettersA, Value b, std::string lettersB,
                           StringRef result) {
  auto fold = [&](Value &v, std::string &letters) {
    // Dimensions of size one that the other operand has larger do not take part.
    while (auto transpose = v.getDefiningOp<TransposeOp>()) {
      letters = untranspose(letters, transpose.getPermutation());
      v = transpose.getInput();
    }
  };
  fold(a, lettersA);
  fold(b, lettersB);
  Shape shape;
  for (char letter : result) {
    size_t at = lettersA.find(letter);
    shape.push_back(at != std::string::npos ? shapeOf(a)[at] : shapeOf(b)[lettersB.find(letter)]);
  }
  std::string spec = lettersA + "," + lettersB + "->" + result.str();
  return create<EinsumOp>(typeOf(a).clone(shape), this->b.getStringAttr(spec), a, b);
}

Value GraphBuilder::matmul(Value a, Value b) {
  bool isVectorA = rankOf(a) == 1, isVectorB = rankOf(b) == 1;
  std::string rows = isVectorA ? "" : "m", columns = isVectorB ? "" : "n";
  ArrayRef<int64_t> shapeA = shapeOf(a), shapeB = shapeOf(b);
  ArrayRef<int64_t> batchA = shapeA.drop_back(isVectorA ? 1 : 2),
                    batchB = shapeB.drop_back(isVectorB ? 1 : 2);
  Shape batch = *broadcastShapes(batchA, batchB);
  // Letters a, b, … of the batch; an operand that repeats along one (size 1) loses the dimension.
  std::string letters;
  for (size_t d = 0; d < batch.size(); ++d)
    letters += "abcdefghijlopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[d];
  auto squeeze = [&](Value v, ArrayRef<int64_t> own, std::string &mine) {
    Shape shape;
    for (auto [d, size] : llvm::enumerate(own)) {
      size_t at = batch.size() - own.size() + d;
      if (size != batch[at])
        continue;
      mine += letters[at];
      shape.push_back(size);
    }
    llvm::append_range(shape, shapeOf(v).drop_front(own.size()));
    return reshape(v, shape);
  };
  std::string lettersA, lettersB;
  a = squeeze(a, batchA, lettersA);
  b = squeeze(b, batchB, lettersB);
  // A batch dimension of the left operand only is another row dimension: nothing to distinguish.
  return einsum(a, lettersA + rows + "k", b, lettersB + "k" + columns, letters + rows + columns);
}

} // namespace shardc::importer
