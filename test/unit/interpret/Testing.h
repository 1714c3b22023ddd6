//===- Testing.h - Programs from text, for tests of the interpreter -------===//

#ifndef SHARDC_TEST_INTERPRET_TESTING_H
#define SHARDC_TEST_INTERPRET_TESTING_H

#include "dialects/Graph/Graph.h"
#include "shardc/Interpret/Interpreter.h"

#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

namespace shardc {

/// A context with the dialects, and the modules parsed in it.
class ProgramTest : public ::testing::Test {
protected:
  ProgramTest() : context(mlir::MLIRContext::Threading::DISABLED) {
    context.loadDialect<mlir::func::FuncDialect, graph::GraphDialect, shard::ShardDialect>();
  }

  mlir::OwningOpRef<mlir::ModuleOp> parse(llvm::StringRef text) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text.str();
    return module;
  }
  mlir::RankedTensorType f32(llvm::ArrayRef<int64_t> shape) {
    return mlir::RankedTensorType::get(shape, mlir::Float32Type::get(&context));
  }
  HostTensor tensor(mlir::RankedTensorType type, std::vector<double> values) {
    HostTensor result(type);
    if (result.isFloat())
      result.f = std::move(values);
    else
      result.i.assign(values.begin(), values.end());
    EXPECT_EQ(static_cast<int64_t>(std::max(result.f.size(), result.i.size())),
              type.getNumElements());
    return result;
  }

  /// Runs `func.func @main() -> T` with this body and compares its one output with numpy's, in f32
  /// accuracy.
  void expectOutput(llvm::StringRef body, llvm::StringRef type,
                    const std::vector<double> &expected) {
    auto module = parse(
        ("func.func @main() -> " + type + " {\n" + body + "\nreturn %r : " + type + "\n}").str());
    ASSERT_TRUE(module);
    auto outputs = interpret(*module, {});
    ASSERT_TRUE(mlir::succeeded(outputs));
    ASSERT_EQ((*outputs)[0].f.size(), expected.size());
    for (size_t n = 0; n < expected.size(); ++n)
      EXPECT_NEAR((*outputs)[0].f[n], expected[n], 1e-6 * std::max(1.0, std::abs(expected[n])))
          << "at " << n;
  }

  mlir::MLIRContext context;
};

} // namespace shardc

#endif // SHARDC_TEST_INTERPRET_TESTING_H
