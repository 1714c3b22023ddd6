// One rank's instance of a bundle: loaded weights, inputs, runs, outputs.
#pragma once

#include "runtime/core/Bundle.h"
#include "runtime/core/Exchange.h"
#include "runtime/core/Executor.h"

namespace shardrt {

struct SessionOptions {
  std::string weights; // empty: the bundle's own
  int threads = 1;
  bool pin = false;
  int localRank = 0;
  bool trace = false;
  bool poison = false; // fill dead storage, to find programs that read it
};

/// Arena that a channel must offer: the program's between two pages that nobody may touch, and
/// behind it the area of the exchange.
int64_t sessionArenaBytes(const Bundle &bundle);
int sessionGroups(const Bundle &bundle);

class Session {
public:
  Session(const Bundle &bundle, Progress &progress, const SessionOptions &options);
  ~Session();

  /// Entries share inputs by name. Throws SHARDRT_BAD_INPUT if none has it.
  size_t inputIndex(const std::string &name) const;
  void setInput(const std::string &name, DType dtype, const Shape &shape, const void *data);
  /// `data` is the whole tensor.
  void setInput(size_t index, const void *data);
  void run(const std::string &entry); // empty: the first entry point
  void run(const Entry &entry);
  /// Collective, after the parameters were changed from outside: runs the entry "gather", if there
  /// is one.
  void refreshParameters();

  /// Of the entry that ran last: the next one may reuse the storage.
  const Value &output(const std::string &name) const;
  /// Collective; fills `data` (the whole tensor) on rank 0 only.
  void gatherOutput(const Value &output, void *data);
  const std::byte *localData(const Value &value) const { return address(value.buffer); }
  std::byte *stateData(const State &state) const { return address(state.buffer); }

  Exchange &exchange() { return messages; }
  int rank() const { return progress.channel().rank; }
  int64_t scratchBytes() const { return scratch.bytes(); }
  /// Of the program's arena: whole pages that are in memory.
  int64_t arenaTouchedBytes() const;
  void writeTrace(const std::string &path);

  const Bundle &bundle;

private:
  struct Input {
    Input(const Value &value, const Mesh &mesh, int rank);
    const Value *value; // of the first entry that has it
    LocalCopy part;
    bool resident = false;         // its storage is its own, and an output replaces it there
    bool hasValue = false;         // was set, or starts as zeros because an output replaces it
    std::vector<std::byte> staged; // its storage may be reused during a run
  };
  /// An entry as a list of what to copy in, run, and copy out.
  struct Runner {
    const Entry *entry;
    struct Binding {
      size_t input;
      int buffer, replacement; // the buffer that takes its place after a run, or -1
    };
    std::vector<Binding> bindings;
    std::unique_ptr<Poison> poison;
    std::unique_ptr<Executor> executor;
  };
  void load(const std::string &weights);
  void describeInputs();
  Runner makeRunner(const Entry &entry);
  std::byte *address(int buffer) const { return base + bundle.program.buffers[buffer].offset; }

  /// Pages around the program's arena that must not be touched.
  class Guards {
  public:
    Guards(std::byte *arena, int64_t programBytes);
    ~Guards();
    std::byte *base() const { return begin; }

  private:
    std::byte *front, *begin, *back;
  };

  Progress &progress;
  Guards guards;
  std::byte *base; // of the program's arena
  Exchange messages;
  ThreadPool pool;
  std::unique_ptr<KernelLibrary> kernels;
  std::vector<int> groups;
  Scratch scratch;
  Machine machine;
  std::vector<Input> inputs;
  std::vector<Runner> runners;
  const Entry *current; // what ran last; the first one at the start
  std::unique_ptr<Trace> trace;
};

} // namespace shardrt
