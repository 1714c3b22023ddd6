//===- Testing.h - One op and its vector-Jacobian product, as functions ---===//

#ifndef SHARDC_TEST_DERIVATIVE_TESTING_H
#define SHARDC_TEST_DERIVATIVE_TESTING_H

#include "dialects/Graph/Graph.h"
#include "shardc/Interpret/Interpreter.h"

#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

namespace shardc {

/// `RESULT = op` on arguments %0, %1, …; the types are written without `tensor<…>`.
struct DerivativeCase {
  std::string op;
  std::vector<std::string> arguments, results;
  double low = -2, high = 2;                 ///< floats lie between
  int64_t indexBound = 4;                    ///< integers in [0, indexBound)
  std::map<int, std::vector<double>> values; ///< of arguments that are not to be random

  std::string name() const { return op.substr(0, op.find(' ')); }
};

/// Of every op that is not elementwise.
std::vector<DerivativeCase> structuredCases();
/// Ops without a derivative, and why.
const std::map<std::string, std::string> &withoutDerivative();

class DerivativeTest : public ::testing::Test {
protected:
  DerivativeTest();

  /// `func @main(arguments) -> results { op }`; null if it does not parse.
  mlir::OwningOpRef<mlir::ModuleOp> parse(const DerivativeCase &test);
  static mlir::Operation *testedOp(mlir::ModuleOp module);

  /// What a test made of a case.
  struct VJP {
    mlir::OwningOpRef<mlir::ModuleOp>
        module;                    ///< @main(arguments, cotangents) -> cotangents that are not null
    mlir::Operation *op = nullptr; ///< the forward op in it
    std::vector<bool> present;     ///< by operand: whether it has a cotangent
  };
  /// Calls buildVJP with a cotangent for every float result, and removes what is dead.
  void buildVJP(const DerivativeCase &test, VJP &made);

  /// Arguments and cotangents, seeded.
  llvm::SmallVector<HostTensor> randomArguments(mlir::ModuleOp module, const DerivativeCase &test);
  llvm::SmallVector<HostTensor> randomCotangents(mlir::Operation *op);
  /// The op's cotangents by argument of the case: those of all operands that are this argument,
  /// added up. Empty: none.
  std::vector<HostTensor> run(VJP &made, llvm::ArrayRef<HostTensor> arguments,
                              llvm::ArrayRef<HostTensor> cotangents);

  /// Elementwise cases, by the registered ops.
  std::vector<DerivativeCase> elementwiseCases();

  mlir::MLIRContext context;
  std::string prelude; ///< in front of the function
};

} // namespace shardc

#endif // SHARDC_TEST_DERIVATIVE_TESTING_H
