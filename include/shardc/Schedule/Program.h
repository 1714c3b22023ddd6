//===- Program.h - One command list for all ranks ---------------*- C++ -*-===//
//
// What program.json says (docs/contracts.md §3), as plain data: buffers in one arena, and commands
// that use them.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_SCHEDULE_PROGRAM_H
#define SHARDC_SCHEDULE_PROGRAM_H

#include "dialects/Exec/Exec.h"
#include "dialects/Graph/Graph.h"
#include "shardc/Lower/CudaCalls.h"
#include "shardc/Lower/KernelSpec.h"
#include "shardc/Sharding/Sharding.h"
#include "shardc/Support/CostTable.h"
#include "shardc/Support/Target.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"

namespace shardc {

enum class BufferKind { Input, Output, Parameter, Constant, AxisIndex, Temporary, State };
llvm::StringRef str(BufferKind kind);

struct ProgramBuffer {
  std::string name;
  mlir::RankedTensorType type; ///< local
  BufferKind kind = BufferKind::Temporary;
  int64_t bytes = 0;
  int64_t offset = 0;  ///< in the arena, once planned
  int whole = -1;      ///< the buffer that this is a part of, if it is one
  int64_t begin = 0;   ///< bytes from the start of that
  bool isHost = false; ///< of a whole one: in the machine's memory, not the device's (offload)
};

struct ProgramValue {
  std::string name;
  int buffer;
  mlir::RankedTensorType type; ///< global
  Sharding sharding;
  std::string alias{};            ///< of an output: the input whose buffer it has
  int64_t capacity = 0, step = 0; ///< of an input that is a cache's length: its room, and what a
                                  ///< run appends; 0: it is none
};

struct ProgramParameter {
  int buffer;
  mlir::StringAttr tensor;
  mlir::RankedTensorType type;     ///< global, of the segment
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

enum class CommandKind {
  Launch,
  AllReduce,
  AllGather,
  ReduceScatter,
  Slice,
  AllToAll,
  Permute,
  Broadcast,
  Copy,
  Zero,
  Wait
};
llvm::StringRef str(CommandKind kind);
inline bool isCommunication(CommandKind kind) {
  return kind != CommandKind::Launch && kind != CommandKind::Slice && kind != CommandKind::Copy &&
         kind != CommandKind::Zero && kind != CommandKind::Wait;
}

struct ProgramCommand {
  CommandKind kind;
  llvm::SmallVector<int>
      buffers;          ///< of a launch in the kernel's order; else source and destination
  unsigned results = 1; ///< how many of the last buffers are written
  int kernel = -1;
  int group = -1;
  ReduceKind reduce = ReduceKind::Sum;
  int64_t count = 0, outer = 0, inner = 0, total = 0; ///< elements
  int64_t splitDim = 0, concatDim = 0, splitTotal = 0, concatTotal = 0;
  llvm::SmallVector<int64_t>
      shape; ///< of an all_to_all's source; its buffer may have another, by a reshape
  int64_t root = 0;
  llvm::SmallVector<int64_t> pairs;
  bool canOverlap = false; ///< of a collective: FSDP asks for it to run behind computation
  bool isPiece = false;    ///< of a collective: one of several, beside the products of others
  bool isBackward = false; ///< of a gather: parameters for the backward pass
  int64_t ticket = -1; ///< of a collective: it is only started; of a wait: completes it (buffers:
                       ///< those of the collective)
  int64_t layer = -1;  ///< number of the layer call
  std::string origin, path; ///< of a collective: why, and where

