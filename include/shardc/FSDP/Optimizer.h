//===- Optimizer.h - Which update, with which numbers ---------------------===//
//
// The one table of optimizers' options: what the pass, the driver and the manifest know of them.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_FSDP_OPTIMIZER_H
#define SHARDC_FSDP_OPTIMIZER_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

#include <string>

namespace shardc {

/// What is constant over the steps; learning rate and bias corrections are scalars of each step.
struct OptimizerSpec {
  enum Kind { AdamW = 1, Sgd = 2, Muon = 4 } kind = AdamW;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, momentum = 0, weightDecay = 0,
         newtonSchulzSteps = 5;
  std::string nesterov = "true", newtonSchulzDtype = "bfloat16", adjustLearningRate = "original";

  /// Roles of the states beside the parameter.
  llvm::SmallVector<llvm::StringRef> stateRoles() const;
  /// Names of the scalar inputs (f32 []).
  llvm::SmallVector<llvm::StringRef> scalarNames() const;
  /// Muon is for matrices of layers: what the others are updated by.
  OptimizerSpec forOthers() const;
};

/// One number or word of an optimizer. Named as in the manifest, with '-' for '_' elsewhere.
struct OptimizerOption {
  llvm::StringLiteral name;
  unsigned kinds;                            ///< of the optimizers that have it
  double OptimizerSpec::*number;             ///< not negative; or null
  std::string OptimizerSpec::*word;          ///< or null
  llvm::ArrayRef<llvm::StringLiteral> words; ///< that are allowed

  /// As an option of a command.
  std::string spelling() const;
};
llvm::ArrayRef<OptimizerOption> optimizerOptions();
llvm::StringRef str(OptimizerSpec::Kind kind);

/// From "muon,momentum=0.95,weight-decay=0.1". What the optimizer does not have is an error that
/// names it.
llvm::Expected<OptimizerSpec> parseOptimizer(llvm::StringRef text);
/// Name and options, for the manifest.
llvm::json::Object optimizerJson(const OptimizerSpec &spec);

} // namespace shardc

#endif // SHARDC_FSDP_OPTIMIZER_H
