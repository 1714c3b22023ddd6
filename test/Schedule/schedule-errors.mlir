// RUN: shard-opt %s --split-input-file --verify-diagnostics --shard-schedule

// expected-error@+1 {{there is no public function to schedule}}
module {}

// -----

func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{cannot be scheduled: it is neither a kernel nor a collective of the local view}}
  %0 = graph.exp %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func private @layer(tensor<4xf32>) -> tensor<4xf32>
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{calls "layer", which has no body}}
  %0 = call @layer(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
// expected-error@+1 {{input "x" of local type 'tensor<4xf32>' does not follow from its global type 'tensor<4xf32>' and its sharding}}
func.func @main(%x: tensor<4xf32> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{"tp"}]>}) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

shard.mesh @a ["tp" = 2]
// expected-error@+1 {{a second mesh: a program runs on one, "a"}}
shard.mesh @b ["tp" = 2]
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// expected-error@+1 {{output "y" replaces input "z", which does not exist}}
func.func @main(%x: tensor<4xf32> {graph.name = "x"}) -> (tensor<4xf32> {graph.name = "y", graph.alias = "z"}) {
  return %x : tensor<4xf32>
}

// -----

// expected-error@+1 {{output "z" is a second one that replaces input "x"}}
func.func @main(%x: tensor<4xf32> {graph.name = "x"})
    -> (tensor<4xf32> {graph.name = "y", graph.alias = "x"}, tensor<4xf32> {graph.name = "z", graph.alias = "x"}) {
  return %x, %x : tensor<4xf32>, tensor<4xf32>
}

// -----

// expected-error@+1 {{output "y" of type 'tensor<2x2xf32>' replaces input "x" of type 'tensor<4xf32>'}}
func.func @main(%x: tensor<4xf32> {graph.name = "x"}) -> (tensor<2x2xf32> {graph.name = "y", graph.alias = "x"}) {
  %y = graph.reshape %x : tensor<4xf32> -> tensor<2x2xf32>
  return %y : tensor<2x2xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
// expected-error@+1 {{output "y" of type 'tensor<4xf32>' replaces input "x" of type 'tensor<4xf32>', which is cut otherwise}}
func.func @main(%x: tensor<2xf32> {graph.name = "x", graph.global_type = tensor<4xf32>, shard.sharding = #shard.sharding<@mesh, [{"tp"}]>})
    -> (tensor<4xf32> {graph.name = "y", graph.alias = "x"}) {
  %y = shard.all_gather %x over {"tp"} of @mesh dim 0 : tensor<2xf32> -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

func.func @main(%x: tensor<4xf32> {graph.name = "x"}) -> (tensor<4xf32> {graph.name = "y", graph.alias = "x"}) {
  return %x : tensor<4xf32>
}
// expected-error@+1 {{input "x" is 'tensor<2xf32>' in "other" and 'tensor<4xf32>' in "main"; what an output replaces is the same in all entry points}}
func.func @other(%x: tensor<2xf32> {graph.name = "x"}) -> (tensor<2xf32> {graph.name = "y", graph.alias = "x"}) {
  return %x : tensor<2xf32>
}

// -----

shard.mesh @mesh ["tp" = 2]
func.func @main(%x: tensor<2xf32> {graph.name = "x", graph.global_type = tensor<4xf32>, shard.sharding = #shard.sharding<@mesh, [{"tp"}]>})
    -> (tensor<2xf32> {graph.name = "y", graph.alias = "x", graph.global_type = tensor<4xf32>, shard.sharding = #shard.sharding<@mesh, [{"tp"}]>}) {
  return %x : tensor<2xf32>
}
// expected-error@+1 {{input "x" is 'tensor<4xf32>' in "other" and 'tensor<4xf32>' in "main", cut otherwise}}
func.func @other(%x: tensor<4xf32> {graph.name = "x"}) -> (tensor<4xf32> {graph.name = "z"}) {
  return %x : tensor<4xf32>
}
