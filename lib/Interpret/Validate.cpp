//===- Validate.cpp - Runs the program before and after every pass --------===//
//
//   1. before the first pass: make seeded inputs for the module as it is, interpret, keep the
//      outputs
//   2. after every pass: interpret again on the same global inputs, compare with the outputs kept,
//      keep the new ones
//   3. the first output that moves beyond the bound is an error that names the pass
//
// The bound is relative to the largest element: growth × eps × max|x|, eps of the coarsest float
// type in the module, because partitioning and fusion reorder sums. Integers must be equal.
//
//===----------------------------------------------------------------------===//

#include "shardc/Interpret/Validate.h"

#include "dialects/Graph/Graph.h"
#include "shardc/Interpret/Random.h"
#include "shardc/Interpret/Shards.h"

#include "mlir/Pass/Pass.h"

#include <cmath>

using namespace mlir;
using namespace shardc;

//===----------------------------------------------------------------------===//
// Error bound
//===----------------------------------------------------------------------===//

static double epsilonOf(Type element) {
  auto type = dyn_cast<FloatType>(element);
  return type ? std::ldexp(1.0, 1 - static_cast<int>(type.getFPMantissaWidth())) : 0;
}

/// Relative to an output's largest element: growth × eps of the coarsest float type that any op
/// computes.
static double relativeBound(ModuleOp module, const ValidateOptions &options) {
  double epsilon = 0;
  module.walk([&](Operation *op) {
    for (Type type : op->getResultTypes())
      epsilon = std::max(epsilon, epsilonOf(getElementTypeOrSelf(type)));
  });
  bool is16Bit = epsilon > std::numeric_limits<float>::epsilon();
  return epsilon * (is16Bit ? options.growth16 : options.growth);
}

static double largestMagnitude(const HostTensor &tensor) {
  double largest = 0;
  for (double x : tensor.f)
    if (std::isfinite(x))
      largest = std::max(largest, std::fabs(x));
  return largest;
}

//===----------------------------------------------------------------------===//
// Instrumentation
//===----------------------------------------------------------------------===//

namespace {

class ValidateEach : public PassInstrumentation {
public:
  ValidateEach(ValidateOptions given, std::shared_ptr<ValidateReport> report)
      : options(std::move(given)), report(std::move(report)) {
    if (!options.parameters)
      options.parameters = randomParameters(options.seed);
  }

  void runBeforePass(Pass *pass, Operation *op) override {
    if (started || isAdaptor(pass))
      return;
    started = true;
    ModuleOp module = moduleOf(op);
    if (!module || op->getContext()->isMultithreadingEnabled())
      return stop(op, "it needs a module and a context without multithreading");
    if (failed(makeInputs(module)))
      return stop(op, "the entry function cannot be described");
    FailureOr<SmallVector<HostTensor>> outputs = run(module);
    if (failed(outputs))
      return stop(op, "the module before pass '" + nameOf(pass) + "' cannot be interpreted");
    reference = std::move(*outputs);
  }

  void runAfterPass(Pass *pass, Operation *op) override {
    if (isDone() || isAdaptor(pass))
      return;
    ModuleOp module = moduleOf(op);
    if (!canInterpret(module))
      return stop(op, "the module after pass '" + nameOf(pass) + "' cannot be interpreted");
    FailureOr<SmallVector<HostTensor>> outputs = run(module);
    if (failed(outputs)) {
      // It ran before: replicas that differ now, say. `interpret` has said what.
      report->pass = nameOf(pass);
      emitError(module.getLoc()) << "pass '" << nameOf(pass) << "' breaks the program";
      return;
    }
    if (succeeded(compare(module, pass, *outputs)))
      reference = std::move(*outputs);
  }

private:
  /// The pass that only runs other passes on nested ops.
  static bool isAdaptor(Pass *pass) { return pass->getName().contains("OpToOpPassAdaptor"); }
  static std::string nameOf(Pass *pass) {
    return pass->getArgument().empty() ? pass->getName().str() : pass->getArgument().str();
  }
  static ModuleOp moduleOf(Operation *op) {
    auto module = dyn_cast<ModuleOp>(op);
    return module ? module : op->getParentOfType<ModuleOp>();
  }
  bool isDone() const { return !started || !report->pass.empty() || !report->skipped.empty(); }

