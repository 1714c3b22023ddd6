//===- Validate.h - Runs the program before and after every pass ----------===//

#ifndef SHARDC_INTERPRET_VALIDATE_H
#define SHARDC_INTERPRET_VALIDATE_H

#include "shardc/Interpret/Interpreter.h"

#include "mlir/Pass/PassInstrumentation.h"

#include <map>

namespace shardc {

struct ValidateOptions {
  std::string entry; ///< empty: @main, or the only public function
  uint64_t seed = 0;
  int64_t byteBudget = int64_t(4) << 30;
  ParameterSource parameters;               ///< none: seeded random weights
  std::map<std::string, HostTensor> inputs; ///< by name; the others are seeded random numbers
  /// How many units in the last place, at the size of an output's largest element, a pass may move
  /// that output by. The units are those of the coarsest float type in the module; 16-bit ones
  /// leave little room for more than a few.
  double growth = 128, growth16 = 8;
};

/// What a validation has found so far; shared with whoever added the instrumentation.
struct ValidateReport {
  std::string pass;    ///< the first pass that changed an output beyond the bound; empty: none did
  std::string skipped; ///< why validation stopped early; empty: it did not
  int runs = 0;        ///< interpretations so far
};

/// `--validate-each`: interprets the module before the first and after every pass, compares the
/// outputs, and emits an error that names the first pass whose outputs differ by more than
/// rounding, with output, place and amount. Needs a context without multithreading. A module that
/// cannot be interpreted ends the validation with a warning.
std::unique_ptr<mlir::PassInstrumentation>
createValidateEach(ValidateOptions options, std::shared_ptr<ValidateReport> report);

} // namespace shardc

#endif // SHARDC_INTERPRET_VALIDATE_H
