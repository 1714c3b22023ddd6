//===- OpPartitionTest.cpp - The table of sharding rules, proven by execution -===//
//
// For every op of the graph dialect and every factor of its rule that may be cut, even or uneven: a
// function of this one op is partitioned with that factor over two and three devices, and
// interpreted. The outputs equal those of the unpartitioned function.
//
// Operands come as parameters (padding is zero, and moving them is dear, so that the cut is really
// made) and as computed values (padding is not zero).
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Interpret/Interpreter.h"
#include "shardc/Partition/Passes.h"
#include "shardc/Sharding/FactorSharding.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/StringSet.h"

#include "gtest/gtest.h"

using namespace mlir;
using namespace shardc;

namespace {

/// `RESULT = op` on arguments %0, %1, …
struct OpCase {
  std::vector<const char *> arguments;
  std::string op;
  std::vector<const char *> results;
  double tolerance = 0; ///< where partial sums are not whole numbers
};

std::vector<OpCase> structuredCases() {
  return {
      {{}, "graph.iota dim 1 : tensor<3x5xi64>", {"3x5xi64"}},
      {{}, "graph.iota dim 0 : tensor<5x2xf16>", {"5x2xf16"}},
      {{"4x6xf32"}, "graph.reshape %0 : tensor<4x6xf32> -> tensor<4x2x3xf32>", {"4x2x3xf32"}},
      {{"5x4xf32"}, "graph.reshape %0 : tensor<5x4xf32> -> tensor<20xf32>", {"20xf32"}},
      {{"2x5xf32"}, "graph.reshape %0 : tensor<2x5xf32> -> tensor<10x1xf32>", {"10x1xf32"}},
      {{"3x5xf32"}, "graph.transpose %0 [1, 0] : tensor<3x5xf32> -> tensor<5x3xf32>", {"5x3xf32"}},
      {{"5x1xf32"},
       "graph.broadcast %0 [1, 2] : tensor<5x1xf32> -> tensor<3x5x4xf32>",
       {"3x5x4xf32"}},
      {{"5x6xf32"},
       "graph.slice %0 [0, 1] step [1, 2] : tensor<5x6xf32> -> tensor<5x2xf32>",
       {"5x2xf32"}},
      {{"5x4xf32"}, "graph.reverse %0 [1] : tensor<5x4xf32> -> tensor<5x4xf32>", {"5x4xf32"}},
      {{"5x4xf32"},
       "graph.pad %0 low [0, 1] high [0, 2] with 7.0 : f32 : tensor<5x4xf32> -> tensor<5x7xf32>",
       {"5x7xf32"}},
      {{"5x2xf32", "5x3xf32"},
       "graph.concat %0, %1 dim 1 : tensor<5x2xf32>, tensor<5x3xf32> -> tensor<5x5xf32>",
       {"5x5xf32"}},
      {{"5x3xf32", "2x3xi64"},
       "graph.gather %0, %1 axis 0 : tensor<5x3xf32>, tensor<2x3xi64> -> tensor<2x3x3xf32>",
       {"2x3x3xf32"}},
      {{"3x5x3xf32", "5xi8"},
       "graph.gather %0, %1 axis 1 : tensor<3x5x3xf32>, tensor<5xi8> -> tensor<3x5x3xf32>",
       {"3x5x3xf32"}},
      {{"2x5x3xf32", "2x5xi64"},
       "graph.scatter_sum %0 at %1 axis 0 : tensor<2x5x3xf32>, tensor<2x5xi64> -> tensor<7x3xf32>",
       {"7x3xf32"}},
      {{"3x5x2xf32", "5xi8"},
       "graph.scatter_sum %0 at %1 axis 1 : tensor<3x5x2xf32>, tensor<5xi8> -> tensor<3x4x2xf32>",
       {"3x4x2xf32"}},
      {{"3x5x4xf32", "3x5x1xi64"},
       "graph.gather_nd %0, %1 batch 1 : tensor<3x5x4xf32>, tensor<3x5x1xi64> -> tensor<3x5x4xf32>",
       {"3x5x4xf32"}},
      {{"3x5xf32", "3x4xi64"},
       "graph.gather_elements %0, %1 axis 1 : tensor<3x5xf32>, tensor<3x4xi64> -> tensor<3x4xf32>",
       {"3x4xf32"}},
      {{"3x5xf32", "3x2xi64", "3x2xf32"},
       "graph.scatter_elements sum %0, %1, %2 axis 1 : tensor<3x5xf32>, tensor<3x2xi64>, "
       "tensor<3x2xf32>",
       {"3x5xf32"}},
      {{"4x5xf32", "3x1xi64", "3x5xf32"},
       "graph.scatter_nd sum %0, %1, %2 : tensor<4x5xf32>, tensor<3x1xi64>, tensor<3x5xf32>",
       {"4x5xf32"}},
      {{"3x5xf32", "4x5xf32"},
       "graph.einsum \"mk,nk->mn\" %0, %1 : tensor<3x5xf32>, tensor<4x5xf32> -> tensor<3x4xf32>",
       {"3x4xf32"}},
      {{"3x2x5xi64", "3x5x4xi64"},
       "graph.einsum \"bmk,bkn->bmn\" %0, %1 : tensor<3x2x5xi64>, tensor<3x5x4xi64> -> "
       "tensor<3x2x4xi64>",
       {"3x2x4xi64"}},
      {{"3x5xf8E4M3FN", "4x5xf8E5M2"},
       "graph.einsum \"mk,nk->mn\" %0, %1 : tensor<3x5xf8E4M3FN>, tensor<4x5xf8E5M2> -> "
       "tensor<3x4xf32>",
       {"3x4xf32"}},
      {{"3x5xf8E4M3FN", "4x5xf8E5M2", "f32", "f32"},
       "graph.scaled_einsum \"mk,nk->mn\" %0, %1 scales %2, %3 {gradient = f8E5M2} : "
       "tensor<3x5xf8E4M3FN>, tensor<4x5xf8E5M2>, tensor<f32>, tensor<f32> -> tensor<3x4xf32>",
       {"3x4xf32"},
       1e-6},
      {{"5x3xf32", "3x4x3xf32", "5xi64"},
       "graph.grouped_matmul %0, %1 by %2 : tensor<5x3xf32>, tensor<3x4x3xf32>, tensor<5xi64> -> "
       "tensor<5x4xf32>",
       {"5x4xf32"}},
      {{"5x3xf32", "5x4xf32", "5xi64"},
       "graph.grouped_matmul_grad %0, %1 by %2 : tensor<5x3xf32>, tensor<5x4xf32>, tensor<5xi64> "
       "-> tensor<3x4x3xf32>",
       {"3x4x3xf32"}},
      {{"8x3xf32", "4x2x3xf32", "8xi64"},
       "graph.grouped_matmul %0, %1 by %2 {blocks = 2 : i64} : tensor<8x3xf32>, tensor<4x2x3xf32>, "
       "tensor<8xi64> -> tensor<8x2xf32>",
       {"8x2xf32"}},
      {{"8x3xf32", "8x2xf32", "8xi64"},
       "graph.grouped_matmul_grad %0, %1 by %2 {blocks = 4 : i64} : tensor<8x3xf32>, "
       "tensor<8x2xf32>, tensor<8xi64> -> tensor<4x2x3xf32>",
       {"4x2x3xf32"}},
      {{"3x4x5xf32", "5x4x2xf32"},
       "graph.conv %0, %1 {strides = array<i64: 1>, padLow = array<i64: 0>, padHigh = array<i64: "
       "0>, dilations = array<i64: 1>, group = 1 : i64} : tensor<3x4x5xf32>, tensor<5x4x2xf32> -> "
       "tensor<3x5x4xf32>",
       {"3x5x4xf32"}},
      {{"3x5x4xf32", "5x1x2xf32"},
       "graph.conv %0, %1 {strides = array<i64: 1>, padLow = array<i64: 0>, padHigh = array<i64: "
       "0>, dilations = array<i64: 1>, group = 5 : i64} : tensor<3x5x4xf32>, tensor<5x1x2xf32> -> "
       "tensor<3x5x3xf32>",
       {"3x5x3xf32"}},
      {{"3x5xf32"}, "graph.reduce sum %0 [1] : tensor<3x5xf32> -> tensor<3xf32>", {"3xf32"}},
      {{"3x5xf32"}, "graph.reduce prod %0 [1] : tensor<3x5xf32> -> tensor<3xf32>", {"3xf32"}},
      {{"3x5xf32"}, "graph.reduce max %0 [1] : tensor<3x5xf32> -> tensor<3xf32>", {"3xf32"}},
      {{"3x5xi32"}, "graph.reduce min %0 [0] : tensor<3x5xi32> -> tensor<5xi32>", {"5xi32"}},
      {{"3x5xi1"}, "graph.reduce and %0 [1] : tensor<3x5xi1> -> tensor<3xi1>", {"3xi1"}},
      {{"3x5xi1"}, "graph.reduce or %0 [1] : tensor<3x5xi1> -> tensor<3xi1>", {"3xi1"}},
      {{"3x5xf32"},
       "graph.arg_reduce %0 dim 1 largest true last false : tensor<3x5xf32> -> tensor<3xi64>",
       {"3xi64"}},
      {{"3x5xf32"}, "graph.cumsum %0 dim 1 : tensor<3x5xf32>", {"3x5xf32"}},
      {{"3x5xf32"},
       "graph.topk %0 dim 1 largest true : tensor<3x5xf32> -> tensor<3x2xf32>, tensor<3x2xi64>",
       {"3x2xf32", "3x2xi64"}},
      {{"3x5xf32"}, "graph.softmax %0 dim 1 : tensor<3x5xf32>", {"3x5xf32"}},
      {{"3x5xf32", "5xf32"},
       "graph.rms_norm %0, %1 : tensor<5xf32> epsilon 1.0 : tensor<3x5xf32>",
       {"3x5xf32"}},
      {{"3x5xf32", "5xf32", "5xf32"},
       "graph.layer_norm %0 weight %1 : tensor<5xf32> bias %2 : tensor<5xf32> epsilon 1.0 : "
       "tensor<3x5xf32>",
       {"3x5xf32"}},
      {{"3x5x3x4xf32", "3x3x2xf32", "3x3x2xf32"},
       "graph.rope %0, %1, %2 : tensor<3x5x3x4xf32>, tensor<3x3x2xf32>",
       {"3x5x3x4xf32"}},
      {{"3x6x4x2xf32", "3x3x5x2xf32", "3x3x5x5xf32", "1x6x4x5xf32", "6xf32"},
       "graph.attention %0, %1, %2 mask %3 : tensor<1x6x4x5xf32> sinks %4 : tensor<6xf32> scale "
       "1.0 : tensor<3x6x4x2xf32>, tensor<3x3x5x2xf32>, tensor<3x3x5x5xf32> -> tensor<3x6x4x5xf32>",
       {"3x6x4x5xf32"}},
      {{"2x4x3x2xf32", "2x2x3x2xf32", "2x2x3x2xf32"},
       "graph.attention %0, %1, %2 scale 1.0 {causal = true} : tensor<2x4x3x2xf32>, "
       "tensor<2x2x3x2xf32>, tensor<2x2x3x2xf32> -> tensor<2x4x3x2xf32>",
       {"2x4x3x2xf32"}},
      {{"3x6x4x2xf32", "3x3x5x2xf32", "3x3x5x5xf32", "1x6x4x5xf32", "6xf32", "3x6x4x5xf32"},
       "graph.attention_grad %0, %1, %2 mask %3 : tensor<1x6x4x5xf32> sinks %4 : tensor<6xf32> "
       "cotangent %5 scale 0.5 {softcap = 2.0 : f64} : tensor<3x6x4x2xf32>, tensor<3x3x5x2xf32>, "
       "tensor<3x3x5x5xf32>, tensor<3x6x4x5xf32> -> tensor<3x6x4x2xf32>, tensor<3x3x5x2xf32>, "
       "tensor<3x3x5x5xf32>, tensor<6xf32>",
       {"3x6x4x2xf32", "3x3x5x2xf32", "3x3x5x5xf32", "6xf32"},
       1e-6},
      {{"2x4x3x2xf32", "2x2x3x2xf32", "2x2x3x2xf32", "2x4x3x2xf32"},
       "graph.attention_grad %0, %1, %2 cotangent %3 scale 0.5 {causal = true} : "
       "tensor<2x4x3x2xf32>, tensor<2x2x3x2xf32>, tensor<2x2x3x2xf32>, tensor<2x4x3x2xf32> -> "
       "tensor<2x4x3x2xf32>, tensor<2x2x3x2xf32>, tensor<2x2x3x2xf32>",
       {"2x4x3x2xf32", "2x2x3x2xf32", "2x2x3x2xf32"},
       1e-6},
      {{"3x5xf32", "3xi64"},
       "graph.softmax_cross_entropy %0, %1 : tensor<3x5xf32>, tensor<3xi64> -> tensor<3xf32>",
       {"3xf32"}},
      {{"3x5xf32", "3x5xf32"},
       "graph.compare lt %0, %1 : tensor<3x5xf32> -> tensor<3x5xi1>",
       {"3x5xi1"}},
      {{"3x5xi1", "3x5xf32", "3x5xf32"},
       "graph.select %0, %1, %2 : tensor<3x5xi1>, tensor<3x5xf32>",
       {"3x5xf32"}},
      {{"3x5xf32"}, "graph.cast %0 : tensor<3x5xf32> -> tensor<3x5xi64>", {"3x5xi64"}},
      {{"3x5xf32"},
       "graph.cast %0 {saturate} : tensor<3x5xf32> -> tensor<3x5xf8E4M3FN>",
       {"3x5xf8E4M3FN"}},
      {{"3x5xbf16", "3x5xf32"},
       "graph.quantize %0, %1 : tensor<3x5xbf16>, tensor<3x5xf32> -> tensor<3x5xf8E4M3FN>",
       {"3x5xf8E4M3FN"}},
      {{"3x5xf32"}, "graph.is_nan %0 : tensor<3x5xf32> -> tensor<3x5xi1>", {"3x5xi1"}},
      {{"3x5xf32"}, "graph.is_inf %0 : tensor<3x5xf32> -> tensor<3x5xi1>", {"3x5xi1"}},
      {{}, "graph.constant dense<[[1, 2, 3], [4, 5, 6]]> : tensor<2x3xi64>", {"2x3xi64"}},
  };
}

class OpPartition : public testing::Test {
protected:
  OpPartition() {
    context.loadDialect<func::FuncDialect, graph::GraphDialect, shard::ShardDialect>();
    context.disableMultithreading();
  }

