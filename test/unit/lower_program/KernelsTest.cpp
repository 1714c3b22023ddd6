//===- KernelsTest.cpp - Single kernel functions, run on buffers ----------===//
#include "dialects/Graph/Graph.h"
#include "mlir/Parser/Parser.h"
#include "shardc/Lower/LowerKernels.h"
#include "test/unit/lower/KernelTesting.h"

using namespace mlir;

namespace shardc::testing {
namespace {

struct KernelsTest : KernelFixture {
  void SetUp() override {
    KernelFixture::SetUp();
    context.loadDialect<graph::GraphDialect>();
  }
  OwningOpRef<ModuleOp> source;

  func::FuncOp parse(StringRef text) {
    source = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(source) << text.str();
    return *source->getOps<func::FuncOp>().begin();
  }
  std::string errorOf(StringRef text) {
    std::string message;
    ScopedDiagnosticHandler handler(&context,
                                    [&](Diagnostic &diagnostic) { message += diagnostic.str(); });
    EXPECT_TRUE(failed(lowerKernel(parse(text), *module, target)));
    module = ModuleOp::create(builder.getUnknownLoc());
    return message;
  }
};

const char *const kUpdate = R"(
func.func private @update(%p: tensor<5x7919xf32>, %g: tensor<5x7919xf32>, %flat: tensor<39595xf32>, %rate: tensor<f32>)
    -> (tensor<5x7919xf32>, tensor<5x7919xf32>) attributes {exec.kernel ATTRIBUTE} {
  %r = graph.broadcast %rate [] : tensor<f32> -> tensor<5x7919xf32>
  %m = graph.reshape %flat : tensor<39595xf32> -> tensor<5x7919xf32>
  %s = graph.add %m, %g : tensor<5x7919xf32>
  %d = graph.mul %r, %s : tensor<5x7919xf32>
  %q = graph.sub %p, %d : tensor<5x7919xf32>
  return %s, %q : tensor<5x7919xf32>, tensor<5x7919xf32>
})";

std::string update(const std::string &attribute) {
  std::string text = kUpdate;
  return text.replace(text.find("ATTRIBUTE"), strlen("ATTRIBUTE"), attribute);
}

TEST_P(KernelsTest, RunsInPlace) {
  // The first result goes where the second one's operand lies, and the other way round.
  auto function = parse(update(", exec.in_place = [array<i64: 0, 0>, array<i64: 2, 1>]"));
  FailureOr<Kernel> kernel = lowerKernel(function, *module, target);
  ASSERT_TRUE(succeeded(kernel));
  KernelLibrary library = compile();
  int64_t count = 5 * 7919;
  Type f32 = builder.getF32Type();
  Tensor p(f32, count), g(f32, count), m(f32, count), rate(f32, 1);
  unsigned seed = 0;
  for (Tensor *tensor : {&p, &g, &m, &rate})
    tensor->randomise(++seed);
  std::vector<double> p0 = p.values(), m0 = m.values();
  run(library, *kernel, {p.data(), g.data(), m.data(), rate.data(), p.data(), m.data()});
  for (int64_t i = 0; i < count; ++i) {
    float s = float(m0[i]) + float(g.get(i));
    ASSERT_EQ(p.get(i), s) << i;
    ASSERT_NEAR(m.get(i), p0[i] - rate.get(0) * s, 1e-6) << i;
  }
}

TEST_P(KernelsTest, AddsProductsInPlace) {
  // Two blocks along k and a ragged edge: the sum so far is read behind the accumulators.
  constexpr int64_t m = 37, n = 43, k = 1031;
  auto function = parse(R"(
func.func private @sum(%a: tensor<1031x37xf32>, %b: tensor<1031x43xf32>, %c: tensor<37x43xf32>) -> tensor<37x43xf32>
    attributes {exec.kernel, exec.in_place = [array<i64: 2, 0>]} {
  %p = graph.einsum "km,kn->mn" %a, %b : tensor<1031x37xf32>, tensor<1031x43xf32> -> tensor<37x43xf32>
  %r = graph.add %c, %p : tensor<37x43xf32>
  return %r : tensor<37x43xf32>
})");
  FailureOr<Kernel> kernel = lowerKernel(function, *module, target);
  ASSERT_TRUE(succeeded(kernel));
  KernelLibrary library = compile();
  Type f32 = builder.getF32Type();
  Tensor a(f32, k * m), b(f32, k * n), c(f32, m * n);
  unsigned seed = 0;
  for (Tensor *tensor : {&a, &b, &c})
    tensor->randomise(++seed);
  std::vector<double> before = c.values();
  run(library, *kernel, {a.data(), b.data(), c.data(), c.data()});
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = before[i * n + j];
      for (int64_t l = 0; l < k; ++l)
        sum += double(a.get(l * m + i)) * b.get(l * n + j);
      ASSERT_NEAR(c.get(i * n + j), sum, 1e-3) << i << " " << j;
    }
}

