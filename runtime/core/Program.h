// program.json in memory: what every rank executes. All indices and sizes have been checked by the
// reader.
#pragma once

#include "runtime/channels/Collective.h"
#include "runtime/core/CudaProgram.h"
#include "runtime/core/Mesh.h"

namespace shardrt {

enum class BufferKind { Input, Output, Parameter, Constant, AxisIndex, Temporary, State };

struct Buffer {
  std::string name;
  DType dtype;
  Shape shape;
  int64_t offset, bytes; // in the arena
  BufferKind kind;
};

/// A model input or output; `shape` is global.
struct Value {
  std::string name;
  int buffer;
  DType dtype;
  Shape shape;
  Sharding sharding;
  std::string alias; // of an output: the input whose storage it replaces, or empty
  /// Of an input that is the length of a cache: its room, and what a run appends. 0: it is none.
  int64_t capacity = 0, step = 0;
};

/// Of a rank's part; the reader has checked that it can be said.
inline int64_t localBytes(const Value &value) {
  return *checkedBytes(localShape(value.shape, value.sharding), value.dtype);
}

struct Segment {
  int dim; // -1: the whole tensor
  int64_t offset, size;
};

/// GEMM panels; n_tile == 0 stands for row-major.
struct Layout {
  std::vector<int> nDims, kDims, batchDims;
  int64_t nTile = 0;
  bool isPanels() const { return nTile != 0; }
};

struct Parameter {
  int buffer;
  std::string tensor;
  DType dtype;
  Shape shape; // global, of the segment
  Segment segment;
  Sharding sharding;
  Layout layout;
};

/// A tensor's part in a bucket: this rank's slice under `sharding`, row-major, at `offset`
/// elements.
struct BucketItem {
  std::string tensor;
  DType dtype; // in a weights file
  Shape shape; // global, of the segment
  Segment segment;
  Sharding sharding;
  int64_t offset;
};

/// A flat buffer of `length` elements, cut into equal parts over the axes of `shard`.
struct Bucket {
  std::string name;
  DType dtype;
  int64_t length;
  SubAxes shard;
  std::vector<BucketItem> items; // by offset
};

enum class StateRole {
  Parameter, // loaded from the weights
  ExpAvg,
  ExpAvgSq,
  Momentum,
  Gradient,
  ComputeParameter, // a copy of the parameters that the entry "gather" makes
  Scalar
};
const char *roleName(StateRole role);
/// Whether a checkpoint holds it; the others are made again.
bool isSaved(StateRole role);

/// A buffer that lives from run to run. With a bucket it has its elements, all or this rank's part.
struct State {
  std::string name;
  int buffer;
  StateRole role;
  int bucket;    // -1: none
  SubAxes shard; // that cut it: the first ones of its bucket's
};

struct Constant {
  int buffer;
  int64_t offset, bytes; // in constants.bin
};

struct AxisIndex {
  int buffer;
  SubAxes axes;
};

enum class CommandKind { Launch, Collective, Slice, Copy, Zero, Wait };

struct Command {
  CommandKind kind;
  std::string name; // for traces: the op or the kernel's symbol
  int64_t layer = -1, origin = -1;
  int64_t ticket = -1; // started (Collective) or completed (Wait)
  int src = -1, dst = -1;
  int kernel = -1;
  std::vector<int> buffers;
  int results = -1;               // how many of the last buffers a launch writes; -1: not said
  int64_t tiles = 0, scratch = 0; // on processors
  int64_t bytes = 0;              // copy, zero
  Collective collective;          // pointers are filled in by the executor
};

/// What a caller can run. An input that several entries have is one value, which is set once;
/// entries may want it in different shapes: of a program without training they are the same model
/// for inputs of different shapes, and the value's own shape says which of them can run.
struct Entry {
  std::string name;
  std::vector<Value> inputs, outputs;
  std::vector<Command> commands;
};

struct Program {
  Target target = Target::Cpu;
  int64_t arenaBytes = 0;
  std::vector<Buffer> buffers;
  std::vector<Parameter> parameters;
  std::vector<Constant> constants;
  std::vector<AxisIndex> axisIndices;
  std::vector<SubAxes> groups;
  std::vector<Bucket> buckets;
  std::vector<State> states;
  std::vector<std::string> kernels; // names
  CudaProgram cuda;                 // empty for processors
  std::vector<Command> init;        // once, after loading
  std::vector<Entry> entries;       // at least one; names differ

  /// Whether it lies in this machine's memory, where the others are on a GPU.
  bool isOnHost(const Buffer &buffer) const {
    return cuda.host.bytes > 0 && buffer.offset >= cuda.host.offset;
  }
  bool isTraining() const { return !states.empty(); }
  /// Whether the entries are one model for several shapes.
  bool hasInstances() const { return entries.size() > 1 && !isTraining(); }
  /// "main takes x f32 [2, 16]; main@seq=1 takes x f32 [2, 1]": the inputs in which they differ.
  std::string listInstances() const;
  /// Null if there is none of this name; the first one for an empty name.
  const Entry *findEntry(const std::string &name) const {
    for (const Entry &entry : entries)
      if (name.empty() || entry.name == name)
        return &entry;
    return nullptr;
  }
};

/// Bytes of the staging area that a collective of so many ranks takes; 0: none.
int64_t cudaStagingBytes(const Collective &call, int64_t ranks);

} // namespace shardrt
