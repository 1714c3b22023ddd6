//===- Sources.cpp - Constants, shapes, ranges ----------------------------===//

#include "NodeContext.h"

#include <cmath>

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

static LogicalResult setTensor(NodeContext &n, const Tensor &tensor) {
  FailureOr<HostTensor> host = toHost(n.b.getContext(), tensor);
  if (failed(host))
    return n.error() << "its value lies in an external file that is missing";
  return n.done(n.constant(*host));
}

static LogicalResult importConstant(NodeContext &n) {
  auto numbers = [&](auto values, Type element, bool isScalar) {
    Shape shape;
    if (!isScalar)
      shape.push_back(values.size());
    HostTensor tensor(RankedTensorType::get(shape, element));
    if (tensor.isFloat())
      tensor.f.assign(values.begin(), values.end());
    else
      tensor.i.assign(values.begin(), values.end());
    tensor.round();
    return n.done(n.constant(tensor));
  };
  if (const Attribute *a = n.find("value"); a && a->tensor)
    return setTensor(n, *a->tensor);
  if (n.find("value_int"))
    return numbers(ArrayRef<int64_t>{n.getInt("value_int", 0)}, n.b.getI64Type(), true);
  if (n.find("value_float"))
    return numbers(ArrayRef<double>{n.getFloat("value_float", 0)}, n.b.getF32Type(), true);
  if (auto values = n.getInts("value_ints"))
    return numbers(ArrayRef<int64_t>(*values), n.b.getI64Type(), false);
  if (const Attribute *a = n.find("value_floats"); a && a->kind == AttributeKind::Floats)
    return numbers(ArrayRef<double>(a->floats), n.b.getF32Type(), false);
  return n.error() << "has no value of a supported kind";
}

/// A shape read from input 0.
static FailureOr<Shape> givenShape(NodeContext &n) {
  FailureOr<Shape> shape = n.constantInts(0);
  if (failed(shape) || failed(n.countElements(*shape)))
    return failure();
  return shape;
}

static LogicalResult importConstantOfShape(NodeContext &n) {
  FailureOr<Shape> shape = givenShape(n);
  if (failed(shape))
    return failure();
  const Attribute *attribute = n.find("value");
  if (!attribute || !attribute->tensor)
    return n.done(n.splat(RankedTensorType::get(*shape, n.b.getF32Type()), 0));
  FailureOr<HostTensor> value = toHost(n.b.getContext(), *attribute->tensor);
  if (failed(value) || value->size() != 1)
    return n.error() << "value is not one number";
  return n.done(n.broadcast(n.reshape(n.constant(*value), {}), {}, *shape));
}

/// The shape is known whatever the operand is.
static LogicalResult importShape(NodeContext &n) {
  ArrayRef<int64_t> shape = shapeOf(n.input(0));
  int64_t rank = shape.size();
  auto clamp = [&](int64_t at) {
    return std::min(std::max<int64_t>(at < 0 ? at + rank : at, 0), rank);
  };
  int64_t begin = clamp(n.getInt("start", 0)), end = clamp(n.getInt("end", rank));
  return n.done(n.ints(shape.slice(begin, std::max<int64_t>(0, end - begin))));
}

static LogicalResult importSize(NodeContext &n) {
  return n.done(n.reshape(n.ints({typeOf(n.input(0)).getNumElements()}), {}));
}

static LogicalResult importRange(NodeContext &n) {
  const HostTensor *operands[3];
  HostTensor copies[3];
  for (unsigned i = 0; i < 3; ++i) {
    operands[i] = n.known(i);
    if (!operands[i])
      return failure();
    copies[i] = *operands[i];
    if (copies[i].size() != 1)
      return n.error() << "input " << i << " has " << copies[i].size() << " elements, expected 1";
    if (copies[i].type.getElementType() != copies[0].type.getElementType())
      return n.error() << "start, limit and delta have different element types";
  }
  auto number = [&](unsigned i) {
    return copies[i].isFloat() ? copies[i].f[0] : static_cast<double>(copies[i].i[0]);
  };
  double start = number(0), limit = number(1), delta = number(2);
  double count = std::ceil((limit - start) / delta);
  if (delta == 0 || !(std::abs(count) < 1e9))
    return n.error() << "range from " << start << " to " << limit << " by " << delta
                     << " is not a range";
  int64_t size = std::max<int64_t>(0, static_cast<int64_t>(count));
  HostTensor result(RankedTensorType::get({size}, copies[0].type.getElementType()));
  for (int64_t k = 0; k < size; ++k) {
    if (result.isFloat())
      result.f[k] = start + k * delta;
    else
      result.i[k] = copies[0].i[0] + k * copies[2].i[0];
  }
  result.round();
  return n.done(n.constant(result));
}