TEST_P(KernelsTest, InPlacePairsAreChecked) {
  EXPECT_EQ(errorOf(update(", exec.in_place = [array<i64: 3, 0>]")),
            "result 0 cannot be in place of argument 3");
  EXPECT_EQ(errorOf(update(", exec.in_place = [array<i64: 0, 0>, array<i64: 1, 0>]")),
            "argument 1 or result 0 is in two pairs of exec.in_place");
  EXPECT_EQ(errorOf(update(", exec.in_place = [array<i64: 0, 2>]")),
            "exec.in_place is [array<i64: 0, 2>], expected pairs of an argument and a result");
}

TEST_P(KernelsTest, CanRunInPlace) {
  func::FuncOp function = parse(update(""));
  for (unsigned argument : {0, 1, 2})
    for (unsigned result : {0, 1})
      EXPECT_TRUE(canRunInPlace(function, argument, result)) << argument << " " << result;
  EXPECT_FALSE(canRunInPlace(function, 3, 0));

  auto check = [&](const char *type, const char *op, const char *result) {
    function =
        parse(std::string("func.func private @k(%x: ") + type + ", %y: tensor<3x3xf32>) -> " +
              result + " attributes {exec.kernel} {\n" + op + "\nreturn %r : " + result + "\n}");
    return canRunInPlace(function, 0, 0);
  };
  EXPECT_TRUE(check("tensor<3x3xi32>", "%r = graph.cast %x : tensor<3x3xi32> -> tensor<3x3xf32>",
                    "tensor<3x3xf32>"));
  EXPECT_TRUE(
      check("tensor<3xi1>", "%r = graph.cast %x : tensor<3xi1> -> tensor<3xi8>", "tensor<3xi8>"));
  EXPECT_TRUE(check("tensor<3x3xf32>",
                    "%p = graph.einsum \"ik,kj->ij\" %y, %y : tensor<3x3xf32>, tensor<3x3xf32> -> "
                    "tensor<3x3xf32>\n%r = graph.add %p, %x : tensor<3x3xf32>",
                    "tensor<3x3xf32>"));
  // A factor; another width; other elements; an element of another row.
  EXPECT_FALSE(check("tensor<3x3xf32>",
                     "%p = graph.einsum \"ik,kj->ij\" %x, %y : tensor<3x3xf32>, tensor<3x3xf32> -> "
                     "tensor<3x3xf32>\n%r = graph.add %p, %x : tensor<3x3xf32>",
                     "tensor<3x3xf32>"));
  EXPECT_FALSE(check("tensor<3x3xf32>", "%r = graph.cast %x : tensor<3x3xf32> -> tensor<3x3xbf16>",
                     "tensor<3x3xbf16>"));
  EXPECT_FALSE(check("tensor<3x3xf32>",
                     "%r = graph.transpose %x [1, 0] : tensor<3x3xf32> -> tensor<3x3xf32>",
                     "tensor<3x3xf32>"));
  EXPECT_FALSE(
      check("tensor<3x3xf32>", "%r = graph.softmax %x dim 1 : tensor<3x3xf32>", "tensor<3x3xf32>"));
  EXPECT_FALSE(check("tensor<3x3xf32>",
                     "%t = graph.transpose %x [1, 0] : tensor<3x3xf32> -> tensor<3x3xf32>\n"
                     "%r = graph.add %x, %t : tensor<3x3xf32>",
                     "tensor<3x3xf32>"));
}

