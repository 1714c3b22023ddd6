// RUN: shard-opt %s --split-input-file --shard-fuse=target=cuda --shard-schedule="target=cuda workspace=256 offload=parameters" | FileCheck %s
// RUN: shard-opt %s --split-input-file --shard-fuse=target=cuda --shard-schedule="target=cuda workspace=256 offload=optimizer" | FileCheck %s --check-prefix=OPTIMIZER
// RUN: not shard-opt %s --split-input-file --shard-fuse --shard-schedule="offload=optimizer" 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not shard-opt %s --split-input-file --shard-fuse --shard-schedule="target=cuda offload=all" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// CPU: offload optimizer: a rank's memory is the machine's already, only GPUs have memory of their own
// UNKNOWN: offload "all" is not none, optimizer or parameters

// Both states lie behind the arena. The gather takes its shard from there and the update works on it in place: no copies, nothing of them on
// the device.
// CHECK-LABEL: exec.program @step on @mesh arena 1280
// CHECK-SAME: host = array<i64: 1280, 512>
// CHECK-DAG: %[[P:.*]] = exec.buffer state "parameter/b" at 1280 size 128
// CHECK-DAG: %[[M:.*]] = exec.buffer state "momentum/b" at 1536 size 128
// CHECK-NOT: "copy"
// CHECK: exec.collective start 0 "all_gather" %[[P]] to
// CHECK: exec.wait 0
// CHECK: exec.launch @{{.*}}({{.*}}%[[M]]{{.*}}) to(%[[M]], %[[P]])
// CHECK-NOT: "copy"

// The optimizer's states alone.
// OPTIMIZER-LABEL: exec.program @step on @mesh arena 1536
// OPTIMIZER-SAME: host = array<i64: 1536, 256>
// OPTIMIZER-DAG: %[[P:.*]] = exec.buffer state "parameter/b" at 0 size 128
// OPTIMIZER-DAG: exec.buffer state "momentum/b" at 1536 size 128
// OPTIMIZER: exec.collective start 0 "all_gather" %[[P]] to
shard.mesh @mesh ["dp_shard" = 2]
shard.state @"parameter/b" "parameter" tensor<32xf32>
shard.state @"momentum/b" "momentum" tensor<32xf32>
func.func @step(%x: tensor<4x8xf32> {graph.name = "x"}, %g: tensor<32xf32> {graph.name = "g"}, %p: tensor<32xf32> {shard.state = "parameter/b"}, %m: tensor<32xf32> {shard.state = "momentum/b"})
    -> (tensor<4x8xf32> {graph.name = "y"}, tensor<32xf32> {shard.state = "parameter/b"}, tensor<32xf32> {shard.state = "momentum/b"}) {
  %whole = shard.all_gather %p over {"dp_shard"} of @mesh dim 0 {shard.overlap} : tensor<32xf32> -> tensor<64xf32>
  %w = shard.bucket_view %whole at 0 : tensor<64xf32> -> tensor<8x8xf32>
  %y = graph.einsum "mk,nk->mn" %x, %w : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
  %nm = graph.add %m, %g : tensor<32xf32>
  %np = graph.sub %p, %nm : tensor<32xf32>
  return %y, %np, %nm : tensor<4x8xf32>, tensor<32xf32>, tensor<32xf32>
}

// -----

// On one device nothing is gathered: each layer call has a copy of its own, which its products share.
// CHECK-LABEL: exec.program @layers
// CHECK-DAG: %[[P:.*]] = exec.buffer state "parameter/b" {{.*}} size 512
// CHECK: %[[C:.*]] = exec.buffer temporary "parameter/b, on the device" {{.*}} size 512
// CHECK: %[[D:.*]] = exec.buffer temporary "parameter/b, on the device" {{.*}} size 512
// CHECK: exec.collective "copy" %[[P]] to %[[C]] {bytes = 512 : i64} layer 0
// CHECK-NEXT: exec.launch {{.*}} layer 0
// CHECK-NEXT: exec.launch {{.*}} layer 0
// CHECK-NEXT: exec.collective "copy" %[[P]] to %[[D]] {bytes = 512 : i64} layer 1
// CHECK-NEXT: exec.launch {{.*}} layer 1
// CHECK-NEXT: exec.launch {{.*}} layer 1
// CHECK-NOT: "copy"
shard.mesh @mesh ["dp_shard" = 1]
shard.state @"parameter/b" "parameter" tensor<128xf32>
func.func private @layer(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %v: tensor<8x8xf32>) -> tensor<4x8xf32> {
  %y = graph.einsum "mk,nk->mn" %x, %w : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
  %z = graph.einsum "mk,nk->mn" %y, %v : tensor<4x8xf32>, tensor<8x8xf32> -> tensor<4x8xf32>
  return %z : tensor<4x8xf32>
}
func.func @layers(%x: tensor<4x8xf32> {graph.name = "x"}, %p: tensor<128xf32> {shard.state = "parameter/b"}) -> (tensor<4x8xf32> {graph.name = "y"}) {
  %w = shard.bucket_view %p at 0 : tensor<128xf32> -> tensor<8x8xf32>
  %v = shard.bucket_view %p at 64 : tensor<128xf32> -> tensor<8x8xf32>
  %y = func.call @layer(%x, %w, %v) : (tensor<4x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %z = func.call @layer(%y, %w, %v) : (tensor<4x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  return %z : tensor<4x8xf32>
}

// -----

// What has to be reduced into a state is reduced on the device, and copied.
// CHECK-LABEL: exec.program @reduce
// CHECK-DAG: %[[S:.*]] = exec.buffer state "momentum/b"
// CHECK-DAG: %[[T:.*]] = exec.buffer temporary "momentum/b, on the device"
// CHECK: exec.collective "reduce_scatter" {{.*}} to %[[T]]
// CHECK-NEXT: exec.collective "copy" %[[T]] to %[[S]] {bytes = 128 : i64}
shard.mesh @mesh ["dp_shard" = 2]
shard.state @"momentum/b" "momentum" tensor<32xf32>
func.func @reduce(%x: tensor<64xf32> {graph.name = "x"}, %m: tensor<32xf32> {shard.state = "momentum/b"}) -> (tensor<32xf32> {shard.state = "momentum/b"}) {
  %r = shard.reduce_scatter %x over {"dp_shard"} of @mesh sum dim 0 : tensor<64xf32> -> tensor<32xf32>
  return %r : tensor<32xf32>
}
