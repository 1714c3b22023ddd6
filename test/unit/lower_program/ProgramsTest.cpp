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

/// Elementwise ops behind a product: bias, activation, gate and residual on the accumulators.
TEST_F(ProgramsTest, Epilogues) {
  for (std::string e : {"f32", "bf16"}) {
    auto t = [&](std::string shape) { return "tensor<" + shape + "x" + e + ">"; };
    check("func.func @main(%x: " + t("2x5x18") + R"( {graph.name = "x"}) -> ()" + t("2x5x18") +
              R"( {graph.name = "y"}, )" + t("2x3x5x5") +
              R"( {graph.name = "s"}) {
      %g = graph.parameter "g" : )" +
              t("40x18") + R"(
      %u = graph.parameter "u" : )" +
              t("40x18") + R"(
      %d = graph.parameter "d" : )" +
              t("18x40") + R"(
      %b = graph.parameter "b" : )" +
              t("40") + R"(
      %gate = graph.einsum "bsk,nk->bsn" %x, %g : )" +
              t("2x5x18") + ", " + t("40x18") + " -> " + t("2x5x40") + R"(
      %bb = graph.broadcast %b [2] : )" +
              t("40") + " -> " + t("2x5x40") + R"(
      %gb = graph.add %gate, %bb : )" +
              t("2x5x40") + R"(
      %a = graph.silu %gb : )" +
              t("2x5x40") + R"(
      %up = graph.einsum "bsk,nk->bsn" %x, %u : )" +
              t("2x5x18") + ", " + t("40x18") + " -> " + t("2x5x40") + R"(
      %m = graph.mul %a, %up : )" +
              t("2x5x40") + R"(
      %down = graph.einsum "bsk,nk->bsn" %m, %d : )" +
              t("2x5x40") + ", " + t("18x40") + " -> " + t("2x5x18") + R"(
      %y = graph.add %x, %down : )" +
              t("2x5x18") + R"(
      %h = graph.reshape %x : )" +
              t("2x5x18") + " -> " + t("2x5x3x6") + R"(
      %t = graph.transpose %h [0, 2, 1, 3] : )" +
              t("2x5x3x6") + " -> " + t("2x3x5x6") + R"(
      %scores = graph.einsum "bhsd,bhtd->bhst" %t, %t : )" +
              t("2x3x5x6") + ", " + t("2x3x5x6") + " -> " + t("2x3x5x5") + R"(
      %c = graph.constant dense<0.25> : )" +
              t("2x3x5x5") + R"(
      %scaled = graph.mul %scores, %c : )" +
              t("2x3x5x5") + R"(
      %rows = graph.slice %x [0, 0, 0] step [1, 1, 1] : )" +
              t("2x5x18") + " -> " + t("2x5x1") + R"(
      %r5 = graph.reshape %rows : )" +
              t("2x5x1") + " -> " + t("2x1x5x1") + R"(
      %rb = graph.broadcast %r5 [0, 1, 2, 3] : )" +
              t("2x1x5x1") + " -> " + t("2x3x5x5") + R"(
      %s = graph.add %scaled, %rb : )" +
              t("2x3x5x5") + R"(
      return %y, %s : )" +
              t("2x5x18") + ", " + t("2x3x5x5") + "\n}\n",
          8);
  }
}

