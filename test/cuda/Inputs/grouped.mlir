// Products of rows by groups; numbers outside of the groups are rows of no group (random ones are -1 … 7).

func.func private @tensor_cores(%x: tensor<150x72xbf16>, %w: tensor<5x136x72xbf16>, %g: tensor<150xi64>) -> tensor<150x136xbf16> attributes {exec.kernel} {
  %r = graph.grouped_matmul %x, %w by %g : tensor<150x72xbf16>, tensor<5x136x72xbf16>, tensor<150xi64> -> tensor<150x136xbf16>
  return %r : tensor<150x136xbf16>
}
// The gradient of the input: the weight's columns are neighbours.
func.func private @transposed(%x: tensor<70x40xf16>, %w: tensor<4x40x96xf16>, %g: tensor<70xi32>) -> tensor<70x96xf16> attributes {exec.kernel} {
  %t = graph.transpose %w [0, 2, 1] : tensor<4x40x96xf16> -> tensor<4x96x40xf16>
  %r = graph.grouped_matmul %x, %t by %g : tensor<70x40xf16>, tensor<4x96x40xf16>, tensor<70xi32> -> tensor<70x96xf16>
  return %r : tensor<70x96xf16>
}
// Odd sizes, one tile.
func.func private @plain(%x: tensor<9x7xf32>, %w: tensor<3x5x7xf32>, %g: tensor<9xui8>) -> tensor<9x5xf32> attributes {exec.kernel} {
  %r = graph.grouped_matmul %x, %w by %g : tensor<9x7xf32>, tensor<3x5x7xf32>, tensor<9xui8> -> tensor<9x5xf32>
  return %r : tensor<9x5xf32>
}
func.func private @double(%x: tensor<80x33xf64>, %w: tensor<2x70x33xf64>, %g: tensor<80xi64>) -> tensor<80x70xf64> attributes {exec.kernel} {
  %r = graph.grouped_matmul %x, %w by %g : tensor<80x33xf64>, tensor<2x70x33xf64>, tensor<80xi64> -> tensor<80x70xf64>
  return %r : tensor<80x70xf64>
}
func.func private @gradient(%x: tensor<150x72xbf16>, %y: tensor<150x136xbf16>, %g: tensor<150xi64>) -> tensor<9x136x72xbf16> attributes {exec.kernel} {
  %r = graph.grouped_matmul_grad %x, %y by %g : tensor<150x72xbf16>, tensor<150x136xbf16>, tensor<150xi64> -> tensor<9x136x72xbf16>
  return %r : tensor<9x136x72xbf16>
}
func.func private @plain_gradient(%x: tensor<90x67xf32>, %y: tensor<90x65xf32>, %g: tensor<90xi64>) -> tensor<2x65x67xf32> attributes {exec.kernel} {
  %r = graph.grouped_matmul_grad %x, %y by %g : tensor<90x67xf32>, tensor<90x65xf32>, tensor<90xi64> -> tensor<2x65x67xf32>
  return %r : tensor<2x65x67xf32>
}
