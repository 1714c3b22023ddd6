// Attention of models as they are: too much for the emulator, but no register may be spilled.

func.func private @fd128(%q: tensor<1x32x2048x128xbf16>, %k: tensor<1x8x2048x128xbf16>, %v: tensor<1x8x2048x128xbf16>) -> tensor<1x32x2048x128xbf16> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v scale 0.1 {causal = true} : tensor<1x32x2048x128xbf16>, tensor<1x8x2048x128xbf16>, tensor<1x8x2048x128xbf16> -> tensor<1x32x2048x128xbf16>
  return %r : tensor<1x32x2048x128xbf16>
}
func.func private @gd128(%q: tensor<1x32x2048x128xbf16>, %k: tensor<1x8x2048x128xbf16>, %v: tensor<1x8x2048x128xbf16>, %g: tensor<1x32x2048x128xbf16>) -> (tensor<1x32x2048x128xbf16>, tensor<1x8x2048x128xbf16>, tensor<1x8x2048x128xbf16>) attributes {exec.kernel} {
  %dq, %dk, %dv = graph.attention_grad %q, %k, %v cotangent %g scale 0.1 {causal = true} : tensor<1x32x2048x128xbf16>, tensor<1x8x2048x128xbf16>, tensor<1x8x2048x128xbf16>, tensor<1x32x2048x128xbf16> -> tensor<1x32x2048x128xbf16>, tensor<1x8x2048x128xbf16>, tensor<1x8x2048x128xbf16>
  return %dq, %dk, %dv : tensor<1x32x2048x128xbf16>, tensor<1x8x2048x128xbf16>, tensor<1x8x2048x128xbf16>
}
func.func private @gd256(%q: tensor<1x32x2048x256xbf16>, %k: tensor<1x8x2048x256xbf16>, %v: tensor<1x8x2048x256xbf16>, %g: tensor<1x32x2048x256xbf16>) -> (tensor<1x32x2048x256xbf16>, tensor<1x8x2048x256xbf16>, tensor<1x8x2048x256xbf16>) attributes {exec.kernel} {
  %dq, %dk, %dv = graph.attention_grad %q, %k, %v cotangent %g scale 0.1 {causal = true, window = 512 : i64, softcap = 30.0 : f64} : tensor<1x32x2048x256xbf16>, tensor<1x8x2048x256xbf16>, tensor<1x8x2048x256xbf16>, tensor<1x32x2048x256xbf16> -> tensor<1x32x2048x256xbf16>, tensor<1x8x2048x256xbf16>, tensor<1x8x2048x256xbf16>
  return %dq, %dk, %dv : tensor<1x32x2048x256xbf16>, tensor<1x8x2048x256xbf16>, tensor<1x8x2048x256xbf16>
}
// One token each over a cache of 32768: the keys are split.
func.func private @decode128(%q: tensor<1x32x1x128xbf16>, %k: tensor<1x8x32768x128xbf16>, %v: tensor<1x8x32768x128xbf16>) -> tensor<1x32x1x128xbf16> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v scale 0.1 : tensor<1x32x1x128xbf16>, tensor<1x8x32768x128xbf16>, tensor<1x8x32768x128xbf16> -> tensor<1x32x1x128xbf16>
  return %r : tensor<1x32x1x128xbf16>
}
func.func private @decode256(%q: tensor<2x8x1x256xf32>, %k: tensor<2x2x32768x256xf32>, %v: tensor<2x2x32768x256xf32>) -> tensor<2x8x1x256xf32> attributes {exec.kernel} {
  %r = graph.attention %q, %k, %v scale 0.1 : tensor<2x8x1x256xf32>, tensor<2x2x32768x256xf32>, tensor<2x2x32768x256xf32> -> tensor<2x8x1x256xf32>
  return %r : tensor<2x8x1x256xf32>
}