  llvm::ArrayRef<int> reads() const { return llvm::ArrayRef<int>(buffers).drop_back(results); }
  llvm::ArrayRef<int> writes() const { return llvm::ArrayRef<int>(buffers).take_back(results); }
};

/// Parameters that lie in one flat buffer (docs/contracts.md §5.2).
struct ProgramBucket {
  struct Item {
    mlir::StringAttr tensor;
    mlir::RankedTensorType type; ///< global, of the segment
    mlir::DenseI64ArrayAttr segment;
    Sharding sharding;
    int64_t offset; ///< elements
  };
  std::string name;
  mlir::Type element;
  int64_t length; ///< elements of the whole
  AxisList axes;
  std::vector<Item> items;
};

struct ProgramState {
  std::string name, role;
  int buffer;
  int bucket;    ///< -1: none
  AxisList axes; ///< it is cut over: the first ones of its bucket's
};

/// A command list that is run by name.
struct ProgramEntry {
  std::string name;
  std::vector<ProgramValue> inputs, outputs;
  std::vector<ProgramCommand> commands;
  /// Tensors that shall lie in one buffer (bucket_pack), at byte offsets; `position`: number of the
  /// command behind which they are there.
  struct Pack {
    int buffer;
    llvm::SmallVector<int> parts;
    llvm::SmallVector<int64_t> begins;
    size_t position;
  };
  std::vector<Pack> packs;
  /// New values of states, by buffer, and the states' buffers.
  std::vector<std::pair<int, int>> updates;
};

struct ArenaRange {
  int64_t offset = 0, bytes = 0;
};

/// What a program for GPUs has besides (docs/contracts.md §6).
struct CudaProgram {
  std::vector<CudaKernel> kernels;        ///< one for each of the program's
  mlir::OwningOpRef<mlir::ModuleOp> code; ///< one gpu.module: what is generated of them
  ArenaRange scratch, workspace, staging; ///< behind all buffers
  ArenaRange host; ///< behind the arena: memory of the machine, for states that are offloaded
};

struct Program {
  Mesh mesh;
  std::vector<ProgramBuffer> buffers;
  std::vector<ProgramEntry> entries;
  std::vector<ProgramBucket> buckets;
  std::vector<ProgramState> states;
  std::vector<ProgramParameter> parameters;
  std::vector<ProgramConstant> constants;
  std::vector<ProgramAxisIndex> axisIndices;
  std::vector<AxisList> groups;
  std::vector<std::string> kernels;
  std::vector<ProgramCommand>
      init; ///< once, when a bundle is loaded: what depends on weights and constants only

  /// The buffer whose place decides where `buffer` lies: itself, or what it is a part of.
  int wholeOf(int buffer) const {
    while (buffers[buffer].whole >= 0)
      buffer = buffers[buffer].whole;
    return buffer;
  }
  bool isOnHost(int buffer) const { return buffers[wholeOf(buffer)].isHost; }

  std::optional<CudaProgram> cuda; ///< none: for CPUs
  int64_t alignment() const { return cuda ? kCudaAlignment : 64; }

