//===- Emitter.cpp - Shorthand for writing kernels ------------------------===//
#include "Emitter.h"
#include "mlir/IR/Matchers.h"
#include <numeric>

using namespace mlir;

namespace shardc {

std::optional<int64_t> Emitter::constant(Value v) {
  llvm::APInt value;
  if (matchPattern(v, m_ConstantInt(&value)))
    return value.getSExtValue();
  return std::nullopt;
}

Value Emitter::mul(Value x, int64_t y) {
  if (y == 1)
    return x;
  return y == 0 ? index(0) : b.createOrFold<arith::MulIOp>(loc, x, index(y));
}

void Emitter::loop(Value begin, Value end, int64_t step, llvm::function_ref<void(Value)> body) {
  scf::ForOp::create(b, loc, begin, end, index(step), ValueRange{},
                     [&](OpBuilder &inner, Location, Value i, ValueRange) {
                       OpBuilder::InsertionGuard guard(b);
                       b.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
                       body(i);
                       scf::YieldOp::create(b, loc);
                     });
}

Emitter::Values Emitter::loop(Value begin, Value end, int64_t step, ValueRange init,
                              llvm::function_ref<Values(Value, ValueRange)> body) {
  auto op = scf::ForOp::create(b, loc, begin, end, index(step), init,
                               [&](OpBuilder &inner, Location, Value i, ValueRange carried) {
                                 OpBuilder::InsertionGuard guard(b);
                                 b.setInsertionPoint(inner.getInsertionBlock(),
                                                     inner.getInsertionPoint());
                                 scf::YieldOp::create(b, loc, body(i, carried));
                               });
  return Values(op.getResults());
}

void Emitter::ifThen(Value condition, llvm::function_ref<void()> then) {
  auto op = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  then();
}

void Emitter::ifThenElse(Value condition, llvm::function_ref<void()> then,
                         llvm::function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  then();
  b.setInsertionPointToStart(op.elseBlock());
  otherwise();
}

Value Emitter::scalar(Type type, double value) {
  if (isa<FloatType>(type))
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(type, value));
  return arith::ConstantOp::create(b, loc, b.getIntegerAttr(type, static_cast<int64_t>(value)));
}

Value Emitter::splat(int64_t lanes, Type type, double value) {
  Attribute element = isa<FloatType>(type)
                          ? Attribute(b.getFloatAttr(type, value))
                          : Attribute(b.getIntegerAttr(type, static_cast<int64_t>(value)));
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vec(lanes, type), element));
}

Value Emitter::load(Value buffer, Value i, int64_t lanes) {
  Type element = cast<MemRefType>(buffer.getType()).getElementType();
  return vector::LoadOp::create(b, loc, vec(lanes, element), buffer, ValueRange{i});
}

Value Emitter::loadMasked(Value buffer, Value i, int64_t lanes, Value mask) {
  VectorType type = vec(lanes, cast<MemRefType>(buffer.getType()).getElementType());
  return vector::MaskedLoadOp::create(b, loc, type, buffer, ValueRange{i}, mask, zero(type));
}

Value Emitter::convert(Value value, Type element) {
  auto vectorType = dyn_cast<VectorType>(value.getType());
  Type from = vectorType ? vectorType.getElementType() : value.getType();
  if (from == element)
    return value;
  Type to = vectorType ? Type(vec(vectorType.getDimSize(0), element)) : element;
  unsigned fromBits = from.getIntOrFloatBitWidth(), toBits = element.getIntOrFloatBitWidth();
  bool fromFloat = isa<FloatType>(from), toFloat = isa<FloatType>(element);
  if (fromFloat && toFloat) {
    if (fromBits == toBits) // bf16 <-> f16
      return convert(convert(value, b.getF32Type()), element);
    return fromBits < toBits ? Value(arith::ExtFOp::create(b, loc, to, value))
                             : Value(arith::TruncFOp::create(b, loc, to, value));
  }
  if (!fromFloat && toFloat)
    return from.isInteger(1) ? Value(arith::UIToFPOp::create(b, loc, to, value))
                             : Value(arith::SIToFPOp::create(b, loc, to, value));
  if (fromFloat)
    return arith::FPToSIOp::create(b, loc, to, value);
  if (fromBits > toBits)
    return arith::TruncIOp::create(b, loc, to, value);
  return from.isInteger(1) ? Value(arith::ExtUIOp::create(b, loc, to, value))
                           : Value(arith::ExtSIOp::create(b, loc, to, value));
}

Value Emitter::fma(Value x, Value y, Value acc) {
  if (isa<FloatType>(cast<VectorType>(acc.getType()).getElementType()))
    return vector::FMAOp::create(b, loc, x, y, acc);
  return arith::AddIOp::create(b, loc, arith::MulIOp::create(b, loc, x, y), acc);
}

Value Emitter::greater(Value x, Value y) {
  Value isGreater = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, y);
  return arith::SelectOp::create(b, loc, isGreater, x, y);
}

Value Emitter::reduce(Value vector, llvm::function_ref<Value(Value, Value)> combine) {
  for (int64_t n = cast<VectorType>(vector.getType()).getDimSize(0) / 2; n >= 1; n /= 2) {
    llvm::SmallVector<int64_t> low(n), high(n);
    std::iota(low.begin(), low.end(), 0);
    std::iota(high.begin(), high.end(), n);
    vector = combine(shuffle(vector, vector, low), shuffle(vector, vector, high));
  }
  return vector::ExtractOp::create(b, loc, vector, 0);
}

// Interleaving row i with row i + n/2, log2(n) times, is a transposition: each step rotates the
// combined (row, lane) index by one bit.
Emitter::Values Emitter::transpose(ValueRange rows) {
  int64_t n = rows.size();
  llvm::SmallVector<int64_t> low, high;
  for (int64_t i = 0; i < n / 2; ++i) {
    low.append({i, n + i});
    high.append({n / 2 + i, n + n / 2 + i});
  }
  Values current(rows);
  for (int64_t step = 1; step < n; step *= 2) {
    Values next(n);
    for (int64_t i = 0; i < n / 2; ++i) {
      next[2 * i] = shuffle(current[i], current[i + n / 2], low);
      next[2 * i + 1] = shuffle(current[i], current[i + n / 2], high);
    }
    current = std::move(next);
  }
  return current;
}

Value Emitter::view(Value scratch, int64_t offset, Type type, int64_t count) {
  return memref::ViewOp::create(b, loc, MemRefType::get({count}, type), scratch, index(offset),
                                ValueRange{});
}

} // namespace shardc
