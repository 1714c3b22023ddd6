//===- AttentionParts.cpp - What attention and its gradient share ---------===//
#include "AttentionParts.h"
#include "GemmPacking.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include <limits>
#include <numeric>

using namespace mlir;

namespace shardc {

Value AttentionParts::minusInfinity() {
  return e.scalar(f32, -std::numeric_limits<double>::infinity());
}

Value AttentionParts::sumOfLanes(Value vector) {
  return e.reduce(vector,
                  [&](Value x, Value y) { return arith::AddFOp::create(e.b, e.loc, x, y); });
}

Value AttentionParts::maximumOfLanes(Value vector) {
  return e.reduce(vector, [&](Value x, Value y) { return e.greater(x, y); });
}

MemRefType AttentionParts::bufferOf(const AttentionOperand &o, int64_t heads, int64_t rows,
                                    int64_t columns) {
  int64_t last = (spec.batch - 1) * o.batch + (heads - 1) * o.head + (rows - 1) * o.row +
                 (columns - 1) * o.column;
  return MemRefType::get({last + 1},
                         o.type.isInteger(1) ? e.b.getI8Type() : o.type); // a bool is a byte
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

void AttentionParts::copyRow(Value source, Value from, int64_t stride, int64_t count, double scale,
                             Value target, Value to) {
  int64_t whole = stride == 1 ? count / lanes * lanes : 0;
  e.loop(e.index(0), e.index(whole), lanes, [&](Value d) {
    Value x = e.convert(e.load(source, e.add(from, d), lanes), f32);
    e.store(scale == 1 ? x : multiply(x, e.splat(lanes, f32, scale)), target, e.add(to, d));
  });
  e.loop(e.index(whole), e.index(count), 1, [&](Value d) {
    Value x = e.convert(e.loadScalar(source, e.add(from, e.mul(d, stride))), f32);
    e.storeScalar(scale == 1 ? x : multiply(x, e.scalar(f32, scale)), target, e.add(to, d));
  });
}

void AttentionParts::storeRow(Value source, Value from, Value scale, int64_t count, Value target,
                              Value to) {
  Type type = cast<MemRefType>(target.getType()).getElementType();
  Value wide = e.broadcast(lanes, scale);
  auto result = [&](Value d) {
    return e.convert(multiply(e.load(source, e.add(from, d), lanes), wide), type);
  };
  int64_t whole = count / lanes * lanes;
  e.loop(e.index(0), e.index(whole), lanes,
         [&](Value d) { e.store(result(d), target, e.add(to, d)); });
  if (whole < count) {
    Value d = e.index(whole);
    e.storeMasked(result(d), target, e.add(to, d), e.mask(lanes, e.index(count - whole)));
  }
}

void AttentionParts::clear(Value target, Value begin, Value end) {
  Value zeros = e.zero(e.vec(lanes, f32));
  e.loop(begin, end, lanes, [&](Value i) { e.store(zeros, target, i); });
}

void AttentionParts::pack(Type type, int64_t kStride, int64_t nStride, int64_t columns,
                          Value source, Value base, Value x, Value k, Value panels,
                          Value panelBase) {
  GemmSpec gemm;
  gemm.n = columns;
  gemm.nTile = kPanel;
  gemm.b = {type, kStride, nStride, {}};
  GemmPlan plan{};
  plan.accType = f32;
  GemmLevel level{};
  level.lanes = lanes;
  prepareB(e, gemm, plan, level, source, base, x, k, panels, panelBase);
}

void AttentionParts::registerTile(int64_t rows, const Product &p) {
  MicroTile tile{rows, 2, lanes, f32};
  auto place = [&](int64_t i) { return e.add(p.cBase, i / 2 * p.cRow + i % 2 * lanes); };
  SmallVector<Value> init;
  for (int64_t i = 0; i < 2 * rows; ++i)
    init.push_back(p.accumulate ? e.load(p.c, place(i), lanes) : e.zero(e.vec(lanes, f32)));
  MicroOperands operands{p.a, p.aBase, p.aRow, p.aStep, p.b, p.bBase, p.bStep};
  for (auto [i, sum] : llvm::enumerate(emitMicroLoop(e, tile, operands, p.steps, init)))
    e.store(sum, p.c, place(i));
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

Value AttentionParts::columnBound(Value column, int64_t limit) {
  Value inside = e.max(e.index(0), e.min(e.index(limit), column));
  return e.broadcast(lanes, arith::IndexCastOp::create(e.b, e.loc, e.b.getI32Type(), inside));
}

Value AttentionParts::visibleLanes(Value x, Value low, Value high) {
  Type i32 = e.b.getI32Type();
  SmallVector<int32_t> numbers(lanes);
  std::iota(numbers.begin(), numbers.end(), 0);
  Value lane = arith::ConstantOp::create(
      e.b, e.loc, DenseElementsAttr::get(e.vec(lanes, i32), ArrayRef<int32_t>(numbers)));
  Value first = e.broadcast(lanes, arith::IndexCastOp::create(e.b, e.loc, i32, x));
  Value column = arith::AddIOp::create(e.b, e.loc, lane, first);
  Value visible = e.compare(arith::CmpIPredicate::slt, column, high);
  if (low)
    visible = arith::AndIOp::create(e.b, e.loc, visible,
                                    e.compare(arith::CmpIPredicate::sge, column, low));
  return visible;
}

/// Mask elements from `at` on, zero where not visible.
Value AttentionParts::maskVector(Value mask, Value at, Value visible) {
  int64_t stride = spec.mask->column;
  if (stride == 0)
    return e.broadcast(lanes, e.loadScalar(mask, at));
  if (stride == 1)
    return e.loadMasked(mask, at, lanes, visible);
  Type i32 = e.b.getI32Type();
  Value step = arith::MulIOp::create(
      e.b, e.loc, vector::StepOp::create(e.b, e.loc, e.vec(lanes, e.b.getIndexType())),
      e.broadcast(lanes, e.index(stride)));
  Value offsets = arith::IndexCastOp::create(e.b, e.loc, e.vec(lanes, i32), step);
  VectorType type = e.vec(lanes, cast<MemRefType>(mask.getType()).getElementType());
  return vector::GatherOp::create(e.b, e.loc, type, mask, ValueRange{at}, offsets, visible,
                                  e.zero(type));
}

Value AttentionParts::score(Value product, Value visible, Value mask, Value maskAt, Value *slope) {
  Value score = product;
  if (spec.softCap != 0) {
    Value small = multiply(score, e.splat(lanes, f32, 1 / spec.softCap));
    Value tanh = math::TanhOp::create(e.b, e.loc, small);
    score = multiply(tanh, e.splat(lanes, f32, spec.softCap * kLog2E));
    if (slope)
      *slope = e.fma(arith::NegFOp::create(e.b, e.loc, tanh), tanh, e.splat(lanes, f32, 1));
  }
  if (spec.mask) {
    Value vector = maskVector(mask, maskAt, visible);
    if (isa<FloatType>(cast<VectorType>(vector.getType()).getElementType()))
      score = e.fma(e.convert(vector, f32), e.splat(lanes, f32, kLog2E), score);
    else
      visible = arith::AndIOp::create(
          e.b, e.loc, visible,
          e.compare(arith::CmpIPredicate::ne, vector, e.zero(vector.getType())));
  }
  return arith::SelectOp::create(e.b, e.loc, visible, score, e.broadcast(lanes, minusInfinity()));
}

Value AttentionParts::finiteBase(Value maximum) {
  auto type = dyn_cast<VectorType>(maximum.getType());
  Value infinity = type ? e.broadcast(type.getDimSize(0), minusInfinity()) : minusInfinity();
  Value none = arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::OEQ, maximum, infinity);
  return arith::SelectOp::create(e.b, e.loc, none, e.zero(maximum.getType()), maximum);
}

Value AttentionParts::inverseOrZero(Value sum) {
  Value zero = e.scalar(f32, 0);
  Value any = arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::UNE, sum, zero);
  Value inverse = arith::DivFOp::create(e.b, e.loc, e.scalar(f32, 1), sum);
  return arith::SelectOp::create(e.b, e.loc, any, inverse, zero);
}

} // namespace shardc
