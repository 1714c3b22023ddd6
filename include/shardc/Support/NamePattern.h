//===- NamePattern.h - Names that an option of a pass chooses ---*- C++ -*-===//
#ifndef SHARDC_SUPPORT_NAMEPATTERN_H
#define SHARDC_SUPPORT_NAMEPATTERN_H

#include "mlir/IR/Diagnostics.h"
#include "mlir/Support/LLVM.h"
#include "llvm/Support/Regex.h"

#include <optional>

namespace shardc {

/// A regular expression, found anywhere in a name. An empty one is no pattern, and matches nothing.
class NamePattern {
public:
  /// The error names the option.
  static mlir::FailureOr<NamePattern>
  parse(llvm::StringRef option, llvm::StringRef text,
        llvm::function_ref<mlir::InFlightDiagnostic()> emitError) {
    NamePattern pattern;
    if (text.empty())
      return std::move(pattern);
    pattern.regex.emplace(text);
    std::string problem;
    if (!pattern.regex->isValid(problem))
      return emitError() << option << ": \"" << text
                         << "\" is not a regular expression: " << problem;
    return std::move(pattern);
  }
  bool matches(llvm::StringRef name) const { return regex && regex->match(name); }

private:
  std::optional<llvm::Regex> regex;
};

} // namespace shardc

#endif // SHARDC_SUPPORT_NAMEPATTERN_H
