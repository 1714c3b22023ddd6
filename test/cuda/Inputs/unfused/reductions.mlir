// Reductions of long rows, which Fuse cuts into parts on GPUs: what is computed before them is, too.

func.func @sums(%x: tensor<4x64x1024xf32>, %y: tensor<3x65536xbf16>) -> (tensor<4xf32>, tensor<3xbf16>) {
  %0 = graph.mul %x, %x : tensor<4x64x1024xf32>
  %1 = graph.reduce sum %0 [1, 2] : tensor<4x64x1024xf32> -> tensor<4xf32>
  %2 = graph.reduce sum %y [1] : tensor<3x65536xbf16> -> tensor<3xbf16>
  return %1, %2 : tensor<4xf32>, tensor<3xbf16>
}
func.func @greatest(%x: tensor<65536xf16>, %y: tensor<2x70000xi32>) -> (tensor<f16>, tensor<2xi32>) {
  %0 = graph.reduce max %x [0] : tensor<65536xf16> -> tensor<f16>
  %1 = graph.reduce sum %y [1] : tensor<2x70000xi32> -> tensor<2xi32>
  return %0, %1 : tensor<f16>, tensor<2xi32>
}
