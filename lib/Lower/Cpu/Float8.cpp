//===- Float8.cpp - 8-bit floats by bit arithmetic ------------------------===//
//
// No processor and no GPU before sm_89 converts 8-bit floats, and LLVM has no such types: behind
// this pass they are only moved, as bytes. Both directions are a dozen integer operations without
// branches or memory, which vectorise. They are the same on all targets, and those of
// runtime/cpu/SmallFloat.inc.
//
//   to f32     a normal number's bits move, and its exponent gets another bias; a subnormal one is
//   an
//              integer times the least number.
//   from f32   rounded to nearest even: a sum with half a unit in integers; for subnormal results
//   the
//              adder rounds, next to a number whose unit in the last place is theirs. What is too
//              large becomes infinite (f8E5M2) or NaN (f8E4M3FN).
//
// f64 goes through f32: twice rounded, which differs from once only next to a tie, by one unit.
//
//===----------------------------------------------------------------------===//
#include "Float8.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "shardc/Support/ElementBytes.h"

using namespace mlir;

namespace shardc {
namespace {

/// `shaped` with other elements: a vector type, or the element type itself.
Type withElement(Type shaped, Type element) {
  auto vector = dyn_cast<VectorType>(shaped);
  return vector ? Type(vector.clone(element)) : element;
}

/// What both directions say about the type.
struct Layout {
  int mantissa, bias;
  int64_t special; ///< infinity's bits, or NaN's where there is none
  double least;    ///< smallest subnormal number

  explicit Layout(Type element)
      : mantissa(isa<Float8E5M2Type>(element) ? 2 : 3), bias(mantissa == 2 ? 15 : 7),
        special(mantissa == 2 ? 0x7c : 0x7f), least(mantissa == 2 ? 0x1p-16 : 0x1p-9) {}
  bool hasInfinity() const { return mantissa == 2; }
  int shift() const { return 23 - mantissa; }
};

/// Integer code on 32-bit lanes.
struct Bits {
  ImplicitLocOpBuilder b;
  Type i8, i32, f32; ///< in the shape of the value

  Bits(PatternRewriter &rewriter, Location loc, Type shaped)
      : b(loc, rewriter), i8(withElement(shaped, b.getI8Type())),
        i32(withElement(shaped, b.getI32Type())), f32(withElement(shaped, b.getF32Type())) {}

  Value constant(Type type, TypedAttr element) {
    if (auto vector = dyn_cast<VectorType>(type))
      element = DenseElementsAttr::get(vector, element);
    return arith::ConstantOp::create(b, element);
  }
  Value bits(uint64_t value) {
    return constant(i32, b.getI32IntegerAttr(static_cast<int32_t>(value)));
  }
  Value number(double value) { return constant(f32, b.getF32FloatAttr(value)); }
  Value cast(Type type, Value x) { return arith::BitcastOp::create(b, type, x); }
  Value add(Value x, Value y) { return arith::AddIOp::create(b, x, y); }
  Value band(Value x, uint64_t mask) { return arith::AndIOp::create(b, x, bits(mask)); }
  Value bor(Value x, Value y) { return arith::OrIOp::create(b, x, y); }
  Value left(Value x, int64_t n) { return arith::ShLIOp::create(b, x, bits(n)); }
  Value right(Value x, int64_t n) { return arith::ShRUIOp::create(b, x, bits(n)); }
  Value select(arith::CmpIPredicate predicate, Value x, uint64_t y, Value then, Value otherwise) {
    Value holds = arith::CmpIOp::create(b, predicate, x, bits(y));
    return arith::SelectOp::create(b, holds, then, otherwise);
  }
};

struct ExtendPattern : OpRewritePattern<arith::ExtFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::ExtFOp op, PatternRewriter &rewriter) const final {
    Value x = op.getIn();
    if (!isFloat8(x.getType()))
      return rewriter.notifyMatchFailure(op, "not of 8 bits");
    Layout layout(getElementTypeOrSelf(x.getType()));
    Bits e(rewriter, op.getLoc(), x.getType());
    Value byte = arith::ExtUIOp::create(e.b, e.i32, e.cast(e.i8, x));
    Value sign = e.left(e.band(byte, 0x80), 24), magnitude = e.band(byte, 0x7f);
    Value subnormal = arith::MulFOp::create(e.b, arith::SIToFPOp::create(e.b, e.f32, magnitude),
                                            e.number(layout.least));
    Value moved = e.left(magnitude, layout.shift());
    Value normal = e.add(moved, e.bits(uint64_t(127 - layout.bias) << 23));
    Value finite = e.select(arith::CmpIPredicate::ult, magnitude, 1u << layout.mantissa,
                            e.cast(e.i32, subnormal), normal);
    Value other = layout.hasInfinity() ? e.bor(moved, e.bits(0x7f800000)) : e.bits(0x7fc00000);
    Value result = e.select(arith::CmpIPredicate::uge, magnitude, layout.special, other, finite);
    Value wide = e.cast(e.f32, e.bor(sign, result));
    Type to = getElementTypeOrSelf(op.getType());
    if (to.isF64())
      wide = arith::ExtFOp::create(e.b, op.getType(), wide);
    else if (!to.isF32()) // exact
      wide = arith::TruncFOp::create(e.b, op.getType(), wide);
    rewriter.replaceOp(op, wide);
    return success();
  }
};

