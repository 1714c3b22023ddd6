// RUN: shard-opt %s --shard-raise | FileCheck %s

// Llama: constant tables of equal halves, whose first halves remain.
// CHECK-LABEL: @constant_tables
// CHECK-DAG: %[[COS:.*]] = graph.constant dense<{{.*}}1.000000e+00, 5.000000e-01{{.*}}> : tensor<1x2x2xf32>
// CHECK-DAG: %[[SIN:.*]] = graph.constant dense<{{.*}}0.000000e+00, 2.500000e-01{{.*}}> : tensor<1x2x2xf32>
// CHECK: graph.rope %arg0, %[[COS]], %[[SIN]]
// CHECK-NEXT: return
func.func @constant_tables(%x: tensor<2x3x2x4xf32>) -> tensor<2x3x2x4xf32> {
  %cos = graph.constant dense<[[[1.0, 0.5, 1.0, 0.5], [2.0, 3.0, 2.0, 3.0]]]> : tensor<1x2x4xf32>
  %sin = graph.constant dense<[[[0.0, 0.25, 0.0, 0.25], [4.0, 5.0, 4.0, 5.0]]]> : tensor<1x2x4xf32>
  %c = graph.broadcast %cos [1, 2, 3] : tensor<1x2x4xf32> -> tensor<2x3x2x4xf32>
  %s = graph.broadcast %sin [1, 2, 3] : tensor<1x2x4xf32> -> tensor<2x3x2x4xf32>
  %xc = graph.mul %x, %c : tensor<2x3x2x4xf32>
  %lo = graph.slice %x [0, 0, 0, 0] step [1, 1, 1, 1] : tensor<2x3x2x4xf32> -> tensor<2x3x2x2xf32>
  %hi = graph.slice %x [0, 0, 0, 2] step [1, 1, 1, 1] : tensor<2x3x2x4xf32> -> tensor<2x3x2x2xf32>
  %n = graph.neg %hi : tensor<2x3x2x2xf32>
  %r = graph.concat %n, %lo dim 3 : tensor<2x3x2x2xf32>, tensor<2x3x2x2xf32> -> tensor<2x3x2x4xf32>
  %rs = graph.mul %r, %s : tensor<2x3x2x4xf32>
  %y = graph.add %xc, %rs : tensor<2x3x2x4xf32>
  return %y : tensor<2x3x2x4xf32>
}

// Tables computed from positions, one row of angles a batch; positions come before heads.
// CHECK-LABEL: @computed_tables
// CHECK-SAME: (%[[X:.*]]: tensor<2x5x3x4xf32>, %[[F:.*]]: tensor<2x5x2xf32>)
// CHECK-DAG: %[[COS:.*]] = graph.cos %[[F]] : tensor<2x5x2xf32>
// CHECK-DAG: %[[SIN:.*]] = graph.sin %[[F]] : tensor<2x5x2xf32>
// CHECK-DAG: %[[T:.*]] = graph.transpose %[[X]] [0, 2, 1, 3]
// CHECK: %[[R:.*]] = graph.rope %[[T]], %[[COS]], %[[SIN]]
// CHECK-NEXT: graph.transpose %[[R]] [0, 2, 1, 3]
func.func @computed_tables(%x: tensor<2x5x3x4xf32>, %f: tensor<2x5x2xf32>) -> tensor<2x5x3x4xf32> {
  %ff = graph.concat %f, %f dim 2 : tensor<2x5x2xf32>, tensor<2x5x2xf32> -> tensor<2x5x4xf32>
  %cos = graph.cos %ff : tensor<2x5x4xf32>
  %sin = graph.sin %ff : tensor<2x5x4xf32>
  %c = graph.broadcast %cos [0, 1, 3] : tensor<2x5x4xf32> -> tensor<2x5x3x4xf32>
  %s = graph.broadcast %sin [0, 1, 3] : tensor<2x5x4xf32> -> tensor<2x5x3x4xf32>
  %lo = graph.slice %x [0, 0, 0, 0] step [1, 1, 1, 1] : tensor<2x5x3x4xf32> -> tensor<2x5x3x2xf32>
  %hi = graph.slice %x [0, 0, 0, 2] step [1, 1, 1, 1] : tensor<2x5x3x4xf32> -> tensor<2x5x3x2xf32>
  %n = graph.neg %hi : tensor<2x5x3x2xf32>
  %r = graph.concat %n, %lo dim 3 : tensor<2x5x3x2xf32>, tensor<2x5x3x2xf32> -> tensor<2x5x3x4xf32>
  %rs = graph.mul %s, %r : tensor<2x5x3x4xf32>
  %xc = graph.mul %c, %x : tensor<2x5x3x4xf32>
  %y = graph.add %rs, %xc : tensor<2x5x3x4xf32>
  return %y : tensor<2x5x3x4xf32>
}

