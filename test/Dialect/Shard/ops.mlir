// RUN: shard-opt %s | shard-opt | FileCheck %s

// CHECK: shard.mesh @mesh ["dp" = 2, "tp" = 4]
shard.mesh @mesh ["dp" = 2, "tp" = 4]

// CHECK-LABEL: @shardings
func.func @shardings(%x: tensor<8x16xf32> {shard.sharding = #shard.sharding<@mesh, [{"dp"}, {"tp":(2)2, ?}p1]>}) -> tensor<8x16xf32> {
  // CHECK: shard.constraint %{{.*}} : tensor<8x16xf32> to <@mesh, [{}, {"tp"}], partial = sum {"dp"}>
  %0 = shard.constraint %x : tensor<8x16xf32> to <@mesh, [{}, {"tp"}], partial = sum {"dp"}>
  // CHECK: shard.reshard %{{.*}} : tensor<8x16xf32> to <@mesh, [{"dp", "tp"}, {}]>
  %1 = shard.reshard %0 : tensor<8x16xf32> to <@mesh, [{"dp", "tp"}, {}]>
  return %1 : tensor<8x16xf32>
}

// CHECK-LABEL: @collectives
func.func @collectives(%x: tensor<8x16xf32>) -> tensor<8x16xf32> {
  // CHECK: shard.all_reduce %{{.*}} over {"tp"} of @mesh sum : tensor<8x16xf32> -> tensor<8x16xf32>
  %0 = shard.all_reduce %x over {"tp"} of @mesh sum : tensor<8x16xf32> -> tensor<8x16xf32>
  // CHECK: shard.slice %{{.*}} over {"tp":(1)2} of @mesh dim 0 : tensor<8x16xf32> -> tensor<4x16xf32>
  %1 = shard.slice %0 over {"tp":(1)2} of @mesh dim 0 : tensor<8x16xf32> -> tensor<4x16xf32>
  // CHECK: shard.all_to_all %{{.*}} over {"dp"} of @mesh split 1 total 16 concat 0 total 8 : tensor<4x16xf32> -> tensor<8x8xf32>
  %2 = shard.all_to_all %1 over {"dp"} of @mesh split 1 total 16 concat 0 total 8 : tensor<4x16xf32> -> tensor<8x8xf32>
  // CHECK: shard.reduce_scatter %{{.*}} over {"dp"} of @mesh max dim 1 : tensor<8x8xf32> -> tensor<8x4xf32>
  %3 = shard.reduce_scatter %2 over {"dp"} of @mesh max dim 1 : tensor<8x8xf32> -> tensor<8x4xf32>
  // CHECK: shard.all_gather %{{.*}} over {"tp"} of @mesh dim 1 : tensor<8x4xf32> -> tensor<8x16xf32>
  %4 = shard.all_gather %3 over {"tp"} of @mesh dim 1 : tensor<8x4xf32> -> tensor<8x16xf32>
  // CHECK: shard.permute %{{.*}} over {"dp"} of @mesh [0, 1] : tensor<8x16xf32> -> tensor<8x16xf32>
  %5 = shard.permute %4 over {"dp"} of @mesh [0, 1] : tensor<8x16xf32> -> tensor<8x16xf32>
  // CHECK: shard.broadcast %{{.*}} over {"tp"} of @mesh root 3 : tensor<8x16xf32> -> tensor<8x16xf32>
  %6 = shard.broadcast %5 over {"tp"} of @mesh root 3 : tensor<8x16xf32> -> tensor<8x16xf32>
  // CHECK: shard.axis_index {"dp", "tp"} of @mesh : tensor<i64>
  %7 = shard.axis_index {"dp", "tp"} of @mesh : tensor<i64>
  return %6 : tensor<8x16xf32>
}
