// Running sums, top-k and arg-reductions: rows that are no multiple of a warp, and shorter than one.

func.func private @cumsum(%x: tensor<3x5x100xf32>) -> tensor<3x5x100xf32> attributes {exec.kernel} {
  %r = graph.cumsum %x dim 2 : tensor<3x5x100xf32>
  return %r : tensor<3x5x100xf32>
}
func.func private @cumsum_back(%x: tensor<6x33xi64>) -> tensor<6x33xi64> attributes {exec.kernel} {
  %r = graph.cumsum %x dim 1 {exclusive = true, reverse = true} : tensor<6x33xi64>
  return %r : tensor<6x33xi64>
}
func.func private @cumsum_narrow(%x: tensor<2x64x1xbf16>) -> tensor<2x64x1xbf16> attributes {exec.kernel} {
  %r = graph.cumsum %x dim 1 {exclusive = true} : tensor<2x64x1xbf16>
  return %r : tensor<2x64x1xbf16>
}
func.func private @cumsum_rows(%x: tensor<40x6xf32>) -> tensor<40x6xf32> attributes {exec.kernel} {
  %r = graph.cumsum %x dim 0 : tensor<40x6xf32>
  return %r : tensor<40x6xf32>
}
func.func private @topk(%x: tensor<7x70xf32>) -> (tensor<7x5xf32>, tensor<7x5xi64>) attributes {exec.kernel} {
  %v, %i = graph.topk %x dim 1 largest true : tensor<7x70xf32> -> tensor<7x5xf32>, tensor<7x5xi64>
  return %v, %i : tensor<7x5xf32>, tensor<7x5xi64>
}
// Many equal elements: the first of them comes first.
func.func private @topk_ties(%x: tensor<3x20xi8>) -> (tensor<3x20xi8>, tensor<3x20xi32>) attributes {exec.kernel} {
  %v, %i = graph.topk %x dim 1 largest false : tensor<3x20xi8> -> tensor<3x20xi8>, tensor<3x20xi32>
  return %v, %i : tensor<3x20xi8>, tensor<3x20xi32>
}
func.func private @argmax(%x: tensor<5x300xf16>) -> tensor<5xi64> attributes {exec.kernel} {
  %r = graph.arg_reduce %x dim 1 largest true last false : tensor<5x300xf16> -> tensor<5xi64>
  return %r : tensor<5xi64>
}
func.func private @argmin_last(%x: tensor<5x37xui8>) -> tensor<5xi64> attributes {exec.kernel} {
  %r = graph.arg_reduce %x dim 1 largest false last true : tensor<5x37xui8> -> tensor<5xi64>
  return %r : tensor<5xi64>
}
