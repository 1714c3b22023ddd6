// Products with what cuBLASLt does beside them, and the same by plain products and generated kernels; sums over columns together.

// The gradients of a weight and a bias out of one cotangent, in both orders of the factors.
func.func private @bias_gradient(%dy: tensor<2x9x12xf32>, %x: tensor<2x9x20xf32>) -> (tensor<12x20xf32>, tensor<12xf32>) attributes {exec.kernel} {
  %0 = graph.einsum "abn,abk->nk" %dy, %x : tensor<2x9x12xf32>, tensor<2x9x20xf32> -> tensor<12x20xf32>
  %1 = graph.reduce sum %dy [0, 1] : tensor<2x9x12xf32> -> tensor<12xf32>
  return %0, %1 : tensor<12x20xf32>, tensor<12xf32>
}
func.func private @bias_gradient_transposed(%dy: tensor<2x9x12xf16>, %x: tensor<2x9x20xf16>) -> (tensor<20x12xf16>, tensor<12xf16>) attributes {exec.kernel} {
  %0 = graph.einsum "abn,abk->kn" %dy, %x : tensor<2x9x12xf16>, tensor<2x9x20xf16> -> tensor<20x12xf16>
  %1 = graph.reduce sum %dy [0, 1] : tensor<2x9x12xf16> -> tensor<12xf16>
  return %0, %1 : tensor<20x12xf16>, tensor<12xf16>
}
// The weight's gradient is added to what is there, in place.
func.func private @accumulated(%dy: tensor<18x12xf32>, %x: tensor<18x20xf32>, %before: tensor<12x20xf32>) -> (tensor<12x20xf32>, tensor<12xf32>) attributes {exec.kernel, exec.in_place = [array<i64: 2, 0>]} {
  %0 = graph.einsum "bn,bk->nk" %dy, %x : tensor<18x12xf32>, tensor<18x20xf32> -> tensor<12x20xf32>
  %1 = graph.add %before, %0 : tensor<12x20xf32>
  %2 = graph.reduce sum %dy [0] : tensor<18x12xf32> -> tensor<12xf32>
  return %1, %2 : tensor<12x20xf32>, tensor<12xf32>
}
// GELU and what it was applied to.
func.func private @gelu_aux(%x: tensor<10x12xf32>, %w: tensor<12x16xf32>, %b: tensor<16xf32>) -> (tensor<10x16xf32>, tensor<10x16xf32>) attributes {exec.kernel} {
  %0 = graph.einsum "mk,kn->mn" %x, %w : tensor<10x12xf32>, tensor<12x16xf32> -> tensor<10x16xf32>
  %1 = graph.broadcast %b [1] : tensor<16xf32> -> tensor<10x16xf32>
  %2 = graph.add %0, %1 : tensor<10x16xf32>
  %3 = graph.gelu_tanh %2 : tensor<10x16xf32>
  return %2, %3 : tensor<10x16xf32>, tensor<10x16xf32>
}
func.func private @gelu_aux_alone(%x: tensor<10x12xbf16>, %w: tensor<16x12xbf16>) -> (tensor<10x16xbf16>, tensor<10x16xbf16>) attributes {exec.kernel} {
  %0 = graph.einsum "mk,nk->mn" %x, %w : tensor<10x12xbf16>, tensor<16x12xbf16> -> tensor<10x16xbf16>
  %1 = graph.gelu_tanh %0 : tensor<10x16xbf16>
  return %0, %1 : tensor<10x16xbf16>, tensor<10x16xbf16>
}
// A bias and a residual.
func.func private @residual(%x: tensor<2x5x12xf32>, %w: tensor<12x16xf32>, %b: tensor<16xf32>, %h: tensor<2x5x16xf32>) -> tensor<2x5x16xf32> attributes {exec.kernel} {
  %0 = graph.einsum "amk,kn->amn" %x, %w : tensor<2x5x12xf32>, tensor<12x16xf32> -> tensor<2x5x16xf32>
  %1 = graph.broadcast %b [2] : tensor<16xf32> -> tensor<2x5x16xf32>
  %2 = graph.add %0, %1 : tensor<2x5x16xf32>
  %3 = graph.add %h, %2 : tensor<2x5x16xf32>
  return %3 : tensor<2x5x16xf32>
}
// Sums of three matrices of one size, one of them added to what is there; the columns do not fill a warp's.
func.func private @columns(%a: tensor<7x11x45xf32>, %b: tensor<77x45xbf16>, %c: tensor<1x77x45xf16>, %before: tensor<45xf32>) -> (tensor<45xf32>, tensor<45xf32>, tensor<45xf16>) attributes {exec.kernel, exec.in_place = [array<i64: 3, 1>]} {
  %0 = graph.mul %a, %a : tensor<7x11x45xf32>
  %1 = graph.reduce sum %0 [0, 1] : tensor<7x11x45xf32> -> tensor<45xf32>
  %2 = graph.cast %b : tensor<77x45xbf16> -> tensor<77x45xf32>
  %3 = graph.reduce sum %2 [0] : tensor<77x45xf32> -> tensor<45xf32>
  %4 = graph.add %before, %3 : tensor<45xf32>
  %5 = graph.reduce max %c [0, 1] : tensor<1x77x45xf16> -> tensor<45xf16>
  return %1, %4, %5 : tensor<45xf32>, tensor<45xf32>, tensor<45xf16>
}
