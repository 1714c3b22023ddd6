//===- BlocksTest.cpp - transformer blocks against numpy ----------------------------------===//
//
// Expected values: the formulas of GraphMath.td written with numpy's array operations, in double.
//
//===----------------------------------------------------------------------===//

#include "Testing.h"

#include <limits>

using namespace shardc;

namespace {

class Blocks : public ProgramTest {
protected:
  /// Two query heads that share one key/value head; three queries, four keys.
  void expectAttention(const std::string &operandsAndAttributes,
                       const std::vector<double> &expected) {
    expectOutput(R"(
      %q = graph.constant dense<[[[[0.5, 1.5], [1.0, -1.0], [-0.75, 1.5]], [[-2.0, 1.25], [1.25, -0.25], [-0.75, -1.0]]]]> : tensor<1x2x3x2xf32>
      %k = graph.constant dense<[[[[-1.0, -0.25], [0.0, 0.25], [2.0, 1.25], [0.5, 2.0]]]]> : tensor<1x1x4x2xf32>
      %v = graph.constant dense<[[[[-1.25, -1.25], [0.5, -1.75], [-1.75, 0.0], [-0.25, 1.75]]]]> : tensor<1x1x4x2xf32>
      %m = graph.constant dense<[[[[0.0, -0.5, 0xFF800000, 0.0]]]]> : tensor<1x1x1x4xf32>
      %b = graph.constant dense<[[[[true, true, false, true]]]]> : tensor<1x1x1x4xi1>
      %s = graph.constant dense<[0.5, -1.0]> : tensor<2xf32>
      %r = graph.attention %q, %k, %v )" +
                     operandsAndAttributes +
                     " : tensor<1x2x3x2xf32>, tensor<1x1x4x2xf32>, tensor<1x1x4x2xf32> -> "
                     "tensor<1x2x3x2xf32>",
                 "tensor<1x2x3x2xf32>", expected);
  }

  /// Two positions of six features, of which four rotate.
  void expectRope(const std::string &attributes, const std::vector<double> &expected) {
    expectOutput(R"(
      %x = graph.constant dense<[[[[0.5, 0.0, 0.0, -1.0, -2.0, -1.25], [0.75, -1.25, -0.5, -2.0, 1.25, -1.5]]]]> : tensor<1x1x2x6xf32>
      %c = graph.constant dense<[[[1.0, 1.0], [0.5, 1.0]]]> : tensor<1x2x2xf32>
      %s = graph.constant dense<[[[0.0, 0.0], [0.875, 0.25]]]> : tensor<1x2x2xf32>
      %r = graph.rope %x, %c, %s )" +
                     attributes + " : tensor<1x1x2x6xf32>, tensor<1x2x2xf32>",
                 "tensor<1x1x2x6xf32>", expected);
  }

  /// `op` over %x (2x3) with %w and %b (3), each a row normalised.
  void expectNorm(const std::string &op, const std::vector<double> &expected) {
    expectOutput(R"(
      %x = graph.constant dense<[[-1.0, 1.5, 0.0], [1.5, 0.5, 1.0]]> : tensor<2x3xf32>
      %w = graph.constant dense<[-1.75, 0.25, 0.0]> : tensor<3xf32>
      %b = graph.constant dense<[1.5, -0.5, 0.5]> : tensor<3xf32>
      %r = )" + op + " : tensor<2x3xf32>",
                 "tensor<2x3xf32>", expected);
  }
};

TEST_F(Blocks, AttentionSharesKeyValueHeads) {
  expectAttention("scale 0.5", {-0.7936233695997232, 0.5358191997974396, -0.8813447858815359,
                                -0.45089354160178363, -0.5378186820444424, 0.39314049893334335,
                                -0.5702468279080448, -0.21120521344787224, -1.022423121298275,
                                -0.09398099656845227, -0.6922434638690441, -0.9943383018342863});
}

