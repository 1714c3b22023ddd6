//===- Sequences.cpp - Sequences of tensors, resolved at import -----------===//
//
// Raw exports split tensors into sequences and pick elements at known positions. There is no
// sequence in the IR.
//
//===----------------------------------------------------------------------===//

#include "NodeContext.h"

using namespace mlir;
using namespace shardc;

namespace shardc::importer {

static LogicalResult setSequence(NodeContext &n, std::vector<Value> elements) {
  n.outputs[0].isSequence = true;
  n.outputs[0].elements = std::move(elements);
  return success();
}

static FailureOr<std::vector<Value>> sequence(NodeContext &n) {
  if (!n.inputs[0].isSequence)
    return n.error() << "input 0 is not a sequence";
  return n.inputs[0].elements;
}

/// A position from an input, counted from the end if negative; `size` itself is allowed where
/// something is inserted.
static FailureOr<int64_t> position(NodeContext &n, unsigned input, int64_t size, bool isInsertion) {
  FailureOr<int64_t> at = n.constantInt(input);
  if (failed(at))
    return failure();
  int64_t index = *at < 0 ? *at + size : *at;
  if (index < 0 || index >= size + isInsertion)
    return n.error() << "position " << *at << " is outside a sequence of " << size << " tensors";
  return index;
}

static LogicalResult importConstruct(NodeContext &n) {
  SmallVector<Value> values = n.allInputs();
  return setSequence(n, std::vector<Value>(values.begin(), values.end()));
}

static LogicalResult importSplitToSequence(NodeContext &n) {
  Value x = n.input(0);
  FailureOr<int64_t> dim = n.axis(n.getInt("axis", 0), rankOf(x));
  if (failed(dim))
    return failure();
  int64_t size = shapeOf(x)[*dim];
  Shape sizes(size, 1);
  if (n.input(1)) {
    FailureOr<Shape> given = n.constantInts(1);
    if (failed(given))
      return failure();
    sizes = *given;
    if (rankOf(n.input(1)) == 0) {
      int64_t each = sizes[0];
      if (each < 1)
        return n.error() << "parts of size " << each;
      sizes.clear();
      for (int64_t start = 0; start < size; start += each)
        sizes.push_back(std::min(each, size - start));
    }
  }
  std::vector<Value> parts;
  int64_t start = 0;
  for (int64_t part : sizes) {
    if (part < 0 || part > size - start)
      return n.error() << "parts " << shapeText(sizes) << " exceed the size " << size;
    parts.push_back(n.slice(x, *dim, start, part));
    start += part;
  }
  if (start != size)
    return n.error() << "parts " << shapeText(sizes) << " do not make up the size " << size;
  if (!n.input(1) && !n.getInt("keepdims", 1)) {
    Shape shape(shapeOf(x));
    shape.erase(shape.begin() + *dim);
    for (Value &part : parts)
      part = n.reshape(part, shape);
  }
  return setSequence(n, std::move(parts));
}

static LogicalResult importAt(NodeContext &n) {
  FailureOr<std::vector<Value>> elements = sequence(n);
  if (failed(elements))
    return failure();
  FailureOr<int64_t> at = position(n, 1, elements->size(), false);
  return failed(at) ? failure() : n.done((*elements)[*at]);
}

static LogicalResult importInsert(NodeContext &n) {
  FailureOr<std::vector<Value>> elements = sequence(n);
  if (failed(elements))
    return failure();
  int64_t at = elements->size();
  if (n.input(2)) {
    FailureOr<int64_t> given = position(n, 2, at, true);
    if (failed(given))
      return failure();
    at = *given;
  }
  elements->insert(elements->begin() + at, n.input(1));
  return setSequence(n, std::move(*elements));
}

static LogicalResult importErase(NodeContext &n) {
  FailureOr<std::vector<Value>> elements = sequence(n);
  if (failed(elements))
    return failure();
  FailureOr<int64_t> at = n.input(1) ? position(n, 1, elements->size(), false)
                                     : FailureOr<int64_t>(int64_t(elements->size()) - 1);
  if (failed(at))
    return failure();
  if (*at < 0)
    return n.error() << "the sequence is empty";
  elements->erase(elements->begin() + *at);
  return setSequence(n, std::move(*elements));
}

static LogicalResult importLength(NodeContext &n) {
  FailureOr<std::vector<Value>> elements = sequence(n);
  return failed(elements) ? failure()
                          : n.done(n.reshape(n.ints({static_cast<int64_t>(elements->size())}), {}));
}

static LogicalResult importConcatFromSequence(NodeContext &n) {
  FailureOr<std::vector<Value>> elements = sequence(n);
  if (failed(elements))
    return failure();
  if (elements->empty())
    return n.error() << "the sequence is empty";
  bool isStack = n.getInt("new_axis", 0) != 0;
  Value first = elements->front();
  FailureOr<int64_t> dim = n.axis(n.getInt("axis", 0), rankOf(first) + isStack);
  if (failed(dim))
    return failure();
  for (Value &element : *elements) {
    if (rankOf(element) != rankOf(first))
      return n.error() << "tensors of shapes " << shapeText(shapeOf(first)) << " and "
                       << shapeText(shapeOf(element));
    if (isStack)
      element = n.insertDims(element, {*dim});
  }
  return n.done(n.concat(*elements, *dim));
}

void addSequences(OperatorTable &table) {
  table["SequenceEmpty"] = {importConstruct, 0};
  table["SequenceConstruct"] = {importConstruct};
  table["SplitToSequence"] = {importSplitToSequence};
  table["SequenceAt"] = {importAt, 2};
  table["SequenceInsert"] = {importInsert, 2};
  table["SequenceErase"] = {importErase};
  table["SequenceLength"] = {importLength};
  table["ConcatFromSequence"] = {importConcatFromSequence};
}

} // namespace shardc::importer
