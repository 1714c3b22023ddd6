//===- ObjectEmitterTest.cpp - Lowering, math, shared objects -------------===//
#include "KernelTesting.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include <limits>

using namespace shardc;
using namespace shardc::testing;
using mlir::Value;

namespace {

struct ObjectEmitterTest : KernelFixture {
  using Body = std::function<Value(mlir::OpBuilder &, mlir::Location, Value)>;

  /// y[i] = body(x[i]), one vector per tile.
  Kernel addMap(const std::string &symbol, int64_t count, mlir::Type from, mlir::Type to,
                Body body) {
    int64_t lanes = target.vectorBytes / 4;
    KernelBody kernel =
        beginKernel(builder, *module, symbol,
                    {mlir::MemRefType::get({count}, from), mlir::MemRefType::get({count}, to)}, 0);
    auto loc = builder.getUnknownLoc();
    auto loop = mlir::scf::ForOp::create(builder, loc, kernel.tileBegin, kernel.tileEnd,
                                         mlir::arith::ConstantIndexOp::create(builder, loc, 1));
    builder.setInsertionPointToStart(loop.getBody());
    Value at =
        mlir::arith::MulIOp::create(builder, loc, loop.getInductionVar(),
                                    mlir::arith::ConstantIndexOp::create(builder, loc, lanes));
    Value x = mlir::vector::LoadOp::create(builder, loc, mlir::VectorType::get(lanes, from),
                                           kernel.buffers[0], at);
    mlir::vector::StoreOp::create(builder, loc, body(builder, loc, x), kernel.buffers[1], at);
    return {symbol, count / lanes, 0};
  }
};

template <typename Op> Value unary(mlir::OpBuilder &b, mlir::Location loc, Value x) {
  return Op::create(b, loc, x);
}

struct MathCase {
  const char *name;
  ObjectEmitterTest::Body body;
  double (*reference)(double);
  double low, high;
  double relative; ///< error over 2^-24 of the result…
  double absolute; ///< …or this
};

TEST_P(ObjectEmitterTest, MathIsAccurate) {
  const MathCase cases[] = {
      {"exp", unary<mlir::math::ExpOp>, std::exp, -87, 88, 4, 0},
      {"exp2", unary<mlir::math::Exp2Op>, std::exp2, -125, 127, 4, 0},
      {"expm1", unary<mlir::math::ExpM1Op>, std::expm1, -10, 20, 8, 0},
      {"tanh", unary<mlir::math::TanhOp>, std::tanh, -10, 10, 8, 0},
      {"erf", unary<mlir::math::ErfOp>, std::erf, -5, 5, 8, 0},
      {"log", unary<mlir::math::LogOp>, std::log, 1e-30, 1e4, 4, 1e-7},
      {"log2", unary<mlir::math::Log2Op>, std::log2, 1e-30, 1e4, 4, 1e-7},
      {"log1p", unary<mlir::math::Log1pOp>, std::log1p, -0.9, 100, 8, 0},
      {"sin", unary<mlir::math::SinOp>, std::sin, -1e5, 1e5, 4, 0},
      {"cos", unary<mlir::math::CosOp>, std::cos, -1e5, 1e5, 4, 0},
      {"rsqrt", unary<mlir::math::RsqrtOp>, [](double x) { return 1 / std::sqrt(x); }, 1e-6, 1e6, 4,
       0},
      {"sqrt", unary<mlir::math::SqrtOp>, std::sqrt, 0, 1e6, 2, 0},
  };
  const int64_t count = 4096;
  std::vector<Kernel> kernels;
  for (const MathCase &c : cases)
    kernels.push_back(addMap(c.name, count, builder.getF32Type(), builder.getF32Type(), c.body));
  KernelLibrary library = compile();
  for (auto [c, kernel] : llvm::zip(cases, kernels)) {
    Tensor x(builder.getF32Type(), count), y(builder.getF32Type(), count);
    for (int64_t i = 0; i < count; ++i)
      x.set(i, c.low + (c.high - c.low) * std::pow(double(i) / (count - 1), c.low > 0 ? 4 : 1));
    run(library, kernel, {x.data(), y.data()});
    double worst = 0, worstAt = 0;
    for (int64_t i = 0; i < count; ++i) {
      double expected = c.reference(x.get(i)), error = std::abs(y.get(i) - expected);
      double ratio =
          error <= c.absolute ? 0 : error / (std::abs(expected) * std::ldexp(1.0, -24) + 1e-45);
      if (!(ratio <= worst)) {
        worst = ratio;
        worstAt = x.get(i);
      }
    }
    RecordProperty(c.name, std::to_string(worst));
    EXPECT_LE(worst, c.relative) << c.name << " at " << worstAt;
  }
}

TEST_P(ObjectEmitterTest, MathAtTheEdges) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const double inputs[] = {-inf, -200, -1, -0.0, 0, 1e-30, 1, 100, inf, nan};
  const int64_t count = 64;
  const MathCase cases[] = {{"exp", unary<mlir::math::ExpOp>, std::exp},
                            {"tanh", unary<mlir::math::TanhOp>, std::tanh},
                            {"erf", unary<mlir::math::ErfOp>, std::erf},
                            {"log", unary<mlir::math::LogOp>, std::log}};
  std::vector<Kernel> kernels;
  for (const MathCase &c : cases)
    kernels.push_back(addMap(c.name, count, builder.getF32Type(), builder.getF32Type(), c.body));
  KernelLibrary library = compile();
  for (auto [c, kernel] : llvm::zip(cases, kernels)) {
    Tensor x(builder.getF32Type(), count), y(builder.getF32Type(), count);
    x.fill(1);
    for (int i = 0; i < 10; ++i)
      x.set(i, inputs[i]);
    run(library, kernel, {x.data(), y.data()});
    for (int i = 0; i < 10; ++i) {
      double expected = float(c.reference(x.get(i))), got = y.get(i);
      EXPECT_TRUE(std::isnan(expected) ? std::isnan(got)
                                       : got == expected || std::abs(got - expected) <=
                                                                1e-6 * std::abs(expected) + 1e-37)
          << c.name << "(" << inputs[i] << ") = " << got << ", expected " << expected;
    }
  }
}

