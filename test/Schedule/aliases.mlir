// RUN: shard-opt %s --split-input-file --shard-fuse --shard-schedule | FileCheck %s

// What replaces an input is written over it, in its buffer, when nobody reads the old value any more: no copy.
// CHECK-LABEL: exec.program @main
// CHECK: %[[PAST:.*]] = exec.buffer state "past"
// CHECK-NOT: exec.buffer {{.*}}"present"
// CHECK: exec.launch @kernel_{{.*}}scatter{{.*}}(%[[PAST]], %{{.*}}, %{{.*}}) to(%[[PAST]])
// CHECK: exec.launch @kernel_{{.*}}(%[[PAST]]
// CHECK-NOT: "copy"
func.func @main(%past: tensor<4x2xf32> {graph.name = "past"}, %at: tensor<1x2xi64> {graph.name = "at"}, %x: tensor<1x2xf32> {graph.name = "x"})
    -> (tensor<4xf32> {graph.name = "y"}, tensor<4x2xf32> {graph.name = "present", graph.alias = "past"}) {
  %p = graph.scatter_elements replace %past, %at, %x axis 0 : tensor<4x2xf32>, tensor<1x2xi64>, tensor<1x2xf32>
  %y = graph.reduce sum %p [1] : tensor<4x2xf32> -> tensor<4xf32>
  return %y, %p : tensor<4xf32>, tensor<4x2xf32>
}

// -----

// The old value is read once more: the new one is made beside it and copied at the end.
// CHECK-LABEL: exec.program @main
// CHECK: %[[PAST:.*]] = exec.buffer state "past"
// CHECK: exec.launch @kernel_{{.*}}scatter{{.*}}(%[[PAST]], %{{.*}}, %{{.*}}) to(%[[NEW:.*]]) :
// CHECK: exec.collective "copy" %[[NEW]] to %[[PAST]]
func.func @main(%past: tensor<4x2xf32> {graph.name = "past"}, %at: tensor<1x2xi64> {graph.name = "at"}, %x: tensor<1x2xf32> {graph.name = "x"})
    -> (tensor<4xf32> {graph.name = "y"}, tensor<4x2xf32> {graph.name = "present", graph.alias = "past"}) {
  %p = graph.scatter_elements replace %past, %at, %x axis 0 : tensor<4x2xf32>, tensor<1x2xi64>, tensor<1x2xf32>
  %s = graph.reduce sum %p [1] : tensor<4x2xf32> -> tensor<4xf32>
  %old = graph.softmax %past dim 1 : tensor<4x2xf32>
  %o = graph.reduce sum %old [1] : tensor<4x2xf32> -> tensor<4xf32>
  %y = graph.add %s, %o : tensor<4xf32>
  return %y, %p : tensor<4xf32>, tensor<4x2xf32>
}

// -----

// Two that change places go through a third.
// CHECK-LABEL: exec.program @main
// CHECK: %[[A:.*]] = exec.buffer state "a"
// CHECK: %[[B:.*]] = exec.buffer state "b"
// CHECK: exec.collective "copy" %[[A]] to %[[C:[0-9]+]]
// CHECK: exec.collective "copy" %[[B]] to %[[A]]
// CHECK: exec.collective "copy" %[[C]] to %[[B]]
func.func @main(%a: tensor<4xf32> {graph.name = "a"}, %b: tensor<4xf32> {graph.name = "b"})
    -> (tensor<4xf32> {graph.name = "x", graph.alias = "b"}, tensor<4xf32> {graph.name = "y", graph.alias = "a"}) {
  return %a, %b : tensor<4xf32>, tensor<4xf32>
}
