// Experts of models as they are: no register may be spilled.

func.func private @mixtral(%x: tensor<4096x4096xbf16>, %w: tensor<8x14336x4096xbf16>, %g: tensor<4096xi64>) -> tensor<4096x14336xbf16> attributes {exec.kernel} {
  %r = graph.grouped_matmul %x, %w by %g : tensor<4096x4096xbf16>, tensor<8x14336x4096xbf16>, tensor<4096xi64> -> tensor<4096x14336xbf16>
  return %r : tensor<4096x14336xbf16>
}
func.func private @input_gradient(%x: tensor<32768x768xbf16>, %w: tensor<128x768x2048xbf16>, %g: tensor<32768xi64>) -> tensor<32768x2048xbf16> attributes {exec.kernel} {
  %t = graph.transpose %w [0, 2, 1] : tensor<128x768x2048xbf16> -> tensor<128x2048x768xbf16>
  %r = graph.grouped_matmul %x, %t by %g : tensor<32768x768xbf16>, tensor<128x2048x768xbf16>, tensor<32768xi64> -> tensor<32768x2048xbf16>
  return %r : tensor<32768x2048xbf16>
}
func.func private @weight_gradient(%x: tensor<32768x2048xbf16>, %y: tensor<32768x768xbf16>, %g: tensor<32768xi64>) -> tensor<128x768x2048xbf16> attributes {exec.kernel} {
  %r = graph.grouped_matmul_grad %x, %y by %g : tensor<32768x2048xbf16>, tensor<32768x768xbf16>, tensor<32768xi64> -> tensor<128x768x2048xbf16>
  return %r : tensor<128x768x2048xbf16>
}
