//===- BodyEmitter.cpp - Scalars of fused graph ops -----------------------===//
#include "BodyEmitter.h"

using namespace mlir;

namespace shardc {

Type memoryType(Type elementType) {
  if (auto integer = dyn_cast<IntegerType>(elementType))
    return IntegerType::get(elementType.getContext(),
                            integer.getWidth() == 1 ? 8 : integer.getWidth());
  return elementType;
}

MemRefType bufferType(RankedTensorType type) {
  return MemRefType::get({type.getNumElements()}, memoryType(type.getElementType()));
}

void BodyEmitter::bindBuffer(Value tensor, Value buffer) {
  auto type = cast<RankedTensorType>(tensor.getType());
  bind(tensor, [=](ArrayRef<Value> indices) {
    return load(buffer, type.getElementType(), offset(type.getShape(), indices));
  });
}

Value BodyEmitter::element(Value tensor, ArrayRef<Value> indices) {
  Key key{tensor.getAsOpaquePointer(), {}};
  for (Value index : indices)
    key.indices.push_back(idOf(index));
  auto it = known.find(key);
  if (it != known.end() && isVisible(it->second))
    return it->second;
  auto reader = readers.find(tensor);
  Value result;
  if (reader != readers.end()) {
    Reader read = reader->second; // the map may grow meanwhile
    result = read(indices);
  } else {
    result = cast<graph::LoweringOpInterface>(tensor.getDefiningOp()).emitElement(*this, indices);
  }
  known[key] = result;
  return result;
}

/// Code is only appended, so that a value is usable wherever its block encloses the insertion
/// point.
bool BodyEmitter::isVisible(Value value) const {
  for (Block *block = builder.getInsertionBlock(); block;) {
    if (block == value.getParentBlock())
      return true;
    Operation *parent = block->getParentOp();
    block = parent ? parent->getBlock() : nullptr;
  }
  return false;
}

unsigned BodyEmitter::idOf(Value index) {
  auto known = ids.find(index);
  if (known != ids.end())
    return known->second;
  std::vector<int64_t> structure;
  Operation *op = index.getDefiningOp();
  if (std::optional<int64_t> constant = Emitter::constant(index)) {
    structure = {0, *constant};
  } else if (op &&
             isa<arith::AddIOp, arith::MulIOp, arith::DivUIOp, arith::RemUIOp, arith::SubIOp>(op)) {
    structure = {1, int64_t(reinterpret_cast<intptr_t>(op->getName().getAsOpaquePointer()))};
    for (Value operand : op->getOperands())
      structure.push_back(idOf(operand));
  } else {
    structure = {2, int64_t(reinterpret_cast<intptr_t>(index.getAsOpaquePointer()))};
  }
  unsigned id = structures.try_emplace(std::move(structure), structures.size()).first->second;
  return ids[index] = id;
}

Value BodyEmitter::load(Value buffer, Type elementType, Value at) {
  Value value = e.loadScalar(buffer, at);
  if (elementType.isInteger(1))
    return arith::CmpIOp::create(e.b, e.loc, arith::CmpIPredicate::ne, value,
                                 e.scalar(value.getType(), 0));
  return e.convert(value, graph::computeType(elementType));
}

void BodyEmitter::store(Value scalar, Value buffer, Type elementType, Value at) {
  e.storeScalar(e.convert(scalar, memoryType(elementType)), buffer, at);
}

Value BodyEmitter::offset(ArrayRef<int64_t> shape, ArrayRef<Value> indices) {
  SmallVector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (int64_t d = shape.size() - 1; d >= 0; --d) {
    strides[d] = shape[d] == 1 ? 0 : stride;
    stride *= shape[d];
  }
  return stridedOffset(strides, indices);
}

Value BodyEmitter::stridedOffset(ArrayRef<int64_t> strides, ArrayRef<Value> indices) {
  Value sum = e.index(0);
  for (auto [stride, index] : llvm::zip(strides, indices))
    if (stride != 0)
      sum = e.add(sum, e.mul(index, stride));
  return sum;
}

Emitter::Values BodyEmitter::delinearize(Value linear, ArrayRef<int64_t> shape) {
  Emitter::Values digits(shape.size());
  bool isFirst = true;
  int64_t leading = llvm::count_if(shape, [](int64_t size) { return size != 1; });
  for (int64_t d = shape.size() - 1; d >= 0; --d) {
    if (shape[d] == 1) {
      digits[d] = e.index(0);
      continue;
    }
    isFirst = --leading == 0;
    digits[d] = isFirst ? linear : e.rem(linear, shape[d]);
    if (!isFirst)
      linear = e.div(linear, shape[d]);
  }
  return digits;
}

} // namespace shardc
