//===- NodeContext.cpp - What the import of one ONNX node works with ------===//

#include "NodeContext.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace shardc;
using namespace shardc::graph;

namespace shardc::importer {

SmallVector<Value> NodeContext::allInputs() const {
  SmallVector<Value> values;
  for (const Binding &input : inputs)
    if (input.value)
      values.push_back(input.value);
  return values;
}

void NodeContext::set(unsigned output, Value value) {
  if (output < outputs.size())
    outputs[output].value = value;
}

InFlightDiagnostic NodeContext::error() {
  hadError = true;
  InFlightDiagnostic diag = mlir::emitError(loc) << "node \"" << node.name << "\" (" << node.op;
  if (path && !path.empty())
    diag << ", " << path.getValue();
  diag << "): ";
  return diag;
}

//===----------------------------------------------------------------------===//
// Values known at import
//===----------------------------------------------------------------------===//

const HostTensor *NodeContext::known(unsigned i) {
  Value value = input(i);
  if (value && folder.isConstant(value)) {
    const HostTensor *tensor = folder.evaluate(value);
    hadError |= !tensor;
    return tensor;
  }
  error() << "input " << i << " (\"" << (i < node.inputs.size() ? node.inputs[i] : StringRef())
          << "\") must be known at compile time, but it depends on the model's inputs or weights";
  return nullptr;
}

FailureOr<Shape> NodeContext::constantInts(unsigned i) {
  const HostTensor *tensor = known(i);
  if (!tensor)
    return failure();
  if (tensor->isFloat())
    return error() << "input " << i << " has element type " << tensor->type.getElementType()
                   << ", expected an integer";
  return Shape(tensor->i.begin(), tensor->i.end());
}

FailureOr<int64_t> NodeContext::constantInt(unsigned i) {
  FailureOr<Shape> values = constantInts(i);
  if (failed(values))
    return failure();
  if (values->size() != 1)
    return error() << "input " << i << " has " << values->size() << " elements, expected 1";
  return values->front();
}

FailureOr<double> NodeContext::constantFloat(unsigned i) {
  const HostTensor *tensor = known(i);
  if (!tensor)
    return failure();
  if (tensor->size() != 1)
    return error() << "input " << i << " has " << tensor->size() << " elements, expected 1";
  return tensor->isFloat() ? tensor->f[0] : static_cast<double>(tensor->i[0]);
}

FailureOr<HostTensor> toHost(MLIRContext *context, const Tensor &tensor) {
  auto type = RankedTensorType::get(tensor.weight.shape, dtypeToType(context, tensor.weight.dtype));
  if (!tensor.weight.hasValue)
    return failure();
  return HostTensor::fromBytes(type, tensor.weight.bytes);
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

const Attribute *NodeContext::find(StringRef name) const {
  for (const Attribute &attribute : node.attributes)
    if (attribute.name == name)
      return &attribute;
  return nullptr;
}

/// The attribute if it is there and of that kind; another kind is reported.
static const Attribute *findOf(NodeContext &n, StringRef name, AttributeKind kind, StringRef what) {
  const Attribute *attribute = n.find(name);
  if (!attribute || attribute->kind == kind)
    return attribute;
  n.error() << "attribute \"" << name << "\" is not " << what;
  return nullptr;
}

int64_t NodeContext::getInt(StringRef name, int64_t otherwise) {
  const Attribute *attribute = findOf(*this, name, AttributeKind::Int, "an integer");
  return attribute ? attribute->i : otherwise;
}

double NodeContext::getFloat(StringRef name, double otherwise) {
  const Attribute *attribute = findOf(*this, name, AttributeKind::Float, "a float");
  return attribute ? attribute->f : otherwise;
}

StringRef NodeContext::getString(StringRef name, StringRef otherwise) {
  const Attribute *attribute = findOf(*this, name, AttributeKind::String, "a string");
  return attribute ? attribute->s : otherwise;
}

std::optional<Shape> NodeContext::getInts(StringRef name) {
  const Attribute *attribute = findOf(*this, name, AttributeKind::Ints, "a list of integers");
  if (!attribute)
    return std::nullopt;
  return Shape(attribute->ints.begin(), attribute->ints.end());
}

/// As text, for those kinds that a setting may have.
static std::string attributeText(const Attribute &attribute) {
  switch (attribute.kind) {
  case AttributeKind::Int:
    return std::to_string(attribute.i);
  case AttributeKind::Float: {
    std::string text;
    llvm::raw_string_ostream(text) << llvm::format("%g", attribute.f);
    return text;
  }
  case AttributeKind::String:
    return "\"" + attribute.s.str() + "\"";
  default:
    return "of another kind";
  }
}

std::vector<std::string> Settings::complaints(const Node &node) const {
  std::vector<std::string> found;
  for (const Attribute &attribute : node.attributes) {
    auto value = llvm::find_if(only, [&](auto &entry) { return entry.first == attribute.name; });
    std::string quoted = "attribute \"" + attribute.name.str() + "\"";
    if (value != only.end() && attributeText(attribute) != value->second)
      found.push_back(quoted + " is " + attributeText(attribute) + ", only " + value->second.str() +
                      " is supported");
    else if (value == only.end() && !llvm::is_contained(attributes, attribute.name))
      found.push_back(quoted + " is not supported");
  }
  for (StringRef name : needed)
    if (llvm::none_of(node.attributes, [&](const Attribute &a) { return a.name == name; }))
      found.push_back("has no attribute \"" + name.str() + "\"");
  for (auto [place, name] : refused)
    if (place < node.inputs.size() && !node.inputs[place].empty())
      found.push_back("input " + std::to_string(place) + " (" + name.str() + ") is not supported");
  return found;
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

FailureOr<int64_t> NodeContext::axis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    return error() << "axis " << axis << " is outside the rank " << rank;
  return axis < 0 ? axis + rank : axis;
}

FailureOr<Shape> NodeContext::axes(ArrayRef<int64_t> axes, int64_t rank) {
  Shape result;
  for (int64_t one : axes) {
    FailureOr<int64_t> dim = axis(one, rank);
    if (failed(dim))
      return failure();
    if (llvm::is_contained(result, *dim))
      return error() << "axis " << one << " stands twice";
    result.push_back(*dim);
  }
  llvm::sort(result);
  return result;
}

FailureOr<std::optional<Shape>> NodeContext::axesOf(StringRef name, unsigned i) {
  if (std::optional<Shape> values = getInts(name))
    return values;
  if (!input(i))
    return std::optional<Shape>();
  FailureOr<Shape> values = constantInts(i);
  if (failed(values))
    return failure();
  return std::optional<Shape>(*values);
}

FailureOr<Shape> NodeContext::broadcastShape(Value x, Value y) {
  std::optional<Shape> shape = broadcastShapes(shapeOf(x), shapeOf(y));
  if (!shape)
    return error() << "shapes " << shapeText(shapeOf(x)) << " and " << shapeText(shapeOf(y))
                   << " do not broadcast together";
  return *shape;
}

LogicalResult NodeContext::checkRank(Value v, int64_t rank, StringRef what) {
  if (rankOf(v) == rank)
    return success();
  return error() << what << " has shape " << shapeText(shapeOf(v)) << ", expected rank " << rank;
}

FailureOr<Type> NodeContext::elementType(int64_t code) {
  std::optional<DType> dtype = onnxDType(static_cast<int32_t>(code));
  if (!dtype)
    return error() << "element type " << onnxTypeName(static_cast<int32_t>(code))
                   << " is not supported";
  return dtypeToType(b.getContext(), *dtype);
}

FailureOr<int64_t> NodeContext::countElements(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    if (size < 0 || llvm::MulOverflow(count, size, count))
      return error() << "shape " << shapeText(shape) << " is not a shape";
  return count;
}

/// Whether the indices come from ops that only make numbers from 0 on.
static bool isNonNegative(Value v, Folder &folder, unsigned depth = 0) {
  Operation *op = v.getDefiningOp();
  if (!op || depth > 12)
    return false;
  if (elementOf(v).isUnsignedInteger() || isa<TopKOp, ArgReduceOp, IotaOp>(op))
    return true;
  if (isa<ReshapeOp, TransposeOp, BroadcastOp, SliceOp, ReverseOp, GatherOp>(op))
    return isNonNegative(op->getOperand(0), folder, depth + 1);
  if (auto castOp = dyn_cast<CastOp>(op))
    return elementOf(castOp.getInput()).isInteger(1) ||
           (!isFloat(castOp.getInput()) && elementOf(v).isInteger(64) &&
            isNonNegative(castOp.getInput(), folder, depth + 1));
  if (isa<ConcatOp>(op))
    return llvm::all_of(op->getOperands(),
                        [&](Value x) { return isNonNegative(x, folder, depth + 1); });
  return false;
}

Value NodeContext::positiveIndices(Value indices, int64_t size) {
  if (folder.isConstant(indices))
    if (const HostTensor *tensor = folder.evaluate(indices))
      if (llvm::all_of(tensor->i, [](int64_t x) { return x >= 0; }))
        return indices;
  if (isNonNegative(indices, folder))
    return indices;
  Value isNegative = compare(Predicate::LT, indices, splatLike(indices, 0));
  return select(isNegative, binary<AddOp>(indices, static_cast<double>(size)), indices);
}

} // namespace shardc::importer
