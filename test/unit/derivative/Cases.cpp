//===- Cases.cpp - One of each op, and more where attributes change the derivative -===//

#include "Testing.h"

namespace shardc {

std::vector<DerivativeCase> structuredCases() {
  return {
      // Select, cast
      {"graph.select %0, %1, %2 : tensor<3x5xi1>, tensor<3x5xf64>",
       {"3x5xi1", "3x5xf64", "3x5xf64"},
       {"3x5xf64"},
       -2,
       2,
       2},
      {"graph.select %0, %1, %1 : tensor<5xi1>, tensor<5xf64>",
       {"5xi1", "5xf64"},
       {"5xf64"},
       -2,
       2,
       2},
      {"graph.cast %0 : tensor<5xf64> -> tensor<5xf64>", {"5xf64"}, {"5xf64"}},
      {"graph.cast %0 : tensor<5xi64> -> tensor<5xf64>", {"5xi64"}, {"5xf64"}},

      // Views and movement
      {"graph.reshape %0 : tensor<4x6xf64> -> tensor<3x8xf64>", {"4x6xf64"}, {"3x8xf64"}},
      {"graph.transpose %0 [2, 0, 1] : tensor<2x3x5xf64> -> tensor<5x2x3xf64>",
       {"2x3x5xf64"},
       {"5x2x3xf64"}},
      {"graph.broadcast %0 [1, 2] : tensor<5x1xf64> -> tensor<3x5x4xf64>",
       {"5x1xf64"},
       {"3x5x4xf64"}},
      {"graph.broadcast %0 [] : tensor<f64> -> tensor<3x2xf64>", {"f64"}, {"3x2xf64"}},
      {"graph.broadcast %0 [0] : tensor<1xf64> -> tensor<1x1xf64>", {"1xf64"}, {"1x1xf64"}},
      {"graph.slice %0 [0, 1] step [1, 1] : tensor<5x6xf64> -> tensor<5x3xf64>",
       {"5x6xf64"},
       {"5x3xf64"}},
      {"graph.slice %0 [1, 0] step [2, 3] : tensor<5x8xf64> -> tensor<2x3xf64>",
       {"5x8xf64"},
       {"2x3xf64"}},
      {"graph.slice %0 [4] step [7] : tensor<5xf64> -> tensor<1xf64>", {"5xf64"}, {"1xf64"}},
      {"graph.reverse %0 [1] : tensor<3x4xf64> -> tensor<3x4xf64>", {"3x4xf64"}, {"3x4xf64"}},
      {"graph.pad %0 low [0, 1] high [0, 2] with 7.0 : f64 : tensor<3x2xf64> -> tensor<3x5xf64>",
       {"3x2xf64"},
       {"3x5xf64"}},
      {"graph.concat %0, %1, %0 dim 1 : tensor<3x2xf64>, tensor<3x1xf64>, tensor<3x2xf64> -> "
       "tensor<3x5xf64>",
       {"3x2xf64", "3x1xf64"},
       {"3x5xf64"}},

      // Gather, scatter; indices 0 … 5 are out of range here and there
      {"graph.gather %0, %1 axis 0 : tensor<5x3xf64>, tensor<2x4xi64> -> tensor<2x4x3xf64>",
       {"5x3xf64", "2x4xi64"},
       {"2x4x3xf64"},
       -2,
       2,
       6},
      {"graph.gather %0, %1 axis 1 : tensor<2x5x3xf64>, tensor<6xi8> -> tensor<2x6x3xf64>",
       {"2x5x3xf64", "6xi8"},
       {"2x6x3xf64"},
       -2,
       2,
       6},
      {"graph.gather %0, %1 axis 1 : tensor<2x5xf64>, tensor<i32> -> tensor<2xf64>",
       {"2x5xf64", "i32"},
       {"2xf64"}},
      {"graph.scatter_sum %0 at %1 axis 0 : tensor<2x4x3xf64>, tensor<2x4xi64> -> tensor<5x3xf64>",
       {"2x4x3xf64", "2x4xi64"},
       {"5x3xf64"},
       -2,
       2,
       6},
      {"graph.scatter_sum %0 at %1 axis 1 : tensor<2x6xf64>, tensor<6xi32> -> tensor<2x5xf64>",
       {"2x6xf64", "6xi32"},
       {"2x5xf64"},
       -2,
       2,
       6},
      {"graph.gather_nd %0, %1 batch 0 : tensor<3x5x2xf64>, tensor<6x2xi64> -> tensor<6x2xf64>",
       {"3x5x2xf64", "6x2xi64"},
       {"6x2xf64"}},
      {"graph.gather_nd %0, %1 batch 1 : tensor<3x5x2xf64>, tensor<3x4x1xi8> -> tensor<3x4x2xf64>",
       {"3x5x2xf64", "3x4x1xi8"},
       {"3x4x2xf64"}},
      {"graph.gather_nd %0, %1 batch 2 : tensor<3x2x5xf64>, tensor<3x2x1xi64> -> tensor<3x2xf64>",
       {"3x2x5xf64", "3x2x1xi64"},
       {"3x2xf64"},
       -2,
       2,
       6},
      {"graph.gather_elements %0, %1 axis 1 : tensor<3x4xf64>, tensor<2x6xi64> -> tensor<2x6xf64>",
       {"3x4xf64", "2x6xi64"},
       {"2x6xf64"},
       -2,
       2,
       5},
      {"graph.scatter_elements replace %0, %1, %2 axis 1 : tensor<3x4xf64>, tensor<3x6xi64>, "
       "tensor<3x6xf64>",
       {"3x4xf64", "3x6xi64", "3x6xf64"},
       {"3x4xf64"},
       -2,
       2,
       5},
      {"graph.scatter_elements sum %0, %1, %2 axis 0 : tensor<3x4xf64>, tensor<5x4xi64>, "
       "tensor<5x4xf64>",
       {"3x4xf64", "5x4xi64", "5x4xf64"},
       {"3x4xf64"}},
      {"graph.scatter_elements prod %0, %1, %2 axis 1 : tensor<3x4xf64>, tensor<3x6xi64>, "
       "tensor<3x6xf64>",
       {"3x4xf64", "3x6xi64", "3x6xf64"},
       {"3x4xf64"},
       -2,
       2,
       5},
      {"graph.scatter_elements max %0, %1, %2 axis 1 : tensor<3x4xf64>, tensor<3x6xi64>, "
       "tensor<3x6xf64>",
       {"3x4xf64", "3x6xi64", "3x6xf64"},
       {"3x4xf64"},
       -2,
       2,
       5},
      {"graph.scatter_elements min %0, %1, %2 axis 1 : tensor<3x4xf64>, tensor<3x6xi64>, "
       "tensor<3x6xf64>",
       {"3x4xf64", "3x6xi64", "3x6xf64"},
       {"3x4xf64"},
       -2,
       2,
       5},
      {"graph.scatter_nd replace %0, %1, %2 : tensor<3x4xf64>, tensor<5x1xi64>, tensor<5x4xf64>",
       {"3x4xf64", "5x1xi64", "5x4xf64"},
       {"3x4xf64"}},
      {"graph.scatter_nd sum %0, %1, %2 : tensor<3x4xf64>, tensor<9x2xi64>, tensor<9xf64>",
       {"3x4xf64", "9x2xi64", "9xf64"},
       {"3x4xf64"}},
      {"graph.scatter_nd prod %0, %1, %2 : tensor<3x4xf64>, tensor<5x1xi64>, tensor<5x4xf64>",
       {"3x4xf64", "5x1xi64", "5x4xf64"},
       {"3x4xf64"}},
      {"graph.scatter_nd max %0, %1, %2 : tensor<3x4xf64>, tensor<5x1xi64>, tensor<5x4xf64>",
       {"3x4xf64", "5x1xi64", "5x4xf64"},
       {"3x4xf64"}},
      {"graph.scatter_nd min %0, %1, %2 : tensor<3x4xf64>, tensor<5x1xi64>, tensor<5x4xf64>",
       {"3x4xf64", "5x1xi64", "5x4xf64"},
       {"3x4xf64"}},

      // Contraction
      {"graph.einsum \"bsk,nk->bsn\" %0, %1 : tensor<2x3x5xf64>, tensor<4x5xf64> -> "
       "tensor<2x3x4xf64>",
       {"2x3x5xf64", "4x5xf64"},
       {"2x3x4xf64"}},
      {"graph.einsum \"bmk,bkn->bmn\" %0, %1 : tensor<3x2x5xf64>, tensor<3x5x4xf64> -> "
       "tensor<3x2x4xf64>",
       {"3x2x5xf64", "3x5x4xf64"},
       {"3x2x4xf64"}},
      {"graph.einsum \"ab,cd->cb\" %0, %1 : tensor<3x2xf64>, tensor<4x5xf64> -> tensor<4x2xf64>",
       {"3x2xf64", "4x5xf64"},
       {"4x2xf64"}},
      {"graph.einsum \"ab,ab->\" %0, %0 : tensor<3x2xf64>, tensor<3x2xf64> -> tensor<f64>",
       {"3x2xf64"},
       {"f64"}},
      {"graph.conv %0, %1 {strides = array<i64: 1>, padLow = array<i64: 0>, padHigh = array<i64: "
       "0>, dilations = array<i64: 1>, group = 1 : i64} : tensor<2x3x5xf64>, tensor<4x3x2xf64> -> "
       "tensor<2x4x4xf64>",
       {"2x3x5xf64", "4x3x2xf64"},
       {"2x4x4xf64"}},
      {"graph.conv %0, %1 {strides = array<i64: 2, 3>, padLow = array<i64: 1, 3>, padHigh = "
       "array<i64: 2, 0>, dilations = array<i64: 2, 1>, group = 2 : i64} : tensor<2x4x6x7xf64>, "
       "tensor<6x2x3x2xf64> -> tensor<2x6x3x3xf64>",
       {"2x4x6x7xf64", "6x2x3x2xf64"},
       {"2x6x3x3xf64"}},
      {"graph.conv %0, %1 {strides = array<i64: 1>, padLow = array<i64: 2>, padHigh = array<i64: "
       "0>, dilations = array<i64: 1>, group = 3 : i64} : tensor<2x3x5xf64>, tensor<3x1x3xf64> -> "
       "tensor<2x3x5xf64>",
       {"2x3x5xf64", "3x1x3xf64"},
       {"2x3x5xf64"}},
      {"graph.conv %0, %1 {strides = array<i64: 4, 4>, padLow = array<i64: 0, 0>, padHigh = "
       "array<i64: 0, 0>, dilations = array<i64: 1, 1>, group = 1 : i64} : tensor<1x2x9x8xf64>, "
       "tensor<3x2x4x4xf64> -> tensor<1x3x2x2xf64>",
       {"1x2x9x8xf64", "3x2x4x4xf64"},
       {"1x3x2x2xf64"}},
      {"graph.grouped_matmul %0, %1 by %2 : tensor<5x3xf64>, tensor<3x4x3xf64>, tensor<5xi64> -> "
       "tensor<5x4xf64>",
       {"5x3xf64", "3x4x3xf64", "5xi64"},
       {"5x4xf64"}},
      {"graph.grouped_matmul_grad %0, %1 by %2 : tensor<6x3xf64>, tensor<6x4xf64>, tensor<6xi32> "
       "-> tensor<3x4x3xf64>",
       {"6x3xf64", "6x4xf64", "6xi32"},
       {"3x4x3xf64"}},
      {"graph.grouped_matmul %0, %1 by %2 {blocks = 2 : i64} : tensor<6x3xf64>, tensor<4x2x3xf64>, "
       "tensor<6xi64> -> tensor<6x2xf64>",
       {"6x3xf64", "4x2x3xf64", "6xi64"},
       {"6x2xf64"}},
      {"graph.grouped_matmul_grad %0, %1 by %2 {blocks = 2 : i64} : tensor<6x3xf64>, "
       "tensor<6x2xf64>, tensor<6xi32> -> tensor<4x2x3xf64>",
       {"6x3xf64", "6x2xf64", "6xi32"},
       {"4x2x3xf64"}},

      // Reductions and scans
      {"graph.reduce sum %0 [1] : tensor<3x5xf64> -> tensor<3xf64>", {"3x5xf64"}, {"3xf64"}},
      {"graph.reduce sum %0 [0, 2] : tensor<3x5x2xf64> -> tensor<5xf64>", {"3x5x2xf64"}, {"5xf64"}},
      {"graph.reduce max %0 [0] : tensor<3x5xf64> -> tensor<5xf64>", {"3x5xf64"}, {"5xf64"}},
      {"graph.reduce min %0 [0, 1] : tensor<3x5xf64> -> tensor<f64>", {"3x5xf64"}, {"f64"}},
      {"graph.reduce prod %0 [1] : tensor<3x5xf64> -> tensor<3xf64>", {"3x5xf64"}, {"3xf64"}},
      {"graph.reduce prod %0 [1] : tensor<3x3xf64> -> tensor<3xf64>",
       {"3x3xf64"},
       {"3xf64"},
       -2,
       2,
       4,
       {{0, {2, 3, -5, 2, 0, 3, 0, 0, 4}}}},
      {"graph.cumsum %0 dim 1 : tensor<3x5xf64>", {"3x5xf64"}, {"3x5xf64"}},
      {"graph.cumsum %0 dim 0 {exclusive = true} : tensor<3x5xf64>", {"3x5xf64"}, {"3x5xf64"}},
      {"graph.cumsum %0 dim 1 {reverse = true} : tensor<3x5xf64>", {"3x5xf64"}, {"3x5xf64"}},
      {"graph.topk %0 dim 1 largest true : tensor<3x5xf64> -> tensor<3x2xf64>, tensor<3x2xi64>",
       {"3x5xf64"},
       {"3x2xf64", "3x2xi64"}},
      {"graph.topk %0 dim 0 largest false : tensor<4x3xf64> -> tensor<3x3xf64>, tensor<3x3xi64>",
       {"4x3xf64"},
       {"3x3xf64", "3x3xi64"}},

      // Normalisation
      {"graph.softmax %0 dim 1 : tensor<3x5xf64>", {"3x5xf64"}, {"3x5xf64"}},
      {"graph.softmax %0 dim 0 : tensor<3x5xf64>", {"3x5xf64"}, {"3x5xf64"}},
      {"graph.rms_norm %0, %1 : tensor<5xf64> epsilon 1.0e-2 : tensor<2x3x5xf64>",
       {"2x3x5xf64", "5xf64"},
       {"2x3x5xf64"}},
      {"graph.rms_norm %0 epsilon 1.0e-5 : tensor<3x5xf64>", {"3x5xf64"}, {"3x5xf64"}},
      {"graph.rms_norm %0, %1 : tensor<3x5xf64> epsilon 1.0e-5 {normDims = 2 : i64} : "
       "tensor<3x5xf64>",
       {"3x5xf64", "3x5xf64"},
       {"3x5xf64"}},
      {"graph.layer_norm %0 weight %1 : tensor<5xf64> bias %2 : tensor<5xf64> epsilon 1.0e-2 : "
       "tensor<2x3x5xf64>",
       {"2x3x5xf64", "5xf64", "5xf64"},
       {"2x3x5xf64"}},
      {"graph.layer_norm %0 bias %1 : tensor<5xf64> epsilon 1.0e-5 : tensor<3x5xf64>",
       {"3x5xf64", "5xf64"},
       {"3x5xf64"}},
      {"graph.layer_norm %0 weight %1 : tensor<3x5xf64> epsilon 1.0e-5 {normDims = 2 : i64} : "
       "tensor<2x3x5xf64>",
       {"2x3x5xf64", "3x5xf64"},
       {"2x3x5xf64"}},
      {"graph.layer_norm %0 epsilon 1.0e-5 : tensor<3x5xf64>", {"3x5xf64"}, {"3x5xf64"}},

      // Blocks
      {"graph.rope %0, %1, %2 : tensor<2x3x4x5xf64>, tensor<1x4x2xf64>",
       {"2x3x4x5xf64", "1x4x2xf64", "1x4x2xf64"},
       {"2x3x4x5xf64"}},
      {"graph.rope %0, %1, %2 {interleaved = true} : tensor<2x3x4x5xf64>, tensor<2x4x2xf64>",
       {"2x3x4x5xf64", "2x4x2xf64", "2x4x2xf64"},
       {"2x3x4x5xf64"}},
      {"graph.attention %0, %1, %2 scale 0.7 : tensor<2x4x3x2xf64>, tensor<2x2x5x2xf64>, "
       "tensor<2x2x5x3xf64> -> tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64"},
       {"2x4x3x3xf64"}},
      {"graph.attention %0, %1, %2 scale 0.7 {causal = true, causalOffset = 2 : i64} : "
       "tensor<2x4x3x2xf64>, tensor<2x2x5x2xf64>, tensor<2x2x5x3xf64> -> tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64"},
       {"2x4x3x3xf64"}},
      {"graph.attention %0, %1, %2 scale 0.7 {causal = true, causalOffset = -1 : i64, softcap = "
       "1.5} : tensor<2x4x3x2xf64>, tensor<2x2x5x2xf64>, tensor<2x2x5x3xf64> -> "
       "tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64"},
       {"2x4x3x3xf64"}},
      {"graph.attention %0, %1, %2 scale 0.7 {causal = true, causalOffset = 2 : i64, window = 2 : "
       "i64} : tensor<2x4x3x2xf64>, tensor<2x2x5x2xf64>, tensor<2x2x5x3xf64> -> "
       "tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64"},
       {"2x4x3x3xf64"}},
      {"graph.attention %0, %1, %2 mask %3 : tensor<1x1x3x5xi1> scale 0.7 : tensor<2x4x3x2xf64>, "
       "tensor<2x2x5x2xf64>, tensor<2x2x5x3xf64> -> tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64", "1x1x3x5xi1"},
       {"2x4x3x3xf64"},
       -2,
       2,
       2},
      {"graph.attention %0, %1, %2 mask %3 : tensor<2x4x3x5xf64> scale 0.7 {softcap = 2.0} : "
       "tensor<2x4x3x2xf64>, tensor<2x2x5x2xf64>, tensor<2x2x5x3xf64> -> tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64", "2x4x3x5xf64"},
       {"2x4x3x3xf64"}},
      {"graph.attention %0, %1, %2 mask %3 : tensor<1x4x1x5xf64> scale 0.7 {causal = true, "
       "causalOffset = -1 : i64} : tensor<2x4x3x2xf64>, tensor<2x2x5x2xf64>, tensor<2x2x5x3xf64> "
       "-> tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64", "1x4x1x5xf64"},
       {"2x4x3x3xf64"}},
      {"graph.attention %0, %1, %2 mask %3 : tensor<2x1x3x5xf64> sinks %4 : tensor<4xf64> scale "
       "0.7 {causal = true, causalOffset = 1 : i64, window = 2 : i64} : tensor<2x4x3x2xf64>, "
       "tensor<2x2x5x2xf64>, tensor<2x2x5x3xf64> -> tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64", "2x1x3x5xf64", "4xf64"},
       {"2x4x3x3xf64"}},
      {"graph.attention %0, %1, %2 sinks %3 : tensor<4xf64> scale 0.7 : tensor<2x4x3x2xf64>, "
       "tensor<2x2x5x2xf64>, tensor<2x2x5x3xf64> -> tensor<2x4x3x3xf64>",
       {"2x4x3x2xf64", "2x2x5x2xf64", "2x2x5x3xf64", "4xf64"},
       {"2x4x3x3xf64"}},
      {"graph.attention %0, %0, %0 scale 0.7 {causal = true} : tensor<1x2x3x2xf64>, "
       "tensor<1x2x3x2xf64>, tensor<1x2x3x2xf64> -> tensor<1x2x3x2xf64>",
       {"1x2x3x2xf64"},
       {"1x2x3x2xf64"}},
      {"graph.softmax_cross_entropy %0, %1 : tensor<2x3x5xf64>, tensor<2x3xi64> -> tensor<2x3xf64>",
       {"2x3x5xf64", "2x3xi64"},
       {"2x3xf64"},
       -2,
       2,
       4,
       {{1, {4, 0, -100, 2, -100, 1}}}},
      {"graph.softmax_cross_entropy %0, %1 {ignoreIndex = 2 : i64} : tensor<4x5xf64>, tensor<4xi8> "
       "-> tensor<4xf64>",
       {"4x5xf64", "4xi8"},
       {"4xf64"},
       -2,
       2,
       4,
       {{1, {4, 2, 0, 2}}}},
  };
}

const std::map<std::string, std::string> &withoutDerivative() {
  static const std::map<std::string, std::string> reasons = {
      {"graph.parameter", "no operands"},
      {"graph.constant", "no operands"},
      {"graph.iota", "no operands"},
      {"graph.compare", "the result is no float"},
      {"graph.is_nan", "the result is no float"},
      {"graph.is_inf", "the result is no float"},
      {"graph.arg_reduce", "the result is no float"},
      {"graph.quantize", "that of what it rounds (test/train/test_fp8.py)"},
      {"graph.scaled_einsum", "that of what was rounded (test/train/test_fp8.py)"},
      {"graph.not", "of integers"},
      {"graph.and", "of integers"},
      {"graph.or", "of integers"},
      {"graph.xor", "of integers"},
      {"graph.shl", "of integers"},
      {"graph.shr", "of integers"},
      {"graph.attention_grad", "of second order"},
  };
  return reasons;
}

} // namespace shardc
