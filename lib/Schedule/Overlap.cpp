//===- Overlap.cpp - When collectives start and end -----------------------===//
//
// Input: entries in which every collective completes where it stands. Output: the same commands, in
// which collectives are started and waited for.
//
//   1. Small collectives that nobody asked to overlap (loss, token counts) move down to where their
//      result is needed.
//   2. Pieces of collectives start where they stand (OverlapPieces.cpp).
//   3. Collectives of tensor parallelism start where their source is ready; products that nothing
//      up to there needs (gradients of weights) come behind the start (OverlapTensorParallel.cpp).
//   4. A gather of parameters that FSDP marked (`shard.overlap`) starts so many units ahead, or as
//      late as hides it (OverlapGathers.cpp). It ends where it stood. A gather over replicas that
//      makes its source starts one unit earlier, and ends where this one starts.
//   5. A reduction that FSDP marked starts where it stands. It ends when so many later ones want to
//      start, when by the table of costs it is complete (auto), or where its result is first needed
//      after the last of them; what depends on it until then (a part of the norm) is done behind
//      its end.
//   6. A gather into a state, which nobody reads any more, ends with the entry.
//
// Limits instead of a queue: at most so many units are whole and so many packs alive, which is what
// bounds the peak (FSDP2's rate limit; deferring every wait to the end, as a list scheduler would,
// doubles it). The order of collectives is one list for all ranks, and on each group they start and
// run in that order: nothing waits in a circle.
//
//===----------------------------------------------------------------------===//
#include "Overlap.h"

using namespace mlir;

namespace shardc {

ProgramCommand Overlapper::waitFor(const ProgramCommand &command) {
  ProgramCommand wait{CommandKind::Wait};
  wait.buffers = command.buffers;
  wait.ticket = command.ticket;
  wait.layer = command.layer;
  return wait;
}

void Overlapper::emit(ProgramCommand command) {
  if (timeline)
    estimator.advance(*timeline, command);
  out.push_back(std::move(command));
}

/// Numbers per token or for the whole batch (loss, counts) are waited for where they are needed,
/// not where they arise: there they would queue behind a unit's gather.
void Overlapper::sinkSmallCollectives() {
  constexpr int64_t kSmall = 64 << 10;
  for (size_t n = commands.size(); n-- > 0;) {
    if (!isCommunication(commands[n].kind) || commands[n].canOverlap || commands[n].isPiece ||
        program.buffers[commands[n].buffers[1]].bytes > kSmall || isState(commands[n].buffers[0]) ||
        isState(commands[n].buffers[1]))
      continue;
    int source = wholeOf(commands[n].buffers[0]), result = wholeOf(commands[n].buffers[1]);
    size_t to = n + 1;
    auto uses = [&](const ProgramCommand &other) {
      return llvm::any_of(other.buffers, [&](int b) { return wholeOf(b) == result; }) ||
             llvm::any_of(other.writes(), [&](int b) { return wholeOf(b) == source; });
    };
    // Collectives keep their order.
    while (to < commands.size() && !uses(commands[to]) &&
           !(isCommunication(commands[to].kind) && !commands[to].canOverlap))
      ++to;
    std::rotate(commands.begin() + n, commands.begin() + n + 1, commands.begin() + to);
  }
}

bool Overlapper::dependsOn(const ProgramCommand &command, const Reduction &reduction) const {
  auto isResult = [&](int b) { return reduction.results.contains(wholeOf(b)); };
  return llvm::any_of(command.buffers, isResult) || llvm::any_of(command.writes(), [&](int b) {
           return reduction.sources.contains(wholeOf(b));
         });
}

/// Ends the oldest reduction; what waited for it follows, unless it waits for another one too.
void Overlapper::retire() {
  Reduction done = std::move(open.front());
  open.pop_front();
  emit(waitFor(done.command));
  for (ProgramCommand &command : done.delayed) {
    if (isReduction(command)) { // over replicas, behind that over shards
      openReduction(std::move(command));
      continue;
    }
    auto holder = llvm::find_if(llvm::reverse(open),
                                [&](const Reduction &r) { return dependsOn(command, r); });
    if (holder == open.rend())
      emit(std::move(command));
    else
      delay(std::move(command), *holder);
  }
}

/// Those that by the estimates have ended some time ago: waiting costs nothing, and their packs are
/// free.
void Overlapper::retireEnded() {
  while (timeline && !open.empty()) {
    const ProgramCommand &first = open.front().command;
    if (timeline->endOf(first.ticket) + (kOverlapSlack - 1) * estimator.micros(first) >
        timeline->now())
      break;
    retire();
  }
}

void Overlapper::openReduction(ProgramCommand command) {
  Reduction reduction;
  reduction.command = start(std::move(command));
  reduction.results.insert(wholeOf(reduction.command.buffers[1]));
  emit(reduction.command);
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
  std::vector<ProgramCommand> gathers;
  if (reach.isReductionsAuto)
    timeline.emplace(estimator.target());
  size_t rest = llvm::count_if(commands, [&](const ProgramCommand &c) { return isReduction(c); });
  for (ProgramCommand &command : commands) {
    retireEnded();
    if (isReduction(command) && reach.reductions > 0) {
      --rest;
      auto before = llvm::find_if(llvm::reverse(open),
                                  [&](const Reduction &r) { return dependsOn(command, r); });
      if (before != open.rend()) {
        delay(std::move(command), *before);
        continue;
      }
      while (static_cast<int64_t>(open.size()) >= reach.reductions)
        retire();
      openReduction(std::move(command));
      continue;
    }
    if (isGather(command) && command.ticket < 0 && isState(command.buffers[1]) &&
        reach.reductions > 0) {
      // Nothing behind it reads the state in this entry: it is made for the next.
      while (llvm::any_of(open, [&](const Reduction &r) { return dependsOn(command, r); }))
        retire();
      gathers.push_back(start(std::move(command)));
      emit(gathers.back());
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
      retire();
    emit(std::move(command));
  }
  while (!open.empty())
    retire();
  for (const ProgramCommand &gather : gathers)
    emit(waitFor(gather));
  commands = std::move(out);
}

/// What nothing runs behind any more, because it was delayed, completes where it stands.
void Overlapper::joinIdle() {
  size_t kept = 0;
  for (size_t n = 0; n < commands.size(); ++n) {
    bool isIdle = n + 1 < commands.size() && commands[n].ticket >= 0 &&
                  isCommunication(commands[n].kind) && !commands[n].canOverlap &&
                  commands[n + 1].kind == CommandKind::Wait &&
                  commands[n + 1].ticket == commands[n].ticket;
    if (isIdle)
      commands[n].ticket = -1;
    if (kept != n)
      commands[kept] = std::move(commands[n]);
    ++kept;
    n += isIdle;
  }
  commands.resize(kept, ProgramCommand{CommandKind::Wait});
}

} // namespace shardc
