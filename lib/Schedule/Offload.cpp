//===- Offload.cpp - States in the machine's memory -----------------------===//
//
// Input: entries whose buffers all lie on the device. Output: the buffers of offloaded states are
// marked as the machine's, and every command reaches what it works on:
//
//   1. Kernels of index lambdas (the optimizer's update, casts of shards, sums of gradients) read
//      and write each element once, neighbouring threads neighbouring ones: they work on the mapped
//      memory itself. Each byte crosses the bus once in each direction, as it would in a copy, and
//      needs no place on the device. (torch copies gradients to the host and updates there: the
//      parameters cross the bus as well, and the processors add their own time.)
//   2. Copies and zeros take either memory.
//   3. A gather into a whole buffer takes a shard from there: the runtime copies it to its part of
//      the destination, on the gather's own stream, and NCCL gathers in place. So it runs as far
//      ahead as any gather, and takes no memory for it.
//   4. Anything else (products, attention, reductions, other collectives) gets a copy on the
//      device, which stays for the layer call that needs it: what would be gathered for a layer
//      is copied for it.
//
// Gradients that are whole on each rank stay on the device: products add to them in place.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Schedule/Program.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace shardc {

bool parseOffload(StringRef text, Offload &offload) {
  auto found = llvm::StringSwitch<std::optional<Offload>>(text)
                   .Case("none", Offload::None)
                   .Case("optimizer", Offload::Optimizer)
                   .Case("parameters", Offload::Parameters)
                   .Default(std::nullopt);
  offload = found.value_or(Offload::None);
  return found.has_value();
}

StringRef str(Offload offload) {
  static constexpr StringLiteral names[] = {"none", "optimizer", "parameters"};
  return names[static_cast<int>(offload)];
}

static bool isOffloaded(const ProgramState &state, Offload offload) {
  StringRef role = state.role;
  if (role == "exp_avg" || role == "exp_avg_sq" || role == "momentum")
    return true;
  return offload == Offload::Parameters &&
         (role == "parameter" || (role == "gradient" && !state.axes.empty()));
}

namespace {

/// Rewrites one entry.
class Stager {
public:
  Stager(Program &program, SymbolTable &symbols) : program(program), symbols(symbols) {}
  void run(ProgramEntry &entry);

private:
  bool isReachable(const ProgramCommand &command, size_t operand);
  void stage(ProgramCommand command);
  int copyOf(int buffer);
  void addCopy(int from, int to, int64_t layer);

  Program &program;
  SymbolTable &symbols;
  std::vector<ProgramCommand> out;
  llvm::DenseMap<int, int> copies; ///< on the device, by whole buffer
  llvm::SmallDenseSet<int> loaded; ///< whose copies hold what the buffer does
};

} // namespace

/// Does the command work on the buffer where it lies?
bool Stager::isReachable(const ProgramCommand &command, size_t operand) {
  bool isRead = operand < command.reads().size();
  switch (command.kind) {
  case CommandKind::Launch: {
    auto kernel = symbols.lookup<func::FuncOp>(program.kernels[command.kernel]);
    return isRead ? isStreamed(kernel, operand) : isElementwise(kernel);
  }
  case CommandKind::AllGather:
    return isRead && axesSize(program.groups[command.group]) > 1 &&
           stagingBytes(program, command) == 0;
  case CommandKind::Copy: // from one memory to the other
    return !isRead || !program.isOnHost(command.buffers[1]);
  case CommandKind::Zero:
  case CommandKind::Wait:
    return true;
  default:
    return false;
  }
}

void Stager::addCopy(int from, int to, int64_t layer) {
  ProgramCommand copy{CommandKind::Copy};
  copy.buffers = {from, to};
  copy.count = program.buffers[to].bytes;
  copy.layer = layer;
  out.push_back(std::move(copy));
}

/// The buffer that stands for an offloaded one, or for a part of it, on the device.
int Stager::copyOf(int buffer) {
  int whole = program.wholeOf(buffer);
  auto [place, isNew] = copies.try_emplace(whole, static_cast<int>(program.buffers.size()));
  int copy = place->second;
  if (isNew) {
    ProgramBuffer made = program.buffers[whole];
    made.name += ", on the device";
    made.kind = BufferKind::Temporary;
    made.isHost = false;
    program.buffers.push_back(std::move(made));
  }
  if (buffer == whole)
    return copy;
  ProgramBuffer part = program.buffers[buffer];
  for (int at = part.whole; at != whole; at = program.buffers[at].whole)
    part.begin += program.buffers[at].begin;
  part.whole = copy;
  program.buffers.push_back(std::move(part));
  return program.buffers.size() - 1;
}

void Stager::stage(ProgramCommand command) {
  llvm::SmallDenseMap<int, int> standIns; // by buffer
  SmallVector<std::pair<int, int>> written;
  for (size_t n = 0; n < command.buffers.size(); ++n) {
    int &buffer = command.buffers[n];
    int original = buffer, whole = program.wholeOf(original);
    bool isRead = n < command.reads().size();
    if (!program.isOnHost(original))
      continue;
    if (isReachable(command, n)) {
      if (!isRead)
        loaded.erase(whole);
      continue;
    }
    auto [place, isNew] = standIns.try_emplace(original, -1);
    if (isNew)
      place->second = copyOf(original);
    buffer = place->second;
    if (isRead && loaded.insert(whole).second)
      addCopy(whole, copies[whole], command.layer);
    if (!isRead)
      written.push_back({buffer, original});
  }
  int64_t layer = command.layer;
  out.push_back(std::move(command));
  for (auto [from, to] : written) {
    addCopy(from, to, layer);
    loaded.erase(program.wholeOf(to));
  }
}

void Stager::run(ProgramEntry &entry) {
  int64_t layer = -1;
  for (ProgramCommand &command : entry.commands) {
    if (command.layer >= 0 && command.layer != layer) { // what was copied for another one goes
      copies.clear();
      loaded.clear();
      layer = command.layer;
    }
    stage(std::move(command));
  }
  entry.commands = std::move(out);
}

void offloadStates(Program &program, ModuleOp module, Offload offload) {
  SymbolTable symbols(module);
  for (const ProgramState &state : program.states)
    program.buffers[state.buffer].isHost = isOffloaded(state, offload);
  for (ProgramEntry &entry : program.entries)
    Stager(program, symbols).run(entry);
}

} // namespace shardc