  OwningOpRef<ModuleOp> parse(const OpCase &test, int64_t devices) {
    std::string text =
        "shard.mesh @mesh [\"tp\" = " + std::to_string(devices) +
        "] {bandwidth = array<f64: 0.001>, latency = array<f64: 0.0>}\nfunc.func @main(";
    for (size_t n = 0; n < test.arguments.size(); ++n)
      text += (n ? ", %" : "%") + std::to_string(n) + ": tensor<" + test.arguments[n] + ">";
    std::string types;
    for (size_t n = 0; n < test.results.size(); ++n)
      types += std::string(n ? ", " : "") + "tensor<" + test.results[n] + ">";
    std::string count = test.results.size() > 1 ? ":" + std::to_string(test.results.size()) : "";
    text += ") -> (" + types + ") {\n  %r" + count + " = " + test.op + "\n  return ";
    for (size_t n = 0; n < test.results.size(); ++n)
      text += (n ? ", %r" : "%r") + (count.empty() ? "" : "#" + std::to_string(n));
    return parseSourceString<ModuleOp>(text + " : " + types + "\n}\n", &context);
  }

  /// Small whole numbers, so that sums are exact in any order.
  static HostTensor values(RankedTensorType type, int64_t seed) {
    HostTensor tensor(type);
    for (size_t n = 0; n < tensor.f.size(); ++n)
      tensor.f[n] = static_cast<double>((n * 7 + seed * 3) % 6) - 2;
    for (size_t n = 0; n < tensor.i.size(); ++n)
      tensor.i[n] = static_cast<int64_t>((n * 5 + seed) % 4);
    tensor.round();
    return tensor;
  }

