// RUN: shard-opt %s --canonicalize | FileCheck %s

shard.mesh @mesh ["dp" = 2, "tp" = 4]

// CHECK-LABEL: @all_reduce_then_slice
func.func @all_reduce_then_slice(%x: tensor<8x16xf32>) -> tensor<2x16xf32> {
  // CHECK: %[[R:.*]] = shard.reduce_scatter %{{.*}} over {"tp"} of @mesh sum dim 0 : tensor<8x16xf32> -> tensor<2x16xf32>
  // CHECK-NEXT: return %[[R]]
  %0 = shard.all_reduce %x over {"tp"} of @mesh sum : tensor<8x16xf32> -> tensor<8x16xf32>
  %1 = shard.slice %0 over {"tp"} of @mesh dim 0 : tensor<8x16xf32> -> tensor<2x16xf32>
  return %1 : tensor<2x16xf32>
}

// The whole sum has another use: keep it.
// CHECK-LABEL: @all_reduce_used_twice
func.func @all_reduce_used_twice(%x: tensor<8xf32>) -> (tensor<2xf32>, tensor<8xf32>) {
  // CHECK: shard.all_reduce
  // CHECK: shard.slice
  %0 = shard.all_reduce %x over {"tp"} of @mesh sum : tensor<8xf32> -> tensor<8xf32>
  %1 = shard.slice %0 over {"tp"} of @mesh dim 0 : tensor<8xf32> -> tensor<2xf32>
  return %1, %0 : tensor<2xf32>, tensor<8xf32>
}

// CHECK-LABEL: @gather_of_slice
// CHECK-SAME: %[[X:.*]]: tensor<8xf32>
func.func @gather_of_slice(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK-NEXT: return %[[X]]
  %0 = shard.slice %x over {"tp"} of @mesh dim 0 : tensor<8xf32> -> tensor<2xf32>
  %1 = shard.all_gather %0 over {"tp"} of @mesh dim 0 : tensor<2xf32> -> tensor<8xf32>
  return %1 : tensor<8xf32>
}

// CHECK-LABEL: @slice_of_gather
// CHECK-SAME: %[[X:.*]]: tensor<2xf32>
func.func @slice_of_gather(%x: tensor<2xf32>) -> tensor<2xf32> {
  // CHECK-NEXT: return %[[X]]
  %0 = shard.all_gather %x over {"tp"} of @mesh dim 0 : tensor<2xf32> -> tensor<8xf32>
  %1 = shard.slice %0 over {"tp"} of @mesh dim 0 : tensor<8xf32> -> tensor<2xf32>
  return %1 : tensor<2xf32>
}

// A gather that FSDP asks for: between the two the whole is not to be kept.
// CHECK-LABEL: @gather_again
func.func @gather_again(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: shard.slice
  // CHECK: shard.all_gather
  %0 = shard.slice %x over {"tp"} of @mesh dim 0 : tensor<8xf32> -> tensor<2xf32>
  %1 = shard.all_gather %0 over {"tp"} of @mesh dim 0 {shard.overlap} : tensor<2xf32> -> tensor<8xf32>
  return %1 : tensor<8xf32>
}
