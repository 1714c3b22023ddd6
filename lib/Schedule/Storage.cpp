//===- Storage.cpp - Buffers inside of others -----------------------------===//
//
//   1. Packs: what makes a part of a pack writes it there, if the part is a temporary of its own;
//      else it is copied. What no part covers is zeroed before: padding takes part in norms and
//      updates.
//   2. Updates: the new value of a state is written to the state's buffer, if nobody reads the old
//      value afterwards, and who makes the new one out of the old one reads each element before it
//      writes it. Else it is copied at the end.
//   3. A pack that is the new value of a state, and each part of which is made out of the state's
//      own part there in place (gradients that are added up), is the state: only that is touched
//      which is computed, and gaps stay zero.
//   4. A kernel is compiled in place or not (contracts §4): launches that differ from those in
//      place get a copy of the kernel.
//
//===----------------------------------------------------------------------===//
#include "dialects/Shard/Shard.h"
#include "shardc/Lower/LowerKernels.h"
#include "shardc/Schedule/Program.h"

#include <set>

using namespace mlir;

namespace shardc {
namespace {

constexpr int64_t kAlignment = 64;

class StoragePlacer {
public:
  StoragePlacer(Program &program, ProgramEntry &entry, SymbolTable &symbols)
      : program(program), entry(entry), symbols(symbols) {}
  void run();

private:
  void indexProducers();
  void placePack(ProgramEntry::Pack &pack);
  bool accumulate(const ProgramEntry::Pack &pack, int state);
  int statePart(int part, int64_t begin, int state) const;
  bool canLieInside(int part, const ProgramEntry::Pack &pack) const;
  void zeroGaps(const ProgramEntry::Pack &pack, size_t before);
  void insertPending();
  void placeUpdate(int made, int state);
  bool canUpdateInPlace(int made, int state);
  bool pairInPlace(const ProgramCommand &command, int made, int read);
  void addCopy(size_t before, int from, int to, int64_t bytes);

