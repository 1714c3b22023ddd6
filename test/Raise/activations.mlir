// RUN: shard-opt %s --shard-raise | FileCheck %s

// CHECK-LABEL: @silu
// CHECK-NEXT: graph.silu %arg0
func.func @silu(%x: tensor<4xf32>) -> tensor<4xf32> {
  %s = graph.sigmoid %x : tensor<4xf32>
  %y = graph.mul %s, %x : tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @silu_spelled_out
// CHECK-NEXT: graph.silu %arg0
func.func @silu_spelled_out(%x: tensor<4xf32>) -> tensor<4xf32> {
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %n = graph.neg %x : tensor<4xf32>
  %e = graph.exp %n : tensor<4xf32>
  %d = graph.add %e, %one : tensor<4xf32>
  %s = graph.div %one, %d : tensor<4xf32>
  %y = graph.mul %x, %s : tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @gate_of_another_value_stays
// CHECK-NOT: graph.silu
// CHECK: return
func.func @gate_of_another_value_stays(%x: tensor<4xf32>, %z: tensor<4xf32>) -> tensor<4xf32> {
  %s = graph.sigmoid %z : tensor<4xf32>
  %y = graph.mul %s, %x : tensor<4xf32>
  return %y : tensor<4xf32>
}

// GPT-2: (0.5 x) (1 + tanh(c (x + 0.044715 x^3))); x itself is a sum.
// CHECK-LABEL: @gelu_tanh
// CHECK-NEXT: %[[X:.*]] = graph.add
// CHECK-NEXT: graph.gelu_tanh %[[X]]
func.func @gelu_tanh(%a: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {
  %half = graph.constant dense<0.5> : tensor<4xf32>
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %three = graph.constant dense<3.0> : tensor<4xf32>
  %c = graph.constant dense<0.0447149985> : tensor<4xf32>
  %slope = graph.constant dense<0.797884583> : tensor<4xf32>
  %x = graph.add %a, %b : tensor<4xf32>
  %h = graph.mul %x, %half : tensor<4xf32>
  %p = graph.pow %x, %three : tensor<4xf32>
  %cp = graph.mul %p, %c : tensor<4xf32>
  %u = graph.add %x, %cp : tensor<4xf32>
  %su = graph.mul %u, %slope : tensor<4xf32>
  %t = graph.tanh %su : tensor<4xf32>
  %t1 = graph.add %t, %one : tensor<4xf32>
  %y = graph.mul %h, %t1 : tensor<4xf32>
  return %y : tensor<4xf32>
}

// x * (0.5 (1 + tanh(c x (1 + 0.044715 x x))))
// CHECK-LABEL: @gelu_tanh_factored
// CHECK-NEXT: graph.gelu_tanh %arg0
func.func @gelu_tanh_factored(%x: tensor<4xf32>) -> tensor<4xf32> {
  %half = graph.constant dense<0.5> : tensor<4xf32>
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %c = graph.constant dense<0.0447149985> : tensor<4xf32>
  %slope = graph.constant dense<0.797884583> : tensor<4xf32>
  %xx = graph.mul %x, %x : tensor<4xf32>
  %cxx = graph.mul %c, %xx : tensor<4xf32>
  %s = graph.add %one, %cxx : tensor<4xf32>
  %sx = graph.mul %slope, %x : tensor<4xf32>
  %u = graph.mul %sx, %s : tensor<4xf32>
  %t = graph.tanh %u : tensor<4xf32>
  %t1 = graph.add %one, %t : tensor<4xf32>
  %ht = graph.mul %half, %t1 : tensor<4xf32>
  %y = graph.mul %x, %ht : tensor<4xf32>
  return %y : tensor<4xf32>
}

// x / 2 * (1 + erf(x / sqrt(2)))
// CHECK-LABEL: @gelu
// CHECK-NEXT: graph.gelu %arg0
func.func @gelu(%x: tensor<4xf32>) -> tensor<4xf32> {
  %two = graph.constant dense<2.0> : tensor<4xf32>
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %root = graph.constant dense<1.41421354> : tensor<4xf32>
  %u = graph.div %x, %root : tensor<4xf32>
  %e = graph.erf %u : tensor<4xf32>
  %e1 = graph.add %e, %one : tensor<4xf32>
  %h = graph.div %x, %two : tensor<4xf32>
  %y = graph.mul %h, %e1 : tensor<4xf32>
  return %y : tensor<4xf32>
}

// Another slope inside the error function.
// CHECK-LABEL: @not_gelu
// CHECK-NOT: graph.gelu
// CHECK: return
func.func @not_gelu(%x: tensor<4xf32>) -> tensor<4xf32> {
  %half = graph.constant dense<0.5> : tensor<4xf32>
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %u = graph.mul %x, %half : tensor<4xf32>
  %e = graph.erf %u : tensor<4xf32>
  %e1 = graph.add %e, %one : tensor<4xf32>
  %h = graph.mul %x, %half : tensor<4xf32>
  %y = graph.mul %h, %e1 : tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @softplus_with_guard
// CHECK-NEXT: %[[S:.*]] = graph.softplus %arg0
// CHECK-NEXT: return %[[S]]
func.func @softplus_with_guard(%x: tensor<4xf32>) -> tensor<4xf32> {
  %one = graph.constant dense<1.0> : tensor<4xf32>
  %twenty = graph.constant dense<20.0> : tensor<4xf32>
  %e = graph.exp %x : tensor<4xf32>
  %e1 = graph.add %one, %e : tensor<4xf32>
  %l = graph.log %e1 : tensor<4xf32>
  %big = graph.compare gt %x, %twenty : tensor<4xf32> -> tensor<4xi1>
  %y = graph.select %big, %x, %l : tensor<4xi1>, tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @softmax
// CHECK-NEXT: graph.softmax %arg0 dim 1
// CHECK-NEXT: return
func.func @softmax(%x: tensor<3x4xf32>) -> tensor<3x4xf32> {
  %max = graph.reduce max %x [1] : tensor<3x4xf32> -> tensor<3xf32>
  %maxb = graph.broadcast %max [0] : tensor<3xf32> -> tensor<3x4xf32>
  %d = graph.sub %x, %maxb : tensor<3x4xf32>
  %e = graph.exp %d : tensor<3x4xf32>
  %sum = graph.reduce sum %e [1] : tensor<3x4xf32> -> tensor<3xf32>
  %sumb = graph.broadcast %sum [0] : tensor<3xf32> -> tensor<3x4xf32>
  %y = graph.div %e, %sumb : tensor<3x4xf32>
  return %y : tensor<3x4xf32>
}