  static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

  /// Operands from parameters, or from a computation that leaves padding that is not zero.
  static void replaceArguments(func::FuncOp function, bool byParameters) {
    OpBuilder b = OpBuilder::atBlockBegin(&function.getBody().front());
    for (BlockArgument argument : function.getArguments()) {
      auto type = typeOf(argument);
      Operation *made;
      if (byParameters)
        made = graph::ParameterOp::create(b, function.getLoc(), type,
                                          "p" + std::to_string(argument.getArgNumber()));
      else if (type.getElementType().isInteger(1))
        made = graph::NotOp::create(b, function.getLoc(), argument);
      else if (isa<Float8E4M3FNType, Float8E5M2Type>(type.getElementType())) // no sums of these
        made = graph::SelectOp::create(
            b, function.getLoc(), type,
            graph::CompareOp::create(b, function.getLoc(), graph::Predicate::EQ, argument,
                                     graph::ConstantOp::splat(b, function.getLoc(), type, 0)),
            graph::ConstantOp::splat(b, function.getLoc(), type, 1), argument);
      else
        made = graph::AddOp::create(b, function.getLoc(), argument,
                                    graph::ConstantOp::splat(b, function.getLoc(), type, 1));
      SmallPtrSet<Operation *, 2> own = {made};
      if (Operation *first = made->getNumOperands() ? made->getOperand(0).getDefiningOp() : nullptr)
        own.insert(first);
      argument.replaceAllUsesExcept(made->getResult(0), own);
    }
  }

