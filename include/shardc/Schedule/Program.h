//===- Program.h - One command list for all ranks ---------------*- C++ -*-===//
//
// What program.json says (docs/contracts.md §3), as plain data: buffers in one arena, and commands that use them.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_SCHEDULE_PROGRAM_H
#define SHARDC_SCHEDULE_PROGRAM_H

#include "dialects/Graph/Graph.h"
#include "shardc/Lower/KernelSpec.h"
#include "shardc/Sharding/Sharding.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"

namespace shardc::exec {
class ProgramOp;
}

namespace shardc {

enum class BufferKind { Input, Output, Parameter, Constant, AxisIndex, Temporary };
llvm::StringRef str(BufferKind kind);

struct ProgramBuffer {
  std::string name;
  mlir::RankedTensorType type; ///< local
  BufferKind kind = BufferKind::Temporary;
  int64_t bytes = 0;
  int64_t offset = 0; ///< in the arena, once planned
};

struct ProgramValue {
  std::string name;
  int buffer;
  mlir::RankedTensorType type; ///< global
  Sharding sharding;
};

struct ProgramParameter {
  int buffer;
  mlir::StringAttr tensor;
  mlir::RankedTensorType type; ///< global, of the segment
  mlir::DenseI64ArrayAttr segment; ///< dim, offset, size; or null
  Sharding sharding;
  mlir::DictionaryAttr panels; ///< `exec.panels`, or null: row-major
};

struct ProgramConstant {
  int buffer;
  mlir::ElementsAttr value;
};

struct ProgramAxisIndex {
  int buffer;
  AxisList axes;
};

enum class CommandKind { Launch, AllReduce, AllGather, ReduceScatter, Slice, AllToAll, Permute, Broadcast, Copy };
llvm::StringRef str(CommandKind kind);
inline bool isCommunication(CommandKind kind) {
  return kind != CommandKind::Launch && kind != CommandKind::Slice && kind != CommandKind::Copy;
}

struct ProgramCommand {
  CommandKind kind;
  llvm::SmallVector<int> buffers; ///< of a launch in the kernel's order; else source and destination
  unsigned results = 1;           ///< how many of the last buffers are written
  int kernel = -1;
  int group = -1;
  ReduceKind reduce = ReduceKind::Sum;
  int64_t count = 0, outer = 0, inner = 0, total = 0; ///< elements
  int64_t splitDim = 0, concatDim = 0, splitTotal = 0, concatTotal = 0;
  int64_t root = 0;
  llvm::SmallVector<int64_t> pairs;
  int64_t layer = -1;       ///< number of the layer call
  std::string origin, path; ///< of a collective: why, and where
};

struct Program {
  Mesh mesh;
  std::vector<ProgramBuffer> buffers;
  std::vector<ProgramValue> inputs, outputs;
  std::vector<ProgramParameter> parameters;
  std::vector<ProgramConstant> constants;
  std::vector<ProgramAxisIndex> axisIndices;
  std::vector<AxisList> groups;
  std::vector<std::string> kernels;
  std::vector<ProgramCommand> init; ///< once, when a bundle is loaded: what depends on weights and constants only
  std::vector<ProgramCommand> commands;

  int64_t arenaBytes = 0;
  int64_t bytesOf(BufferKind kind) const;
  int64_t temporaryBytes = 0; ///< the part of the arena that buffers share over time
};

/// Flattens main and the functions it calls. The module went through Fuse.
mlir::FailureOr<Program> flattenProgram(mlir::ModuleOp module, llvm::StringRef entry = "main");

/// Gives every buffer its place: loaded ones first, then the others by lifetime, best fit.
void planArena(Program &program);

/// The same as an op at the end of `module`, beside the kernels.
exec::ProgramOp buildExecProgram(const Program &program, mlir::ModuleOp module, llvm::StringRef name);

/// program.json. `kernels`: tiles and scratch by symbol; offsets of constants in constants.bin as in `program.constants`' order,
/// each aligned to 64.
std::string programJson(const Program &program, llvm::StringRef entry, const llvm::StringMap<Kernel> &kernels);

/// The JSON form of a sharding: per dimension the axes.
std::string axesJson(const AxisList &axes);
std::string shardingJson(const Sharding &sharding);

/// Name of an element type as in "f32".
std::string dtypeText(mlir::Type elementType);

} // namespace shardc

#endif // SHARDC_SCHEDULE_PROGRAM_H
