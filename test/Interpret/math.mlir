// RUN: shard-opt --shard-interpret %s --entry einsum | FileCheck %s --check-prefix=EINSUM
// RUN: shard-opt --shard-interpret %s --entry conv | FileCheck %s --check-prefix=CONV
// RUN: shard-opt --shard-interpret %s --entry reductions | FileCheck %s --check-prefix=REDUCE
// RUN: shard-opt --shard-interpret %s --entry order | FileCheck %s --check-prefix=ORDER

func.func @einsum() -> (tensor<2x2x2xf32>, tensor<2x2xf32>, tensor<1x1xi8>, tensor<3x2xf32>, tensor<2x2x2xf32>, tensor<2x2xf32>) {
  %a = graph.constant dense<[[[1.75, 1.25, 1.5], [0.0, 1.75, -1.75]], [[-2.0, -2.0, -1.0], [-1.0, -1.25, 0.25]]]> : tensor<2x2x3xf32>
  %b = graph.constant dense<[[[-1.75, 0.25], [-1.25, 0.75]], [[-2.0, -0.75], [1.75, 0.25]], [[1.25, 0.75], [0.5, -1.25]]]> : tensor<3x2x2xf32>
  // A batch letter, and a transposed result.
  // EINSUM: result0 {{.*}} = {{\[\[\[}}-3.6875, -5.6875], [-1.5, -0.8125]], {{\[\[}}0.625, -2.625], [-0.75, -1.375]]]
  %0 = graph.einsum "bmk,kbn->nbm" %a, %b : tensor<2x2x3xf32>, tensor<3x2x2xf32> -> tensor<2x2x2xf32>
  // Letters of one operand only are summed too.
  // EINSUM: result1 {{.*}} = {{\[\[}}1.8125, 0.25], [-0.125, -0.5]]
  %1 = graph.einsum "amk,kcb->bm" %a, %b : tensor<2x2x3xf32>, tensor<3x2x2xf32> -> tensor<2x2xf32>
  // EINSUM: result2 {{.*}} = {{\[\[}}44]]
  %i = graph.constant dense<[[100, 100]]> : tensor<1x2xi8>
  %j = graph.constant dense<[[1, 2]]> : tensor<1x2xi8>
  %2 = graph.einsum "mk,nk->mn" %i, %j : tensor<1x2xi8>, tensor<1x2xi8> -> tensor<1x1xi8>
  // Groups outside give zero rows.
  // EINSUM: result3 {{.*}} = {{\[\[}}2, 6], [0, 0], [5, 5]]
  %x = graph.constant dense<[[2.0, 0.0], [1.0, 1.0], [0.0, 5.0]]> : tensor<3x2xf32>
  %w = graph.constant dense<[[[1.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]]> : tensor<2x2x2xf32>
  %g = graph.constant dense<[1, 2, 0]> : tensor<3xi64>
  %3 = graph.grouped_matmul %x, %w by %g : tensor<3x2xf32>, tensor<2x2x2xf32>, tensor<3xi64> -> tensor<3x2xf32>
  // EINSUM: result4 {{.*}} = {{\[\[\[}}0, 10], [0, 15]], {{\[\[}}8, 2], [12, 3]]]
  %dy = graph.constant dense<[[4.0, 6.0], [9.0, 9.0], [2.0, 3.0]]> : tensor<3x2xf32>
  %h = graph.constant dense<[1, 2, 0]> : tensor<3xi64>
  %y = graph.constant dense<[[2.0, 0.5], [1.0, 1.0], [0.0, 5.0]]> : tensor<3x2xf32>
  %4 = graph.grouped_matmul_grad %y, %dy by %h : tensor<3x2xf32>, tensor<3x2xf32>, tensor<3xi64> -> tensor<2x2x2xf32>
  // In two blocks the first row has the first expert only, the second row the second; the others' give zero rows.
  // EINSUM: result5 {{.*}} = {{\[\[}}0, 0], [5, 11]]
  %p = graph.constant dense<[[1.0, 2.0], [1.0, 2.0]]> : tensor<2x2xf32>
  %q = graph.constant dense<[1, 1]> : tensor<2xi64>
  %5 = graph.grouped_matmul %p, %w by %q {blocks = 2 : i64} : tensor<2x2xf32>, tensor<2x2x2xf32>, tensor<2xi64> -> tensor<2x2xf32>
  return %0, %1, %2, %3, %4, %5 : tensor<2x2x2xf32>, tensor<2x2xf32>, tensor<1x1xi8>, tensor<3x2xf32>, tensor<2x2x2xf32>, tensor<2x2xf32>
}

// Two groups, stride 2 and 1, dilation 1 and 2, padding above and on the right; expected values by numpy.
func.func @conv() -> tensor<1x4x2x3xf32> {
  %x = graph.constant dense<[[[[-1.75, -0.5, -0.75, -1.5], [1.25, -0.5, 2.0, 0.25], [0.5, 0.5, 0.75, -1.5], [-0.25, -1.0, -0.5, -1.5], [1.75, -1.25, 0.75, -0.75]], [[1.5, 0.75, -1.5, 1.5], [1.75, 1.5, 0.25, -1.5], [-1.25, 1.75, 0.25, -1.25], [1.5, 0.5, 0.25, -0.5], [-0.25, -1.0, -1.75, 1.5]], [[-0.25, 0.25, -0.75, 1.0], [-2.0, -0.5, -2.0, -1.5], [1.75, 0.75, -0.25, 0.0], [1.5, -0.5, 0.25, 0.75], [-0.5, 0.0, 1.0, 1.75]], [[-1.5, 1.75, -2.0, 1.0], [1.25, -1.5, -0.25, 1.25], [-2.0, 0.5, 1.25, 0.0], [1.0, -1.0, -1.25, -0.5], [-1.25, -0.5, 1.75, 0.25]]]]> : tensor<1x4x5x4xf32>
  %w = graph.constant dense<[[[[-0.75, -1.0], [1.75, -0.25], [2.0, 0.0]], [[0.0, 1.5], [1.0, 0.25], [-0.25, 1.5]]], [[[-0.25, 1.75], [-1.75, -0.25], [0.0, 1.75]], [[-1.0, 1.25], [0.75, 0.75], [0.5, 2.0]]], [[[-0.75, -0.5], [-1.25, -1.75], [-1.25, 1.75]], [[1.25, -1.5], [0.5, 0.0], [0.5, 0.75]]], [[[-0.75, 1.75], [-0.25, 0.5], [0.5, -1.25]], [[-1.75, -0.25], [1.0, 1.25], [1.0, -1.5]]]]> : tensor<4x2x3x2xf32>
  // CONV: {{\[\[\[\[}}0.6875, -3, 1.125], [-3.5625, -2.3125, -1]], {{\[\[}}8.125, 1.125, 0.3125], [0.3125, -6.3125, -1.75]], {{\[\[}}0.3125, -3, 2.3125], [-0.1875, -2.25, 1.1875]], {{\[\[}}-1.1875, 1.6875, -3.0625], [-1.8125, -1.0625, 2.125]]]]
  %0 = graph.conv %x, %w {strides = array<i64: 2, 1>, padLow = array<i64: 1, 0>, padHigh = array<i64: 0, 1>, dilations = array<i64: 1, 2>, group = 2 : i64} : tensor<1x4x5x4xf32>, tensor<4x2x3x2xf32> -> tensor<1x4x2x3xf32>
  return %0 : tensor<1x4x2x3xf32>
}

func.func @reductions() -> (tensor<2xf32>, tensor<f32>, tensor<3xi1>, tensor<2xf32>, tensor<2x3xf32>, tensor<3xf32>) {
  %x = graph.constant dense<[[1.0, 0x7FC00000, 3.0], [4.0, 5.0, 6.0]]> : tensor<2x3xf32>
  // REDUCE: result0 {{.*}} = [nan, 6]
  %0 = graph.reduce max %x [1] : tensor<2x3xf32> -> tensor<2xf32>
  // REDUCE: result1 {{.*}} = nan
  %1 = graph.reduce min %x [0, 1] : tensor<2x3xf32> -> tensor<f32>
  // REDUCE: result2 {{.*}} = [false, true, false]
  %b = graph.constant dense<[[true, true, false], [false, true, true]]> : tensor<2x3xi1>
  %2 = graph.reduce and %b [0] : tensor<2x3xi1> -> tensor<3xi1>
  // The neutral value.
  // REDUCE: result3 {{.*}} = [-inf, -inf]
  %e = graph.constant dense<> : tensor<2x0xf32>
  %3 = graph.reduce max %e [1] : tensor<2x0xf32> -> tensor<2xf32>
  // REDUCE: result4 {{.*}} = {{\[\[}}3, 2, 0], [11, 6, 0]]
  %y = graph.constant dense<[[7.0, 1.0, 2.0], [4.0, 5.0, 6.0]]> : tensor<2x3xf32>
  %4 = graph.cumsum %y dim 1 {exclusive = true, reverse = true} : tensor<2x3xf32>
  // REDUCE: result5 {{.*}} = [28, 5, 12]
  %5 = graph.reduce prod %y [0] : tensor<2x3xf32> -> tensor<3xf32>
  return %0, %1, %2, %3, %4, %5 : tensor<2xf32>, tensor<f32>, tensor<3xi1>, tensor<2xf32>, tensor<2x3xf32>, tensor<3xf32>
}

func.func @order() -> (tensor<3xf32>, tensor<3xi64>, tensor<2x2xi64>, tensor<2xi64>, tensor<2xi64>) {
  %x = graph.constant dense<[2.0, 5.0, 5.0, 1.0, 5.0]> : tensor<5xf32>
  // Ties go to the lower index.
  // ORDER: result0 {{.*}} = [5, 5, 5]
  // ORDER: result1 {{.*}} = [1, 2, 4]
  %0, %1 = graph.topk %x dim 0 largest true : tensor<5xf32> -> tensor<3xf32>, tensor<3xi64>
  // ORDER: result2 {{.*}} = {{\[\[}}1, 0], [2, 2]]
  %y = graph.constant dense<[[3, 1], [2, 8], [2, 1]]> : tensor<3x2xi64>
  %v, %2 = graph.topk %y dim 0 largest false : tensor<3x2xi64> -> tensor<2x2xi64>, tensor<2x2xi64>
  // ORDER: result3 {{.*}} = [1, 0]
  // ORDER: result4 {{.*}} = [2, 2]
  %3 = graph.arg_reduce %y dim 0 largest false last false : tensor<3x2xi64> -> tensor<2xi64>
  %4 = graph.arg_reduce %y dim 0 largest false last true : tensor<3x2xi64> -> tensor<2xi64>
  return %0, %1, %2, %3, %4 : tensor<3xf32>, tensor<3xi64>, tensor<2x2xi64>, tensor<2xi64>, tensor<2xi64>
}
