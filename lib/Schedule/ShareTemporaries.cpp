//===- ShareTemporaries.cpp - Results in place of what is read for the last time -===//
//
// Input: flat entries in which every value has a buffer of its own. Output: the same, in which a
// launch writes its result over an argument that nobody reads afterwards, where its kernel reads
// each element of it before it writes it. A sum over chunks then needs one buffer, an activation's
// cotangent that of the activation.
//
// A kernel is in place for all of its launches or for none: it is compiled once (contracts §4).
//
//   1. For each kernel: the pairs (argument, result) for which all its launches agree.
//   2. The argument's buffer becomes the result's. In a chain the last one stays, which may be a
//      part of a bucket.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Schedule/Program.h"

using namespace mlir;

namespace shardc {
namespace {

/// Where the buffers of an entry are used.
struct Uses {
  std::vector<int64_t> first, last;
  std::vector<int> writers;
  explicit Uses(size_t buffers) : first(buffers, -1), last(buffers, -1), writers(buffers, 0) {}
};

class TemporarySharer {
public:
  TemporarySharer(Program &program, ModuleOp module) : program(program), symbols(module) {}
  void run();

private:
  using Pairs = SmallVector<std::pair<int64_t, int64_t>>;
  Uses findUses(const ProgramEntry &entry) const;
  bool canShare(const ProgramCommand &command, int64_t at, const Uses &uses, int64_t argument,
                int64_t result) const;
  void findPairs();
  void mark(func::FuncOp kernel, const Pairs &pairs) const;

  Program &program;
  SymbolTable symbols;
  llvm::DenseSet<int> fixed;                 ///< buffers that views, packs or states know
  std::vector<std::optional<Pairs>> pairsOf; ///< by kernel; none: it is not launched
};

} // namespace

Uses TemporarySharer::findUses(const ProgramEntry &entry) const {
  Uses uses(program.buffers.size());
  for (auto [n, command] : llvm::enumerate(entry.commands)) {
    for (int buffer : command.buffers) {
      uses.first[buffer] = uses.first[buffer] < 0 ? n : uses.first[buffer];
      uses.last[buffer] = n;
    }
    for (int buffer : command.writes())
      ++uses.writers[buffer];
  }
  return uses;
}

bool TemporarySharer::canShare(const ProgramCommand &command, int64_t at, const Uses &uses,
                               int64_t argument, int64_t result) const {
  int from = command.reads()[argument], to = command.writes()[result];
  auto isOwn = [&](int b) {
    return program.buffers[b].kind == BufferKind::Temporary && program.buffers[b].whole < 0;
  };
  return isOwn(from) && isOwn(to) && !fixed.contains(from) &&
         program.buffers[from].bytes == program.buffers[to].bytes &&
         llvm::count(command.buffers, from) == 1 && uses.writers[from] == 1 &&
         uses.writers[to] == 1 && uses.last[from] == at && uses.first[to] == at;
}

void TemporarySharer::findPairs() {
  pairsOf.resize(program.kernels.size());
  for (const ProgramCommand &command : program.init) // its results stay
    if (command.kind == CommandKind::Launch)
      pairsOf[command.kernel] = Pairs();
  for (const ProgramEntry &entry : program.entries) {
    llvm::DenseSet<int> updates;
    for (auto [made, state] : entry.updates)
      updates.insert(made);
    for (const ProgramEntry::Pack &pack : entry.packs) // … tensor by tensor
      if (updates.contains(pack.buffer))
        updates.insert(pack.parts.begin(), pack.parts.end());
    Uses uses = findUses(entry);
    for (auto [n, command] : llvm::enumerate(entry.commands)) {
      if (command.kind != CommandKind::Launch)
        continue;
      std::optional<Pairs> &pairs = pairsOf[command.kernel];
      auto kernel = symbols.lookup<func::FuncOp>(program.kernels[command.kernel]);
      // New values of states go to the states' buffers.
      bool isUpdate = llvm::any_of(command.writes(), [&](int b) { return updates.contains(b); });
      if (!pairs) {
        pairs.emplace();
        for (int64_t r = 0; r < static_cast<int64_t>(command.results) && !isUpdate; ++r)
          for (int64_t a = 0; a < static_cast<int64_t>(command.reads().size()); ++a)
            if (canShare(command, n, uses, a, r) && canRunInPlace(kernel, a, r))
              pairs->push_back({a, r});
      }
      llvm::erase_if(*pairs, [&](auto pair) {
        return isUpdate || !canShare(command, n, uses, pair.first, pair.second);
      });
    }
  }
  for (std::optional<Pairs> &pairs : pairsOf) // one argument for a result, and the other way round
    if (pairs) {
      Pairs chosen;
      for (auto pair : *pairs)
        if (llvm::none_of(chosen, [&](auto other) {
              return other.first == pair.first || other.second == pair.second;
            }))
          chosen.push_back(pair);
      pairs = chosen;
    }
}

void TemporarySharer::mark(func::FuncOp kernel, const Pairs &pairs) const {
  Builder b(kernel.getContext());
  SmallVector<Attribute> list;
  for (auto [argument, result] : pairs)
    list.push_back(b.getDenseI64ArrayAttr({argument, result}));
  kernel->setAttr(kInPlaceAttr, b.getArrayAttr(list));
}

void TemporarySharer::run() {
  for (const ProgramBuffer &buffer : program.buffers)
    if (buffer.whole >= 0)
      fixed.insert(buffer.whole);
  for (const ProgramEntry &entry : program.entries) {
    for (const ProgramEntry::Pack &pack : entry.packs)
      fixed.insert(pack.parts.begin(), pack.parts.end());
    for (auto [made, state] : entry.updates)
      fixed.insert(made);
  }
  findPairs();
  for (auto [kernel, pairs] : llvm::enumerate(pairsOf))
    if (pairs && !pairs->empty())
      mark(symbols.lookup<func::FuncOp>(program.kernels[kernel]), *pairs);
  for (ProgramEntry &entry : program.entries) {
    llvm::DenseMap<int, int> follows; // argument's buffer to the result's
    for (const ProgramCommand &command : entry.commands)
      if (command.kind == CommandKind::Launch)
        for (auto [argument, result] : *pairsOf[command.kernel])
          follows[command.reads()[argument]] = command.writes()[result];
    for (ProgramCommand &command : entry.commands)
      for (int &buffer : command.buffers)
        for (auto next = follows.find(buffer); next != follows.end(); next = follows.find(buffer))
          buffer = next->second;
  }
}

void shareTemporaries(Program &program, ModuleOp module) { TemporarySharer(program, module).run(); }

} // namespace shardc
