//===- OverlapGathers.cpp - When gathers of parameters start --------------===//
//
// Input: gathers that complete where they stand. Output: starts further up, waits where they stood.
// What makes a gather's source (a cast of the shard, a gather over replicas) goes with it.
//
//   * By distance: when the gathers of the unit so many units before it have ended; a gather over
//     replicas one unit earlier.
//   * Auto: as late as hides it, but not earlier than that. From the last to the first, a gather
//     has to end when its wait comes or the next gather starts, whichever is earlier, in a step
//     without any waiting; what the link has to do for reductions in the meantime comes on top.
//
//===----------------------------------------------------------------------===//
#include "Overlap.h"

using namespace mlir;

namespace shardc {

/// Not before commands that write what it reads.
size_t Overlapper::earliest(size_t gather, size_t first) const {
  int source = wholeOf(commands[gather].buffers[0]);
  for (size_t n = gather; n > first; --n)
    for (int written : commands[n - 1].writes())
      if (wholeOf(written) == source)
        return n;
  return first;
}

/// Gathers into temporaries, in order.
std::vector<Overlapper::Fetch> Overlapper::findFetches() const {
  std::vector<Fetch> fetches;
  for (size_t n = 0; n < commands.size(); ++n) {
    if (!isGather(commands[n]) || isState(commands[n].buffers[1]))
      continue;
    if (n > 0 && !fetches.empty() && fetches.back().gather == n - 1 &&
        commands[n - 1].buffers[1] == commands[n].buffers[0]) {
      fetches.back().outer = n - 1;
      fetches.back().gather = n;
      continue;
    }
    fetches.push_back({n, {}, {}});
    if (n > 0 && commands[n - 1].kind == CommandKind::Launch &&
        commands[n - 1].writes() == ArrayRef<int>(commands[n].buffers[0]) &&
        llvm::all_of(commands[n - 1].reads(), [&](int b) { return isState(b); }))
      fetches.back().cast = n - 1;
  }
  for (size_t k = 1; k < fetches.size(); ++k) {
    size_t before = fetches[k - 1].gather;
    bool isSameUnit = fetches[k].first() == before + 1 &&
                      commands[fetches[k].gather].isBackward == commands[before].isBackward;
    fetches[k].unit = fetches[k - 1].unit + !isSameUnit;
  }
  return fetches;
}

void Overlapper::findLatestStarts(std::vector<Fetch> &fetches) const {
  llvm::SmallDenseSet<size_t> isFree; // runs behind computation
  for (const Fetch &fetch : fetches) {
    isFree.insert(fetch.gather);
    if (fetch.outer)
      isFree.insert(*fetch.outer);
  }
  Timeline timeline(estimator.target());
  std::vector<double> times;                   // when commands begin
  std::vector<std::pair<double, double>> busy; // the link, with reductions
  llvm::SmallDenseSet<int> reduced;            // whole buffers that hold what depends on one
  size_t rest = llvm::count_if(commands, [&](const ProgramCommand &c) { return isReduction(c); });
  for (auto [n, command] : llvm::enumerate(commands)) {
    times.push_back(timeline.now());
    bool dependsOnReduction = reach.reductions > 0 && llvm::any_of(command.reads(), [&](int b) {
                                return reduced.contains(wholeOf(b));
                              });
    if (isReduction(command) || dependsOnReduction)
      for (int b : command.writes())
        reduced.insert(wholeOf(b));
    rest -= isReduction(command);
    if (dependsOnReduction && rest > 0 && command.kind == CommandKind::Launch)
      continue; // will be delayed: nothing runs behind it here
    if (isReduction(command)) {
      double begin = std::max(timeline.now(), busy.empty() ? 0 : busy.back().second);
      busy.push_back({begin, begin + estimator.micros(command)});
    } else if (!isFree.contains(n)) {
      estimator.advance(timeline, command);
    }
  }
  double next = timeline.now();
  size_t reductions = busy.size();
  // Takes the link for `command`, which has to be complete when command `by` begins, and returns
  // where it has to start.
  auto take = [&](size_t command, size_t by) -> size_t {
    double end = std::min(next, times[by]),
           begin = end - kOverlapSlack * estimator.micros(commands[command]);
    while (reductions > 0 && busy[reductions - 1].first >= end)
      --reductions;
    for (size_t r = reductions; r > 0 && busy[r - 1].second > begin; --r)
      begin -= std::min(end, busy[r - 1].second) - std::max(begin, busy[r - 1].first);
    next = begin;
    size_t after = std::upper_bound(times.begin(), times.begin() + by + 1, begin) - times.begin();
    return after == 0 ? 0 : after - 1;
  };
  for (Fetch &fetch : llvm::reverse(fetches)) {
    fetch.latest = take(fetch.gather, fetch.gather);
    if (fetch.outer)
      fetch.latestOuter = take(*fetch.outer, fetch.latest);
  }
}

void Overlapper::prefetchGathers() {
  std::vector<Fetch> fetches = findFetches();
  if (reach.isForwardAuto || reach.isBackwardAuto)
    findLatestStarts(fetches);
  std::vector<size_t> ends; // the last gather of each unit
  for (const Fetch &fetch : fetches) {
    ends.resize(fetch.unit + 1);
    ends.back() = fetch.gather;
  }
  enum Action { Move, Start, Wait };
  std::vector<SmallVector<std::pair<size_t, Action>>> at(commands.size() +
                                                         1); ///< in front of a command
  std::vector<bool> isMoved(commands.size());
  llvm::SmallDenseSet<size_t> isWaitedFor; // where it stood
  for (const Fetch &fetch : fetches) {
    bool isBackward = commands[fetch.gather].isBackward,
         isAuto = isBackward ? reach.isBackwardAuto : reach.isForwardAuto;
    size_t depth = isBackward ? reach.backward : reach.forward;
    if (depth == 0)
      continue;
    auto behind = [&](size_t units) {
      return fetch.unit < units ? 0 : ends[fetch.unit - units] + 1;
    };
    // What its source comes from over the replicas is one unit further ahead.
    size_t target = behind(depth), first = fetch.outer ? behind(depth + 1) : target;
    if (isAuto) {
      target = std::min(std::max(target, fetch.latest), fetch.first());
      first = fetch.outer ? std::min(std::max(first, fetch.latestOuter), target) : target;
    }
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
    isWaitedFor.insert(fetch.gather);
    for (std::optional<size_t> moved :
         {fetch.cast, fetch.outer, std::optional<size_t>(fetch.gather)})
      if (moved)
        isMoved[*moved] = true;
  }
  std::vector<ProgramCommand> moved;
  llvm::DenseMap<size_t, ProgramCommand> started;
  for (size_t n = 0; n <= commands.size(); ++n) {
    for (auto [other, action] : at[n])
      if (action == Wait)
        moved.push_back(waitFor(started[other]));
      else
        moved.push_back(action == Start ? started[other] = start(commands[other])
                                        : commands[other]);
    if (n == commands.size())
      break;
    if (!isMoved[n])
      moved.push_back(commands[n]);
    else if (isWaitedFor.contains(n))
      moved.push_back(waitFor(started[n]));
  }
  commands = std::move(moved);
}

} // namespace shardc
