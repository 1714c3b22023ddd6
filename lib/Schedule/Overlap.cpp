//===- Overlap.cpp - when collectives start and end -------------------------------------------===//
//
// Input: entries in which every collective completes where it stands. Output: the same commands, in which collectives that FSDP marked
// (`shard.overlap`) are started and waited for.
//
//   1. A gather of parameters starts when the gather `prefetch` units before it has ended, so that it runs behind the computation of those
//      units; what makes its source (a cast of the shard) goes with it. It ends where it stood. A gather over replicas that makes its source
//      starts one unit earlier, and ends where this one starts.
//   2. A reduction starts where it stands. It ends when `reductions` later ones want to start, or where its result is first needed after
//      the last of them; what depends on it until then (a part of the norm) is done behind its end.
//   3. Small collectives that nobody asked to overlap (loss, token counts) move down to where their result is needed.
//   4. A gather into a state, which nobody reads any more, ends with the entry.
//
// Limits instead of a queue: at most so many units are whole and so many packs alive, which is what bounds the peak (FSDP2's rate limit;
// deferring every wait to the end, as a list scheduler would, doubles it). The order of collectives is one list for all ranks, and on each
// group they start and run in that order: nothing waits in a circle.
//
//===----------------------------------------------------------------------===//
#include "shardc/Schedule/Program.h"

#include <deque>

using namespace mlir;

namespace shardc {
namespace {

class Overlapper {
public:
  Overlapper(Program &program, ProgramEntry &entry, const OverlapOptions &options) : program(program), entry(entry), options(options) {}
  void run() {
    sinkSmallCollectives();
    prefetchGathers();
    spreadReductions();
  }

private:
  /// A reduction under way, and what waits for it.
  struct Reduction {
    ProgramCommand command;
    std::vector<ProgramCommand> delayed;
    llvm::SmallDenseSet<int> results; ///< whole buffers that hold what depends on it
    llvm::SmallDenseSet<int> sources; ///< that delayed commands read
  };

  /// A gather of parameters, and what makes its source of states: a cast, a gather over the replicas that share the optimizer's states.
  struct Fetch {
    size_t gather;
    std::optional<size_t> outer, cast;
  };

  int wholeOf(int buffer) const { return program.wholeOf(buffer); }
  bool isState(int buffer) const { return program.buffers[wholeOf(buffer)].kind == BufferKind::State; }
  /// On GPUs there is one staging area: what goes through it completes where it stands.
  bool canOverlap(const ProgramCommand &command) const { return command.canOverlap && (!program.cuda || stagingBytes(program, command) == 0); }
  bool isGather(const ProgramCommand &command) const { return command.kind == CommandKind::AllGather && canOverlap(command); }
  bool isReduction(const ProgramCommand &command) const {
    return (command.kind == CommandKind::ReduceScatter || command.kind == CommandKind::AllReduce) && canOverlap(command);
  }
  ProgramCommand start(ProgramCommand command) {
    command.ticket = tickets++;
    return command;
  }
  ProgramCommand waitFor(const ProgramCommand &command) {
    ProgramCommand wait{CommandKind::Wait};
    wait.buffers = command.buffers;
    wait.ticket = command.ticket;
    wait.layer = command.layer;
    return wait;
  }
  void sinkSmallCollectives();
  std::vector<Fetch> findFetches() const;
  void prefetchGathers();
  size_t earliest(size_t gather, size_t first) const;
  void spreadReductions();
  void openReduction(ProgramCommand command, std::deque<Reduction> &open, std::vector<ProgramCommand> &out);
  void delay(ProgramCommand command, Reduction &behind);
  void retire(std::deque<Reduction> &open, std::vector<ProgramCommand> &out);
  bool dependsOn(const ProgramCommand &command, const Reduction &reduction) const;

