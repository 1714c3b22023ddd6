//===- ProgramTesting.h - Compile, run, compare with the interpreter -*- C++ -*-===//
#ifndef SHARDC_TEST_UNIT_LOWER_PROGRAM_PROGRAMTESTING_H
#define SHARDC_TEST_UNIT_LOWER_PROGRAM_PROGRAMTESTING_H

#include "mlir/IR/MLIRContext.h"
#include "shardc/Interpret/Interpreter.h"
#include <gtest/gtest.h>

namespace shardc::testing {

/// A module in text; weights without a value get random ones. Compiled to a bundle, run by the
/// runtime (one thread per rank of the mesh), and compared with the interpreter on the same random
/// inputs.
class ProgramTest : public ::testing::Test {
protected:
  ProgramTest();

  /// Compares all outputs; errors name the output and the largest difference.
  void check(llvm::StringRef text, double tolerance = 1);
  /// The same for a function of ops only: `arguments` as "%x: tensor<4xf32>, …", results by name
  /// with their types.
  void checkOps(llvm::StringRef arguments, llvm::StringRef body,
                llvm::ArrayRef<std::pair<const char *, const char *>> results,
                double tolerance = 1);

  mlir::MLIRContext context;
  std::string level; ///< best of this machine
};

} // namespace shardc::testing

#endif // SHARDC_TEST_UNIT_LOWER_PROGRAM_PROGRAMTESTING_H
