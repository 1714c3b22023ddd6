//===- WarpProducts.cpp - Products and rows of sums -----------------------===//
#include "WarpTile.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;

namespace shardc {

WarpTile::Values WarpTile::zeroSums(int64_t columns) {
  return Values(columns / 2, e.scalar(sum, 0));
}

void WarpTile::multiplyAdd(MutableArrayRef<Value> sums, ArrayRef<Value> rows,
                           ArrayRef<Value> columns) {
  if (!tensorCores) {
    for (int64_t i = 0; i < step; ++i)
      for (int64_t n = 0; n < 8; ++n) {
        Value x = rows[isHigh(n) * step + i], y = columns[i * 4 + n / 4 * 2 + n % 2];
        sums[n] = math::FmaOp::create(e.b, e.loc, x, y, sums[n]);
      }
    return;
  }
  MLIRContext *context = e.b.getContext();
  bool isHalf = element.isF16();
  auto operands = [&](ArrayRef<Value> packed) {
    Values typed(packed);
    if (isHalf)
      for (Value &x : typed)
        x = LLVM::BitcastOp::create(e.b, e.loc, e.vec(2, element), x);
    return typed;
  };
  NVVM::MMATypes type = isHalf ? NVVM::MMATypes::f16 : NVVM::MMATypes::bf16;
  auto result = LLVM::LLVMStructType::getLiteral(context, {sum, sum, sum, sum});
  for (int64_t n : {0, 4}) {
    Value product = NVVM::MmaOp::create(
        e.b, e.loc, result, operands(rows), operands(columns.slice(n / 2, 2)),
        ValueRange(sums.slice(n, 4)), ArrayRef<int64_t>{16, 8, 16}, std::nullopt, std::nullopt,
        std::array{type, type}, std::array{NVVM::MMALayout::row, NVVM::MMALayout::col});
    for (int64_t i = 0; i < 4; ++i)
      sums[n + i] = LLVM::ExtractValueOp::create(e.b, e.loc, product, i);
  }
}

void WarpTile::addRowProducts(Values &sums, ArrayRef<Values> rows,
                              llvm::function_ref<Values(Value inner)> load, const SharedTile &tile,
                              int64_t size) {
  auto multiply = [&](MutableArrayRef<Value> sums, ArrayRef<Value> fragment, Value inner) {
    for (int64_t n = 0; n < static_cast<int64_t>(sums.size()) * 2; n += 16)
      multiplyAdd(sums.slice(n / 2, 8), fragment, columnsOf(tile, e.index(n), inner));
  };
  for (auto [number, fragment] : llvm::enumerate(rows))
    multiply(sums, fragment, e.index(number * step));
  if (!rows.empty())
    return;
  sums =
      e.loop(e.index(0), opaque(e.index(size)), step, sums, [&](Value inner, ValueRange carried) {
        Values next(carried);
        multiply(next, load(inner), inner);
        return next;
      });
}

Value WarpTile::opaque(Value index) {
  Type i64 = e.b.getI64Type();
  Value x = arith::IndexCastOp::create(e.b, e.loc, i64, index);
  auto same = LLVM::InlineAsmOp::create(
      e.b, e.loc, i64, ValueRange{x}, "mov.b64 $0, $1;", "=l,l", /*has_side_effects=*/true,
      /*is_align_stack=*/false, LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  return arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), same.getResult(0));
}