  Program &program;
  ProgramEntry &entry;
  const OverlapOptions &options;
  int64_t tickets = 0;
};

} // namespace

/// Numbers per token or for the whole batch (loss, counts) are waited for where they are needed, not where they arise: there they would queue
/// behind a unit's gather.
void Overlapper::sinkSmallCollectives() {
  constexpr int64_t kSmall = 64 << 10;
  std::vector<ProgramCommand> &commands = entry.commands;
  for (size_t n = commands.size(); n-- > 0;) {
    if (!isCommunication(commands[n].kind) || commands[n].canOverlap || program.buffers[commands[n].buffers[1]].bytes > kSmall ||
        isState(commands[n].buffers[0]) || isState(commands[n].buffers[1]))
      continue;
    int source = wholeOf(commands[n].buffers[0]), result = wholeOf(commands[n].buffers[1]);
    size_t to = n + 1;
    auto uses = [&](const ProgramCommand &other) {
      return llvm::any_of(other.buffers, [&](int b) { return wholeOf(b) == result; }) ||
             llvm::any_of(other.writes(), [&](int b) { return wholeOf(b) == source; });
    };
    // Collectives keep their order.
    while (to < commands.size() && !uses(commands[to]) && !(isCommunication(commands[to].kind) && !commands[to].canOverlap))
      ++to;
    std::rotate(commands.begin() + n, commands.begin() + n + 1, commands.begin() + to);
  }
}

/// Not before commands that write what it reads.
size_t Overlapper::earliest(size_t gather, size_t first) const {
  int source = wholeOf(entry.commands[gather].buffers[0]);
  for (size_t n = gather; n > first; --n)
    for (int written : entry.commands[n - 1].writes())
      if (wholeOf(written) == source)
        return n;
  return first;
}

/// Gathers into temporaries, in order.
std::vector<Overlapper::Fetch> Overlapper::findFetches() const {
  const std::vector<ProgramCommand> &commands = entry.commands;
  std::vector<Fetch> fetches;
  for (size_t n = 0; n < commands.size(); ++n) {
    if (!isGather(commands[n]) || isState(commands[n].buffers[1]))
      continue;
    if (n > 0 && !fetches.empty() && fetches.back().gather == n - 1 && commands[n - 1].buffers[1] == commands[n].buffers[0]) {
      fetches.back().outer = n - 1;
      fetches.back().gather = n;
      continue;
    }
    fetches.push_back({n, {}, {}});
    if (n > 0 && commands[n - 1].kind == CommandKind::Launch && commands[n - 1].writes() == ArrayRef<int>(commands[n].buffers[0]) &&
        llvm::all_of(commands[n - 1].reads(), [&](int b) { return isState(b); }))
      fetches.back().cast = n - 1;
  }
  return fetches;
}

void Overlapper::prefetchGathers() {
  const std::vector<ProgramCommand> &commands = entry.commands;
  std::vector<Fetch> fetches = findFetches();
  enum Action { Move, Start, Wait };
  std::vector<SmallVector<std::pair<size_t, Action>>> at(commands.size() + 1); ///< in front of a command
  std::vector<bool> isMoved(commands.size());
  for (size_t k = 0; k < fetches.size(); ++k) {
    const Fetch &fetch = fetches[k];
    size_t depth = commands[fetch.gather].isBackward ? options.backwardPrefetch : options.forwardPrefetch;
    if (depth == 0)
      continue;
    auto behind = [&](size_t before) { return k < before ? 0 : fetches[k - before].gather + 1; };
    // What its source comes from over the replicas is one unit further ahead.
    size_t target = behind(depth), first = fetch.outer ? behind(depth + 1) : target;
    if (fetch.cast)
      at[first].push_back({*fetch.cast, Move});
    else if (!fetch.outer)
      target = earliest(fetch.gather, target);
    else
      first = earliest(*fetch.outer, first);
    if (fetch.outer) {
      target = std::max(target, first);
      at[first].push_back({*fetch.outer, Start});
      at[target].push_back({*fetch.outer, Wait});
    }
    at[target].push_back({fetch.gather, Start});
    for (std::optional<size_t> moved : {fetch.cast, fetch.outer, std::optional<size_t>(fetch.gather)})
      if (moved)
        isMoved[*moved] = true;
  }
  std::vector<ProgramCommand> out;
  llvm::DenseMap<size_t, ProgramCommand> started;
  for (size_t n = 0; n <= commands.size(); ++n) {
    for (auto [moved, action] : at[n])
      if (action == Wait)
        out.push_back(waitFor(started[moved]));
      else
        out.push_back(action == Start ? started[moved] = start(commands[moved]) : commands[moved]);
    if (n == commands.size())
      break;
    if (!isMoved[n])
      out.push_back(commands[n]);
    else if (llvm::any_of(fetches, [&](const Fetch &fetch) { return fetch.gather == n; }))
      out.push_back(waitFor(started[n]));
  }
  entry.commands = std::move(out);
}

bool Overlapper::dependsOn(const ProgramCommand &command, const Reduction &reduction) const {
  auto isResult = [&](int b) { return reduction.results.contains(wholeOf(b)); };
  return llvm::any_of(command.buffers, isResult) ||
         llvm::any_of(command.writes(), [&](int b) { return reduction.sources.contains(wholeOf(b)); });
}

/// Ends the oldest reduction; what waited for it follows, unless it waits for another one too.
void Overlapper::retire(std::deque<Reduction> &open, std::vector<ProgramCommand> &out) {
  Reduction done = std::move(open.front());
  open.pop_front();
  out.push_back(waitFor(done.command));
  for (ProgramCommand &command : done.delayed) {
    if (isReduction(command)) { // over replicas, behind that over shards
      openReduction(std::move(command), open, out);
      continue;
    }
    auto holder = llvm::find_if(llvm::reverse(open), [&](const Reduction &r) { return dependsOn(command, r); });
    if (holder == open.rend())
      out.push_back(std::move(command));
    else
      delay(std::move(command), *holder);
  }
}

void Overlapper::openReduction(ProgramCommand command, std::deque<Reduction> &open, std::vector<ProgramCommand> &out) {
  Reduction reduction;
  reduction.command = start(std::move(command));
  reduction.results.insert(wholeOf(reduction.command.buffers[1]));
  out.push_back(reduction.command);
  open.push_back(std::move(reduction));
}

void Overlapper::delay(ProgramCommand command, Reduction &behind) {
  for (int b : command.writes())
    behind.results.insert(wholeOf(b));
  for (int b : command.reads())
    behind.sources.insert(wholeOf(b));
  behind.delayed.push_back(std::move(command));
}

void Overlapper::spreadReductions() {
  std::vector<ProgramCommand> out, gathers;
  std::deque<Reduction> open;
  size_t rest = llvm::count_if(entry.commands, [&](const ProgramCommand &c) { return isReduction(c); });
  for (ProgramCommand &command : entry.commands) {
    if (isReduction(command) && options.reductions > 0) {
      --rest;
      auto before = llvm::find_if(llvm::reverse(open), [&](const Reduction &r) { return dependsOn(command, r); });
      if (before != open.rend()) {
        delay(std::move(command), *before);
        continue;
      }
      while (static_cast<int64_t>(open.size()) >= options.reductions)
        retire(open, out);
      openReduction(std::move(command), open, out);
      continue;
    }
    if (isGather(command) && command.ticket < 0 && isState(command.buffers[1]) && options.reductions > 0) {
      // Nothing behind it reads the state in this entry: it is made for the next.
      while (llvm::any_of(open, [&](const Reduction &r) { return dependsOn(command, r); }))
        retire(open, out);
      gathers.push_back(start(std::move(command)));
      out.push_back(gathers.back());
      continue;
    }
    Reduction *last = nullptr;
    for (Reduction &reduction : open)
      if (dependsOn(command, reduction))
        last = &reduction;
    if (last && rest > 0 && command.kind == CommandKind::Launch) {
      delay(std::move(command), *last);
      continue;
    }
    while (llvm::any_of(open, [&](const Reduction &r) { return dependsOn(command, r); }))
      retire(open, out);
    out.push_back(std::move(command));
  }
  while (!open.empty())
    retire(open, out);
  for (const ProgramCommand &gather : gathers)
    out.push_back(waitFor(gather));
  entry.commands = std::move(out);
}

void overlapCollectives(Program &program, const OverlapOptions &options) {
  for (ProgramEntry &entry : program.entries)
    Overlapper(program, entry, options).run();
}

} // namespace shardc