  void annotate(Value value, const Sharding &sharding, const Mesh &mesh) {
    shard::setSharding(
        value, shard::ShardingAttr::get(FlatSymbolRefAttr::get(&context, "mesh"), mesh, sharding));
  }

  /// The op under test: it alone gives what is returned.
  static Operation *testedOp(func::FuncOp function) {
    return function.getBody().front().getTerminator()->getOperand(0).getDefiningOp();
  }

  FailureOr<SmallVector<HostTensor>> run(ModuleOp module, func::FuncOp function) {
    SmallVector<HostTensor> inputs = globalInputs;
    InterpretOptions options;
    options.parameters = [&](StringRef name, RankedTensorType type) -> Result<HostTensor> {
      int64_t n = 0;
      name.drop_front().getAsInteger(10, n);
      return globalInputs[n];
    };
    return interpret(module, inputs, options);
  }

  void check(const OpCase &test, int64_t devices, bool byParameters) {
    OwningOpRef<ModuleOp> probe = parse(test, devices);
    ASSERT_TRUE(probe) << test.op;
    auto function = probe->lookupSymbol<func::FuncOp>("main");
    ShardingRule rule = cast<graph::ShardingRuleOpInterface>(testedOp(function)).getShardingRule();
    globalInputs.clear();
    for (BlockArgument argument : function.getArguments())
      globalInputs.push_back(values(typeOf(argument), argument.getArgNumber()));
    for (size_t factor = 0; factor < rule.factors.size(); ++factor) {
      if (rule.factors[factor].kind != FactorKind::NeedReplication)
        checkFactor(test, devices, byParameters, rule, factor);
    }
  }

