//===- ProgramsTest.cpp - Small programs end to end -----------------------===//
#include "ProgramTesting.h"

namespace shardc::testing {
namespace {

struct ProgramsTest : ProgramTest {};

TEST_F(ProgramsTest, NormMatmulSoftmaxMatmul) {
  check(R"mlir(
    func.func @main(%x: tensor<2x5x16xf32> {graph.name = "x"}) -> (tensor<2x5x12xf32> {graph.name = "y"}, tensor<2x5x16xf32> {graph.name = "n"}) {
      %w = graph.parameter "w" : tensor<24x16xf32>
      %v = graph.parameter "v" : tensor<12x24xf32>
      %g = graph.parameter "g" : tensor<16xf32>
      %n = graph.rms_norm %x, %g : tensor<16xf32> epsilon 1.0e-5 : tensor<2x5x16xf32>
      %h = graph.einsum "bsk,nk->bsn" %n, %w : tensor<2x5x16xf32>, tensor<24x16xf32> -> tensor<2x5x24xf32>
      %a = graph.silu %h : tensor<2x5x24xf32>
      %p = graph.softmax %a dim 2 : tensor<2x5x24xf32>
      %y = graph.einsum "bsk,nk->bsn" %p, %v : tensor<2x5x24xf32>, tensor<12x24xf32> -> tensor<2x5x12xf32>
      %two = graph.constant dense<2.0> : tensor<2x5x12xf32>
      %z = graph.mul %y, %two : tensor<2x5x12xf32>
      return %z, %n : tensor<2x5x12xf32>, tensor<2x5x16xf32>
    }
  )mlir");
}

TEST_F(ProgramsTest, LayersShareKernels) {
  check(R"mlir(
    func.func @main(%x: tensor<3x8xf32> {graph.name = "x"}) -> (tensor<3x8xf32> {graph.name = "y"}) {
      %u = graph.parameter "u" : tensor<8x8xf32>
      %v = graph.parameter "v" : tensor<8x8xf32>
      %a = call @layer(%x, %u) : (tensor<3x8xf32>, tensor<8x8xf32>) -> tensor<3x8xf32>
      %b = call @layer(%a, %v) : (tensor<3x8xf32>, tensor<8x8xf32>) -> tensor<3x8xf32>
      return %b : tensor<3x8xf32>
    }
    func.func private @layer(%x: tensor<3x8xf32>, %w: tensor<8x8xf32>) -> tensor<3x8xf32> {
      %t = graph.transpose %w [1, 0] : tensor<8x8xf32> -> tensor<8x8xf32>
      %h = graph.einsum "mk,kn->mn" %x, %t : tensor<3x8xf32>, tensor<8x8xf32> -> tensor<3x8xf32>
      %r = graph.add %h, %x : tensor<3x8xf32>
      return %r : tensor<3x8xf32>
    }
  )mlir");
}

/// What depends on weights only is computed once; a returned input is copied.
TEST_F(ProgramsTest, InitListAndReturnedValues) {
  check(R"mlir(
    func.func @main(%x: tensor<4x6xf32> {graph.name = "x"}) -> (tensor<4x6xf32> {graph.name = "y"}, tensor<4x6xf32> {graph.name = "same"},
                                                                tensor<6xf32> {graph.name = "weight"}, tensor<24xf32> {graph.name = "flat"}) {
      %g = graph.parameter "g" : tensor<6xf32>
      %e = graph.softmax %g dim 0 : tensor<6xf32>
      %b = graph.broadcast %e [1] : tensor<6xf32> -> tensor<4x6xf32>
      %c = graph.constant dense<[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]> : tensor<6xf32>
      %d = graph.broadcast %c [1] : tensor<6xf32> -> tensor<4x6xf32>
      %m = graph.mul %x, %b : tensor<4x6xf32>
      %y = graph.add %m, %d : tensor<4x6xf32>
      %f = graph.reshape %y : tensor<4x6xf32> -> tensor<24xf32>
      return %y, %x, %g, %f : tensor<4x6xf32>, tensor<4x6xf32>, tensor<6xf32>, tensor<24xf32>
    }
  )mlir");
}

TEST_F(ProgramsTest, TensorParallelMlp) {
  check(R"mlir(
    shard.mesh @mesh ["tp" = 2]
    func.func @main(%x: tensor<3x8xf32> {graph.name = "x"}) -> (tensor<3x8xf32> {graph.name = "y"}) attributes {shard.partitioned} {
      %u = graph.parameter "u" {shard.shardings = [#shard.sharding<@mesh, [{"tp"}, {}]>], graph.global_type = tensor<16x8xf32>} : tensor<8x8xf32>
      %v = graph.parameter "v" {shard.shardings = [#shard.sharding<@mesh, [{}, {"tp"}]>], graph.global_type = tensor<8x16xf32>} : tensor<8x8xf32>
      %h = graph.einsum "mk,nk->mn" %x, %u : tensor<3x8xf32>, tensor<8x8xf32> -> tensor<3x8xf32>
      %a = graph.gelu %h : tensor<3x8xf32>
      %p = graph.einsum "mk,nk->mn" %a, %v : tensor<3x8xf32>, tensor<8x8xf32> -> tensor<3x8xf32>
      %y = shard.all_reduce %p over {"tp"} of @mesh sum : tensor<3x8xf32> -> tensor<3x8xf32>
      return %y : tensor<3x8xf32>
    }
  )mlir");
}

} // namespace
} // namespace shardc::testing
