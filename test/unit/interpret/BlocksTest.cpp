//===- BlocksTest.cpp - Transformer blocks against numpy ------------------===//
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
    expectOutput(attentionInputs + "%r = graph.attention %q, %k, %v " + operandsAndAttributes +
                     " : tensor<1x2x3x2xf32>, tensor<1x1x4x2xf32>, tensor<1x1x4x2xf32> -> "
                     "tensor<1x2x3x2xf32>",
                 "tensor<1x2x3x2xf32>", expected);
  }

  /// The gradients of query, key, value and sinks, one after the other. Expected values by complex
  /// steps (numpy).
  void expectAttentionGrad(const std::string &mask, bool sinks, const std::string &attributes,
                           const std::vector<double> &expected) {
    std::string count = std::to_string(expected.size());
    expectOutput(
        attentionInputs + R"(
      %g = graph.constant dense<[[[[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]], [[0.5, 1.25], [-1.0, 0.0], [2.0, -0.25]]]]> : tensor<1x2x3x2xf32>
      %d:)" +
            (sinks ? "4" : "3") + " = graph.attention_grad %q, %k, %v " + mask +
            (sinks ? " sinks %s : tensor<2xf32>" : "") + " cotangent %g " + attributes +
            R"( : tensor<1x2x3x2xf32>, tensor<1x1x4x2xf32>, tensor<1x1x4x2xf32>, tensor<1x2x3x2xf32>
        -> tensor<1x2x3x2xf32>, tensor<1x1x4x2xf32>, tensor<1x1x4x2xf32>)" +
            (sinks ? ", tensor<2xf32>" : "") + R"(
      %dq = graph.reshape %d#0 : tensor<1x2x3x2xf32> -> tensor<12xf32>
      %dk = graph.reshape %d#1 : tensor<1x1x4x2xf32> -> tensor<8xf32>
      %dv = graph.reshape %d#2 : tensor<1x1x4x2xf32> -> tensor<8xf32>
      %r = graph.concat %dq, %dk, %dv)" +
            (sinks ? ", %d#3" : "") + " dim 0 : tensor<12xf32>, tensor<8xf32>, tensor<8xf32>" +
            (sinks ? ", tensor<2xf32>" : "") + " -> tensor<" + count + "xf32>",
        "tensor<" + count + "xf32>", expected);
  }

  const std::string attentionInputs = R"(
      %q = graph.constant dense<[[[[0.5, 1.5], [1.0, -1.0], [-0.75, 1.5]], [[-2.0, 1.25], [1.25, -0.25], [-0.75, -1.0]]]]> : tensor<1x2x3x2xf32>
      %k = graph.constant dense<[[[[-1.0, -0.25], [0.0, 0.25], [2.0, 1.25], [0.5, 2.0]]]]> : tensor<1x1x4x2xf32>
      %v = graph.constant dense<[[[[-1.25, -1.25], [0.5, -1.75], [-1.75, 0.0], [-0.25, 1.75]]]]> : tensor<1x1x4x2xf32>
      %m = graph.constant dense<[[[[0.0, -0.5, 0xFF800000, 0.0]]]]> : tensor<1x1x1x4xf32>
      %b = graph.constant dense<[[[[true, true, false, true]]]]> : tensor<1x1x1x4xi1>
      %s = graph.constant dense<[0.5, -1.0]> : tensor<2xf32>
  )";

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

TEST_F(Blocks, AttentionGradSharesKeyValueHeads) {
  expectAttentionGrad(
      "", false, "scale 0.5",
      {-0.2800653943612809,  -0.16173146356391038, 0.6049116608596146,   0.7643641988330263,
       0.33825205587571205,  0.3917435229192851,   0.5401481569820824,   0.9720826430596665,
       0.34169751792015735,  0.06016258948405662,  0.09203036752523745,  0.060706468477858766,
       0.7198229185344533,   0.03958824326143885,  -0.1895820223122292,  -0.41441209913862126,
       0.31595739747323953,  -0.11181660269519586, -0.8461982936954636,  0.486640458572378,
       1.025541874270013,    0.8460309898441796,   0.4210318829032902,   0.7498975863365699,
       -0.11189946579684394, 0.808587844881723,    -0.08467429137645915, 0.8454835789375275});
}

