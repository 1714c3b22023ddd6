//===- Emitter.h - Shorthand for writing kernels ----------------*- C++ -*-===//
//
// Index arithmetic that folds constants, loops as lambdas, and vector loads that convert. Used
// inside this folder only.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_LOWER_CPU_EMITTER_H
#define SHARDC_LIB_LOWER_CPU_EMITTER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace shardc {

struct Emitter {
  mlir::OpBuilder &b;
  mlir::Location loc;

  using Value = mlir::Value;
  using Values = llvm::SmallVector<mlir::Value>;

  // Index arithmetic. All values are non-negative, so the unsigned forms are exact and cheaper.
  Value index(int64_t v) { return mlir::arith::ConstantIndexOp::create(b, loc, v); }
  Value add(Value x, Value y) { return b.createOrFold<mlir::arith::AddIOp>(loc, x, y); }
  Value add(Value x, int64_t y) { return y == 0 ? x : add(x, index(y)); }
  Value sub(Value x, Value y) { return b.createOrFold<mlir::arith::SubIOp>(loc, x, y); }
  Value mul(Value x, int64_t y);
  Value div(Value x, int64_t y) {
    return y == 1 ? x : b.createOrFold<mlir::arith::DivUIOp>(loc, x, index(y));
  }
  Value rem(Value x, int64_t y) {
    return y == 1 ? index(0) : b.createOrFold<mlir::arith::RemUIOp>(loc, x, index(y));
  }
  Value min(Value x, Value y) { return b.createOrFold<mlir::arith::MinSIOp>(loc, x, y); }
  Value max(Value x, Value y) { return b.createOrFold<mlir::arith::MaxSIOp>(loc, x, y); }
  Value roundDown(Value x, int64_t y) { return sub(x, rem(x, y)); }
  Value less(Value x, Value y) { return compare(mlir::arith::CmpIPredicate::slt, x, y); }
  Value equal(Value x, Value y) { return compare(mlir::arith::CmpIPredicate::eq, x, y); }
  Value compare(mlir::arith::CmpIPredicate p, Value x, Value y) {
    return b.createOrFold<mlir::arith::CmpIOp>(loc, p, x, y);
  }
  /// Static value of a folded index, if it is one.
  static std::optional<int64_t> constant(Value v);

  // Control flow.
  void loop(Value begin, Value end, int64_t step, llvm::function_ref<void(Value)> body);
  Values loop(Value begin, Value end, int64_t step, mlir::ValueRange init,
              llvm::function_ref<Values(Value, mlir::ValueRange)> body);
  void ifThen(Value condition, llvm::function_ref<void()> then);
  void ifThenElse(Value condition, llvm::function_ref<void()> then,
                  llvm::function_ref<void()> otherwise);

  // Vectors and scalars.
  mlir::VectorType vec(int64_t lanes, mlir::Type type) {
    return mlir::VectorType::get(lanes, type);
  }
  Value zero(mlir::Type type) {
    return mlir::arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  }
  Value splat(int64_t lanes, mlir::Type type, double value);
  Value scalar(mlir::Type type, double value);
  Value broadcast(int64_t lanes, Value value) {
    return mlir::vector::BroadcastOp::create(b, loc, vec(lanes, value.getType()), value);
  }
  Value load(Value buffer, Value i, int64_t lanes);
  Value loadMasked(Value buffer, Value i, int64_t lanes, Value mask);
  Value loadScalar(Value buffer, Value i) {
    return mlir::memref::LoadOp::create(b, loc, buffer, i);
  }
  void store(Value vector, Value buffer, Value i) {
    mlir::vector::StoreOp::create(b, loc, vector, buffer, i);
  }
  void storeMasked(Value vector, Value buffer, Value i, Value mask) {
    mlir::vector::MaskedStoreOp::create(b, loc, buffer, i, mask, vector);
  }
  void storeScalar(Value value, Value buffer, Value i) {
    mlir::memref::StoreOp::create(b, loc, value, buffer, i);
  }
  /// Asks for the line at element i, which may lie beyond the buffer.
  void prefetch(Value buffer, Value i) {
    mlir::memref::PrefetchOp::create(b, loc, buffer, i, /*isWrite=*/false, /*localityHint=*/3,
                                     /*isDataCache=*/true);
  }
  /// True in the first `count` lanes; all of them from `lanes` on, none below zero.
  Value mask(int64_t lanes, Value count) {
    return mlir::vector::CreateMaskOp::create(b, loc, vec(lanes, b.getI1Type()),
                                              mlir::ValueRange{count});
  }
  Value bitcast(Value vector, int64_t lanes, mlir::Type type) {
    return mlir::vector::BitCastOp::create(b, loc, vec(lanes, type), vector);
  }
  Value shuffle(Value x, Value y, llvm::ArrayRef<int64_t> lanes) {
    return mlir::vector::ShuffleOp::create(b, loc, x, y, lanes);
  }
  /// Converts a scalar or vector between numeric types (signless integers are signed).
  Value convert(Value value, mlir::Type element);
  /// acc + x·y, contracted where the type allows it.
  Value fma(Value x, Value y, Value acc);
  /// The greater of two floats; y where either is NaN (one instruction).
  Value greater(Value x, Value y);
  /// Folds the lanes of a vector, halves at a time.
  Value reduce(Value vector, llvm::function_ref<Value(Value, Value)> combine);
  /// Rows of a square matrix held in registers to its columns.
  Values transpose(mlir::ValueRange rows);

  /// `count` elements of `type` from byte `offset` of scratch.
  Value view(Value scratch, int64_t offset, mlir::Type type, int64_t count);
};

} // namespace shardc

#endif // SHARDC_LIB_LOWER_CPU_EMITTER_H