/// A scatter changes its data, and leaves the rest of it as it is.
TEST_P(KernelsTest, ScatterInPlace) {
  auto scatter = [&](const char *attributes) {
    return std::string("func.func private @k(%data: tensor<5x3xf32>, %at: tensor<2x3xi64>, %new: "
                       "tensor<2x3xf32>) -> tensor<5x3xf32> attributes {exec.kernel") +
           attributes +
           "} {\n%r = graph.scatter_elements replace %data, %at, %new axis 0 : tensor<5x3xf32>, "
           "tensor<2x3xi64>, tensor<2x3xf32>\nreturn %r : tensor<5x3xf32>\n}";
  };
  EXPECT_TRUE(canRunInPlace(parse(scatter("")), 0, 0));
  EXPECT_FALSE(canRunInPlace(parse(scatter("")), 2, 0));
  EXPECT_EQ(errorOf(scatter(", exec.in_place = [array<i64: 1, 0>]")),
            "result 0 cannot be in place of argument 1");
  FailureOr<Kernel> kernel =
      lowerKernel(parse(scatter(", exec.in_place = [array<i64: 0, 0>]")), *module, target);
  ASSERT_TRUE(succeeded(kernel));
  KernelLibrary library = compile();
  Tensor data(builder.getF32Type(), 15), at(builder.getI64Type(), 6),
      fresh(builder.getF32Type(), 6);
  data.randomise(1);
  fresh.randomise(2);
  std::vector<double> before = data.values();
  for (int64_t i = 0; i < 6; ++i)
    at.set(i, i < 3 ? 4 : 5); // the second row is outside
  run(library, *kernel, {data.data(), at.data(), fresh.data(), data.data()});
  for (int64_t i = 0; i < 15; ++i)
    ASSERT_EQ(data.get(i), i < 12 ? before[i] : fresh.get(i - 12)) << i;
}

/// A word that occurs often: a sum in bf16 would stop at 256.
TEST_P(KernelsTest, ScatterSumRoundsOnce) {
  FailureOr<Kernel> kernel = lowerKernel(parse(R"(
func.func private @k(%u: tensor<300x3xbf16>, %i: tensor<300xi64>) -> tensor<5x3xbf16> attributes {exec.kernel} {
  %r = graph.scatter_sum %u at %i axis 0 : tensor<300x3xbf16>, tensor<300xi64> -> tensor<5x3xbf16>
  return %r : tensor<5x3xbf16>
})"),
                                         *module, target);
  ASSERT_TRUE(succeeded(kernel));
  KernelLibrary library = compile();
  Tensor updates(builder.getBF16Type(), 900), indices(builder.getI64Type(), 300),
      result(builder.getBF16Type(), 15);
  updates.fill(1);
  indices.fill(2);
  indices.set(7, 5); // dropped
  indices.set(8, -1);
  indices.set(9, 4);
  result.fill(77);
  run(library, *kernel, {updates.data(), indices.data(), result.data()});
  for (int64_t i = 0; i < 15; ++i) // 297 is between 296 and 298
    EXPECT_EQ(result.get(i), i / 3 == 2 ? 296 : i / 3 == 4 ? 1 : 0) << i;
}

INSTANTIATE_LEVELS(KernelsTest);

} // namespace
} // namespace shardc::testing