TEST_P(ObjectEmitterTest, RoundsToSixteenBits) {
  const int64_t count = 64;
  auto narrow = [&](mlir::Type to) -> Body {
    return [to](mlir::OpBuilder &b, mlir::Location loc, Value x) -> Value {
      return mlir::arith::TruncFOp::create(b, loc,
                                           mlir::cast<mlir::VectorType>(x.getType()).clone(to), x);
    };
  };
  for (mlir::Type type : {mlir::Type(builder.getBF16Type()), mlir::Type(builder.getF16Type())}) {
    Kernel kernel = addMap("narrow", count, builder.getF32Type(), type, narrow(type));
    KernelLibrary library = compile();
    Tensor x(builder.getF32Type(), count), y(type, count), expected(type, count);
    x.randomise(1);
    x.set(0, 1 + std::ldexp(1.0, -8));     // a tie of bf16, to even below
    x.set(1, 1 + 3 * std::ldexp(1.0, -8)); // to even above
    x.set(2, 1 + std::ldexp(1.0, -11));    // a tie of f16
    x.set(3, std::numeric_limits<double>::infinity());
    for (int64_t i = 0; i < count; ++i)
      expected.set(i, x.get(i));
    run(library, kernel, {x.data(), y.data()});
    for (int64_t i = 0; i < count; ++i)
      EXPECT_EQ(y.get(i), expected.get(i)) << x.get(i);
  }
}

TEST_P(ObjectEmitterTest, ExportsKernelsAndTheAbiVersionOnly) {
  addMap("first", 64, builder.getF32Type(), builder.getF32Type(), unary<mlir::math::ExpOp>);
  addMap("second", 64, builder.getF32Type(), builder.getF32Type(), unary<mlir::math::TanhOp>);
  KernelLibrary library = compile();
  EXPECT_TRUE(library.find("first") && library.find("second"));
  EXPECT_FALSE(library.find("first.body") || library.find("__truncsfbf2"));
  auto *version = reinterpret_cast<const char *>(library.find("shardrt_abi"));
  ASSERT_NE(version, nullptr);
  EXPECT_STREQ(version, "shardrt-1");
}

TEST(CpuTarget, ParsesLevels) {
  EXPECT_EQ(CpuTarget::parse("x86-64-v3")->vectorBytes, 32);
  EXPECT_TRUE(CpuTarget::parse("x86-64-v4+avx512bf16")->bf16Dot);
  EXPECT_TRUE(CpuTarget::parse("x86-64-v4+amx-bf16")->amx);
  for (const char *bad : {"", "x86-64-v2", "x86-64-v3+avx512bf16", "x86-64-v4+sse9",
                          "x86-64-v4+avx512bf16+amx-bf16"}) {
    auto target = CpuTarget::parse(bad);
    EXPECT_FALSE(bool(target)) << bad;
    llvm::consumeError(target.takeError());
  }
}

INSTANTIATE_LEVELS(ObjectEmitterTest);

} // namespace
