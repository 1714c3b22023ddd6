// Functions that PTX has no instruction for.

func.func private @pow(%x: tensor<64xf32>, %y: tensor<64xf32>) -> (tensor<64xf32>, tensor<64xf32>) attributes {exec.kernel} {
  %ten = graph.constant dense<1.0e+01> : tensor<64xf32>
  %a = graph.mul %x, %ten : tensor<64xf32>
  %b = graph.mul %y, %ten : tensor<64xf32>
  %size = graph.abs %a : tensor<64xf32>
  %p = graph.pow %size, %b : tensor<64xf32>
  %n = graph.pow %a, %b : tensor<64xf32>
  return %p, %n : tensor<64xf32>, tensor<64xf32>
}
func.func private @pow_wide(%x: tensor<64xf64>, %y: tensor<64xf64>) -> (tensor<64xf64>, tensor<64xf64>) attributes {exec.kernel} {
  %hundred = graph.constant dense<1.0e+02> : tensor<64xf64>
  %size = graph.abs %x : tensor<64xf64>
  %b = graph.mul %y, %hundred : tensor<64xf64>
  %p = graph.pow %size, %b : tensor<64xf64>
  %f = graph.floor %b : tensor<64xf64>
  %n = graph.pow %x, %f : tensor<64xf64>
  return %p, %n : tensor<64xf64>, tensor<64xf64>
}
func.func private @mod(%x: tensor<64xf32>, %y: tensor<64xf32>) -> tensor<64xf32> attributes {exec.kernel} {
  %large = graph.constant dense<1.0e+30> : tensor<64xf32>
  %a = graph.mul %x, %large : tensor<64xf32>
  %r = graph.rem %a, %y : tensor<64xf32>
  return %r : tensor<64xf32>
}
func.func private @mod_wide(%x: tensor<64xf64>, %y: tensor<64xf64>) -> tensor<64xf64> attributes {exec.kernel} {
  %large = graph.constant dense<1.0e+300> : tensor<64xf64>
  %tiny = graph.constant dense<1.0e-308> : tensor<64xf64>
  %a = graph.mul %x, %large : tensor<64xf64>
  %b = graph.mul %y, %tiny : tensor<64xf64>
  %r = graph.rem %a, %b : tensor<64xf64>
  return %r : tensor<64xf64>
}
func.func private @exp_log(%x: tensor<64xf64>) -> (tensor<64xf64>, tensor<64xf64>) attributes {exec.kernel} {
  %scale = graph.constant dense<7.0e+02> : tensor<64xf64>
  %a = graph.mul %x, %scale : tensor<64xf64>
  %e = graph.exp %a : tensor<64xf64>
  %size = graph.abs %x : tensor<64xf64>
  %l = graph.log %size : tensor<64xf64>
  return %e, %l : tensor<64xf64>, tensor<64xf64>
}