// DeepSeek: every second feature, put together as halves.
// CHECK-LABEL: @every_second_feature
// CHECK: %[[X:.*]] = graph.concat %{{.*}}, %{{.*}} dim 3
// CHECK: graph.rope %[[X]], %arg1, %arg2
func.func @every_second_feature(%x: tensor<2x3x5x4xf32>, %cos: tensor<1x5x2xf32>, %sin: tensor<1x5x2xf32>) -> tensor<2x3x5x4xf32> {
  %a = graph.slice %x [0, 0, 0, 0] step [1, 1, 1, 2] : tensor<2x3x5x4xf32> -> tensor<2x3x5x2xf32>
  %b = graph.slice %x [0, 0, 0, 1] step [1, 1, 1, 2] : tensor<2x3x5x4xf32> -> tensor<2x3x5x2xf32>
  %c = graph.broadcast %cos [1, 2, 3] : tensor<1x5x2xf32> -> tensor<2x3x5x2xf32>
  %s = graph.broadcast %sin [1, 2, 3] : tensor<1x5x2xf32> -> tensor<2x3x5x2xf32>
  %ac = graph.mul %a, %c : tensor<2x3x5x2xf32>
  %bs = graph.mul %b, %s : tensor<2x3x5x2xf32>
  %d = graph.sub %ac, %bs : tensor<2x3x5x2xf32>
  %bc = graph.mul %b, %c : tensor<2x3x5x2xf32>
  %as = graph.mul %a, %s : tensor<2x3x5x2xf32>
  %e = graph.add %bc, %as : tensor<2x3x5x2xf32>
  %y = graph.concat %d, %e dim 3 : tensor<2x3x5x2xf32>, tensor<2x3x5x2xf32> -> tensor<2x3x5x4xf32>
  return %y : tensor<2x3x5x4xf32>
}

// The other features pass.
// CHECK-LABEL: @partial
// CHECK-NEXT: graph.rope %arg0, %arg1, %arg2 : tensor<2x3x5x6xf32>, tensor<1x5x2xf32>
// CHECK-NEXT: return
func.func @partial(%x: tensor<2x3x5x6xf32>, %cos: tensor<1x5x2xf32>, %sin: tensor<1x5x2xf32>) -> tensor<2x3x5x6xf32> {
  %head = graph.slice %x [0, 0, 0, 0] step [1, 1, 1, 1] : tensor<2x3x5x6xf32> -> tensor<2x3x5x4xf32>
  %tail = graph.slice %x [0, 0, 0, 4] step [1, 1, 1, 1] : tensor<2x3x5x6xf32> -> tensor<2x3x5x2xf32>
  %r = graph.rope %head, %cos, %sin : tensor<2x3x5x4xf32>, tensor<1x5x2xf32>
  %y = graph.concat %r, %tail dim 3 : tensor<2x3x5x4xf32>, tensor<2x3x5x2xf32> -> tensor<2x3x5x6xf32>
  return %y : tensor<2x3x5x6xf32>
}

// Nothing is known of the tables' halves.
// CHECK-LABEL: @unknown_tables
// CHECK-NOT: graph.rope
// CHECK: return
func.func @unknown_tables(%x: tensor<2x3x2x4xf32>, %cos: tensor<2x4xf32>, %sin: tensor<2x4xf32>) -> tensor<2x3x2x4xf32> {
  %c = graph.broadcast %cos [2, 3] : tensor<2x4xf32> -> tensor<2x3x2x4xf32>
  %s = graph.broadcast %sin [2, 3] : tensor<2x4xf32> -> tensor<2x3x2x4xf32>
  %xc = graph.mul %x, %c : tensor<2x3x2x4xf32>
  %lo = graph.slice %x [0, 0, 0, 0] step [1, 1, 1, 1] : tensor<2x3x2x4xf32> -> tensor<2x3x2x2xf32>
  %hi = graph.slice %x [0, 0, 0, 2] step [1, 1, 1, 1] : tensor<2x3x2x4xf32> -> tensor<2x3x2x2xf32>
  %n = graph.neg %hi : tensor<2x3x2x2xf32>
  %r = graph.concat %n, %lo dim 3 : tensor<2x3x2x2xf32>, tensor<2x3x2x2xf32> -> tensor<2x3x2x4xf32>
  %rs = graph.mul %r, %s : tensor<2x3x2x4xf32>
  %y = graph.add %xc, %rs : tensor<2x3x2x4xf32>
  return %y : tensor<2x3x2x4xf32>
}
