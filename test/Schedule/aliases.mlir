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

// -----

// Two updates by one kernel, of which only the second can be in place, since the second reads what the first replaces: the first gets a
// kernel of its own, which is not.
// CHECK-LABEL: exec.program @main
// CHECK: %[[A:.*]] = exec.buffer state "a"
// CHECK: %[[B:.*]] = exec.buffer state "b"
// CHECK: exec.launch @[[APART:kernel_.*]](%[[A]], %{{.*}}) to(%[[NEW:[0-9]+]]) :
// CHECK: exec.launch @[[KERNEL:kernel_.*]](%[[B]], %[[A]]) to(%[[B]]) :
// CHECK: exec.collective "copy" %[[NEW]] to %[[A]]
func.func @main(%a: tensor<4xf32> {graph.name = "a"}, %b: tensor<4xf32> {graph.name = "b"}, %x: tensor<4xf32> {graph.name = "x"})
    -> (tensor<4xf32> {graph.name = "a1", graph.alias = "a"}, tensor<4xf32> {graph.name = "b1", graph.alias = "b"}) {
  %half = graph.constant dense<0.5> : tensor<4xf32>
  %ha = graph.mul %a, %half : tensor<4xf32>
  %a1 = graph.add %ha, %x : tensor<4xf32>
  %hb = graph.mul %b, %half : tensor<4xf32>
  %b1 = graph.add %hb, %a : tensor<4xf32>
  return %a1, %b1 : tensor<4xf32>, tensor<4xf32>
}

// -----

// A view of a state that takes another one's place is copied before that state is replaced.
// CHECK-LABEL: exec.program @main
// CHECK: %[[B:.*]] = exec.buffer state "b"
// CHECK: %[[A:.*]] = exec.buffer state "a"
// CHECK: %[[LAST:.*]] = exec.buffer temporary "b" {{.*}} of
// CHECK: exec.launch @kernel_0_neg(%[[B]]) to(%[[NEW:[0-9]+]])
// CHECK: exec.collective "copy" %[[LAST]] to %[[A]]
// CHECK: exec.collective "copy" %[[NEW]] to %[[B]]
func.func @main(%b: tensor<4x16xf32> {graph.name = "b"}, %a: tensor<1x16xf32> {graph.name = "a"})
    -> (tensor<4x16xf32> {graph.name = "b1", graph.alias = "b"}, tensor<1x16xf32> {graph.name = "a1", graph.alias = "a"}) {
  %b1 = graph.neg %b : tensor<4x16xf32>
  %a1 = graph.slice %b [3, 0] step [1, 1] : tensor<4x16xf32> -> tensor<1x16xf32>
  return %b1, %a1 : tensor<4x16xf32>, tensor<1x16xf32>
}

// -----

// Two entry points that carry the same input on: one buffer. One that only reads it: the same.
// CHECK-LABEL: exec.program @main
// CHECK: exec.buffer state "past" at [[PLACE:[0-9]+]] size 32
// CHECK-LABEL: exec.program @"main@seq=2"
// CHECK: exec.buffer state "past" at [[PLACE]] size 32
// CHECK-LABEL: exec.program @read
// CHECK: exec.buffer state "past" at [[PLACE]] size 32
func.func @main(%past: tensor<4x2xf32> {graph.name = "past"}, %at: tensor<1x2xi64> {graph.name = "at"}, %x: tensor<1x2xf32> {graph.name = "x"})
    -> (tensor<4x2xf32> {graph.name = "present", graph.alias = "past"}) {
  %p = graph.scatter_elements replace %past, %at, %x axis 0 : tensor<4x2xf32>, tensor<1x2xi64>, tensor<1x2xf32>
  return %p : tensor<4x2xf32>
}
func.func @"main@seq=2"(%past: tensor<4x2xf32> {graph.name = "past"}, %at: tensor<2x2xi64> {graph.name = "at"}, %x: tensor<2x2xf32> {graph.name = "x"})
    -> (tensor<4x2xf32> {graph.name = "present", graph.alias = "past"}) {
  %p = graph.scatter_elements replace %past, %at, %x axis 0 : tensor<4x2xf32>, tensor<2x2xi64>, tensor<2x2xf32>
  return %p : tensor<4x2xf32>
}
func.func @read(%past: tensor<4x2xf32> {graph.name = "past"}) -> (tensor<4xf32> {graph.name = "y"}) {
  %y = graph.reduce sum %past [1] : tensor<4x2xf32> -> tensor<4xf32>
  return %y : tensor<4xf32>
}
