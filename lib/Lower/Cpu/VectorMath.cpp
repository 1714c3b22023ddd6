//===- VectorMath.cpp - Elementary functions as vector code ---------------===//
#include "VectorMath.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace shardc {

// 2^x = 2^n · 2^r, n = round(x), |r| <= 1/2: a minimax polynomial (relative error 2e-9, found by
// Remez exchange), and n added to the exponent's bits.
Value emitExp2NonPositive(Emitter &e, Value x) {
  Type type = x.getType();
  auto vectorType = dyn_cast<VectorType>(type);
  int64_t lanes = vectorType ? vectorType.getDimSize(0) : 0;
  Type f32 = e.b.getF32Type(), i32 = e.b.getI32Type();
  auto constant = [&](double v) { return vectorType ? e.splat(lanes, f32, v) : e.scalar(f32, v); };

  Value lowest = constant(-125);
  Value tiny = arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::OLT, x, lowest);
  Value bounded = arith::SelectOp::create(e.b, e.loc, tiny, lowest, x); // NaN stays NaN
  Value n = math::RoundEvenOp::create(e.b, e.loc, bounded);
  Value r = arith::SubFOp::create(e.b, e.loc, bounded, n);
  Value p = constant(1.5345812003834507e-4);
  for (double coefficient : {1.339993121914494e-3, 9.618488957108423e-3, 5.5503287769656434e-2,
                             2.4022646890634292e-1, 6.931472057372673e-1, 1.0})
    p = math::FmaOp::create(e.b, e.loc, p, r, constant(coefficient));

  Type intType = vectorType ? Type(e.vec(lanes, i32)) : i32;
  Value shift = vectorType ? e.splat(lanes, i32, 23) : e.scalar(i32, 23);
  Value exponent =
      arith::ShLIOp::create(e.b, e.loc, arith::FPToSIOp::create(e.b, e.loc, intType, n), shift);
  Value bits =
      arith::AddIOp::create(e.b, e.loc, arith::BitcastOp::create(e.b, e.loc, intType, p), exponent);
  return arith::SelectOp::create(e.b, e.loc, tiny, constant(0),
                                 arith::BitcastOp::create(e.b, e.loc, type, bits));
}

// The angle is reduced to r in [-π/4, π/4] and a quadrant in f64: rotary embeddings ask for angles
// of 10^5 and more, where upstream's reduction in f32 has lost all digits. Good to 2^31 quarter
// turns. Polynomials of Cephes' sinf and cosf.
static Value emitSinCos(Emitter &e, Value x, bool cosine) {
  auto vectorType = dyn_cast<VectorType>(x.getType());
  auto typed = [&](Type element) { return vectorType ? Type(vectorType.clone(element)) : element; };
  Type f32 = e.b.getF32Type(), f64 = e.b.getF64Type(), i32 = e.b.getI32Type();
  auto constant = [&](Type element, double v) -> Value {
    Attribute attribute = isa<FloatType>(element) ? Attribute(e.b.getFloatAttr(element, v))
                                                  : Attribute(e.b.getIntegerAttr(element, v));
    if (vectorType)
      attribute = DenseElementsAttr::get(vectorType.clone(element), attribute);
    return arith::ConstantOp::create(e.b, e.loc, cast<TypedAttr>(attribute));
  };
  auto fma = [&](Value a, Value b, Value c) { return math::FmaOp::create(e.b, e.loc, a, b, c); };
  auto mul = [&](Value a, Value b) { return arith::MulFOp::create(e.b, e.loc, a, b); };
  auto bitSet = [&](Value v, int64_t bit) {
    Value masked = arith::AndIOp::create(e.b, e.loc, v, constant(i32, bit));
    return arith::CmpIOp::create(e.b, e.loc, arith::CmpIPredicate::ne, masked, constant(i32, 0));
  };

  Value wide = arith::ExtFOp::create(e.b, e.loc, typed(f64), x);
  Value n = math::RoundEvenOp::create(e.b, e.loc, mul(wide, constant(f64, 0.63661977236758134308)));
  Value reduced = fma(n, constant(f64, -1.57079632679489655800), wide);
  reduced = fma(n, constant(f64, -6.12323399573676603587e-17), reduced);
  Value r = arith::TruncFOp::create(e.b, e.loc, typed(f32), reduced);
  Value quadrant = arith::FPToSIOp::create(e.b, e.loc, typed(i32), n);
  if (cosine) // cos(x) = sin(x + π/2)
    quadrant = arith::AddIOp::create(e.b, e.loc, quadrant, constant(i32, 1));

  Value square = mul(r, r);
  Value sine = fma(constant(f32, -1.9515295891e-4), square, constant(f32, 8.3321608736e-3));
  sine = fma(fma(sine, square, constant(f32, -1.6666654611e-1)), mul(square, r), r);
  Value cos =
      fma(constant(f32, 2.443315711809948e-5), square, constant(f32, -1.388731625493765e-3));
  cos = fma(cos, square, constant(f32, 4.166664568298827e-2));
  cos = fma(mul(square, square), cos, fma(square, constant(f32, -0.5), constant(f32, 1)));
  Value result = arith::SelectOp::create(e.b, e.loc, bitSet(quadrant, 1), cos, sine);
  return arith::SelectOp::create(e.b, e.loc, bitSet(quadrant, 2),
                                 arith::NegFOp::create(e.b, e.loc, result), result);
}

namespace {

template <typename Op, bool cosine> struct SinCosPattern : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const final {
    if (!getElementTypeOrSelf(op.getType()).isF32())
      return rewriter.notifyMatchFailure(op, "not f32");
    Emitter e{rewriter, op.getLoc()};
    rewriter.replaceOp(op, emitSinCos(e, op.getOperand(), cosine));
    return success();
  }
};

struct VectorMathPass : PassWrapper<VectorMathPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(VectorMathPass)
  StringRef getArgument() const final { return "shardc-vector-math"; }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect, math::MathDialect, vector::VectorDialect>();
  }
  void runOnOperation() final {
    RewritePatternSet patterns(&getContext());
    populateMathPolynomialApproximationPatterns(patterns);
    patterns.add<SinCosPattern<math::SinOp, false>, SinCosPattern<math::CosOp, true>>(
        &getContext(), /*benefit=*/10);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace

std::unique_ptr<Pass> createVectorMathPass() { return std::make_unique<VectorMathPass>(); }

} // namespace shardc
