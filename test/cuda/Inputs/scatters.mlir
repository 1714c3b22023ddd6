// Scatters; random indices are -1 … 7, so that some are out of range and many meet.

func.func private @embedding(%u: tensor<3x20x24xbf16>, %i: tensor<3x20xi64>) -> tensor<6x24xbf16> attributes {exec.kernel} {
  %r = graph.scatter_sum %u at %i axis 0 : tensor<3x20x24xbf16>, tensor<3x20xi64> -> tensor<6x24xbf16>
  return %r : tensor<6x24xbf16>
}
func.func private @middle(%u: tensor<2x9x5xf32>, %i: tensor<9xi32>) -> tensor<2x7x5xf32> attributes {exec.kernel} {
  %r = graph.scatter_sum %u at %i axis 1 : tensor<2x9x5xf32>, tensor<9xi32> -> tensor<2x7x5xf32>
  return %r : tensor<2x7x5xf32>
}
func.func private @replace(%d: tensor<6x10xf32>, %i: tensor<4x9xi64>, %u: tensor<4x9xf32>) -> tensor<6x10xf32> attributes {exec.kernel} {
  %r = graph.scatter_elements replace %d, %i, %u axis 1 : tensor<6x10xf32>, tensor<4x9xi64>, tensor<4x9xf32>
  return %r : tensor<6x10xf32>
}
func.func private @greatest(%d: tensor<7x10xi32>, %i: tensor<12x3xi64>, %u: tensor<12x3xi32>) -> tensor<7x10xi32> attributes {exec.kernel} {
  %r = graph.scatter_elements max %d, %i, %u axis 0 : tensor<7x10xi32>, tensor<12x3xi64>, tensor<12x3xi32>
  return %r : tensor<7x10xi32>
}
func.func private @slices(%d: tensor<5x6x8xf16>, %i: tensor<3x20x2xi64>, %u: tensor<3x20x8xf16>) -> tensor<5x6x8xf16> attributes {exec.kernel} {
  %r = graph.scatter_nd sum %d, %i, %u : tensor<5x6x8xf16>, tensor<3x20x2xi64>, tensor<3x20x8xf16>
  return %r : tensor<5x6x8xf16>
}
// A cache: the data is there already.
func.func private @cache(%d: tensor<8x33xf32>, %i: tensor<4x1xi64>, %u: tensor<4x33xf32>) -> tensor<8x33xf32>
    attributes {exec.kernel, exec.in_place = [array<i64: 0, 0>]} {
  %r = graph.scatter_nd replace %d, %i, %u : tensor<8x33xf32>, tensor<4x1xi64>, tensor<4x33xf32>
  return %r : tensor<8x33xf32>
}
func.func private @one(%d: tensor<8x16xbf16>, %i: tensor<1x1xi64>, %u: tensor<1x16xbf16>) -> tensor<8x16xbf16> attributes {exec.kernel} {
  %r = graph.scatter_nd replace %d, %i, %u : tensor<8x16xbf16>, tensor<1x1xi64>, tensor<1x16xbf16>
  return %r : tensor<8x16xbf16>
}
