// RUN: shard-opt --shard-interpret %s --entry views | FileCheck %s --check-prefix=VIEWS
// RUN: shard-opt --shard-interpret %s --entry indexed | FileCheck %s --check-prefix=INDEXED
// RUN: shard-opt --shard-interpret %s --entry scattered | FileCheck %s --check-prefix=SCATTERED

func.func @views() -> (tensor<3x2xi64>, tensor<2x3x2xi64>, tensor<2x2xi64>, tensor<2x3xi64>, tensor<3x4xi64>, tensor<2x4xi64>) {
  %x = graph.constant dense<[[1, 2, 3], [4, 5, 6]]> : tensor<2x3xi64>
  %col = graph.constant dense<[[7], [8]]> : tensor<2x1xi64>
  // VIEWS: result0 : tensor<3x2xi64> = {{\[\[}}1, 4], [2, 5], [3, 6]]
  %0 = graph.transpose %x [1, 0] : tensor<2x3xi64> -> tensor<3x2xi64>
  // VIEWS: result1 {{.*}} = {{\[\[\[}}7, 7], [7, 7], [7, 7]], {{\[\[}}8, 8], [8, 8], [8, 8]]]
  %1 = graph.broadcast %col [0, 2] : tensor<2x1xi64> -> tensor<2x3x2xi64>
  // VIEWS: result2 {{.*}} = {{\[\[}}1, 3], [4, 6]]
  %2 = graph.slice %x [0, 0] step [1, 2] : tensor<2x3xi64> -> tensor<2x2xi64>
  // VIEWS: result3 {{.*}} = {{\[\[}}6, 5, 4], [3, 2, 1]]
  %3 = graph.reverse %x [0, 1] : tensor<2x3xi64> -> tensor<2x3xi64>
  // VIEWS: result4 {{.*}} = {{\[\[}}9, 9, 9, 9], [1, 2, 3, 9], [4, 5, 6, 9]]
  %4 = graph.pad %x low [1, 0] high [0, 1] with 9 : i64 : tensor<2x3xi64> -> tensor<3x4xi64>
  // VIEWS: result5 {{.*}} = {{\[\[}}7, 1, 2, 3], [8, 4, 5, 6]]
  %5 = graph.concat %col, %x dim 1 : tensor<2x1xi64>, tensor<2x3xi64> -> tensor<2x4xi64>
  return %0, %1, %2, %3, %4, %5 : tensor<3x2xi64>, tensor<2x3x2xi64>, tensor<2x2xi64>, tensor<2x3xi64>, tensor<3x4xi64>, tensor<2x4xi64>
}

func.func @indexed() -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2x2xf32>, tensor<2x1xf32>) {
  %x = graph.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
  %i = graph.constant dense<[1, 2, 0]> : tensor<3xi64>
  %n = graph.constant dense<[[1, 0], [0, 5]]> : tensor<2x2xi64>
  // An index out of range reads zero.
  // INDEXED: result0 {{.*}} = {{\[\[}}2, 0, 1], [4, 0, 3]]
  %0 = graph.gather %x, %i axis 1 : tensor<2x2xf32>, tensor<3xi64> -> tensor<2x3xf32>
  // INDEXED: result1 {{.*}} = [3, 0]
  %1 = graph.gather_nd %x, %n batch 0 : tensor<2x2xf32>, tensor<2x2xi64> -> tensor<2xf32>
  // INDEXED: result2 {{.*}} = {{\[\[}}3, 2], [1, 0]]
  %2 = graph.gather_elements %x, %n axis 0 : tensor<2x2xf32>, tensor<2x2xi64> -> tensor<2x2xf32>
  // INDEXED: result3 {{.*}} = {{\[\[}}2], [3]]
  %b = graph.constant dense<[[[1]], [[0]]]> : tensor<2x1x1xi64>
  %3 = graph.gather_nd %x, %b batch 1 : tensor<2x2xf32>, tensor<2x1x1xi64> -> tensor<2x1xf32>
  return %0, %1, %2, %3 : tensor<2x3xf32>, tensor<2xf32>, tensor<2x2xf32>, tensor<2x1xf32>
}

func.func @scattered() -> (tensor<3x2xf32>, tensor<3x2xf32>, tensor<3x2xf32>) {
  %x = graph.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>
  %rows = graph.constant dense<[[2], [0], [2], [9]]> : tensor<4x1xi64>
  %u = graph.constant dense<[[1.0, 1.0], [2.0, 2.0], [4.0, 4.0], [8.0, 8.0]]> : tensor<4x2xf32>
  // Repeated indices add up; one out of range is dropped.
  // SCATTERED: result0 {{.*}} = {{\[\[}}3, 4], [3, 4], [10, 11]]
  %0 = graph.scatter_nd sum %x, %rows, %u : tensor<3x2xf32>, tensor<4x1xi64>, tensor<4x2xf32>
  // The last one in row-major order stays.
  // SCATTERED: result1 {{.*}} = {{\[\[}}2, 2], [3, 4], [4, 4]]
  %1 = graph.scatter_nd replace %x, %rows, %u : tensor<3x2xf32>, tensor<4x1xi64>, tensor<4x2xf32>
  // SCATTERED: result2 {{.*}} = {{\[\[}}1, 2], [3, 4], [5, 12]]
  %i = graph.constant dense<[[1]]> : tensor<1x1xi64>
  %v = graph.constant dense<[[6.0]]> : tensor<1x1xf32>
  %flipped = graph.reverse %x [0] : tensor<3x2xf32> -> tensor<3x2xf32>
  %summed = graph.scatter_elements sum %flipped, %i, %v axis 1 : tensor<3x2xf32>, tensor<1x1xi64>, tensor<1x1xf32>
  %2 = graph.reverse %summed [0] : tensor<3x2xf32> -> tensor<3x2xf32>
  return %0, %1, %2 : tensor<3x2xf32>, tensor<3x2xf32>, tensor<3x2xf32>
}
