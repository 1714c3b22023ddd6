// Kernels of shapes and types that the fixtures do not have; test_kernels.py runs them in the emulator.

// Vectors of eight, a cast, two results, a column that is broadcast.
func.func private @chain(%x: tensor<6x40xbf16>, %y: tensor<6x40xf32>, %c: tensor<6x1xf32>) -> (tensor<6x40xf32>, tensor<6x40xbf16>) attributes {exec.kernel} {
  %0 = graph.cast %x : tensor<6x40xbf16> -> tensor<6x40xf32>
  %1 = graph.broadcast %c [0, 1] : tensor<6x1xf32> -> tensor<6x40xf32>
  %2 = graph.mul %0, %1 : tensor<6x40xf32>
  %3 = graph.add %2, %y : tensor<6x40xf32>
  %4 = graph.gelu %3 : tensor<6x40xf32>
  %5 = graph.cast %4 : tensor<6x40xf32> -> tensor<6x40xbf16>
  return %3, %5 : tensor<6x40xf32>, tensor<6x40xbf16>
}

// More elements than threads in the grid.
func.func private @update(%p: tensor<9000003xf32>, %g: tensor<9000003xf32>) -> tensor<9000003xf32>
    attributes {exec.kernel, exec.in_place = [array<i64: 0, 0>]} {
  %n = graph.sub %p, %g : tensor<9000003xf32>
  return %n : tensor<9000003xf32>
}

// A block a row, in registers; the last vectors of the row are not all there.
func.func private @add_norm(%x: tensor<3x1000xbf16>, %y: tensor<3x1000xbf16>, %w: tensor<1000xbf16>)
    -> (tensor<3x1000xbf16>, tensor<3x1000xbf16>) attributes {exec.kernel} {
  %s = graph.add %x, %y : tensor<3x1000xbf16>
  %r = graph.rms_norm %s, %w : tensor<1000xbf16> epsilon 1.0e-06 : tensor<3x1000xbf16>
  return %s, %r : tensor<3x1000xbf16>, tensor<3x1000xbf16>
}
func.func private @layer_norm(%x: tensor<2x4096xf32>, %w: tensor<4096xf32>, %b: tensor<4096xf32>) -> tensor<2x4096xf32> attributes {exec.kernel} {
  %r = graph.layer_norm %x weight %w : tensor<4096xf32> bias %b : tensor<4096xf32> epsilon 1.0e-05 : tensor<2x4096xf32>
  return %r : tensor<2x4096xf32>
}

// A warp a row; the last block has one row only, the last vectors are not all there.
func.func private @short_softmax(%x: tensor<9x100xf16>) -> tensor<9x100xf16> attributes {exec.kernel} {
  %s = graph.softmax %x dim 1 : tensor<9x100xf16>
  return %s : tensor<9x100xf16>
}

// Rows whose columns are not neighbours.
func.func private @middle_softmax(%x: tensor<3x50x7xf32>) -> tensor<3x50x7xf32> attributes {exec.kernel} {
  %s = graph.softmax %x dim 1 : tensor<3x50x7xf32>
  return %s : tensor<3x50x7xf32>
}

// Rows longer than registers.
func.func private @long_softmax(%x: tensor<2x70000xf32>) -> tensor<2x70000xf32> attributes {exec.kernel} {
  %s = graph.softmax %x dim 1 : tensor<2x70000xf32>
  return %s : tensor<2x70000xf32>
}
func.func private @loss(%x: tensor<2x50257xbf16>, %l: tensor<2xi64>) -> tensor<2xbf16> attributes {exec.kernel} {
  %s = graph.softmax_cross_entropy %x, %l : tensor<2x50257xbf16>, tensor<2xi64> -> tensor<2xbf16>
  return %s : tensor<2xbf16>
}
func.func private @sum_of_squares(%x: tensor<100003xf32>) -> tensor<f32> attributes {exec.kernel} {
  %q = graph.mul %x, %x : tensor<100003xf32>
  %s = graph.reduce sum %q [0] : tensor<100003xf32> -> tensor<f32>
  return %s : tensor<f32>
}

// Columns: not a whole number of warps, and a few rows only.
func.func private @bias_gradient(%x: tensor<5x61x100xbf16>) -> tensor<100xbf16> attributes {exec.kernel} {
  %s = graph.reduce sum %x [0, 1] : tensor<5x61x100xbf16> -> tensor<100xbf16>
  return %s : tensor<100xbf16>
}
func.func private @largest(%x: tensor<4x3x33xi32>) -> tensor<4x33xi32> attributes {exec.kernel} {
  %s = graph.reduce max %x [1] : tensor<4x3x33xi32> -> tensor<4x33xi32>
  return %s : tensor<4x33xi32>
}