static LogicalResult importEyeLike(NodeContext &n) {
  Value x = n.input(0);
  if (failed(n.checkRank(x, 2, "input")))
    return failure();
  FailureOr<Type> type =
      n.find("dtype") ? n.elementType(n.getInt("dtype", 0)) : FailureOr<Type>(elementOf(x));
  if (failed(type))
    return failure();
  Value rows = n.iota(shapeOf(x), 0, n.b.getI64Type()),
        columns = n.iota(shapeOf(x), 1, n.b.getI64Type());
  Value diagonal = n.binary<AddOp>(rows, static_cast<double>(n.getInt("k", 0)));
  return n.done(n.cast(n.compare(Predicate::EQ, diagonal, columns), *type));
}

static LogicalResult importTrilu(NodeContext &n) {
  Value x = n.input(0);
  int64_t rank = rankOf(x), k = 0;
  if (rank < 2)
    return n.error() << "input has rank " << rank << ", expected at least 2";
  if (n.input(1)) {
    FailureOr<int64_t> given = n.constantInt(1);
    if (failed(given))
      return failure();
    k = *given;
  }
  ArrayRef<int64_t> square = shapeOf(x).take_back(2);
  Value rows = n.iota(square, 0, n.b.getI64Type()), columns = n.iota(square, 1, n.b.getI64Type());
  Value diagonal = n.binary<AddOp>(rows, static_cast<double>(k));
  Value keep = n.compare(n.getInt("upper", 1) ? Predicate::GE : Predicate::LE, columns, diagonal);
  return n.done(n.select(keep, x, n.splatLike(x, 0)));
}

static LogicalResult importOneHot(NodeContext &n) {
  Value indices = n.input(0), values = n.input(2);
  FailureOr<double> depth = n.constantFloat(1);
  FailureOr<int64_t> axis = n.axis(n.getInt("axis", -1), rankOf(indices) + 1);
  if (failed(depth) || failed(axis))
    return failure();
  if (!(*depth >= 0 && *depth < 1e9) || shapeOf(values) != ArrayRef<int64_t>{2})
    return n.error() << "depth " << *depth << " or values of shape " << shapeText(shapeOf(values))
                     << " is not valid";
  Shape shape(shapeOf(indices));
  shape.insert(shape.begin() + *axis, static_cast<int64_t>(*depth));
  Value at = n.cast(indices, n.b.getI64Type());
  at = n.insertDims(n.positiveIndices(at, static_cast<int64_t>(*depth)), {*axis});
  Value isHot = n.compare(Predicate::EQ, n.iota(shape, *axis, n.b.getI64Type()), at);
  Value off = n.reshape(n.slice(values, 0, 0, 1), {}), on = n.reshape(n.slice(values, 0, 1, 1), {});
  return n.done(n.select(isHot, on, off));
}

/// Positions of the non-zero elements: their number is only known if the operand is.
static LogicalResult importNonZero(NodeContext &n) {
  const HostTensor *x = n.known(0);
  if (!x)
    return failure();
  std::vector<Shape> found;
  forEachIndex(x->shape(), [&](ArrayRef<int64_t> index, int64_t linear) {
    if (x->isFloat() ? x->f[linear] != 0 : x->i[linear] != 0)
      found.emplace_back(index);
  });
  int64_t rank = x->rank(), count = found.size();
  HostTensor result(RankedTensorType::get({rank, count}, n.b.getI64Type()));
  for (int64_t k = 0; k < count; ++k)
    for (int64_t d = 0; d < rank; ++d)
      result.i[d * count + k] = found[k][d];
  return n.done(n.constant(result));
}

void addSources(OperatorTable &table) {
  table["Constant"] = {importConstant, 0};
  table["ConstantOfShape"] = {importConstantOfShape};
  table["Shape"] = {importShape};
  table["Size"] = {importSize};
  table["Range"] = {importRange, 3};
  table["EyeLike"] = {importEyeLike};
  table["Trilu"] = {importTrilu};
  table["OneHot"] = {importOneHot, 3};
  table["NonZero"] = {importNonZero};
}

} // namespace shardc::importer
