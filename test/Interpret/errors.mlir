// RUN: not shard-opt --shard-interpret %s --entry replicas 2>&1 | FileCheck %s --check-prefix=REPLICAS
// RUN: not shard-opt --shard-interpret %s --entry big --budget 1000000 2>&1 | FileCheck %s --check-prefix=BUDGET
// RUN: not shard-opt --shard-interpret %s --entry loop 2>&1 | FileCheck %s --check-prefix=LOOP
// RUN: not shard-opt --shard-interpret %s --entry unknown 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not shard-opt --shard-interpret %s --entry part 2>&1 | FileCheck %s --check-prefix=PART
// RUN: not shard-opt --shard-interpret %s --entry big --input z=dense\<1\> 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not shard-opt --shard-interpret %s --entry nowhere 2>&1 | FileCheck %s --check-prefix=ENTRY
// RUN: not shard-opt --shard-interpret %s --what 2>&1 | FileCheck %s --check-prefix=OPTION

shard.mesh @mesh ["tp" = 2]

// REPLICAS: error: output "rank": devices 0 and 1 hold different replicas: largest difference 1.0{{.*}} at [] of their part
func.func @replicas() -> (tensor<i64> {graph.name = "rank"}) {
  %0 = shard.axis_index {"tp"} of @mesh : tensor<i64>
  return %0 : tensor<i64>
}

// BUDGET: error: interpreting @big on 2 devices needs 45.8 MiB, above the limit of 976.6 KiB; use fewer layers or smaller dimensions (--dim), or raise --budget
// NAME: error: @big has no input "z"
func.func @big(%x: tensor<1000x1000xf32>) -> tensor<1000x1000xf32> {
  %0 = graph.exp %x : tensor<1000x1000xf32>
  return %0 : tensor<1000x1000xf32>
}

// LOOP: error: {{.*}}calls itself, which cannot be interpreted
func.func @loop() {
  call @loop() : () -> ()
  return
}

// UNKNOWN: [[#@LINE+3]]:8: error: 'arith.negf' op cannot be interpreted: it has no reference evaluation (in "layers.0.act")
// UNKNOWN: [[#@LINE+6]]:8: note: called from here
func.func private @layer(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = arith.negf %x {graph.path = "layers.0.act"} : tensor<2xf32>
  return %0 : tensor<2xf32>
}
func.func @unknown(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = call @layer(%x) : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// PART: error: {{.*}}"x" has type 'tensor<3xf32>', expected the part 'tensor<2xf32>' of 'tensor<4xf32>'
func.func @part(%x: tensor<3xf32> {graph.name = "x", shard.sharding = #shard.sharding<@mesh, [{"tp"}]>, graph.global_type = tensor<4xf32>}) {
  return
}

// ENTRY: error: module has no function @nowhere with a body
// OPTION: error: unknown option --what; --shard-interpret --help lists the options
