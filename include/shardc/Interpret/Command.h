//===- Command.h - What shard-opt does besides running passes -------------===//

#ifndef SHARDC_INTERPRET_COMMAND_H
#define SHARDC_INTERPRET_COMMAND_H

#include "shardc/Interpret/Interpreter.h"

#include "mlir/IR/DialectRegistry.h"

namespace shardc {

/// Whether the command line asks for an interpretation.
bool isInterpretCommand(int argc, char **argv);

/// Interprets the module named on the command line and prints its outputs. Exit status: 0, 1 if the
/// program cannot be run, 2 for a wrong command line. `--shard-interpret --help` says what it
/// takes.
int runInterpretCommand(int argc, char **argv, mlir::DialectRegistry &registry);

/// MLIR's opt driver over the registered passes, with `--validate-each`.
int runOptTool(int argc, char **argv, llvm::StringRef name, mlir::DialectRegistry &registry);

/// `[[1, 2], [3, 4]]`, floats with the fewest digits that read back the same.
std::string formatTensor(const HostTensor &tensor);

} // namespace shardc

#endif // SHARDC_INTERPRET_COMMAND_H