  void checkFactor(const OpCase &test, int64_t devices, bool byParameters, const ShardingRule &rule,
                   size_t factor) {
    SCOPED_TRACE(test.op + ", factor " + std::to_string(factor) + " of " + rule.str() + ", " +
                 std::to_string(devices) +
                 (byParameters ? " devices, parameters" : " devices, values"));
    OwningOpRef<ModuleOp> module = parse(test, devices);
    auto function = module->lookupSymbol<func::FuncOp>("main");
    Mesh mesh = shard::getOnlyMesh(*module).getMesh();
    replaceArguments(function, byParameters);
    Operation *op = testedOp(function);
    std::vector<AxisList> axes(rule.factors.size());
    axes[factor] = {wholeAxis(mesh, 0)};
    for (auto [operand, dims] : llvm::zip(op->getOperands(), rule.operands)) {
      std::optional<Sharding> sharding = shardingOf(rule, dims, axes);
      if (!sharding)
        return; // parts of a merged dimension that are not blocks
      annotate(operand, *sharding, mesh);
      if (Operation *source = operand.getDefiningOp(); source && source->getNumOperands())
        annotate(source->getOperand(0), *sharding, mesh);
    }
    for (auto [result, dims] : llvm::zip(op->getResults(), rule.results)) {
      std::optional<Sharding> sharding = shardingOf(rule, dims, axes);
      if (!sharding)
        return;
      annotate(result, *sharding, mesh);
    }
    auto expected = run(*module, function);
    ASSERT_TRUE(succeeded(expected));
    PassManager passes(&context);
    passes.addPass(createShardPartition());
    ASSERT_TRUE(succeeded(passes.run(*module)));
    bool gathers = false;
    module->walk([&](shard::AllGatherOp) { gathers = true; });
    EXPECT_FALSE(byParameters && gathers) << "the cut was not made";
    auto actual = run(*module, function);
    std::string text;
    llvm::raw_string_ostream(text) << *module;
    ASSERT_TRUE(succeeded(actual)) << text;
    for (auto [want, got] : llvm::zip(*expected, *actual)) {
      ASSERT_EQ(want.type, got.type) << text;
      EXPECT_EQ(want.i, got.i) << text;
      ASSERT_EQ(want.f.size(), got.f.size());
      for (size_t n = 0; n < want.f.size(); ++n)
        EXPECT_TRUE(want.f[n] == got.f[n] || (std::isnan(want.f[n]) && std::isnan(got.f[n])) ||
                    std::abs(want.f[n] - got.f[n]) <=
                        test.tolerance * std::max(1.0, std::abs(want.f[n])))
            << "element " << n << ": expected " << want.f[n] << ", got " << got.f[n] << "\n"
            << text;
    }
    ++checked;
  }