TEST_F(Blocks, AttentionWindowSoftcapAndSinks) {
  expectAttention("sinks %s : tensor<2xf32> scale 0.5 {causal = true, causalOffset = 1 : i64, "
                  "window = 2 : i64, softcap = 2.0 : f64}",
                  {-0.05987392474083393, -0.8339155157041691, -0.5260985105181255,
                   -0.38808964298369003, -0.48200227681818436, 0.9199795748437479,
                   -0.5829434974888063, -1.2831575625279865, -1.051798003851909,
                   -0.41927241999918735, -0.6074151788506448, 0.5937084075487612});
}

TEST_F(Blocks, AttentionRowWithoutKeysIsZero) {
  expectAttention("scale 0.5 {causal = true, causalOffset = -1 : i64}",
                  {0.0, 0.0, -1.25, -1.25, -0.375, -1.5, 0.0, 0.0, -1.25, -1.25,
                   -0.6398710131655949, -1.4243225676669728});
}

TEST_F(Blocks, AttentionFloatMaskIsAdded) {
  expectAttention("mask %m : tensor<1x1x1x4xf32> scale 0.5",
                  {-0.26501573138373774, 1.0533114936953478, -0.4186472927847418,
                   -0.5718141256470669, -0.3663070987314161, 0.6569483048616436,
                   -0.5981224622145381, -0.08590715549701033, -0.30050773736355574,
                   0.06521669736090119, -0.7511219381633764, -0.9899250410605369});
}

TEST_F(Blocks, RopeHalvesAndNeighbours) {
  expectRope("", {0.5, 0.0, 0.0, -1.0, -2.0, -1.25, 0.8125, -0.75, 0.40625, -2.3125, 1.25, -1.5});
  expectRope("{interleaved = true}",
             {0.5, 0.0, 0.0, -1.0, -2.0, -1.25, 1.46875, 0.03125, 0.0, -2.125, 1.25, -1.5});
}

TEST_F(Blocks, Norms) {
  expectNorm(
      "graph.layer_norm %x weight %w : tensor<3xf32> bias %b : tensor<3xf32> epsilon 1.0e-5",
      {3.487202995807313, -0.1755586945620714, 0.5, -0.6432392287228477, -0.8061770326746925, 0.5});
  expectNorm("graph.layer_norm %x bias %b : tensor<3xf32> epsilon 1.0e-5",
             {0.36445543096724964, 0.7977652217517144, 0.3377793472810357, 2.72470813069877,
              -1.7247081306987702, 0.5});
  expectNorm(
      "graph.rms_norm %x, %w : tensor<3xf32> epsilon 1.0e-6",
      {1.681344838948284, 0.36028817977463223, 0.0, -2.4302767203560047, 0.11572746287409547, 0.0});
  expectNorm("graph.softmax %x dim 0",
             {0.07585818002124356, 0.7310585786300049, 0.2689414213699951, 0.9241418199787566,
              0.2689414213699951, 0.7310585786300049});
}

TEST_F(Blocks, LossSkipsIgnoredLabels) {
  expectOutput(R"(
    %x = graph.constant dense<[[-1.0, 1.5, 0.0], [1.5, 0.5, 1.0]]> : tensor<2x3xf32>
    %y = graph.constant dense<[2, -100]> : tensor<2xi64>
    %r = graph.softmax_cross_entropy %x, %y : tensor<2x3xf32>, tensor<2xi64> -> tensor<2xf32>)",
               "tensor<2xf32>", {1.7663678998071335, 0.0});
}

TEST_F(Blocks, SumsOfHalfPrecisionRoundOnce) {
  // 2048 + 1 + 1 in f16 steps would stay 2048.
  expectOutput(R"(
    %x = graph.constant dense<[2048.0, 1.0, 1.0]> : tensor<3xf16>
    %s = graph.reduce sum %x [0] : tensor<3xf16> -> tensor<f16>
    %r = graph.cast %s : tensor<f16> -> tensor<f32>)",
               "tensor<f32>", {2050.0});
}

} // namespace