  void stop(Operation *op, const std::string &reason) {
    report->skipped = reason;
    emitWarning(op->getLoc()) << "validation ends here: " << reason;
  }

  /// Whether the stage is one that the interpreter runs, within the budget.
  bool canInterpret(ModuleOp module) {
    ScopedDiagnosticHandler quiet(module.getContext(), [](Diagnostic &) {});
    FailureOr<int64_t> bytes = estimateInterpretBytes(module, options.entry);
    if (failed(bytes) || *bytes > options.byteBudget)
      return false;
    WalkResult unknown = module.walk([](Operation *op) {
      return isa<ModuleOp, func::FuncOp, func::CallOp, func::ReturnOp, shard::MeshOp,
                 graph::EvaluateOpInterface, shard::MeshEvaluateOpInterface>(op)
                 ? WalkResult::advance()
                 : WalkResult::interrupt();
    });
    return !unknown.wasInterrupted();
  }

  LogicalResult makeInputs(ModuleOp module) {
    FailureOr<EntryInterface> entry = describeEntry(module, options.entry);
    if (failed(entry))
      return failure();
    inputs = randomInputs(*entry, options.seed);
    for (auto [n, input] : llvm::enumerate(entry->inputs))
      if (auto given = options.inputs.find(input.name); given != options.inputs.end())
        inputs[n] = given->second;
    return success();
  }

  FailureOr<SmallVector<HostTensor>> run(ModuleOp module) {
    InterpretOptions interpretOptions;
    interpretOptions.entry = options.entry;
    interpretOptions.byteBudget = options.byteBudget;
    interpretOptions.parameters = options.parameters;
    ++report->runs;
    return interpret(module, inputs, interpretOptions);
  }

  LogicalResult compare(ModuleOp module, Pass *pass, ArrayRef<HostTensor> outputs);

  ValidateOptions options;
  std::shared_ptr<ValidateReport> report;
  bool started = false;
  SmallVector<HostTensor> inputs, reference;
};

} // namespace

LogicalResult ValidateEach::compare(ModuleOp module, Pass *pass, ArrayRef<HostTensor> outputs) {
  auto fail = [&] {
    report->pass = nameOf(pass);
    return emitError(module.getLoc()) << "pass '" << nameOf(pass) << "' changes ";
  };
  if (outputs.size() != reference.size())
    return fail() << "the number of outputs from " << reference.size() << " to " << outputs.size();
  FailureOr<EntryInterface> entry = describeEntry(module, options.entry);
  if (failed(entry))
    return failure();
  double relative = relativeBound(module, options);
  for (auto [output, before, after] : llvm::zip(entry->outputs, reference, outputs)) {
    if (before.type != after.type)
      return fail() << "output \"" << output.name << "\" from " << before.type << " to "
                    << after.type;
    std::optional<Difference> difference = largestDifference(before, after);
    if (!difference)
      continue;
    double bound = before.isFloat() ? relative * largestMagnitude(before) : 0;
    if (difference->amount <= bound)
      continue;
    int64_t at = difference->at;
    auto diag = fail() << "output \"" << output.name << "\" at " << formatIndex(before.shape(), at)
                       << " from ";
    if (before.isFloat())
      diag << before.f[at] << " to " << after.f[at];
    else
      diag << before.i[at] << " to " << after.i[at];
    return diag << ": by " << difference->amount << ", more than " << bound;
  }
  return success();
}

std::unique_ptr<PassInstrumentation>
shardc::createValidateEach(ValidateOptions options, std::shared_ptr<ValidateReport> report) {
  return std::make_unique<ValidateEach>(std::move(options), std::move(report));
}