/// A sum that is normed and carried on; softmax and norms in primitive ops; all one kernel each.
TEST_F(ProgramsTest, RowGroups) {
  for (std::string e : {"f32", "bf16"}) {
    auto t = [&](std::string shape) { return "tensor<" + shape + "x" + e + ">"; };
    std::string full = t("3x5x19"), row = t("3x5"), one = t("3x5x1");
    check("func.func @main(%x: " + full + R"( {graph.name = "x"}, %y: )" + full +
              R"( {graph.name = "y"}) -> ()" + full + R"( {graph.name = "sum"}, )" + full +
              R"( {graph.name = "soft"}, )" + full + R"( {graph.name = "norm"}) {
      %g = graph.parameter "g" : )" +
              t("19") + R"(
      %h = graph.add %x, %y : )" +
              full + R"(
      %n = graph.rms_norm %h, %g : )" +
              t("19") + " epsilon 1.0e-5 : " + full + R"(
      %nn = graph.tanh %n : )" +
              full + R"(
      %carried = graph.mul %h, %nn : )" +
              full + R"(
      %max = graph.reduce max %x [2] : )" +
              full + " -> " + row + R"(
      %maxr = graph.reshape %max : )" +
              row + " -> " + one + R"(
      %maxb = graph.broadcast %maxr [0, 1, 2] : )" +
              one + " -> " + full + R"(
      %shifted = graph.sub %x, %maxb : )" +
              full + R"(
      %exp = graph.exp %shifted : )" +
              full + R"(
      %total = graph.reduce sum %exp [2] : )" +
              full + " -> " + row + R"(
      %inverse = graph.reciprocal %total : )" +
              row + R"(
      %invb = graph.broadcast %inverse [0, 1] : )" +
              row + " -> " + full + R"(
      %soft = graph.mul %exp, %invb : )" +
              full + R"(
      %mean0 = graph.reduce sum %y [2] : )" +
              full + " -> " + row + R"(
      %c = graph.constant dense<0.0526315789> : )" +
              row + R"(
      %mean = graph.mul %mean0, %c : )" +
              row + R"(
      %meanb = graph.broadcast %mean [0, 1] : )" +
              row + " -> " + full + R"(
      %centered = graph.sub %y, %meanb : )" +
              full + R"(
      %square = graph.mul %centered, %centered : )" +
              full + R"(
      %var0 = graph.reduce sum %square [2] : )" +
              full + " -> " + row + R"(
      %var = graph.mul %var0, %c : )" +
              row + R"(
      %eps = graph.constant dense<1.0e-2> : )" +
              row + R"(
      %var1 = graph.add %var, %eps : )" +
              row + R"(
      %scale = graph.rsqrt %var1 : )" +
              row + R"(
      %scaleb = graph.broadcast %scale [0, 1] : )" +
              row + " -> " + full + R"(
      %norm = graph.mul %centered, %scaleb : )" +
              full + R"(
      return %carried, %soft, %norm : )" +
              full + ", " + full + ", " + full + "\n}\n",
          16);
  }
}

/// Transposes around attention are strides.
TEST_F(ProgramsTest, AttentionBlock) {
  check(R"mlir(
    func.func @main(%x: tensor<2x5x24xf32> {graph.name = "x"}) -> (tensor<2x5x24xf32> {graph.name = "y"}) {
      %wq = graph.parameter "q" : tensor<24x24xf32>
      %wk = graph.parameter "k" : tensor<12x24xf32>
      %wv = graph.parameter "v" : tensor<12x24xf32>
      %wo = graph.parameter "o" : tensor<24x24xf32>
      %cos = graph.parameter "cos" : tensor<1x5x3xf32>
      %sin = graph.parameter "sin" : tensor<1x5x3xf32>
      %q = graph.einsum "bsk,nk->bsn" %x, %wq : tensor<2x5x24xf32>, tensor<24x24xf32> -> tensor<2x5x24xf32>
      %k = graph.einsum "bsk,nk->bsn" %x, %wk : tensor<2x5x24xf32>, tensor<12x24xf32> -> tensor<2x5x12xf32>
      %v = graph.einsum "bsk,nk->bsn" %x, %wv : tensor<2x5x24xf32>, tensor<12x24xf32> -> tensor<2x5x12xf32>
      %qr = graph.reshape %q : tensor<2x5x24xf32> -> tensor<2x5x4x6xf32>
      %kr = graph.reshape %k : tensor<2x5x12xf32> -> tensor<2x5x2x6xf32>
      %vr = graph.reshape %v : tensor<2x5x12xf32> -> tensor<2x5x2x6xf32>
      %qt = graph.transpose %qr [0, 2, 1, 3] : tensor<2x5x4x6xf32> -> tensor<2x4x5x6xf32>
      %kt = graph.transpose %kr [0, 2, 1, 3] : tensor<2x5x2x6xf32> -> tensor<2x2x5x6xf32>
      %vt = graph.transpose %vr [0, 2, 1, 3] : tensor<2x5x2x6xf32> -> tensor<2x2x5x6xf32>
      %qe = graph.rope %qt, %cos, %sin : tensor<2x4x5x6xf32>, tensor<1x5x3xf32>
      %ke = graph.rope %kt, %cos, %sin : tensor<2x2x5x6xf32>, tensor<1x5x3xf32>
      %a = graph.attention %qe, %ke, %vt scale 0.4 {causal = true} : tensor<2x4x5x6xf32>, tensor<2x2x5x6xf32>, tensor<2x2x5x6xf32> -> tensor<2x4x5x6xf32>
      %at = graph.transpose %a [0, 2, 1, 3] : tensor<2x4x5x6xf32> -> tensor<2x5x4x6xf32>
      %ar = graph.reshape %at : tensor<2x5x4x6xf32> -> tensor<2x5x24xf32>
      %o = graph.einsum "bsk,nk->bsn" %ar, %wo : tensor<2x5x24xf32>, tensor<24x24xf32> -> tensor<2x5x24xf32>
      %y = graph.add %x, %o : tensor<2x5x24xf32>
      return %y : tensor<2x5x24xf32>
    }
  )mlir",
        4);
}