struct TruncatePattern : OpRewritePattern<arith::TruncFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::TruncFOp op, PatternRewriter &rewriter) const final {
    if (!isFloat8(op.getType()))
      return rewriter.notifyMatchFailure(op, "not to 8 bits");
    Layout layout(getElementTypeOrSelf(op.getType()));
    Bits e(rewriter, op.getLoc(), op.getType());
    Value x = op.getIn();
    Type from = getElementTypeOrSelf(x.getType());
    if (from.isF64())
      x = arith::TruncFOp::create(e.b, e.f32, x);
    else if (!from.isF32())
      x = arith::ExtFOp::create(e.b, e.f32, x);
    Value bits = e.cast(e.i32, x);
    Value sign = e.band(e.right(bits, 24), 0x80), magnitude = e.band(bits, 0x7fffffff);
    // Half a unit, and one more where the last bit is odd, less the difference of the biases.
    uint64_t half = (1u << (layout.shift() - 1)) - 1 - (uint64_t(127 - layout.bias) << 23);
    Value odd = e.band(e.right(magnitude, layout.shift()), 1);
    Value normal = e.right(e.add(e.add(magnitude, odd), e.bits(half)), layout.shift());
    double unit = layout.least * 0x1p23;
    Value sum = arith::AddFOp::create(e.b, e.cast(e.f32, magnitude), e.number(unit));
    Value subnormal = e.band(e.cast(e.i32, sum), 0x7f);
    Value finite = e.select(arith::CmpIPredicate::ult, magnitude, uint64_t(128 - layout.bias) << 23,
                            subnormal, normal);
    Value special = e.bits(layout.special);
    finite = e.select(arith::CmpIPredicate::ugt, finite, layout.special, special, finite);
    Value result = e.select(arith::CmpIPredicate::ult, magnitude, 0x7f800000, finite, special);
    result = e.select(arith::CmpIPredicate::ugt, magnitude, 0x7f800000, e.bits(0x7f), result);
    Value byte = arith::TruncIOp::create(e.b, e.i8, e.bor(sign, result));
    rewriter.replaceOp(op, e.cast(op.getType(), byte));
    return success();
  }
};

/// LLVM has no constants of these types.
struct ConstantPattern : OpRewritePattern<arith::ConstantOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::ConstantOp op, PatternRewriter &rewriter) const final {
    if (!isFloat8(op.getType()))
      return rewriter.notifyMatchFailure(op, "not of 8 bits");
    auto byteOf = [&](const APFloat &value) { return value.bitcastToAPInt(); };
    Bits e(rewriter, op.getLoc(), op.getType());
    TypedAttr bytes;
    if (auto dense = dyn_cast<DenseFPElementsAttr>(op.getValue()))
      bytes = cast<TypedAttr>(dense.mapValues(e.b.getI8Type(), byteOf));
    else if (auto scalar = dyn_cast<FloatAttr>(op.getValue()))
      bytes = IntegerAttr::get(e.b.getI8Type(), byteOf(scalar.getValue()));
    else
      return rewriter.notifyMatchFailure(op, "neither scalar nor vector");
    rewriter.replaceOp(op, e.cast(op.getType(), arith::ConstantOp::create(e.b, bytes)));
    return success();
  }
};

struct Float8Pass : PassWrapper<Float8Pass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(Float8Pass)
  StringRef getArgument() const final { return "shardc-float8"; }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect>();
  }
  void runOnOperation() final {
    RewritePatternSet patterns(&getContext());
    patterns.add<ExtendPattern, TruncatePattern, ConstantPattern>(&getContext());
    // Nothing folds: a bitcast of a constant would become one of these types again.
    GreedyRewriteConfig config;
    config.enableFolding(false).enableConstantCSE(false);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns), config)))
      signalPassFailure();
  }
};

} // namespace

std::unique_ptr<Pass> createFloat8Pass() { return std::make_unique<Float8Pass>(); }

} // namespace shardc
