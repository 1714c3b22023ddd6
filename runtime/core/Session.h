// One rank's instance of a bundle: loaded weights, inputs, runs, outputs.
#pragma once

#include "runtime/core/Backend.h"
#include <map>

namespace shardrt {

/// Arena that a channel must offer: the program's (not that of a GPU), and behind it the area of
/// the exchange.
int64_t sessionArenaBytes(const Bundle &bundle);
int sessionGroups(const Bundle &bundle);

class Session {
public:
  Session(const Bundle &bundle, Progress &progress, const SessionOptions &options);
  ~Session();

  /// Entries share inputs by name. Throws SHARDRT_BAD_INPUT if none has it.
  size_t inputIndex(const std::string &name) const;
  /// Throws SHARDRT_BAD_INPUT unless some entry takes that.
  void setInput(const std::string &name, DType dtype, const Shape &shape, const void *data);
  /// `data` is the whole tensor, of the same shape as before.
  void setInput(size_t index, const void *data);
  /// Empty: the first entry point; where entries are for different shapes, the first that takes the
  /// inputs as they were set.
  void run(const std::string &entry);
  void run(const Entry &entry);
  /// Collective, after the parameters were changed from outside: runs the entry "gather", if there
  /// is one.
  void refreshParameters();

  /// Of the entry that ran last: the next one may reuse the storage.
  const Value &output(const std::string &name) const;
  /// Collective; fills `data` (the whole tensor) on rank 0 only.
  void gatherOutput(const Value &output, void *data);
  /// This rank's part, in the machine's memory; valid until the next run.
  const std::byte *localData(const Value &value);
  /// The same, copied.
  void readLocal(const Value &value, void *dst) const;

  Memory &memory() const { return backend->memory(); }
  /// Of a buffer in the arena.
  int64_t offsetOf(int buffer) const { return bundle.program.buffers[buffer].offset; }

  Exchange &exchange() { return messages; }
  int rank() const { return progress.channel().rank; }
  const Backend &machine() const { return *backend; }
  void writeTrace(const std::string &path);

  const Bundle &bundle;

private:
  /// A shape in which entries take an input.
  struct Form {
    Form(const Value &value, const Mesh &mesh, int rank);
    const Value *value; // of the first entry that has it
    LocalCopy part;
    int64_t bytes; // of the part
  };
  struct Input {
    const std::string &name() const { return forms.front().value->name; }
    const Form &now() const { return forms[form]; }
    std::vector<Form> forms;
    size_t form = 0;       // of the value
    int64_t length = 0;    // of a cache's length: the value, which a run would read too late
    bool resident = false; // its storage is its own, and an output replaces it there
    bool hasValue = false; // was set, or starts as zeros because an output replaces it
    Memory::Block staged;  // its storage may be reused during a run
  };
  /// An entry as a list of what to copy in, run, and copy out.
  struct Runner {
    const Entry *entry;
    struct Binding {
      size_t input, form;
      int buffer, replacement; // the buffer that takes its place after a run, or -1
      const Value *value;
    };
    std::vector<Binding> bindings;
    std::unique_ptr<Poison> poison;
    std::unique_ptr<Executable> executable;
  };
  void load(const std::string &weights);
  void describeInputs();
  Input &describe(const Value &value);
  const Entry &chooseEntry() const;
  void checkInput(const Entry &entry, const Runner::Binding &binding) const;
  Runner makeRunner(const Entry &entry);

  Progress &progress;
  Exchange messages;
  ThreadPool pool;
  std::unique_ptr<Backend> backend;
  std::map<int, std::vector<std::byte>> copies; // of buffers that a processor cannot reach
  std::vector<Input> inputs;
  std::vector<Runner> runners;
  const Entry *current; // what ran last; the first one at the start
  std::unique_ptr<Trace> trace;
};

} // namespace shardrt
