// Attention: test_kernels.py runs them in the emulator. Shapes are ragged on purpose.

// Grouped-query, causal, more keys than queries; rows of two heads meet in a tile.
func.func private @causal(%q: tensor<1x4x40x20xf32>, %k: tensor<1x2x50x20xf32>, %v: tensor<1x2x50x20xf32>) -> tensor<1x4x40x20xf32> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v scale 0.25 {causal = true, causalOffset = 10 : i64}
      : tensor<1x4x40x20xf32>, tensor<1x2x50x20xf32>, tensor<1x2x50x20xf32> -> tensor<1x4x40x20xf32>
  return %r : tensor<1x4x40x20xf32>
}
// Read and written through transposes, a window, a soft cap; tensor cores.
func.func private @window(%q: tensor<2x96x2x32xbf16>, %k: tensor<2x96x2x32xbf16>, %v: tensor<2x96x2x32xbf16>) -> tensor<2x96x64xbf16> attributes {exec.kernel} {
  %qt = graph.transpose %q [0, 2, 1, 3] : tensor<2x96x2x32xbf16> -> tensor<2x2x96x32xbf16>
  %kt = graph.transpose %k [0, 2, 1, 3] : tensor<2x96x2x32xbf16> -> tensor<2x2x96x32xbf16>
  %vt = graph.transpose %v [0, 2, 1, 3] : tensor<2x96x2x32xbf16> -> tensor<2x2x96x32xbf16>
  %r = graph.attention %qt, %kt, %vt scale 0.2 {causal = true, window = 24 : i64, softcap = 2.0 : f64}
      : tensor<2x2x96x32xbf16>, tensor<2x2x96x32xbf16>, tensor<2x2x96x32xbf16> -> tensor<2x2x96x32xbf16>
  %t = graph.transpose %r [0, 2, 1, 3] : tensor<2x2x96x32xbf16> -> tensor<2x96x2x32xbf16>
  %s = graph.reshape %t : tensor<2x96x2x32xbf16> -> tensor<2x96x64xbf16>
  return %s : tensor<2x96x64xbf16>
}
// Decoding: one query, three heads of a key head, an additive mask, sinks; odd sizes.
func.func private @decode(%q: tensor<2x3x1x10xf16>, %k: tensor<2x1x37x10xf16>, %v: tensor<2x1x37x7xf16>, %m: tensor<2x1x1x37xf32>, %s: tensor<3xf16>) -> tensor<2x3x1x7xf16> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v mask %m : tensor<2x1x1x37xf32> sinks %s : tensor<3xf16> scale 0.3
      : tensor<2x3x1x10xf16>, tensor<2x1x37x10xf16>, tensor<2x1x37x7xf16> -> tensor<2x3x1x7xf16>
  return %r : tensor<2x3x1x7xf16>
}
// A bool mask a head; rows that see nothing; the first queries stand before the first key.
func.func private @hidden(%q: tensor<1x2x20x16xf32>, %k: tensor<1x2x33x16xf32>, %v: tensor<1x2x33x24xf32>, %m: tensor<1x2x20x33xi1>) -> tensor<1x2x20x24xf32> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v mask %m : tensor<1x2x20x33xi1> scale 1.0 {causal = true, causalOffset = -3 : i64}
      : tensor<1x2x20x16xf32>, tensor<1x2x33x16xf32>, tensor<1x2x33x24xf32> -> tensor<1x2x20x24xf32>
  return %r : tensor<1x2x20x24xf32>
}
// Large heads.
func.func private @large_heads(%q: tensor<1x1x24x256xbf16>, %k: tensor<1x1x40x256xbf16>, %v: tensor<1x1x40x256xbf16>) -> tensor<1x1x24x256xbf16> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v scale 0.0625 : tensor<1x1x24x256xbf16>, tensor<1x1x40x256xbf16>, tensor<1x1x40x256xbf16> -> tensor<1x1x24x256xbf16>
  return %r : tensor<1x1x24x256xbf16>
}
func.func private @large_heads_f32(%q: tensor<1x1x24x192xf32>, %k: tensor<1x1x40x192xf32>, %v: tensor<1x1x40x128xf32>) -> tensor<1x1x24x128xf32> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v scale 0.0625 {causal = true, causalOffset = 16 : i64} : tensor<1x1x24x192xf32>, tensor<1x1x40x192xf32>, tensor<1x1x40x128xf32> -> tensor<1x1x24x128xf32>
  return %r : tensor<1x1x24x128xf32>
}
// Few queries and many keys: these are split over several blocks, whose results are merged. A bool mask hides all keys of some splits, and all
// of the last row.
func.func private @split(%q: tensor<1x2x3x16xf32>, %k: tensor<1x2x1100x16xf32>, %v: tensor<1x2x1100x24xf32>, %m: tensor<1x1x3x1100xi1>) -> tensor<1x2x3x24xf32> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v mask %m : tensor<1x1x3x1100xi1> scale 0.5 {causal = true, causalOffset = 700 : i64}
      : tensor<1x2x3x16xf32>, tensor<1x2x1100x16xf32>, tensor<1x2x1100x24xf32> -> tensor<1x2x3x24xf32>
  return %r : tensor<1x2x3x24xf32>
}
func.func private @split_sinks(%q: tensor<2x1x6x32xbf16>, %k: tensor<2x1x600x32xbf16>, %v: tensor<2x1x600x32xbf16>, %s: tensor<6xbf16>) -> tensor<2x1x192xbf16> attributes {exec.kernel} {
  %qt = graph.transpose %q [0, 2, 1, 3] : tensor<2x1x6x32xbf16> -> tensor<2x6x1x32xbf16>
  %r = graph.attention %qt, %k, %v sinks %s : tensor<6xbf16> scale 0.2
      : tensor<2x6x1x32xbf16>, tensor<2x1x600x32xbf16>, tensor<2x1x600x32xbf16> -> tensor<2x6x1x32xbf16>
  %t = graph.transpose %r [0, 2, 1, 3] : tensor<2x6x1x32xbf16> -> tensor<2x1x6x32xbf16>
  %o = graph.reshape %t : tensor<2x1x6x32xbf16> -> tensor<2x1x192xbf16>
  return %o : tensor<2x1x192xbf16>
}
func.func private @split_window(%q: tensor<1x3x2x10xf16>, %k: tensor<1x1x900x10xf16>, %v: tensor<1x1x900x7xf16>) -> tensor<1x3x2x7xf16> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v scale 0.3 {causal = true, causalOffset = 898 : i64, window = 100 : i64, softcap = 2.0 : f64}
      : tensor<1x3x2x10xf16>, tensor<1x1x900x10xf16>, tensor<1x1x900x7xf16> -> tensor<1x3x2x7xf16>
  return %r : tensor<1x3x2x7xf16>
}