  Program &program;
  ProgramEntry &entry;
  SymbolTable &symbols;
  std::vector<int> producer; ///< first command that writes a buffer; -1: none
  std::vector<int> writers;  ///< how many do
  std::multimap<size_t, ProgramCommand> pending;
};

} // namespace

void StoragePlacer::indexProducers() {
  producer.assign(program.buffers.size(), -1);
  writers.assign(program.buffers.size(), 0);
  for (auto [n, command] : llvm::enumerate(entry.commands))
    for (int buffer : command.writes())
      if (++writers[buffer] == 1)
        producer[buffer] = static_cast<int>(n);
}

void StoragePlacer::addCopy(size_t before, int from, int to, int64_t bytes) {
  ProgramCommand copy{CommandKind::Copy};
  copy.buffers = {from, to};
  copy.count = bytes;
  pending.insert({before, std::move(copy)});
}

bool StoragePlacer::canLieInside(int part, const ProgramEntry::Pack &pack) const {
  const ProgramBuffer &buffer = program.buffers[part];
  return buffer.kind == BufferKind::Temporary && buffer.whole < 0 && producer[part] >= 0 &&
         llvm::count(pack.parts, part) == 1;
}

/// Parts begin at multiples of the alignment, so that only the last block of one is shared with a
/// gap; it is written behind.
void StoragePlacer::zeroGaps(const ProgramEntry::Pack &pack, size_t before) {
  int64_t total = program.buffers[pack.buffer].bytes, end = 0;
  SmallVector<std::pair<int64_t, int64_t>> gaps;
  for (size_t i = 0; i <= pack.parts.size(); ++i) {
    int64_t next = i < pack.parts.size() ? pack.begins[i] : total;
    if (end < next)
      gaps.push_back({end / kAlignment * kAlignment, next});
    if (i < pack.parts.size())
      end = next + tensorBytes(program.buffers[pack.parts[i]].type);
  }
  Type byte = IntegerType::get(symbols.getOp()->getContext(), 8);
  for (auto [begin, next] : gaps) {
    program.buffers.push_back({"gap", RankedTensorType::get({next - begin}, byte),
                               BufferKind::Temporary, next - begin, 0, pack.buffer, begin});
    producer.push_back(-1);
    ProgramCommand zero{CommandKind::Zero};
    zero.buffers = {static_cast<int>(program.buffers.size()) - 1};
    zero.count = next - begin;
    pending.insert({before, std::move(zero)});
  }
}

void StoragePlacer::placePack(ProgramEntry::Pack &pack) {
  size_t first = pack.position;
  SmallVector<std::pair<int, int64_t>> copies;
  for (auto [part, begin] : llvm::zip(pack.parts, pack.begins)) {
    if (!canLieInside(part, pack)) {
      copies.push_back({part, begin});
      continue;
    }
    program.buffers[part].whole = pack.buffer;
    program.buffers[part].begin = begin;
    first = std::min(first, static_cast<size_t>(producer[part]));
  }
  zeroGaps(pack, first);
  for (auto [part, begin] : copies) {
    ProgramBuffer copy = program.buffers[part];
    copy.kind = BufferKind::Temporary;
    copy.whole = pack.buffer;
    copy.begin = begin;
    copy.bytes = tensorBytes(copy.type);
    int64_t bytes = copy.bytes;
    program.buffers.push_back(std::move(copy));
    producer.push_back(-1);
    addCopy(pack.position, part, program.buffers.size() - 1, bytes);
  }
}

void StoragePlacer::insertPending() {
  std::vector<ProgramCommand> commands;
  auto next = pending.begin();
  for (size_t n = 0; n <= entry.commands.size(); ++n) {
    for (; next != pending.end() && next->first == n; ++next)
      commands.push_back(std::move(next->second));
    if (n < entry.commands.size())
      commands.push_back(std::move(entry.commands[n]));
  }
  entry.commands = std::move(commands);
  pending.clear();
}

bool StoragePlacer::canUpdateInPlace(int made, int state) {
  const ProgramBuffer &buffer = program.buffers[made];
  if (buffer.kind != BufferKind::Temporary || buffer.whole >= 0 || writers[made] != 1)
    return false;
  auto isState = [&](int b) { return b == state || program.buffers[b].whole == state; };
  for (size_t n = producer[made]; n < entry.commands.size(); ++n) {
    const ProgramCommand &command = entry.commands[n];
    if (llvm::any_of(command.writes(), isState) ||
        (n != static_cast<size_t>(producer[made]) && llvm::any_of(command.reads(), isState)))
      return false;
  }
  ProgramCommand &command = entry.commands[producer[made]];
  if (llvm::none_of(command.reads(), isState))
    return true;
  if (command.kind != CommandKind::Launch)
    return false;
  for (int read : command.reads())
    if (isState(read) && read != state)
      return false;
  return pairInPlace(command, made, state);
}

/// Marks the launch's kernel to make `made` in place of `read`, if it can.
bool StoragePlacer::pairInPlace(const ProgramCommand &command, int made, int read) {
  auto kernel = symbols.lookup<func::FuncOp>(program.kernels[command.kernel]);
  unsigned result = llvm::find(command.writes(), made) - command.writes().begin();
  SmallVector<Attribute> pairs;
  if (auto known = kernel->getAttrOfType<ArrayAttr>(kInPlaceAttr))
    pairs.assign(known.begin(), known.end());
  Builder b(kernel.getContext());
  for (auto [argument, buffer] : llvm::enumerate(command.reads())) {
    if (buffer != read)
      continue;
    if (!canRunInPlace(kernel, argument, result))
      return false;
    Attribute pair = b.getDenseI64ArrayAttr({static_cast<int64_t>(argument), result});
    bool isOther = llvm::any_of(pairs, [&](Attribute other) {
      ArrayRef<int64_t> at = cast<DenseI64ArrayAttr>(other).asArrayRef();
      return other != pair && (at[0] == static_cast<int64_t>(argument) || at[1] == result);
    });
    if (isOther) // another launch pairs them otherwise
      return false;
    if (!llvm::is_contained(pairs, pair))
      pairs.push_back(pair);
  }
  kernel->setAttr(kInPlaceAttr, b.getArrayAttr(pairs));
  return true;
}

void StoragePlacer::placeUpdate(int made, int state) {
  if (made == state)
    return;
  if (!canUpdateInPlace(made, state)) {
    addCopy(entry.commands.size(), made, state, program.buffers[state].bytes);
    return;
  }
  for (ProgramCommand &command : entry.commands)
    llvm::replace(command.buffers, made, state);
  for (ProgramBuffer &buffer : program.buffers)
    if (buffer.whole == made)
      buffer.whole = state;
  for (auto &update : entry.updates)
    if (update.first == made)
      update.first = state;
  writers[made] = 0;
}

/// The view of a state that a launch makes a part of a pack out of, if it is the place of that
/// part; -1: there is none.
int StoragePlacer::statePart(int part, int64_t begin, int state) const {
  const ProgramCommand &command = entry.commands[producer[part]];
  if (command.kind != CommandKind::Launch)
    return -1;
  for (int read : command.reads()) {
    const ProgramBuffer &view = program.buffers[read];
    if (view.whole == state && view.begin == begin &&
        tensorBytes(view.type) == tensorBytes(program.buffers[part].type))
      return read;
  }
  return -1;
}

bool StoragePlacer::accumulate(const ProgramEntry::Pack &pack, int state) {
  if (program.buffers[pack.buffer].bytes != program.buffers[state].bytes ||
      llvm::any_of(entry.packs, [&](const ProgramEntry::Pack &other) {
        return llvm::is_contained(other.parts, pack.buffer);
      }))
    return false;
  llvm::DenseMap<int, int> places; // of parts
  for (auto [part, begin] : llvm::zip(pack.parts, pack.begins)) {
    int view = canLieInside(part, pack) && writers[part] == 1 ? statePart(part, begin, state) : -1;
    if (view < 0)
      return false;
    places[part] = view;
  }
  // Nobody else looks at the state as it was.
  for (auto [n, command] : llvm::enumerate(entry.commands))
    for (int read : command.reads())
      if (read == state ||
          (program.buffers[read].whole == state && llvm::none_of(places, [&](auto place) {
             return place.second == read && producer[place.first] == static_cast<int>(n);
           })))
        return false;
  for (auto [part, view] : places)
    if (!pairInPlace(entry.commands[producer[part]], part, view))
      return false;
  for (ProgramCommand &command : entry.commands)
    for (int &buffer : command.buffers) {
      auto place = places.find(buffer);
      buffer = buffer == pack.buffer ? state : place == places.end() ? buffer : place->second;
    }
  return true;
}

void StoragePlacer::run() {
  indexProducers();
  for (ProgramEntry::Pack &pack : entry.packs) {
    auto update = llvm::find_if(entry.updates, [&](auto &own) { return own.first == pack.buffer; });
    if (update != entry.updates.end() && accumulate(pack, update->second))
      update->first = update->second;
    else
      placePack(pack);
  }
  insertPending();
  indexProducers();
  for (size_t i = 0; i < entry.updates.size(); ++i)
    placeUpdate(entry.updates[i].first, entry.updates[i].second);
  insertPending();
}

/// Views and constants that nobody reads, and what was replaced by a state, go.
static void dropUnused(Program &program) {
  std::vector<bool> isUsed(program.buffers.size());
  auto note = [&](ArrayRef<ProgramCommand> commands) {
    for (const ProgramCommand &command : commands)
      for (int buffer : command.buffers)
        isUsed[buffer] = true;
  };
  note(program.init);
  for (const ProgramEntry &entry : program.entries)
    note(entry.commands);
  llvm::erase_if(program.constants,
                 [&](const ProgramConstant &constant) { return !isUsed[constant.buffer]; });
  auto forEach = [&](llvm::function_ref<void(int &)> fn) {
    for (auto &list : {&program.init})
      for (ProgramCommand &command : *list)
        llvm::for_each(command.buffers, fn);
    for (ProgramEntry &entry : program.entries) {
      for (ProgramCommand &command : entry.commands)
        llvm::for_each(command.buffers, fn);
      for (auto *values : {&entry.inputs, &entry.outputs})
        for (ProgramValue &value : *values)
          fn(value.buffer);
    }
    for (ProgramParameter &parameter : program.parameters)
      fn(parameter.buffer);
    for (ProgramConstant &constant : program.constants)
      fn(constant.buffer);
    for (ProgramAxisIndex &index : program.axisIndices)
      fn(index.buffer);
    for (ProgramState &state : program.states)
      fn(state.buffer);
  };
  forEach([&](int &buffer) {
    for (int at = buffer; at >= 0; at = program.buffers[at].whole)
      isUsed[at] = true;
  });
  std::vector<int> number(program.buffers.size(), -1);
  std::vector<ProgramBuffer> kept;
  for (size_t i = 0; i < program.buffers.size(); ++i)
    if (isUsed[i]) {
      number[i] = kept.size();
      kept.push_back(std::move(program.buffers[i]));
    }
  for (ProgramBuffer &buffer : kept)
    if (buffer.whole >= 0)
      buffer.whole = number[buffer.whole];
  forEach([&](int &buffer) { buffer = number[buffer]; });
  program.buffers = std::move(kept);
  for (ProgramEntry &entry : program.entries) { // done with
    entry.packs.clear();
    entry.updates.clear();
  }
}

/// Launches whose buffers are not those that their kernel has in common go to a copy of it that has
/// only what they have.
static void separateKernels(Program &program, SymbolTable &symbols) {
  llvm::DenseMap<std::pair<int, Attribute>, int> copies;
  auto separate = [&](ProgramCommand &command) {
    if (command.kind != CommandKind::Launch)
      return;
    auto kernel = symbols.lookup<func::FuncOp>(program.kernels[command.kernel]);
    auto pairs = kernel->getAttrOfType<ArrayAttr>(kInPlaceAttr);
    if (!pairs)
      return;
    SmallVector<Attribute> own;
    for (Attribute pair : pairs) {
      ArrayRef<int64_t> at = cast<DenseI64ArrayAttr>(pair).asArrayRef();
      if (command.reads()[at[0]] == command.writes()[at[1]])
        own.push_back(pair);
    }
    if (own.size() == pairs.size())
      return;
    auto ownPairs = ArrayAttr::get(kernel.getContext(), own);
    auto [copy, isNew] =
        copies.try_emplace({command.kernel, ownPairs}, static_cast<int>(program.kernels.size()));
    if (isNew) {
      func::FuncOp clone = kernel.clone();
      clone->removeAttr(kInPlaceAttr);
      if (!own.empty())
        clone->setAttr(kInPlaceAttr, ownPairs);
      symbols.insert(clone, std::next(kernel->getIterator())); // renames it
      program.kernels.push_back(clone.getSymName().str());
    }
    command.kernel = copy->second;
  };
  for (ProgramCommand &command : program.init)
    separate(command);
  for (ProgramEntry &entry : program.entries)
    llvm::for_each(entry.commands, separate);
}

void placeStorage(Program &program, ModuleOp module) {
  SymbolTable symbols(module);
  for (ProgramEntry &entry : program.entries)
    StoragePlacer(program, entry, symbols).run();
  separateKernels(program, symbols);
  dropUnused(program);
}

} // namespace shardc
