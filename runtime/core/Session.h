// One rank's instance of a bundle: loaded weights, inputs, runs, outputs.
#pragma once

#include "runtime/core/Bundle.h"
#include "runtime/core/Executor.h"

namespace shardrt {

struct SessionOptions {
  std::string weights; // empty: the bundle's own
  int threads = 1;
  bool pin = false;
  int localRank = 0;
  bool trace = false;
};

/// Arena that a channel must offer: the program's, and behind it an area for messages between the
/// sessions.
int64_t sessionArenaBytes(const Bundle &bundle);
int sessionGroups(const Bundle &bundle);

class Session {
public:
  Session(const Bundle &bundle, Progress &progress, const SessionOptions &options);
  ~Session();

  void setInput(const std::string &name, DType dtype, const Shape &shape, const void *data);
  /// Collective, after the parameters were changed from outside: runs the entry "gather", if there
  /// is one.
  void refreshParameters();
  void run(const std::string &entry); // empty: the first entry point
  /// Collective; fills `data` (the whole tensor) on rank 0 only.
  void gatherOutput(const Value &output, void *data);
  /// Of the entry that ran last: the next one may reuse the storage.
  const Value &output(const std::string &name) const;
  const std::byte *localData(const Value &value) const;
  /// Collective: every rank's text, in rank order, on rank 0; empty elsewhere.
  std::vector<std::string> gatherTexts(const std::string &text);
  void barrier();
  void writeTrace(const std::string &path);

private:
  /// Entries share inputs by name.
  struct Input {
    const Value *value;            // of the first entry that has it
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
    std::unique_ptr<Executor> executor;
  };
  void load(const std::string &weights);
  void describeInputs();
  Runner makeRunner(const Entry &entry, const std::vector<int> &groups);
  Input &input(const std::string &name);
  std::byte *address(int buffer) const;
  std::vector<int> createGroups();

  const Bundle &bundle;
  Progress &progress;
  int rank;
  ThreadPool pool;
  std::unique_ptr<KernelLibrary> kernels;
  std::vector<Input> inputs;
  std::vector<Runner> runners;
  const Entry *current; // what ran last; the first one at the start
  std::unique_ptr<Trace> trace;
};

} // namespace shardrt
