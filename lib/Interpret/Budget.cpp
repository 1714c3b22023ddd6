//===- Budget.cpp - Memory that an interpretation will need ---------------===//
//
// Runs the program on sizes alone: the same order, the same last uses. Finds on the way what the
// executor relies on: straight-line functions, known callees, no recursion.
//
//===----------------------------------------------------------------------===//

#include "dialects/Graph/Graph.h"
#include "shardc/Interpret/Interpreter.h"

#include "llvm/Support/Format.h"

using namespace mlir;
using namespace shardc;

/// HostTensor holds every element in eight bytes.
static int64_t hostBytes(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.hasStaticShape() ? tensor.getNumElements() * 8 : 0;
}

namespace {

class Estimator {
public:
  explicit Estimator(int64_t devices) : devices(devices) {}

  /// Peak of one call, its arguments included.
  FailureOr<int64_t> peakOf(func::FuncOp function) {
    if (auto known = peaks.find(function); known != peaks.end())
      return known->second;
    if (!function.getBody().hasOneBlock())
      return function.emitOpError() << "has " << function.getBody().getBlocks().size()
                                    << " blocks; only straight-line functions can be interpreted";
    if (!active.insert(function).second)
      return function.emitOpError() << "calls itself, which cannot be interpreted";
    FailureOr<int64_t> peak = walk(function);
    active.erase(function);
    if (succeeded(peak))
      peaks[function] = *peak;
    return peak;
  }

private:
  int64_t bytes(Value value) const { return hostBytes(value.getType()) * devices; }

  FailureOr<int64_t> walk(func::FuncOp function) {
    int64_t live = 0, peak = 0;
    llvm::DenseMap<Value, unsigned> usesLeft;
    auto define = [&](Value value) {
      usesLeft[value] = std::distance(value.use_begin(), value.use_end());
      live += bytes(value);
    };
    for (Value argument : function.getArguments())
      define(argument);
    for (Operation &op : function.front()) {
      FailureOr<int64_t> transient = extra(&op);
      if (failed(transient))
        return failure();
      for (Value result : op.getResults())
        define(result);
      peak = std::max(peak, live + *transient);
      for (Value operand : op.getOperands())
        if (--usesLeft[operand] == 0)
          live -= bytes(operand);
      for (Value result : op.getResults())
        if (result.use_empty())
          live -= bytes(result);
    }
    return peak;
  }

  /// What an op holds besides its operands and results.
  FailureOr<int64_t> extra(Operation *op) {
    if (auto parameter = dyn_cast<graph::ParameterOp>(op))
      return hostBytes(parameter.getStoredType());
    auto call = dyn_cast<func::CallOp>(op);
    if (!call)
      return 0;
    auto callee = tables.lookupNearestSymbolFrom<func::FuncOp>(op, call.getCalleeAttr());
    if (!callee || callee.isExternal())
      return op->emitOpError() << "calls @" << call.getCallee() << ", which has no body";
    return peakOf(callee);
  }

  int64_t devices;
  SymbolTableCollection tables;
  llvm::DenseMap<Operation *, int64_t> peaks;
  llvm::SmallPtrSet<Operation *, 8> active;
};

} // namespace

FailureOr<int64_t> shardc::estimateInterpretBytes(ModuleOp module, StringRef entry) {
  FailureOr<EntryInterface> description = describeEntry(module, entry);
  if (failed(description))
    return failure();
  FailureOr<int64_t> peak =
      Estimator(description->mesh.deviceCount()).peakOf(description->function);
  if (failed(peak))
    return failure();
  for (const auto &values : {description->inputs, description->outputs})
    for (const InterfaceValue &value : values)
      *peak += hostBytes(value.type);
  return peak;
}

std::string shardc::formatBytes(int64_t bytes) {
  static constexpr const char *kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double amount = static_cast<double>(bytes);
  size_t unit = 0;
  for (; amount >= 1024 && unit + 1 < std::size(kUnits); ++unit)
    amount /= 1024;
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format(unit ? "%.1f " : "%.0f ", amount) << kUnits[unit];
  return text;
}
