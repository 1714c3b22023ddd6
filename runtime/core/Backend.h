// What executes a rank's commands: the processors of this machine, or a GPU.
#pragma once

#include "runtime/core/Bundle.h"
#include "runtime/core/Exchange.h"
#include "runtime/core/Memory.h"
#include "runtime/core/Poison.h"
#include "runtime/core/ThreadPool.h"

namespace shardrt {

struct SessionOptions {
  std::string weights; // empty: the bundle's own
  int threads = 1;
  bool pin = false;
  int localRank = 0;
  bool trace = false;
  bool poison = false; // fill dead storage, to find programs that read it

  // GPUs only.
  bool graph = true;        // an entry is captured once and replayed
  bool shareDevice = false; // ranks of a machine may have a GPU together: a test mode
  /// How the arena is made known to NCCL, so that it moves data without copies of its own.
  enum Registration { None, Register, Window } registration = None;
};

/// A command list, ready to run again and again.
class Executable {
public:
  virtual ~Executable() = default;
  virtual void run() = 0;
  /// Record every command, from now on.
  virtual void setTrace(Trace *recorder) = 0;
  /// Poison what is dead, from now on.
  virtual void setPoison(const Poison *poison) = 0;
};

class Backend {
public:
  virtual ~Backend() = default;
  virtual Memory &memory() = 0;
  /// All arguments live as long as the result. `name` is the entry's, for traces.
  virtual std::unique_ptr<Executable> prepare(const std::vector<Command> &commands,
                                              const char *name) = 0;

  /// Waits for what was handed over, also after an error: it may use memory of its callers.
  virtual void finish() noexcept = 0;

  /// The code that it runs: a level of a processor, or an architecture of a GPU.
  virtual std::string codeLevel() const = 0;
  /// The GPU's name; empty for processors.
  virtual std::string device() const = 0;
  /// Besides the arena.
  virtual int64_t scratchBytes() const = 0;
  /// Of the program's arena: whole pages that are in memory; -1 where nobody knows.
  virtual int64_t arenaTouchedBytes() const = 0;
  /// Of the device's memory, taken by this process's device at this moment; -1 for processors.
  virtual int64_t deviceBytes() const = 0;
};

/// Bytes of the arena that a channel offers for a bundle of this target.
int64_t hostArenaBytes(const Bundle &bundle);

std::unique_ptr<Backend> createHostBackend(const Bundle &bundle, Progress &progress,
                                           ThreadPool &pool);
/// Collective. Throws SHARDRT_NO_DEVICE, SHARDRT_UNSUPPORTED_CPU, SHARDRT_OUT_OF_MEMORY.
std::unique_ptr<Backend> createCudaBackend(const Bundle &bundle, Progress &progress,
                                           Exchange &exchange, const SessionOptions &options);

} // namespace shardrt
