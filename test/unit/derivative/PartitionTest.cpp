//===- PartitionTest.cpp - Vector-Jacobian products, cut over devices -----===//
//
// For every case and every factor that its op may be cut along: the VJP alone, with operands and
// cotangents cut that way, is propagated and partitioned over two devices and interpreted. The
// cotangents equal those of one device.
//
//===----------------------------------------------------------------------===//

#include "Testing.h"

#include "shardc/Partition/Passes.h"
#include "shardc/Propagate/Passes.h"
#include "shardc/Sharding/FactorSharding.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;

namespace shardc {
namespace {

class PartitionedVJP : public DerivativeTest {
protected:
  Attribute shardingAttr(const char *text) {
    return parseAttribute(std::string("#shard.sharding<@mesh, ") + text + ">", &context);
  }

  /// Partitions the VJP, whose arguments (and results) have shardings, and runs it: the cotangents
  /// are as before.
  void expectSame(VJP &made, const DerivativeCase &test, ArrayRef<const char *> pending = {}) {
    SmallVector<HostTensor> inputs = randomArguments(*made.module, test),
                            cotangents = randomCotangents(made.op);
    inputs.append(cotangents.begin(), cotangents.end());
    auto expected = interpret(*made.module, inputs);
    ASSERT_TRUE(succeeded(expected));
    if (made.op->use_empty())
      made.op->erase();
    auto function = *made.module->getOps<func::FuncOp>().begin();
    PassManager propagate(&context), partition(&context);
    propagate.addPass(createShardPropagate());
    ASSERT_TRUE(succeeded(propagate.run(*made.module)));
    // What FSDP reduces later is left pending, as --shard-defer-gradient-sums does.
    for (auto [n, text] : llvm::enumerate(pending))
      if (StringRef(text).contains("partial")) {
        auto sharding = cast<shard::ShardingAttr>(shardingAttr(text));
        shard::setSharding(function.getBody().front().getTerminator()->getOperand(n), sharding);
        function.setResultAttr(n, shard::ShardDialect::kShardingAttr, sharding);
      }
    partition.addPass(createShardPartition());
    ASSERT_TRUE(succeeded(partition.run(*made.module)));
    auto actual = interpret(*made.module, inputs);
    ASSERT_TRUE(succeeded(actual));
    for (auto [want, got] : llvm::zip(*expected, *actual)) {
      ASSERT_EQ(want.f.size(), got.f.size());
      for (size_t n = 0; n < want.f.size(); ++n)
        EXPECT_NEAR(got.f[n], want.f[n], 1e-12 * std::max(1.0, std::abs(want.f[n])))
            << "element " << n;
    }
    ++checked;
  }

  /// With every operand and cotangent cut along one factor of the forward op.
  void checkCut(const DerivativeCase &test, int64_t factor) {
    VJP made;
    ASSERT_NO_FATAL_FAILURE(buildVJP(test, made));
    ShardingRule rule = cast<graph::ShardingRuleOpInterface>(made.op).getShardingRule();
    SCOPED_TRACE(test.op + ", factor " + std::to_string(factor) + " of " + rule.str());
    Mesh mesh = shard::getOnlyMesh(*made.module).getMesh();
    std::vector<AxisList> axes(rule.factors.size());
    axes[factor] = {wholeAxis(mesh, 0)};
    auto cut = [&](Value value, const FactorDims &dims) {
      if (std::optional<Sharding> sharding = shardingOf(rule, dims, axes))
        shard::setSharding(value, shard::ShardingAttr::get(FlatSymbolRefAttr::get(&context, "mesh"),
                                                           mesh, *sharding));
    };
    for (auto [operand, dims] : llvm::zip(made.op->getOperands(), rule.operands))
      cut(operand, dims);
    unsigned argument = test.arguments.size();
    for (auto [result, dims] : llvm::zip(made.op->getResults(), rule.results))
      if (isa<FloatType>(cast<RankedTensorType>(result.getType()).getElementType()))
        cut(made.op->getBlock()->getArgument(argument++), dims);
    expectSame(made, test);
  }

  /// A layout of training: shardings of arguments and result's cotangent, and of the cotangents
  /// that come out; and how many collectives over which axis that takes.
  void checkLayout(const DerivativeCase &test, ArrayRef<const char *> given,
                   ArrayRef<const char *> returned, const std::map<std::string, int> &expected) {
    SCOPED_TRACE(test.op);
    prelude = "shard.mesh @mesh [\"dp\" = 2, \"tp\" = 2] {bandwidth = array<f64: 100.0, 100.0>, "
              "latency = array<f64: 1.0e-6, 1.0e-6>}\n";
    VJP made;
    ASSERT_NO_FATAL_FAILURE(buildVJP(test, made));
    auto function = cast<func::FuncOp>(made.op->getParentOp());
    ASSERT_EQ(given.size(), function.getNumArguments());
    for (auto [n, text] : llvm::enumerate(given))
      function.setArgAttr(n, "shard.sharding", shardingAttr(text));
    ASSERT_EQ(returned.size(), function.getNumResults());
    for (auto [n, text] : llvm::enumerate(returned))
      function.setResultAttr(n, "shard.sharding", shardingAttr(text));
    ASSERT_NO_FATAL_FAILURE(expectSame(made, test, returned));
    std::map<std::string, int> collectives;
    made.module->walk([&](Operation *op) {
      if (op->getDialect()->getNamespace() == "shard" &&
          !isa<shard::MeshOp, shard::AxisIndexOp>(op))
        ++collectives[op->getName().stripDialect().str()];
    });
    EXPECT_EQ(collectives, expected);
  }

