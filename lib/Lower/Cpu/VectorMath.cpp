//===- VectorMath.cpp - Elementary functions as vector code ----------------===//
#include "VectorMath.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace shardc {

// exp(x) = 2^n · exp(r), n = round(x / ln 2), |r| <= ln 2 / 2 in two parts (Cody and Waite), the polynomial of Cephes' expf.
Value emitExpNonPositive(Emitter &e, Value x) {
  Type type = x.getType();
  auto vectorType = dyn_cast<VectorType>(type);
  int64_t lanes = vectorType ? vectorType.getDimSize(0) : 0;
  Type f32 = e.b.getF32Type(), i32 = e.b.getI32Type();
  auto constant = [&](double v) { return vectorType ? e.splat(lanes, f32, v) : e.scalar(f32, v); };
  auto fma = [&](Value a, Value b, Value c) { return math::FmaOp::create(e.b, e.loc, a, b, c); };

  constexpr double kSmallest = -87.33654; // ln 2^-126
  Value lowest = constant(kSmallest);
  Value tiny = arith::CmpFOp::create(e.b, e.loc, arith::CmpFPredicate::OLT, x, lowest);
  Value bounded = arith::SelectOp::create(e.b, e.loc, tiny, lowest, x);
  Value n = math::RoundEvenOp::create(e.b, e.loc, arith::MulFOp::create(e.b, e.loc, bounded, constant(1.44269504088896341)));
  Value r = fma(n, constant(-0.693359375), bounded);
  r = fma(n, constant(2.12194440e-4), r);
  Value p = constant(1.9875691500e-4);
  for (double coefficient : {1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1})
    p = fma(p, r, constant(coefficient));
  p = fma(arith::MulFOp::create(e.b, e.loc, r, r), p, arith::AddFOp::create(e.b, e.loc, r, constant(1)));

  Type intType = vectorType ? Type(e.vec(lanes, i32)) : i32;
  auto integer = [&](int64_t v) { return vectorType ? e.splat(lanes, i32, v) : e.scalar(i32, v); };
  Value exponent = arith::FPToSIOp::create(e.b, e.loc, intType, n);
  exponent = arith::ShLIOp::create(e.b, e.loc, arith::AddIOp::create(e.b, e.loc, exponent, integer(127)), integer(23));
  Value result = arith::MulFOp::create(e.b, e.loc, p, arith::BitcastOp::create(e.b, e.loc, type, exponent));
  return arith::SelectOp::create(e.b, e.loc, tiny, constant(0), result);
}

namespace {

struct VectorMathPass : PassWrapper<VectorMathPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(VectorMathPass)
  StringRef getArgument() const final { return "shardc-vector-math"; }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect, math::MathDialect, vector::VectorDialect>();
  }
  void runOnOperation() final {
    RewritePatternSet patterns(&getContext());
    populateMathPolynomialApproximationPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace

std::unique_ptr<Pass> createVectorMathPass() { return std::make_unique<VectorMathPass>(); }

} // namespace shardc
