//===- FolderTest.cpp - Values of the graph that do not depend on the model's inputs -===//

#include "GraphBuilder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace shardc;
using namespace shardc::importer;

namespace {

class FolderTest : public ::testing::Test {
protected:
  FolderTest()
      : builder(&context), folder(/*maxElements=*/64),
        g(builder, folder, builder.getUnknownLoc(), StringAttr()) {
    context.loadDialect<graph::GraphDialect, func::FuncDialect>();
    module = ModuleOp::create(builder.getUnknownLoc());
    builder.setInsertionPointToEnd(module->getBody());
    auto type = RankedTensorType::get({2, 3}, builder.getF32Type());
    auto func = func::FuncOp::create(builder, builder.getUnknownLoc(), "main",
                                     builder.getFunctionType({type}, {}));
    block = func.addEntryBlock();
    builder.setInsertionPointToStart(block);
  }

  Value argument() { return block->getArgument(0); }
  void finish(Value result) {
    func::ReturnOp::create(builder, builder.getUnknownLoc(), result);
    ASSERT_TRUE(succeeded(folder.materialize(*block)));
  }
  size_t numOps() { return std::distance(block->begin(), block->end()); }

  MLIRContext context;
  OpBuilder builder;
  Folder folder;
  GraphBuilder g;
  OwningOpRef<ModuleOp> module;
  Block *block;
};

TEST_F(FolderTest, EvaluatesOnDemand) {
  Value sum = g.create<graph::AddOp>(g.ints({1, 2}), g.ints({10, 20}));
  const HostTensor *tensor = folder.evaluate(sum);
  ASSERT_TRUE(tensor);
  EXPECT_EQ(tensor->i, (std::vector<int64_t>{11, 22}));
}

TEST_F(FolderTest, OperandsSurviveEvaluation) {
  Value x = g.ints({3, 4});
  Value square = g.create<graph::MulOp>(x, x), twice = g.create<graph::AddOp>(square, x);
  EXPECT_EQ(folder.evaluate(twice)->i, (std::vector<int64_t>{12, 20}));
  EXPECT_EQ(folder.evaluate(x)->i, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(folder.evaluate(square)->i, (std::vector<int64_t>{9, 16}));
}

TEST_F(FolderTest, InputsAndParametersAreNotConstant) {
  Value parameter = g.create<graph::ParameterOp>(argument().getType(), "w");
  EXPECT_FALSE(folder.isConstant(parameter));
  EXPECT_FALSE(folder.isConstant(g.create<graph::AddOp>(argument(), parameter)));
  EXPECT_EQ(folder.evaluate(parameter), nullptr);
}

TEST_F(FolderTest, ResultsAboveTheLimitStayOps) {
  Value wide = g.iota({100}, 0, builder.getI64Type());
  EXPECT_FALSE(folder.isConstant(wide));
  EXPECT_TRUE(folder.isConstant(g.iota({10}, 0, builder.getI64Type())));
}

TEST_F(FolderTest, MaterializesOnlyWhatIsUsed) {
  Value row =
      g.cast(g.create<graph::AddOp>(g.ints({1, 2, 3}), g.ints({1, 1, 1})), builder.getF32Type());
  finish(g.create<graph::AddOp>(argument(), g.broadcastTo(row, {2, 3})));
  // constant, broadcast, add, return
  EXPECT_EQ(numOps(), 4u);
  auto constant = dyn_cast<graph::ConstantOp>(&block->front());
  ASSERT_TRUE(constant);
  EXPECT_EQ(HostTensor::fromAttr(constant.getValue())->f, (std::vector<double>{2, 3, 4}));
}

TEST_F(FolderTest, LongChainsNeedNoStack) {
  Value x = g.ints({0});
  Value one = g.ints({1});
  for (int k = 0; k < 20000; ++k)
    x = g.create<graph::AddOp>(x, one);
  EXPECT_EQ(folder.evaluate(x)->i[0], 20000);
}

TEST_F(FolderTest, EinsumFoldsTransposesIntoItsLetters) {
  Value y = g.matmul(argument(), g.swapLast(argument()));
  EXPECT_EQ(y.getDefiningOp<graph::EinsumOp>().getSpec(), "mk,nk->mn");
}

TEST_F(FolderTest, MatmulDropsRepeatedBatchDimensions) {
  Value a = g.reshape(argument(), {1, 2, 3}),
        b = g.splat(RankedTensorType::get({4, 3, 5}, builder.getF32Type()), 1);
  Value y = g.matmul(a, b);
  EXPECT_EQ(y.getDefiningOp<graph::EinsumOp>().getSpec(), "mk,akn->amn");
  EXPECT_EQ(shapeOf(y), (ArrayRef<int64_t>{4, 2, 5}));
}

} // namespace