  int checked = 0;
};

TEST_F(PartitionedVJP, EveryCutOfEveryCase) {
  for (int devices : {2, 3}) {
    prelude = "shard.mesh @mesh [\"tp\" = " + std::to_string(devices) + "]\n";
    for (const DerivativeCase &test : structuredCases()) {
      OwningOpRef<ModuleOp> module = parse(test);
      ASSERT_TRUE(module);
      ShardingRule rule = cast<graph::ShardingRuleOpInterface>(testedOp(*module)).getShardingRule();
      for (size_t factor = 0; factor < rule.factors.size(); ++factor)
        if (rule.factors[factor].kind != FactorKind::NeedReplication)
          checkCut(test, factor);
    }
  }
  EXPECT_GT(checked, 200);
}

TEST_F(PartitionedVJP, EmbeddingOverVocabularyAndBatch) {
  checkLayout({"graph.gather %0, %1 axis 0 : tensor<9x3xf64>, tensor<2x4xi64> -> tensor<2x4x3xf64>",
               {"9x3xf64", "2x4xi64"},
               {"2x4x3xf64"},
               -2,
               2,
               9},
              {R"([{"tp"}, {}])", R"([{"dp"}, {}])", R"([{"dp"}, {}, {}])"},
              {R"([{"tp"}, {}], partial = sum {"dp"})"}, {});
}

TEST_F(PartitionedVJP, ColumnsThenRows) {
  checkLayout({"graph.einsum \"bsk,nk->bsn\" %0, %1 : tensor<2x3x5xf64>, tensor<6x5xf64> -> "
               "tensor<2x3x6xf64>",
               {"2x3x5xf64", "6x5xf64"},
               {"2x3x6xf64"}},
              {R"([{"dp"}, {}, {}])", R"([{"tp"}, {}])", R"([{"dp"}, {}, {"tp"}])"},
              {R"([{"dp"}, {}, {}])", R"([{"tp"}, {}], partial = sum {"dp"})"},
              {{"all_reduce", 1}});
  checkLayout({"graph.einsum \"bsk,nk->bsn\" %0, %1 : tensor<2x3x6xf64>, tensor<5x6xf64> -> "
               "tensor<2x3x5xf64>",
               {"2x3x6xf64", "5x6xf64"},
               {"2x3x5xf64"}},
              {R"([{"dp"}, {}, {"tp"}])", R"([{}, {"tp"}])", R"([{"dp"}, {}, {}])"},
              {R"([{"dp"}, {}, {"tp"}])", R"([{}, {"tp"}], partial = sum {"dp"})"}, {});
}

TEST_F(PartitionedVJP, NormsOverTokens) {
  // Tokens over both axes, as under sequence parallelism: the weight's gradient is pending over
  // both.
  checkLayout({"graph.rms_norm %0, %1 : tensor<5xf64> epsilon 1.0e-2 : tensor<2x4x5xf64>",
               {"2x4x5xf64", "5xf64"},
               {"2x4x5xf64"}},
              {R"([{"dp"}, {"tp"}, {}])", "[{}]", R"([{"dp"}, {"tp"}, {}])"},
              {R"([{"dp"}, {"tp"}, {}])", R"([{}], partial = sum {"dp", "tp"})"}, {});
  checkLayout(
      {"graph.layer_norm %0 weight %1 : tensor<5xf64> bias %2 : tensor<5xf64> epsilon 1.0e-2 : "
       "tensor<2x4x5xf64>",
       {"2x4x5xf64", "5xf64", "5xf64"},
       {"2x4x5xf64"}},
      {R"([{"dp"}, {}, {}])", "[{}]", "[{}]", R"([{"dp"}, {}, {}])"},
      {R"([{"dp"}, {}, {}])", R"([{}], partial = sum {"dp"})", R"([{}], partial = sum {"dp"})"},
      {});
}

TEST_F(PartitionedVJP, LossOverVocabulary) {
  // The maximum and the sum of each row, no more.
  checkLayout(
      {"graph.softmax_cross_entropy %0, %1 : tensor<2x3x9xf64>, tensor<2x3xi64> -> tensor<2x3xf64>",
       {"2x3x9xf64", "2x3xi64"},
       {"2x3xf64"},
       -2,
       2,
       9},
      {R"([{"dp"}, {}, {"tp"}])", R"([{"dp"}, {}])", R"([{"dp"}, {}])"},
      {R"([{"dp"}, {}, {"tp"}])"}, {{"all_reduce", 2}});
}

TEST_F(PartitionedVJP, AttentionOverHeads) {
  const char *heads = R"([{"dp"}, {"tp"}, {}, {}])";
  checkLayout({"graph.attention %0, %1, %2 scale 0.7 {causal = true} : tensor<2x4x3x2xf64>, "
               "tensor<2x2x3x2xf64>, tensor<2x2x3x2xf64> -> tensor<2x4x3x2xf64>",
               {"2x4x3x2xf64", "2x2x3x2xf64", "2x2x3x2xf64"},
               {"2x4x3x2xf64"}},
              {heads, heads, heads, heads}, {heads, heads, heads}, {});
}

TEST_F(PartitionedVJP, ExpertsOverDevices) {
  checkLayout({"graph.grouped_matmul %0, %1 by %2 : tensor<6x3xf64>, tensor<4x5x3xf64>, "
               "tensor<6xi64> -> tensor<6x5xf64>",
               {"6x3xf64", "4x5x3xf64", "6xi64"},
               {"6x5xf64"}},
              {R"([{"dp"}, {}])", R"([{"tp"}, {}, {}])", R"([{"dp"}])", R"([{"dp"}, {}])"},
              {R"([{"dp"}, {}])", R"([{"tp"}, {}, {}], partial = sum {"dp"})"},
              {{"all_reduce", 1}});
}

} // namespace
} // namespace shardc
