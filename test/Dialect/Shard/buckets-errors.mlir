// RUN: shard-opt %s --split-input-file --verify-diagnostics

shard.mesh @mesh ["dp_shard" = 2]
// bucket_c1
// expected-error@+1 {{length 192 is not a multiple of 64 times the group's size 2}}
shard.bucket @b "b" f32 length 192 over {"dp_shard"} of @mesh []

// -----

shard.mesh @mesh ["dp_shard" = 2]
// expected-error@+1 {{lacks tensor, type or offset}}
shard.bucket @b "b" f32 length 128 over {"dp_shard"} of @mesh [{tensor = "w", offset = 0}]

// -----

shard.mesh @mesh ["dp_shard" = 2]
// bucket_c2
// expected-error@+1 {{item "v" at 64 begins before 80, where "w" ends}}
shard.bucket @b "b" f32 length 128 over {"dp_shard"} of @mesh [{tensor = "w", offset = 0, type = tensor<80xf32>}, {tensor = "v", offset = 64, type = tensor<4xf32>}]

// -----

shard.mesh @mesh ["dp_shard" = 2]
// expected-error@+1 {{item "w" at -64 begins before 0}}
shard.bucket @b "b" f32 length 128 over {"dp_shard"} of @mesh [{tensor = "w", offset = -64, type = tensor<4xf32>}]

// -----

shard.mesh @mesh ["dp_shard" = 2, "tp" = 2]
// What counts is a rank's part: the second one fits, 65 of 129.
// expected-error@+1 {{item "v" ends at 129, outside the length 128}}
shard.bucket @b "b" f32 length 128 over {"dp_shard"} of @mesh
    [{tensor = "w", offset = 0, type = tensor<128xf32>, sharding = #shard.sharding<@mesh, [{"tp"}]>},
     {tensor = "v", offset = 64, type = tensor<129xf32>, sharding = #shard.sharding<@mesh, [{"tp"}]>}]

// -----

shard.mesh @mesh ["dp_shard" = 2]
// expected-error@+1 {{item "w": mesh @mesh["dp_shard"=2] has no axis "tp"}}
shard.bucket @b "b" f32 length 128 over {"dp_shard"} of @mesh [{tensor = "w", offset = 0, type = tensor<8xf32>, sharding = #shard.sharding<@mesh, [{"tp"}]>}]

// -----

shard.mesh @mesh ["dp_shard" = 2]
// expected-error@+1 {{item "w": sharding has 2 dimensions, the tensor has 1}}
shard.bucket @b "b" f32 length 128 over {"dp_shard"} of @mesh [{tensor = "w", offset = 0, type = tensor<8xf32>, sharding = #shard.sharding<@mesh, [{}, {}]>}]

// -----

// state_c1
// expected-error@+1 {{role "gradients" is not known}}
shard.state @s "gradients" tensor<64xf32>

// -----

// expected-error@+1 {{type 'f32' is not a ranked tensor}}
shard.state @s "scalar" f32

// -----

// expected-error@+1 {{bucket @b does not exist}}
shard.state @s "gradient" tensor<64xf32> of @b

// -----

// state_c2
shard.mesh @mesh ["dp_shard" = 2, "tp" = 2]
shard.bucket @b "b" f32 length 128 over {"dp_shard"} of @mesh []
// expected-error@+1 {{is cut over [#shard.axis<"tp">], with which the axes of bucket @b, [#shard.axis<"dp_shard">], do not begin}}
shard.state @s "gradient" tensor<64xf32> of @b over {"tp"}

// -----

// state_c3
shard.mesh @mesh ["dp_shard" = 2]
shard.bucket @b "b" f32 length 128 over {"dp_shard"} of @mesh []
// expected-error@+1 {{has 128 elements, bucket @b asks for 64}}
shard.state @s "gradient" tensor<128xf32> of @b over {"dp_shard"}

// -----

// bucket_view_c1
func.func @view(%x: tensor<8xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{ends at 9, outside of 'tensor<8xf32>'}}
  %0 = shard.bucket_view %x at 5 : tensor<8xf32> -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @view(%x: tensor<8xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{begins at -1}}
  %0 = shard.bucket_view %x at -1 : tensor<8xf32> -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @view(%x: tensor<2x4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{ends at 4, outside of 'tensor<2x4xf32>'}}
  %0 = shard.bucket_view %x at 0 : tensor<2x4xf32> -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @view(%x: tensor<8xf32>) -> tensor<4xbf16> {
  // expected-error@+1 {{has element type 'bf16', its buffer 'f32'}}
  %0 = shard.bucket_view %x at 0 : tensor<8xf32> -> tensor<4xbf16>
  return %0 : tensor<4xbf16>
}

// -----

// bucket_pack_c1
func.func @pack(%x: tensor<2xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{has 1 tensors and 2 offsets}}
  %0 = shard.bucket_pack %x at [0, 4] : tensor<2xf32> -> tensor<8xf32>
  return %0 : tensor<8xf32>
}

// -----

func.func @pack(%x: tensor<2xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{a tensor at 1 begins before 2}}
  %0 = shard.bucket_pack %x, %x at [0, 1] : tensor<2xf32>, tensor<2xf32> -> tensor<8xf32>
  return %0 : tensor<8xf32>
}

// -----

func.func @pack(%x: tensor<2xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{ends at 9, outside of 'tensor<8xf32>'}}
  %0 = shard.bucket_pack %x at [7] : tensor<2xf32> -> tensor<8xf32>
  return %0 : tensor<8xf32>
}

// -----

// bucket_pack_c2
func.func @pack(%x: tensor<2xbf16>) -> tensor<8xf32> {
  // expected-error@+1 {{has a tensor of 'bf16' in a buffer of 'f32'}}
  %0 = shard.bucket_pack %x at [0] : tensor<2xbf16> -> tensor<8xf32>
  return %0 : tensor<8xf32>
}
