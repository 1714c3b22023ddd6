//===- Interpreter.h - Runs a module on simulated devices -----------------===//
//
// Any stage from Import to Fuse. An unpartitioned module runs on one device; a partitioned one
// (attribute shard.partitioned, or collectives in it) on as many as its mesh has, all in this
// process.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_INTERPRET_INTERPRETER_H
#define SHARDC_INTERPRET_INTERPRETER_H

#include "dialects/Shard/Shard.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <functional>

namespace shardc {

/// The value of a parameter as it is stored, by name, or the reason why there is none.
using ParameterSource =
    std::function<Result<HostTensor>(llvm::StringRef name, mlir::RankedTensorType stored)>;

struct InterpretOptions {
  std::string entry;                     ///< empty: @main, or the only public function
  int64_t byteBudget = int64_t(4) << 30; ///< for all devices; an element takes eight bytes
  ParameterSource parameters;            ///< for parameters without an inline value
  /// Called for every value that is computed, arguments of the entry included.
  std::function<void(mlir::Value, const DeviceTensors &)> observe;
};

/// One input or output of the entry function in the global view.
struct InterfaceValue {
  std::string name; ///< graph.name, or argN / resultN
  mlir::RankedTensorType type;
  std::optional<Sharding> sharding; ///< how the devices hold it; none: every device holds all
};

/// What an entry function takes and gives, and the mesh that it runs on (of one device if
/// unpartitioned).
struct EntryInterface {
  mlir::func::FuncOp function;
  Mesh mesh;
  llvm::SmallVector<InterfaceValue> inputs, outputs;
};

/// Of the function of that name; if empty, of @main or the only public function. Failure emits a
/// diagnostic.
mlir::FailureOr<EntryInterface> describeEntry(mlir::ModuleOp module, llvm::StringRef entry);

/// Whether types are local: Partition has run.
bool isPartitioned(mlir::ModuleOp module);

/// Runs the entry function on global inputs, in argument order, and returns the global outputs.
/// Failure emits a diagnostic: an op that cannot be evaluated, replicas of an output that differ, a
/// budget that is exceeded.
mlir::FailureOr<llvm::SmallVector<HostTensor>> interpret(mlir::ModuleOp module,
                                                         llvm::ArrayRef<HostTensor> inputs,
                                                         const InterpretOptions &options = {});

/// Most bytes that `interpret` holds at one time; failure emits a diagnostic on what it could not
/// follow.
mlir::FailureOr<int64_t> estimateInterpretBytes(mlir::ModuleOp module, llvm::StringRef entry);

/// "1.5 GiB"
std::string formatBytes(int64_t bytes);

} // namespace shardc

#endif // SHARDC_INTERPRET_INTERPRETER_H