TEST_F(Blocks, AttentionGradWindowSoftcapAndSinks) {
  expectAttentionGrad(
      "", true,
      "scale 0.5 {causal = true, causalOffset = 1 : i64, window = 2 : i64, softcap = 2.0 : f64}",
      {0.08686798781087691,  0.06510726577558039, 0.16527049084740592,  0.035165384157420695,
       0.26479402118227413,  0.2468804781785995,  0.07258320182925819,  0.01651875599125845,
       0.3514260157113007,   0.17317931081876967, -0.38527927372390014, -0.1534949832947853,
       0.10173240975307792,  -0.2210309840028881, -0.4050275421186269,  0.5711830300965118,
       0.36620167247107893,  0.25952028356446755, -0.07497279009881348, 0.020605487186290457,
       0.4809251829629319,   0.6457933561822163,  0.31547874800641856,  0.6605295920271476,
       -0.28172020470016196, 0.8035686147142643,  -0.11003002695319988, 0.3094614738546404,
       -0.1791003878118582,  0.5836712033017355});
}

TEST_F(Blocks, AttentionGradRowWithoutKeysIsZero) {
  expectAttentionGrad("", false, "scale 0.5 {causal = true, causalOffset = -1 : i64}",
                      {0.0,
                       0.0,
                       0.0,
                       0.0,
                       -0.375,
                       -0.1875,
                       0.0,
                       0.0,
                       0.0,
                       0.0,
                       0.41160371520723066,
                       0.20580185760361536,
                       0.027452786405422983,
                       0.9741037152072306,
                       -0.02745278640542303,
                       -0.974103715207231,
                       0.0,
                       0.0,
                       0.0,
                       0.0,
                       -0.19729027066789134,
                       2.2121612838334865,
                       -0.0527097293321084,
                       0.2878387161665136,
                       0.0,
                       0.0,
                       0.0,
                       0.0});
}

TEST_F(Blocks, AttentionGradMasks) {
  expectAttentionGrad("mask %m : tensor<1x1x1x4xf32>", false, "scale 0.5",
                      {-0.07388855068897077,
                       -0.2336060995186863,
                       0.6436213776279367,
                       1.3012436779006227,
                       0.1171971771349171,
                       0.37668974154860047,
                       0.6556226392763056,
                       1.0888157660365105,
                       -0.12501993230471484,
                       -0.08080063185926652,
                       0.31864720520268625,
                       0.18848018360910965,
                       0.8796577289290963,
                       0.08964991017036422,
                       -0.2635204299807767,
                       -0.17590500853080793,
                       0.0,
                       0.0,
                       -0.6161372989483196,
                       0.08625509836044348,
                       1.1813458447158174,
                       1.3196252730849645,
                       0.2304420908834033,
                       0.7903141812419457,
                       0.0,
                       0.0,
                       -0.16178793559922083,
                       1.140060545673089});
  expectAttentionGrad("mask %b : tensor<1x1x1x4xi1>", true, "scale 0.5 {causal = true}",
                      {0.06319265360518075,
                       0.01579816340129519,
                       0.1373619152419938,
                       -0.029032866548380637,
                       -0.1888480287851517,
                       -0.11138047228648669,
                       0.12900402571947592,
                       0.03225100642986898,
                       -0.1667731476521453,
                       -0.08073675728542033,
                       0.39270152957702514,
                       0.18355894827339927,
                       0.4504063695534544,
                       0.5155981885265942,
                       -0.512356035664269,
                       -0.4340082022498643,
                       0.0,
                       0.0,
                       0.0,
                       0.0,
                       1.1660730635495609,
                       1.4462079843173772,
                       -0.28115941842497877,
                       0.6950488588671104,
                       0.0,
                       0.0,
                       0.0,
                       0.0,
                       1.0437475637166689,
                       0.33914405123463975});
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
