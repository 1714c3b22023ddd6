//===- KinkTest.cpp - Where the derivative is a convention ----------------===//
//
// The expected values are PyTorch's (2.x, CPU).
//
//===----------------------------------------------------------------------===//

#include "Testing.h"

using namespace mlir;

namespace shardc {
namespace {

class Kink : public DerivativeTest {
protected:
  /// The cotangents of the arguments, given their values, where every result has the cotangent 1,
  /// 2, 3, ….
  void expect(DerivativeCase test, const std::vector<std::vector<double>> &values,
              const std::vector<std::vector<double>> &expected) {
    SCOPED_TRACE(test.op);
    for (auto [n, given] : llvm::enumerate(values))
      test.values[n] = given;
    VJP made;
    ASSERT_NO_FATAL_FAILURE(buildVJP(test, made));
    SmallVector<HostTensor> cotangents = randomCotangents(made.op);
    for (HostTensor &cotangent : cotangents)
      for (size_t n = 0; n < cotangent.f.size(); ++n)
        cotangent.f[n] = n + 1;
    std::vector<HostTensor> actual = run(made, randomArguments(*made.module, test), cotangents);
    for (size_t a = 0; a < expected.size(); ++a)
      EXPECT_EQ(actual[a].f, expected[a]) << "argument " << a;
  }
};

TEST_F(Kink, ReluAndAbsAreFlatAtZero) {
  expect({"graph.relu %0 : tensor<3xf64>", {"3xf64"}, {"3xf64"}}, {{-1, 0, 2}}, {{0, 0, 3}});
  expect({"graph.abs %0 : tensor<3xf64>", {"3xf64"}, {"3xf64"}}, {{-1, 0, 2}}, {{-1, 0, 3}});
}

TEST_F(Kink, TiesOfTwoShareAlike) {
  expect({"graph.max %0, %1 : tensor<3xf64>", {"3xf64", "3xf64"}, {"3xf64"}},
         {{1, 5, 3}, {2, 5, 1}}, {{0, 1, 3}, {1, 1, 0}});
  expect({"graph.min %0, %1 : tensor<3xf64>", {"3xf64", "3xf64"}, {"3xf64"}},
         {{1, 5, 3}, {2, 5, 1}}, {{1, 1, 0}, {0, 1, 3}});
}

TEST_F(Kink, TiesOfAReductionShareAlike) {
  expect({"graph.reduce max %0 [1] : tensor<2x4xf64> -> tensor<2xf64>", {"2x4xf64"}, {"2xf64"}},
         {{1, 3, 3, 2, 5, 5, 5, 5}}, {{0, 0.5, 0.5, 0, 0.5, 0.5, 0.5, 0.5}});
}

TEST_F(Kink, PowerOfZero) {
  expect({"graph.pow %0, %1 : tensor<4xf64>", {"4xf64", "4xf64"}, {"4xf64"}},
         {{0, 0, 0, 3}, {0, 1, 2, 0}}, {{0, 2, 0, 0}, {0, 0, 0, 4 * std::log(3.0)}});
}

TEST_F(Kink, ProductsWithZeros) {
  expect({"graph.reduce prod %0 [1] : tensor<3x3xf64> -> tensor<3xf64>", {"3x3xf64"}, {"3xf64"}},
         {{2, 3, 4, 2, 0, 4, 0, 0, 4}}, {{12, 8, 6, 0, 16, 0, 0, 0, 0}});
  expect({"graph.scatter_nd prod %0, %1, %2 : tensor<2xf64>, tensor<3x1xi64>, tensor<3xf64>",
          {"2xf64", "3x1xi64", "3xf64"},
          {"2xf64"}},
         {{3, 0}, {1, 0, 1}, {5, 7, 0}}, {{7, 0}, {}, {0, 3, 0}});
}

TEST_F(Kink, TheLastWriterOfACellWins) {
  expect({"graph.scatter_nd replace %0, %1, %2 : tensor<3xf64>, tensor<3x1xi64>, tensor<3xf64>",
          {"3xf64", "3x1xi64", "3xf64"},
          {"3xf64"}},
         {{7, 8, 9}, {2, 0, 2}, {1, 2, 3}}, {{0, 2, 0}, {}, {0, 1, 3}});
}

TEST_F(Kink, TiesOfAScatterShareAlike) {
  expect(
      {"graph.scatter_elements max %0, %1, %2 axis 0 : tensor<2xf64>, tensor<3xi64>, tensor<3xf64>",
       {"2xf64", "3xi64", "3xf64"},
       {"2xf64"}},
      {{4, 1}, {0, 1, 0}, {4, 3, 2}}, {{0.5, 0}, {}, {0.5, 2, 0}});
}

TEST_F(Kink, IgnoredLabelsHaveNoGradient) {
  expect({"graph.softmax_cross_entropy %0, %1 : tensor<2x2xf64>, tensor<2xi64> -> tensor<2xf64>",
          {"2x2xf64", "2xi64"},
          {"2xf64"}},
         {{0, 0, 1, 2}, {1, -100}}, {{0.5, -0.5, 0, 0}});
}

TEST_F(Kink, SecondDerivativeOfAttentionIsRefused) {
  std::string message;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    message = diagnostic.str();
    return success();
  });
  auto module = parse({"graph.attention_grad %0, %0, %0 cotangent %0 scale 1.0 : "
                       "tensor<1x1x2x3xf64>, tensor<1x1x2x3xf64>, "
                       "tensor<1x1x2x3xf64>, tensor<1x1x2x3xf64> -> tensor<1x1x2x3xf64>, "
                       "tensor<1x1x2x3xf64>, tensor<1x1x2x3xf64>",
                       {"1x1x2x3xf64"},
                       {"1x1x2x3xf64", "1x1x2x3xf64", "1x1x2x3xf64"}});
  ASSERT_TRUE(module);
  Operation *op = testedOp(*module);
  OpBuilder builder(op->getBlock()->getTerminator());
  EXPECT_TRUE(failed(cast<graph::DerivativeOpInterface>(op).buildVJP(builder, op->getResults())));
  EXPECT_EQ(message, "'graph.attention_grad' op has no derivative");
}

} // namespace
} // namespace shardc
