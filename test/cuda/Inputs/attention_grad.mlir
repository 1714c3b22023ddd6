// Gradients of attention: shapes as in attention.mlir.

func.func private @causal(%q: tensor<1x4x40x20xf32>, %k: tensor<1x2x50x20xf32>, %v: tensor<1x2x50x20xf32>, %g: tensor<1x4x40x20xf32>)
    -> (tensor<1x4x40x20xf32>, tensor<1x2x50x20xf32>, tensor<1x2x50x20xf32>) attributes {exec.kernel} {
  %dq, %dk, %dv = graph.attention_grad %q, %k, %v cotangent %g scale 0.25 {causal = true, causalOffset = 10 : i64}
      : tensor<1x4x40x20xf32>, tensor<1x2x50x20xf32>, tensor<1x2x50x20xf32>, tensor<1x4x40x20xf32> -> tensor<1x4x40x20xf32>, tensor<1x2x50x20xf32>, tensor<1x2x50x20xf32>
  return %dq, %dk, %dv : tensor<1x4x40x20xf32>, tensor<1x2x50x20xf32>, tensor<1x2x50x20xf32>
}
// Transposes, a window, a soft cap; tensor cores.
func.func private @window(%q: tensor<2x96x2x32xbf16>, %k: tensor<2x96x2x32xbf16>, %v: tensor<2x96x2x32xbf16>, %g: tensor<2x96x64xbf16>)
    -> (tensor<2x96x2x32xbf16>, tensor<2x96x2x32xbf16>, tensor<2x2x96x32xbf16>) attributes {exec.kernel} {
  %qt = graph.transpose %q [0, 2, 1, 3] : tensor<2x96x2x32xbf16> -> tensor<2x2x96x32xbf16>
  %kt = graph.transpose %k [0, 2, 1, 3] : tensor<2x96x2x32xbf16> -> tensor<2x2x96x32xbf16>
  %vt = graph.transpose %v [0, 2, 1, 3] : tensor<2x96x2x32xbf16> -> tensor<2x2x96x32xbf16>
  %gr = graph.reshape %g : tensor<2x96x64xbf16> -> tensor<2x96x2x32xbf16>
  %gt = graph.transpose %gr [0, 2, 1, 3] : tensor<2x96x2x32xbf16> -> tensor<2x2x96x32xbf16>
  %dq, %dk, %dv = graph.attention_grad %qt, %kt, %vt cotangent %gt scale 0.2 {causal = true, window = 24 : i64, softcap = 2.0 : f64}
      : tensor<2x2x96x32xbf16>, tensor<2x2x96x32xbf16>, tensor<2x2x96x32xbf16>, tensor<2x2x96x32xbf16> -> tensor<2x2x96x32xbf16>, tensor<2x2x96x32xbf16>, tensor<2x2x96x32xbf16>
  %dqt = graph.transpose %dq [0, 2, 1, 3] : tensor<2x2x96x32xbf16> -> tensor<2x96x2x32xbf16>
  %dkt = graph.transpose %dk [0, 2, 1, 3] : tensor<2x2x96x32xbf16> -> tensor<2x96x2x32xbf16>
  return %dqt, %dkt, %dv : tensor<2x96x2x32xbf16>, tensor<2x96x2x32xbf16>, tensor<2x2x96x32xbf16>
}
// An additive mask, sinks, odd sizes.
func.func private @sinks(%q: tensor<2x3x9x10xf16>, %k: tensor<2x1x37x10xf16>, %v: tensor<2x1x37x7xf16>, %m: tensor<2x1x9x37xf32>, %s: tensor<3xf16>, %g: tensor<2x3x9x7xf16>)
    -> (tensor<2x3x9x10xf16>, tensor<2x1x37x10xf16>, tensor<2x1x37x7xf16>, tensor<3xf16>) attributes {exec.kernel} {
  %dq, %dk, %dv, %ds = graph.attention_grad %q, %k, %v mask %m : tensor<2x1x9x37xf32> sinks %s : tensor<3xf16> cotangent %g scale 0.3
      : tensor<2x3x9x10xf16>, tensor<2x1x37x10xf16>, tensor<2x1x37x7xf16>, tensor<2x3x9x7xf16>
     -> tensor<2x3x9x10xf16>, tensor<2x1x37x10xf16>, tensor<2x1x37x7xf16>, tensor<3xf16>
  return %dq, %dk, %dv, %ds : tensor<2x3x9x10xf16>, tensor<2x1x37x10xf16>, tensor<2x1x37x7xf16>, tensor<3xf16>
}
// A bool mask; rows that see nothing; the first queries stand before the first key.
func.func private @hidden(%q: tensor<1x2x20x16xf32>, %k: tensor<1x2x33x16xf32>, %v: tensor<1x2x33x24xf32>, %m: tensor<1x2x20x33xi1>, %g: tensor<1x2x20x24xf32>)
    -> (tensor<1x2x20x16xf32>, tensor<1x2x33x16xf32>, tensor<1x2x33x24xf32>) attributes {exec.kernel} {
  %dq, %dk, %dv = graph.attention_grad %q, %k, %v mask %m : tensor<1x2x20x33xi1> cotangent %g scale 1.0 {causal = true, causalOffset = -3 : i64}
      : tensor<1x2x20x16xf32>, tensor<1x2x33x16xf32>, tensor<1x2x33x24xf32>, tensor<1x2x20x24xf32> -> tensor<1x2x20x16xf32>, tensor<1x2x33x16xf32>, tensor<1x2x33x24xf32>
  return %dq, %dk, %dv : tensor<1x2x20x16xf32>, tensor<1x2x33x16xf32>, tensor<1x2x33x24xf32>
}
// Large heads: two warps share keys.
func.func private @large_heads(%q: tensor<1x1x24x256xbf16>, %k: tensor<1x1x40x256xbf16>, %v: tensor<1x1x40x256xbf16>, %g: tensor<1x1x24x256xbf16>)
    -> (tensor<1x1x24x256xbf16>, tensor<1x1x40x256xbf16>, tensor<1x1x40x256xbf16>) attributes {exec.kernel} {
  %dq, %dk, %dv = graph.attention_grad %q, %k, %v cotangent %g scale 0.0625
      : tensor<1x1x24x256xbf16>, tensor<1x1x40x256xbf16>, tensor<1x1x40x256xbf16>, tensor<1x1x24x256xbf16> -> tensor<1x1x24x256xbf16>, tensor<1x1x40x256xbf16>, tensor<1x1x40x256xbf16>
  return %dq, %dk, %dv : tensor<1x1x24x256xbf16>, tensor<1x1x40x256xbf16>, tensor<1x1x40x256xbf16>
}
func.func private @large_heads_f32(%q: tensor<1x1x24x192xf32>, %k: tensor<1x1x40x192xf32>, %v: tensor<1x1x40x128xf32>, %g: tensor<1x1x24x128xf32>)
    -> (tensor<1x1x24x192xf32>, tensor<1x1x40x192xf32>, tensor<1x1x40x128xf32>) attributes {exec.kernel} {
  %dq, %dk, %dv = graph.attention_grad %q, %k, %v cotangent %g scale 0.0625 {causal = true, causalOffset = 16 : i64}
      : tensor<1x1x24x192xf32>, tensor<1x1x40x192xf32>, tensor<1x1x40x128xf32>, tensor<1x1x24x128xf32> -> tensor<1x1x24x192xf32>, tensor<1x1x40x192xf32>, tensor<1x1x40x128xf32>
  return %dq, %dk, %dv : tensor<1x1x24x192xf32>, tensor<1x1x40x192xf32>, tensor<1x1x40x128xf32>
}
