//===- ValidateTest.cpp - The first pass that changes the numbers is found -===//

#include "shardc/Interpret/Validate.h"
#include "Testing.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

using namespace shardc;

namespace {

/// Swaps the operands of every subtraction: valid IR, other numbers.
struct BreakSubtraction
    : mlir::PassWrapper<BreakSubtraction, mlir::OperationPass<mlir::func::FuncOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(BreakSubtraction)
  llvm::StringRef getArgument() const override { return "break-subtraction"; }
  void runOnOperation() override {
    getOperation().walk([](graph::SubOp op) {
      mlir::Value lhs = op.getLhs();
      op->setOperand(0, op.getRhs());
      op->setOperand(1, lhs);
    });
  }
};

/// (x + y) + z -> x + (y + z): differs by rounding only.
struct Reassociate : mlir::PassWrapper<Reassociate, mlir::OperationPass<mlir::func::FuncOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(Reassociate)
  llvm::StringRef getArgument() const override { return "reassociate"; }
  void runOnOperation() override {
    getOperation().walk([](graph::AddOp op) {
      auto inner = op.getLhs().getDefiningOp<graph::AddOp>();
      if (!inner)
        return;
      mlir::OpBuilder b(op);
      auto sum = graph::AddOp::create(b, op.getLoc(), inner.getRhs(), op.getRhs());
      op->setOperand(0, inner.getLhs());
      op->setOperand(1, sum);
    });
  }
};

/// Forgets to send.
struct DropBroadcasts : mlir::PassWrapper<DropBroadcasts, mlir::OperationPass<mlir::func::FuncOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(DropBroadcasts)
  llvm::StringRef getArgument() const override { return "drop-broadcasts"; }
  void runOnOperation() override {
    getOperation().walk([](shard::BroadcastOp op) { op.replaceAllUsesWith(op.getInput()); });
  }
};

class Validate : public ProgramTest {
protected:
  /// Runs the passes on a program; what is found, and the last diagnostic.
  ValidateReport validate(llvm::StringRef program, llvm::ArrayRef<mlir::Pass *> passes) {
    auto module = parse(program);
    mlir::ScopedDiagnosticHandler handler(&context,
                                          [&](mlir::Diagnostic &diag) { message = diag.str(); });
    auto report = std::make_shared<ValidateReport>();
    mlir::PassManager manager(&context);
    manager.addInstrumentation(createValidateEach({}, report));
    for (mlir::Pass *pass : passes)
      manager.nest<mlir::func::FuncOp>().addPass(std::unique_ptr<mlir::Pass>(pass));
    EXPECT_TRUE(mlir::succeeded(manager.run(*module)));
    return *report;
  }
  std::string message;

  static constexpr const char *kProgram = R"(
    func.func private @layer(%x: tensor<4x8xf32>, %y: tensor<4x8xf32>) -> tensor<4x8xf32> {
      %0 = graph.sub %x, %y : tensor<4x8xf32>
      %1 = graph.add %0, %x : tensor<4x8xf32>
      %2 = graph.add %1, %y : tensor<4x8xf32>
      return %2 : tensor<4x8xf32>
    }
    func.func @main(%ids: tensor<4xi64>) -> (tensor<4x8xf32> {graph.name = "logits"}) {
      %w = graph.parameter "embedding" : tensor<5x8xf32>
      %x = graph.gather %w, %ids axis 0 : tensor<5x8xf32>, tensor<4xi64> -> tensor<4x8xf32>
      %y = graph.exp %x : tensor<4x8xf32>
      %z = call @layer(%x, %y) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
      return %z : tensor<4x8xf32>
    })";
};

TEST_F(Validate, RoundingIsAllowed) {
  ValidateReport report =
      validate(kProgram, {new Reassociate, mlir::createCanonicalizerPass().release()});
  EXPECT_EQ(report.pass, "");
  EXPECT_EQ(report.skipped, "");
  EXPECT_GE(report.runs, 3);
}

TEST_F(Validate, TheFirstWrongPassIsNamed) {
  ValidateReport report =
      validate(kProgram, {mlir::createCanonicalizerPass().release(), new BreakSubtraction,
                          mlir::createCSEPass().release()});
  EXPECT_EQ(report.pass, "break-subtraction");
  EXPECT_NE(message.find("pass 'break-subtraction' changes output \"logits\" at ["),
            std::string::npos)
      << message;
}

TEST_F(Validate, HalfPrecisionIsNotAnExcuse) {
  std::string half(kProgram);
  for (size_t at = 0; (at = half.find("f32", at)) != std::string::npos;)
    half.replace(at, 3, "bf16");
  EXPECT_EQ(validate(half, {new Reassociate}).pass, "");
  EXPECT_EQ(validate(half, {new BreakSubtraction}).pass, "break-subtraction");
}

TEST_F(Validate, ReplicasThatDifferAreTheLastPassesFault) {
  ValidateReport report = validate(R"(
    shard.mesh @mesh ["tp" = 2]
    func.func @main() -> tensor<i64> {
      %0 = shard.axis_index {"tp"} of @mesh : tensor<i64>
      %1 = shard.broadcast %0 over {"tp"} of @mesh root 1 : tensor<i64> -> tensor<i64>
      return %1 : tensor<i64>
    })",
                                   {new DropBroadcasts});
  EXPECT_EQ(report.pass, "drop-broadcasts");
  EXPECT_EQ(message, "pass 'drop-broadcasts' breaks the program");
}

TEST_F(Validate, WhatCannotBeRunEndsTheValidation) {
  ValidateReport report = validate("func.func private @main(%x: tensor<2xf32>)", {new Reassociate});
  EXPECT_EQ(report.pass, "");
  EXPECT_NE(report.skipped, "");
}

} // namespace