func.func private @flip(%x: tensor<3x40x24xbf16>) -> tensor<24x3x40xbf16> attributes {exec.kernel} {
  %t = graph.transpose %x [2, 0, 1] : tensor<3x40x24xbf16> -> tensor<24x3x40xbf16>
  return %t : tensor<24x3x40xbf16>
}
func.func private @lookup(%t: tensor<7x32xbf16>, %i: tensor<4x5xi64>) -> tensor<4x5x32xbf16> attributes {exec.kernel} {
  %r = graph.gather %t, %i axis 0 : tensor<7x32xbf16>, tensor<4x5xi64> -> tensor<4x5x32xbf16>
  return %r : tensor<4x5x32xbf16>
}
func.func private @best(%x: tensor<9x16xf32>) -> (tensor<9x2xf32>, tensor<9x2xi64>) attributes {exec.kernel} {
  %v, %i = graph.topk %x dim 1 largest true : tensor<9x16xf32> -> tensor<9x2xf32>, tensor<9x2xi64>
  return %v, %i : tensor<9x2xf32>, tensor<9x2xi64>
}
// Indices beyond the table, or negative ones, read zero.
func.func private @pick(%x: tensor<4x6xf32>, %i: tensor<4x2xi32>) -> tensor<4x2xf32> attributes {exec.kernel} {
  %r = graph.gather_elements %x, %i axis 1 : tensor<4x6xf32>, tensor<4x2xi32> -> tensor<4x2xf32>
  return %r : tensor<4x2xf32>
}
func.func private @pick_points(%x: tensor<4x6xf32>, %i: tensor<9x2xi64>) -> tensor<9xf32> attributes {exec.kernel} {
  %r = graph.gather_nd %x, %i batch 0 : tensor<4x6xf32>, tensor<9x2xi64> -> tensor<9xf32>
  return %r : tensor<9xf32>
}

// Matrix multiplications: what cuBLASLt does behind them, and what it does not.
func.func private @bias_gelu(%x: tensor<3x5x8xf32>, %w: tensor<8x16xf32>, %b: tensor<16xf32>) -> tensor<3x5x16xf32> attributes {exec.kernel} {
  %0 = graph.einsum "bsk,kn->bsn" %x, %w : tensor<3x5x8xf32>, tensor<8x16xf32> -> tensor<3x5x16xf32>
  %1 = graph.broadcast %b [2] : tensor<16xf32> -> tensor<3x5x16xf32>
  %2 = graph.add %1, %0 : tensor<3x5x16xf32>
  %3 = graph.gelu_tanh %2 : tensor<3x5x16xf32>
  return %3 : tensor<3x5x16xf32>
}
func.func private @relu(%x: tensor<5x8xbf16>, %w: tensor<16x8xbf16>) -> tensor<5x16xbf16> attributes {exec.kernel} {
  %0 = graph.einsum "mk,nk->mn" %x, %w : tensor<5x8xbf16>, tensor<16x8xbf16> -> tensor<5x16xbf16>
  %1 = graph.relu %0 : tensor<5x16xbf16>
  return %1 : tensor<5x16xbf16>
}
func.func private @bias_then_more(%x: tensor<5x8xf32>, %w: tensor<16x8xf32>, %b: tensor<16xf32>, %r: tensor<5x16xf32>) -> tensor<5x16xf32> attributes {exec.kernel} {
  %0 = graph.einsum "mk,nk->mn" %x, %w : tensor<5x8xf32>, tensor<16x8xf32> -> tensor<5x16xf32>
  %1 = graph.broadcast %b [1] : tensor<16xf32> -> tensor<5x16xf32>
  %2 = graph.add %0, %1 : tensor<5x16xf32>
  %3 = graph.mul %2, %r : tensor<5x16xf32>
  return %3 : tensor<5x16xf32>
}
// A vector that is not added to every row: a kernel follows.
func.func private @column_bias(%x: tensor<16x8xf32>, %w: tensor<16x8xf32>, %b: tensor<16xf32>) -> tensor<16x16xf32> attributes {exec.kernel} {
  %0 = graph.einsum "mk,nk->mn" %x, %w : tensor<16x8xf32>, tensor<16x8xf32> -> tensor<16x16xf32>
  %1 = graph.broadcast %b [0] : tensor<16xf32> -> tensor<16x16xf32>
  %2 = graph.add %0, %1 : tensor<16x16xf32>
  return %2 : tensor<16x16xf32>
}
// No type of cuBLASLt's, and strides that it cannot take: sums, a thread an element.
func.func private @integers(%x: tensor<5x8xi64>, %w: tensor<8x6xi64>) -> tensor<5x6xi64> attributes {exec.kernel} {
  %0 = graph.einsum "mk,kn->mn" %x, %w : tensor<5x8xi64>, tensor<8x6xi64> -> tensor<5x6xi64>
  return %0 : tensor<5x6xi64>
}
func.func private @repeated_rows(%x: tensor<8xf32>, %w: tensor<8x6xf32>) -> tensor<5x6xf32> attributes {exec.kernel} {
  %b = graph.broadcast %x [1] : tensor<8xf32> -> tensor<5x8xf32>
  %0 = graph.einsum "mk,kn->mn" %b, %w : tensor<5x8xf32>, tensor<8x6xf32> -> tensor<5x6xf32>
  return %0 : tensor<5x6xf32>
}