  void checkAll(const OpCase &test) {
    for (int64_t devices : {2, 3})
      for (bool byParameters : {true, false})
        check(test, devices, byParameters);
  }

  /// Elementwise ops need no entry: same type in and out.
  std::vector<OpCase> elementwiseCases(const llvm::StringSet<> &covered) {
    std::vector<OpCase> cases;
    for (RegisteredOperationName name : context.getRegisteredOperations()) {
      if (name.getDialectNamespace() != "graph" || covered.contains(name.getStringRef()) ||
          !name.hasTrait<OpTrait::Elementwise>())
        continue;
      for (const char *type : {"3x5xf32", "3x5xi64"})
        for (bool binary : {false, true}) {
          OpCase test{{type}, name.getStringRef().str() + " %0", {type}};
          if (binary) {
            test.arguments.push_back(type);
            test.op += ", %1";
          }
          test.op += std::string(" : tensor<") + type + ">";
          ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) { return success(); });
          if (parse(test, 2))
            cases.push_back(test);
        }
    }
    return cases;
  }

  MLIRContext context;
  SmallVector<HostTensor> globalInputs;
  int checked = 0;
};

std::string opName(const OpCase &test) { return test.op.substr(0, test.op.find(' ')); }

TEST_F(OpPartition, EveryStructuredOp) {
  for (const OpCase &test : structuredCases())
    checkAll(test);
  EXPECT_GT(checked, 200);
}

TEST_F(OpPartition, EveryElementwiseOp) {
  llvm::StringSet<> covered;
  for (const OpCase &test : structuredCases())
    covered.insert(opName(test));
  for (const OpCase &test : elementwiseCases(covered))
    check(test, 2, /*byParameters=*/false);
  EXPECT_GT(checked, 80);
}

/// A new op must come into one of the tables.
TEST_F(OpPartition, NoOpIsForgotten) {
  llvm::StringSet<> covered = {};
  covered.insert("graph.parameter");
  for (const OpCase &test : structuredCases())
    covered.insert(opName(test));
  for (const OpCase &test : elementwiseCases(covered))
    covered.insert(opName(test));
  for (RegisteredOperationName name : context.getRegisteredOperations())
    if (name.getDialectNamespace() == "graph")
      EXPECT_TRUE(covered.contains(name.getStringRef())) << name.getStringRef().str();
}

} // namespace