/// The gradients' transposes are strides too; sinks, masks and heads without partner.
TEST_F(ProgramsTest, AttentionGradients) {
  for (std::string e : {"f32", "bf16"}) {
    auto t = [&](const char *shape) { return "tensor<" + std::string(shape) + "x" + e + ">"; };
    std::string query = t("2x4x5x6"), key = t("2x2x7x6"), value = t("2x2x7x3"), out = t("2x4x5x3"),
                sinks = t("4");
    std::string types =
        query + ", " + key + ", " + value + ", " + out + " -> " + query + ", " + key + ", " + value;
    checkOps(
        "%x: " + t("2x5x4x6") + " {graph.name = \"x\"}, %k: " + key +
            " {graph.name = \"k\"}, %v: " + value + " {graph.name = \"v\"}, %g: " + t("2x5x12") +
            " {graph.name = \"g\"}, %s: " + sinks +
            " {graph.name = \"s\"}, %m: tensor<1x4x1x7xi1> {graph.name = \"m\"}",
        "  %q = graph.transpose %x [0, 2, 1, 3] : " + t("2x5x4x6") + " -> " + query +
            "\n  %gr = graph.reshape %g : " + t("2x5x12") + " -> " + t("2x5x4x3") +
            "\n  %gt = graph.transpose %gr [0, 2, 1, 3] : " + t("2x5x4x3") + " -> " + out +
            "\n  %a:3 = graph.attention_grad %q, %k, %v cotangent %gt scale 0.4 {causal = true, "
            "causalOffset = 2 : i64} : " +
            types + "\n  %dqt = graph.transpose %a#0 [0, 2, 1, 3] : " + query + " -> " +
            t("2x5x4x6") + "\n  %dq = graph.reshape %dqt : " + t("2x5x4x6") + " -> " + t("2x5x24") +
            "\n  %dkt = graph.transpose %a#1 [0, 2, 1, 3] : " + key + " -> " + t("2x7x2x6") +
            "\n  %dk = graph.reshape %dkt : " + t("2x7x2x6") + " -> " + t("2x7x12") +
            "\n  %dv = graph.neg %a#2 : " + value +
            "\n  %b:4 = graph.attention_grad %q, %k, %v mask %m : tensor<1x4x1x7xi1> sinks %s : " +
            sinks + " cotangent %gt scale 0.4 {softcap = 2.0} : " + types + ", " + sinks +
            "\n  %only = graph.transpose %b#1 [0, 2, 1, 3] : " + key + " -> " + t("2x7x2x6") +
            "\n  %ds = graph.neg %b#3 : " + sinks,
        {{"%dq", t("2x5x24").c_str()},
         {"%dk", t("2x7x12").c_str()},
         {"%dv", value.c_str()},
         {"%only", t("2x7x2x6").c_str()},
         {"%ds", sinks.c_str()}},
        16);
  }
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