void WarpTile::addColumnProducts(Values &sums, ArrayRef<Value> factors, const SharedTile &tile,
                                 Value column, const SharedTile &staging) {
  auto multiply = [&](MutableArrayRef<Value> sums, ArrayRef<Value> fragment, Value inner) {
    for (int64_t n = 0; n < static_cast<int64_t>(sums.size()) * 2; n += 16)
      multiplyAdd(sums.slice(n / 2, 8), fragment,
                  transposedColumnsOf(tile, e.add(column, n), inner));
  };
  int64_t size = factors.size() * 2;
  if (tensorCores) {
    for (int64_t inner = 0; inner < size; inner += step)
      multiply(sums, roundedRows(factors, inner), e.index(inner));
    return;
  }
  Value first = e.mul(warp, 16);
  syncWarp(); // the last product has been read
  for (auto [n, factor] : llvm::enumerate(factors)) {
    Value row = e.add(e.add(first, group), isHigh(n) ? 8 : 0);
    e.storeScalar(factor, staging.buffer, e.add(e.mul(row, staging.pitch), columnOf(n)));
  }
  syncWarp();
  sums = e.loop(e.index(0), e.index(size), step, sums, [&](Value inner, ValueRange carried) {
    Values next(carried);
    multiply(next, rowsOf(staging, first, inner), inner);
    return next;
  });
}

void WarpTile::syncWarp() { NVVM::SyncWarpOp::create(e.b, e.loc, e.scalar(e.b.getI32Type(), -1)); }

void WarpTile::storeRows(ArrayRef<Value> sums, Value buffer, const RowPlace &low,
                         const RowPlace &high, Value firstColumn, int64_t columns,
                         int64_t columnStride, bool isWhole, Type stored) {
  for (const RowPlace *row : {&low, &high}) {
    auto store = [&] {
      for (int64_t n = row == &high ? 2 : 0; n < static_cast<int64_t>(sums.size());
           n += n % 2 == 0 ? 1 : 3) {
        Value column = e.add(firstColumn, columnOf(n));
        auto write = [&] {
          e.storeScalar(e.convert(sums[n], stored ? stored : element), buffer,
                        e.add(row->offset, e.mul(column, columnStride)));
        };
        if (isWhole)
          write();
        else
          e.ifThen(e.compare(arith::CmpIPredicate::ult, column, e.index(columns)), write);
      }
    };
    row->exists ? e.ifThen(row->exists, store) : store();
  }
}

Value WarpTile::overRow(Value mine, llvm::function_ref<Value(Value, Value)> combine) {
  for (int32_t distance : {1, 2})
    mine = combine(mine,
                   gpu::ShuffleOp::create(e.b, e.loc, mine, distance, kWarp, gpu::ShuffleMode::XOR)
                       .getShuffleResult());
  return mine;
}

/// One of PTX's approximations, good to two units in the last place.
Value WarpTile::approximate(StringRef intrinsic, Value x) {
  return LLVM::CallIntrinsicOp::create(e.b, e.loc, x.getType(), e.b.getStringAttr(intrinsic),
                                       ValueRange{x})
      .getResult(0);
}

Value WarpTile::exp2(Value x) { return approximate("llvm.nvvm.ex2.approx.ftz.f32", x); }
Value WarpTile::log2(Value x) { return approximate("llvm.nvvm.lg2.approx.ftz.f", x); }
Value WarpTile::reciprocal(Value x) { return approximate("llvm.nvvm.rcp.approx.ftz.f", x); }

// 1 - 2 / (e^2x + 1), and where that cancels a polynomial of Cephes' tanhf.
Value WarpTile::tanh(Value x) {
  auto constant = [&](double value) { return e.scalar(sum, value); };
  auto fma = [&](Value a, Value b, Value c) { return math::FmaOp::create(e.b, e.loc, a, b, c); };
  Value power = exp2(arith::MulFOp::create(e.b, e.loc, x, constant(2.8853900817779268)));
  Value inverse = reciprocal(arith::AddFOp::create(e.b, e.loc, power, constant(1)));
  Value large = fma(inverse, constant(-2), constant(1));
  Value square = arith::MulFOp::create(e.b, e.loc, x, x), p = constant(-5.70498872745e-3);
  for (double c : {2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1})
    p = fma(p, square, constant(c));
  Value small = fma(arith::MulFOp::create(e.b, e.loc, p, square), x, x);
  Value isSmall =
      arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::OLT, square, constant(0.625 * 0.625));
  return select(isSmall, small, large);
}

} // namespace shardc
