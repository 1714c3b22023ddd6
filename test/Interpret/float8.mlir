// RUN: shard-opt --shard-interpret %s --entry casts | FileCheck %s --check-prefix=CASTS
// RUN: shard-opt --shard-interpret %s --entry products | FileCheck %s --check-prefix=PRODUCTS

// 464 is between 448 and what would be 480: f8E4M3FN rounds it down, and what is beyond to NaN, or to the largest number.
// CASTS: result0 {{.*}} = [1, 1.125, 1, 448, nan, nan, -0.001953125]
// CASTS: result1 {{.*}} = [1, 1.125, 1, 448, 448, 448, -0.001953125]
// CASTS: result2 {{.*}} = [1, 1, 1, 448, 448, inf, -0.00146484375]
func.func @casts() -> (tensor<7xf32>, tensor<7xf32>, tensor<7xf32>) {
  %x = graph.constant dense<[1.0, 1.1, 1.0625, 464.0, 465.0, 1.0e6, -0.0015]> : tensor<7xf32>
  %0 = graph.cast %x : tensor<7xf32> -> tensor<7xf8E4M3FN>
  %1 = graph.cast %x {saturate} : tensor<7xf32> -> tensor<7xf8E4M3FN>
  %2 = graph.cast %x : tensor<7xf32> -> tensor<7xf8E5M2>
  %3 = graph.cast %0 : tensor<7xf8E4M3FN> -> tensor<7xf32>
  %4 = graph.cast %1 : tensor<7xf8E4M3FN> -> tensor<7xf32>
  %5 = graph.cast %2 : tensor<7xf8E5M2> -> tensor<7xf32>
  return %3, %4, %5 : tensor<7xf32>, tensor<7xf32>, tensor<7xf32>
}

// 100 becomes 96 (a tie, to even), 210 becomes 208; the sum of squares is worth a ten-thousandth.
// PRODUCTS: result0 {{.*}} = {{\[\[}}5.25]]
func.func @products() -> tensor<1x1xbf16> {
  %x = graph.constant dense<[[1.0, 2.1]]> : tensor<1x2xf32>
  %s = graph.constant dense<100.0> : tensor<1x2xf32>
  %u = graph.constant dense<0.01> : tensor<f32>
  %q = graph.quantize %x, %s : tensor<1x2xf32>, tensor<1x2xf32> -> tensor<1x2xf8E4M3FN>
  %0 = graph.scaled_einsum "mk,nk->mn" %q, %q scales %u, %u {gradient = f8E4M3FN}
      : tensor<1x2xf8E4M3FN>, tensor<1x2xf8E4M3FN>, tensor<f32>, tensor<f32> -> tensor<1x1xbf16>
  return %0 : tensor<1x1xbf16>
}