  int64_t arenaBytes = 0;
  int64_t bytesOf(BufferKind kind) const;
  int64_t temporaryBytes = 0; ///< the part of the arena that buffers share over time
};

/// Flattens every public function, an entry, and the functions that it calls. The module went
/// through Fuse.
mlir::FailureOr<Program> flattenProgram(mlir::ModuleOp module);

/// Results take the buffers of arguments that are read for the last time, where kernels may work in
/// place; those are marked. Before placeStorage.
void shareTemporaries(Program &program, mlir::ModuleOp module);

/// Decides which buffers lie inside of others: parts of packs, new values of states. What cannot is
/// copied. Kernels that work in place are marked.
void placeStorage(Program &program, mlir::ModuleOp module);

/// What of a training step lies in the machine's memory instead of a GPU's.
enum class Offload {
  None,
  Optimizer, ///< the optimizer's states
  Parameters ///< these, (main) parameters, and shards of gradients that are kept between entries
};
/// none, optimizer or parameters; false: none of these.
bool parseOffload(llvm::StringRef text, Offload &offload);
llvm::StringRef str(Offload offload);

/// Marks the buffers of offloaded states, and copies to the device and back what is not done with
/// them where they lie. After placeStorage.
void offloadStates(Program &program, mlir::ModuleOp module, Offload offload);

/// How far collectives may run behind computation; 0: not at all. Each step costs memory: a unit's
/// parameters, or a bucket's gradients. Auto: by the table of costs, and within the memory limit;
/// what is not given is auto if the table was measured, else 1.
struct OverlapOptions {
  static constexpr int64_t kAuto = -1, kNotGiven = -2;
  int64_t forwardPrefetch = kNotGiven,
          backwardPrefetch = kNotGiven; ///< units whose parameters are gathered ahead of use
  int64_t reductions =
      kNotGiven; ///< gradient reductions that may be under way when the next one starts
  /// Tensor parallelism's collectives beside products, where the table says that it is faster; not
  /// given: if it was measured.
  std::optional<bool> tensorParallel;
};

/// Gives every buffer its place: loaded ones first, then the others by lifetime, best fit.
void planArena(Program &program);

/// Bytes of the staging area that a collective takes (include/shardrt/staging.h); 0: NCCL takes its
/// data as it lies.
int64_t stagingBytes(const Program &program, const ProgramCommand &command);

struct ScheduleOptions {
  OverlapOptions overlap;
  Target target = Target::Cpu;
  int64_t workspaceBytes = int64_t(32) << 20; ///< of cuBLASLt
  CostTable costs;                            ///< the default model, if nothing was measured
  int64_t memoryLimit = 0; ///< bytes of the arena, which overlap by `auto` keeps if it can; 0: any
  bool allowTf32 = false;  ///< f32 matrix multiplications with factors of 10 bits
  Offload offload = Offload::None; ///< GPUs only
};
/// What `--tensor-parallel-overlap` takes: auto or none; false: neither.
bool parseTensorParallel(llvm::StringRef text, std::optional<bool> &overlap);
/// "auto" or a number, of units or reductions; false: neither.
bool parseDistance(llvm::StringRef text, int64_t &distance);
/// After placeStorage: starts and waits of collectives, and a place for every buffer.
void overlapAndPlace(Program &program, mlir::ModuleOp module, const ScheduleOptions &options);
/// Puts what GPUs need besides behind the planned arena, and the machine's memory behind that.
void placeCudaRanges(Program &program);
/// Lowers the kernels of a program, and finds how much memory they, cuBLASLt and staged collectives
/// need.
mlir::LogicalResult lowerForCuda(Program &program, mlir::ModuleOp module,
                                 const ScheduleOptions &options);
/// All of it: from a module that went through Fuse to a program with places and times. Marks
/// kernels that work in place.
mlir::FailureOr<Program> scheduleProgram(mlir::ModuleOp module,
                                         const ScheduleOptions &options = {});

/// The same as one op for each entry at the end of `module`, beside the kernels.
llvm::SmallVector<exec::ProgramOp> buildExecPrograms(const Program &program, mlir::ModuleOp module);

/// program.json. `kernels`: tiles and scratch by symbol, on CPUs; offsets of constants in
/// constants.bin as in `program.constants`' order, each aligned to 64.
std::string programJson(const Program &program, const llvm::StringMap<Kernel> &kernels);

/// The JSON form of a sharding: per dimension the axes.
std::string axesJson(const AxisList &axes);
std::string shardingJson(const Sharding &sharding);

/// What a kernel computes and moves, by the costs of its ops.
KernelWork workOf(mlir::func::FuncOp kernel);
KernelWork workOf(graph::EinsumOp product);
/// Axes of a group, as people read them: "dp_shard,tp".
std::string groupText(const Program &program, int group);
/// Bytes of the larger side of a collective or copy.
int64_t largerBytes(const Program &program, const ProgramCommand &command);

/// Name of an element type as in "f32".
std::string dtypeText(mlir::Type elementType);

} // namespace shardc

#endif // SHARDC_SCHEDULE_PROGRAM_H
