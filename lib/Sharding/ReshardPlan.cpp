//===- ReshardPlan.cpp - Dijkstra over sharding states --------------------===//
//
// 1. Cut the axes of source and target at each other's points ("atoms"); set aside what stays where
// it is.
// 2. Search: a state is, per dimension, the ordered atoms that cut it, and the set of pending
// atoms.
// 3. Turn the moves on the cheapest route into steps, joining consecutive slices and consecutive
// permutes.
//
// A state is kept as one short string (an atom a character), so that hashing and copying it is
// cheap.
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/Reshard.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <queue>
#include <unordered_map>

using namespace shardc;

namespace {

constexpr size_t maxStates = 20000;
/// Up to here all subsets and orders of pending atoms are tried.
constexpr size_t maxPendingSubsets = 4;

/// Atoms as characters; `lists` has one entry a dimension and a last one for pending atoms, sorted.
struct State {
  std::vector<std::string> lists;
  std::optional<ReduceKind> kind; ///< Of the pending reduction, if there is one.

  std::string &pending() { return lists.back(); }
  const std::string &pending() const { return lists.back(); }
  bool uses(char atom) const {
    return std::any_of(lists.begin(), lists.end(), [&](const std::string &list) {
      return list.find(atom) != std::string::npos;
    });
  }
  std::string key() const {
    std::string key(1, kind ? static_cast<char>('0' + static_cast<int>(*kind)) : '-');
    for (const std::string &list : lists)
      key += list + '|';
    return key;
  }
};

struct Move {
  StepKind kind = StepKind::Slice;
  int splitDim = -1, concatDim = -1;
  std::string atoms;
  bool makesPending = false; ///< A permute that turns complete values into terms of a reduction.
};

struct Node {
  State state;
  double cost = 0;
  int previous = -1;
  Move move;
  bool done = false;
};

class Search {
public:
  Search(const Mesh &mesh, const Shape &shape, int64_t elementBytes, const Sharding &from,
         const Sharding &to, const MeshCosts &costs, bool restricted);

  bool run();
  bool exceeded() const { return nodes.size() > maxStates; }
  std::vector<ReshardStep> route() const;

private:
  // Atoms.
  char atomFor(const AxisRef &ref);
  std::string encode(const AxisList &axes);
  AxisList decode(const std::string &atoms) const;
  const AxisRef &refOf(char atom) const { return atoms[atom - 'A']; }
  int64_t product(const std::string &list) const;
  /// May the atom be used, all that overlaps it being free?
  bool isFree(const State &state, char atom) const;
  bool isValid(const State &state) const;

  void prepare(const Sharding &from, const Sharding &to);
  void setAsideCommon(size_t dim, AxisList &from, AxisList &to);

  // Sizes.
  int64_t count(size_t dim, const std::string &list) const;
  int64_t localBytes(const State &state) const;
  bool nests(size_t dim, const std::string &coarse, const std::string &fine) const;

  // Edges.
  void relax(int from, State state, Move move);
  void expand(int node);
  void expandGathers(int node);
  void expandSlices(int node);
  void expandReductions(int node);
  void expandReduction(int node, const std::string &atoms);
  void expandPending(int node);
  void expandSwaps(int node);
  void expandReorders(int node);
  void expandDirectPermute(int node);

  // Steps.
  Sharding shardingOf(const State &state) const;
  ReshardStep makeStep(const State &before, const State &after, const Move &move) const;
  std::vector<AxisList> contentOf(const State &state, const State &other) const;
  std::string pendingCommonFirst(const State &state, const State &other) const;
  std::string movedAtoms(const State &before, const State &after) const;
  void fillPermute(const State &before, const State &after, ReshardStep &step) const;
  ReshardStep makePermute(const State &before, const State &after) const;

  const Mesh &mesh;
  const Shape &shape;
  int64_t elementBytes;
  const MeshCosts &costs;
  bool restricted; ///< Only moves that lead straight to the target.
  AxisList atoms;
  std::vector<AxisList> fixedAxes; ///< Per dimension, and pending: common to source and target.
  std::vector<int64_t> fixedCount;
  std::optional<ReduceKind> fixedKind; ///< Kind of the fixed pending axes.
  State start, target;
  std::vector<Node> nodes;
  std::unordered_map<std::string, int> nodeOf;
  std::priority_queue<std::pair<double, int>, std::vector<std::pair<double, int>>,
                      std::greater<std::pair<double, int>>>
      queue;
};

Search::Search(const Mesh &mesh, const Shape &shape, int64_t elementBytes, const Sharding &from,
               const Sharding &to, const MeshCosts &costs, bool restricted)
    : mesh(mesh), shape(shape), elementBytes(elementBytes), costs(costs), restricted(restricted) {
  prepare(canonical(from), canonical(to));
}

//===----------------------------------------------------------------------===//
// Atoms
//===----------------------------------------------------------------------===//

char Search::atomFor(const AxisRef &ref) {
  auto found = std::find(atoms.begin(), atoms.end(), ref);
  if (found == atoms.end())
    found = atoms.insert(found, ref);
  return static_cast<char>('A' + (found - atoms.begin()));
}

std::string Search::encode(const AxisList &axes) {
  std::string list;
  for (const AxisRef &ref : axes)
    list += atomFor(ref);
  return list;
}

AxisList Search::decode(const std::string &list) const {
  AxisList axes;
  for (char atom : list)
    axes.push_back(refOf(atom));
  return axes;
}

int64_t Search::product(const std::string &list) const {
  int64_t size = 1;
  for (char atom : list)
    size *= refOf(atom).size;
  return size;
}

bool Search::isFree(const State &state, char atom) const {
  for (const std::string &list : state.lists)
    for (char other : list)
      if (overlaps(refOf(atom), refOf(other)))
        return false;
  return true;
}

bool Search::isValid(const State &state) const {
  std::string used;
  for (const std::string &list : state.lists)
    used += list;
  for (size_t i = 0; i < used.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (overlaps(refOf(used[i]), refOf(used[j])))
        return false;
  return true;
}

/// Moves the common prefix into `fixedAxes`, if gathering down to it is sure to be legal.
void Search::setAsideCommon(size_t dim, AxisList &from, AxisList &to) {
  if (shape[dim] % axesSize(from) != 0 || shape[dim] % axesSize(to) != 0)
    return;
  size_t common = 0;
  while (common < from.size() && common < to.size() && from[common] == to[common])
    ++common;
  fixedAxes[dim].assign(from.begin(), from.begin() + common);
  from.erase(from.begin(), from.begin() + common);
  to.erase(to.begin(), to.begin() + common);
}

void Search::prepare(const Sharding &from, const Sharding &to) {
  AxisList all = from.usedAxes();
  for (const AxisRef &ref : to.usedAxes())
    all.push_back(ref);
  size_t rank = shape.size();
  fixedAxes.resize(rank + 1);
  for (size_t d = 0; d < rank; ++d) {
    AxisList source = refineBy(from.dims[d].axes, all), goal = refineBy(to.dims[d].axes, all);
    setAsideCommon(d, source, goal);
    start.lists.push_back(encode(source));
    target.lists.push_back(encode(goal));
    fixedCount.push_back(axesSize(fixedAxes[d]));
  }
  AxisList source = refineBy(from.partialAxes(), all), goal = refineBy(to.partialAxes(), all), left;
  if (from.partialKind() == to.partialKind()) {
    for (const AxisRef &ref : source) {
      auto found = std::find(goal.begin(), goal.end(), ref);
      if (found == goal.end()) {
        left.push_back(ref);
        continue;
      }
      goal.erase(found);
      fixedAxes[rank].push_back(ref);
      fixedKind = from.partialKind();
    }
    source = left;
  }
  start.lists.push_back(encode(source));
  target.lists.push_back(encode(goal));
  for (State *state : {&start, &target})
    std::sort(state->pending().begin(), state->pending().end());
  start.kind = from.partialKind();
  target.kind = to.partialKind();
}

//===----------------------------------------------------------------------===//
// Sizes
//===----------------------------------------------------------------------===//

int64_t Search::count(size_t dim, const std::string &list) const {
  return fixedCount[dim] * product(list);
}

int64_t Search::localBytes(const State &state) const {
  int64_t bytes = elementBytes;
  for (size_t d = 0; d < shape.size(); ++d)
    bytes *= ceilDiv(shape[d], count(d, state.lists[d]));
  return bytes;
}

bool Search::nests(size_t dim, const std::string &coarse, const std::string &fine) const {
  return blocksNest(shape[dim], count(dim, coarse), count(dim, fine));
}

//===----------------------------------------------------------------------===//
// Search
//===----------------------------------------------------------------------===//

void Search::relax(int from, State state, Move move) {
  ReshardStep step;
  step.kind = move.kind;
  if (move.kind == StepKind::Permute && !move.makesPending)
    move.atoms = movedAtoms(nodes[from].state, state);
  step.axes = decode(move.atoms);
  if (move.kind == StepKind::Permute && !move.makesPending)
    step.pairs = {{0, 1}}; // Not local; the real pairs are made for the chosen route only.
  estimateStep(costs, localBytes(nodes[from].state), localBytes(state), step);
  double cost = nodes[from].cost + step.micros;
  auto [entry, isNew] = nodeOf.try_emplace(state.key(), static_cast<int>(nodes.size()));
  if (isNew)
    nodes.push_back({std::move(state), cost, from, std::move(move)});
  else if (nodes[entry->second].done || nodes[entry->second].cost <= cost)
    return;
  Node &node = nodes[entry->second];
  if (!isNew) {
    node.cost = cost;
    node.previous = from;
    node.move = std::move(move);
  }
  queue.push({cost, entry->second});
}

bool Search::run() {
  nodes.push_back({start, 0, -1, Move()});
  nodeOf[start.key()] = 0;
  queue.push({0, 0});
  std::string goal = target.key();
  while (!queue.empty() && !exceeded()) {
    int node = queue.top().second;
    queue.pop();
    if (nodes[node].done)
      continue;
    nodes[node].done = true;
    if (nodes[node].state.key() == goal)
      return true;
    expand(node);
  }
  return false;
}

void Search::expand(int node) {
  expandGathers(node);
  expandSlices(node);
  expandReductions(node);
  expandPending(node);
  if (restricted)
    return;
  expandDirectPermute(node);
  expandSwaps(node);
  expandReorders(node);
}

/// All-gathers of every suffix of a dimension's axes, and all-to-alls of it to every other
/// dimension.
void Search::expandGathers(int node) {
  State state = nodes[node].state;
  size_t rank = shape.size();
  for (size_t d = 0; d < rank; ++d)
    for (size_t keep = 0; keep < state.lists[d].size(); ++keep) {
      std::string rest = state.lists[d].substr(0, keep), moved = state.lists[d].substr(keep);
      if (!nests(d, rest, state.lists[d]))
        continue;
      State gathered = state;
      gathered.lists[d] = rest;
      relax(node, gathered, {StepKind::AllGather, -1, static_cast<int>(d), moved});
      for (size_t s = 0; s < rank && !restricted; ++s) {
        if (s == d || !nests(s, state.lists[s], state.lists[s] + moved))
          continue;
        State exchanged = gathered;
        exchanged.lists[s] += moved;
        relax(node, exchanged,
              {StepKind::AllToAll, static_cast<int>(s), static_cast<int>(d), moved});
      }
    }
}

/// Slices by one atom (on any dimension: cutting early makes later steps smaller), and by runs of
/// atoms that continue a dimension towards the target (on an uneven dimension single cuts may not
/// nest).
void Search::expandSlices(int node) {
  State state = nodes[node].state;
  for (size_t d = 0; d < shape.size(); ++d) {
    const std::string &goal = target.lists[d];
    auto slice = [&](const std::string &moved) {
      if (!nests(d, state.lists[d], state.lists[d] + moved))
        return;
      State sliced = state;
      sliced.lists[d] += moved;
      relax(node, sliced, {StepKind::Slice, static_cast<int>(d), -1, moved});
    };
    bool onWay = goal.compare(0, state.lists[d].size(), state.lists[d]) == 0;
    if (onWay)
      for (size_t end = state.lists[d].size() + 1; end <= goal.size(); ++end) {
        if (!isFree(state, goal[end - 1]))
          break;
        slice(goal.substr(state.lists[d].size(), end - state.lists[d].size()));
      }
    if (restricted)
      continue;
    for (size_t other = 0; other < shape.size(); ++other)
      for (char atom : target.lists[other])
        if (isFree(state, atom))
          slice(std::string(1, atom));
  }
}

/// Does the reduction over `atoms` (a set, in some order): all-reduce, or reduce-scatter onto any
/// dimension.
void Search::expandReduction(int node, const std::string &atoms) {
  State state = nodes[node].state;
  State reduced = state;
  std::string &pending = reduced.pending();
  pending.erase(std::remove_if(pending.begin(), pending.end(),
                               [&](char atom) { return atoms.find(atom) != std::string::npos; }),
                pending.end());
  if (pending.empty() && !fixedKind)
    reduced.kind.reset();
  if (std::is_sorted(atoms.begin(), atoms.end()))
    relax(node, reduced, {StepKind::AllReduce, -1, -1, atoms});
  if (restricted)
    return;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (!nests(d, state.lists[d], state.lists[d] + atoms))
      continue;
    State scattered = reduced;
    scattered.lists[d] += atoms;
    relax(node, scattered, {StepKind::ReduceScatter, static_cast<int>(d), -1, atoms});
  }
}

void Search::expandReductions(int node) {
  State state = nodes[node].state;
  std::string due;
  for (char atom : state.pending())
    if (state.kind != target.kind || target.pending().find(atom) == std::string::npos)
      due += atom;
  if (due.empty())
    return;
  if (due.size() > maxPendingSubsets || restricted) {
    expandReduction(node, due);
    for (size_t i = 0; i < due.size() && !restricted; ++i)
      expandReduction(node, due.substr(i, 1));
    return;
  }
  for (unsigned subset = 1; subset < 1u << due.size(); ++subset) {
    std::string chosen;
    for (size_t i = 0; i < due.size(); ++i)
      if (subset >> i & 1)
        chosen += due[i];
    do
      expandReduction(node, chosen);
    while (std::next_permutation(chosen.begin(), chosen.end()));
  }
}

/// Complete values become terms of a reduction: of a sum, one device's value and zeros; of an
/// extremum, all.
void Search::expandPending(int node) {
  State state = nodes[node].state;
  if (target.kind == ReduceKind::Prod || (state.kind && state.kind != target.kind))
    return;
  std::string free;
  for (char atom : target.pending())
    if (isFree(state, atom))
      free += atom;
  auto makePending = [&](const std::string &atoms) {
    State pending = state;
    pending.kind = target.kind;
    pending.pending() += atoms;
    std::sort(pending.pending().begin(), pending.pending().end());
    Move move{StepKind::Permute, -1, -1, atoms};
    move.makesPending = true;
    relax(node, pending, move);
  };
  for (char atom : free)
    makePending(std::string(1, atom));
  if (free.size() > 1)
    makePending(free);
}

//===----------------------------------------------------------------------===//
// Permutes: any change that keeps the number of parts of every dimension
//===----------------------------------------------------------------------===//

/// Straight to the target, whatever is in between.
void Search::expandDirectPermute(int node) {
  const State &state = nodes[node].state;
  bool same = state.kind == target.kind;
  for (size_t i = 0; i < state.lists.size(); ++i)
    same &= product(state.lists[i]) == product(target.lists[i]);
  if (same)
    relax(node, target, Move{StepKind::Permute});
}

/// Exchanges two atoms of one size, wherever they are; one of them may be unused so far.
void Search::expandSwaps(int node) {
  State state = nodes[node].state;
  for (size_t i = 0; i < atoms.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      char a = static_cast<char>('A' + i), b = static_cast<char>('A' + j);
      bool usesA = state.uses(a), usesB = state.uses(b);
      if (refOf(a).size != refOf(b).size || (!usesA && !usesB))
        continue;
      // An atom that the target does not use is not brought in.
      if ((!usesA && !target.uses(a)) || (!usesB && !target.uses(b)))
        continue;
      State swapped = state;
      for (std::string &list : swapped.lists)
        for (char &atom : list)
          atom = atom == a ? b : atom == b ? a : atom;
      std::sort(swapped.pending().begin(), swapped.pending().end());
      if (swapped.pending() == state.pending() && swapped.lists == state.lists)
        continue;
      if (usesA && usesB ? true : isValid(swapped))
        relax(node, swapped, Move{StepKind::Permute});
    }
}

/// Moves one atom to another place within its dimension, or sorts all of them towards the target.
void Search::expandReorders(int node) {
  State state = nodes[node].state;
  for (size_t d = 0; d < shape.size(); ++d) {
    const std::string &list = state.lists[d], &goal = target.lists[d];
    auto reorder = [&](const std::string &order) {
      if (order == list)
        return;
      State reordered = state;
      reordered.lists[d] = order;
      relax(node, reordered, Move{StepKind::Permute});
    };
    for (size_t i = 0; i < list.size(); ++i)
      for (size_t j = 0; j < list.size(); ++j) {
        std::string order = list;
        order.erase(i, 1);
        order.insert(j, 1, list[i]);
        reorder(order);
      }
    std::string sorted;
    for (char atom : goal)
      if (list.find(atom) != std::string::npos)
        sorted += atom;
    for (char atom : list)
      if (goal.find(atom) == std::string::npos)
        sorted += atom;
    reorder(sorted);
  }
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

Sharding Search::shardingOf(const State &state) const {
  Sharding sharding = Sharding::replicated(shape.size());
  for (size_t i = 0; i < state.lists.size(); ++i) {
    AxisList axes = fixedAxes[i], own = decode(state.lists[i]);
    axes.insert(axes.end(), own.begin(), own.end());
    if (i < shape.size())
      sharding.dims[i].axes = axes;
    else
      for (const AxisRef &ref : axes)
        sharding.partial.push_back({*state.kind, ref});
  }
  return canonical(sharding);
}

/// What a device holds is its index along each of these lists. Pending terms have no order, so
/// those that are pending before and after a permute come first and stay where they are.
std::vector<AxisList> Search::contentOf(const State &state, const State &other) const {
  std::vector<AxisList> content;
  for (size_t d = 0; d < shape.size(); ++d) {
    content.push_back(fixedAxes[d]);
    for (char atom : state.lists[d])
      content.back().push_back(refOf(atom));
  }
  content.push_back(decode(pendingCommonFirst(state, other)));
  return content;
}

std::string Search::pendingCommonFirst(const State &state, const State &other) const {
  std::string common, rest;
  for (char atom : state.pending())
    (other.pending().find(atom) == std::string::npos ? rest : common) += atom;
  return common + rest;
}

/// Atoms whose digit counts differently before and after; those at the same place stay out of the
/// group.
std::string Search::movedAtoms(const State &before, const State &after) const {
  auto placeOf = [&](const State &state, const State &other, char atom) {
    for (size_t i = 0; i < state.lists.size(); ++i) {
      const std::string list = i < shape.size() ? state.lists[i] : pendingCommonFirst(state, other);
      size_t at = list.find(atom);
      if (at != std::string::npos)
        return std::make_pair(static_cast<int>(i), product(list.substr(at + 1)));
    }
    return std::make_pair(-1, int64_t(0));
  };
  std::string moved;
  for (size_t i = 0; i < atoms.size(); ++i) {
    char atom = static_cast<char>('A' + i);
    if (placeOf(before, after, atom) != placeOf(after, before, atom))
      moved += atom;
  }
  return moved;
}

/// Each device of the group receives from one that holds its new data, itself if possible. Devices
/// that hold the same data are as many before and after, so that everybody sends once.
void Search::fillPermute(const State &before, const State &after, ReshardStep &step) const {
  auto indices = [&](const std::vector<AxisList> &content, int64_t rank) {
    std::vector<int64_t> result;
    for (const AxisList &axes : content)
      result.push_back(indexAlong(mesh, axes, rank));
    return result;
  };
  std::vector<AxisList> source = contentOf(before, after), goal = contentOf(after, before);
  std::map<std::vector<int64_t>, std::vector<int64_t>> holders;
  std::vector<int64_t> group = groupOf(mesh, step.axes, 0), waiting;
  for (size_t i = 0; i < group.size(); ++i) {
    if (indices(source, group[i]) == indices(goal, group[i])) {
      step.pairs.push_back({i, i});
    } else {
      holders[indices(source, group[i])].push_back(i);
      waiting.push_back(i);
    }
  }
  for (int64_t i : waiting) {
    std::vector<int64_t> &from = holders[indices(goal, group[i])];
    step.pairs.push_back({from.front(), i});
    from.erase(from.begin());
  }
  std::sort(step.pairs.begin(), step.pairs.end());
}

/// The smallest group that the change concerns.
ReshardStep Search::makePermute(const State &before, const State &after) const {
  ReshardStep step;
  step.kind = StepKind::Permute;
  step.axes = decode(movedAtoms(before, after));
  // Parts of an axis that do not stand in one view of it: take the whole axis.
  AxisList parts = step.axes;
  for (size_t i = 0; i < parts.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (overlaps(parts[i], parts[j]))
        for (AxisRef &ref : step.axes)
          if (ref.axis == parts[i].axis)
            ref = wholeAxis(mesh, ref.axis);
  std::sort(step.axes.begin(), step.axes.end());
  step.axes.erase(std::unique(step.axes.begin(), step.axes.end()), step.axes.end());
  step.axes = canonicalAxes(step.axes);
  fillPermute(before, after, step);
  return step;
}

ReshardStep Search::makeStep(const State &before, const State &after, const Move &move) const {
  ReshardStep step;
  if (move.kind == StepKind::Permute && !move.makesPending) {
    step = makePermute(before, after);
  } else {
    step.kind = move.kind;
    step.splitDim = move.splitDim;
    step.concatDim = move.concatDim;
    step.axes = canonicalAxes(decode(move.atoms));
    if (before.kind)
      step.reduce = *before.kind;
  }
  if (move.makesPending)
    for (int64_t i = 0; i < (after.kind == ReduceKind::Sum ? 1 : axesSize(step.axes)); ++i)
      step.pairs.push_back({i, i});
  step.result = shardingOf(after);
  estimateStep(costs, localBytes(before), localBytes(after), step);
  return step;
}

std::vector<ReshardStep> Search::route() const {
  std::vector<int> path;
  for (int node = nodeOf.at(target.key()); node >= 0; node = nodes[node].previous)
    path.insert(path.begin(), node);
  std::vector<ReshardStep> steps;
  for (size_t i = 1; i < path.size(); ++i) {
    size_t first = i;
    Move move = nodes[path[i]].move;
    auto joins = [&](const Move &next) {
      return next.kind == move.kind && next.splitDim == move.splitDim &&
             (move.kind == StepKind::Slice || move.kind == StepKind::Permute) &&
             !next.makesPending && !move.makesPending;
    };
    while (i + 1 < path.size() && joins(nodes[path[i + 1]].move))
      move.atoms += nodes[path[++i]].move.atoms;
    steps.push_back(makeStep(nodes[path[first - 1]].state, nodes[path[i]].state, move));
  }
  return steps;
}

} // namespace

//===----------------------------------------------------------------------===//
// Interface
//===----------------------------------------------------------------------===//

static Error verifyRequest(const Mesh &mesh, const Shape &shape, int64_t elementBytes,
                           const Sharding &from, const Sharding &to, const MeshCosts &costs) {
  if (Error error = mesh.verify())
    return error;
  if (costs.axes.size() != mesh.axes.size())
    return "costs are given for " + std::to_string(costs.axes.size()) + " axes, mesh \"" +
           mesh.name + "\" has " + std::to_string(mesh.axes.size());
  for (size_t i = 0; i < costs.axes.size(); ++i)
    if (!(costs.axes[i].gigabytesPerSecond > 0) || !(costs.axes[i].latencyMicros >= 0))
      return "axis \"" + mesh.axes[i].name +
             "\" needs a positive bandwidth and a latency of at least 0";
  if (!(costs.localGigabytesPerSecond > 0) || !(costs.stepMicros >= 0))
    return std::string("local bandwidth must be positive and step overhead at least 0");
  if (elementBytes < 1)
    return "element size is " + std::to_string(elementBytes) + " bytes, expected at least 1";
  if (Error error = verify(mesh, from, shape))
    return "source sharding: " + *error;
  if (Error error = verify(mesh, to, shape))
    return "target sharding: " + *error;
  return std::nullopt;
}

Result<ReshardPlan> shardc::planReshard(const Mesh &mesh, const Shape &shape, int64_t elementBytes,
                                        const Sharding &from, const Sharding &to,
                                        const MeshCosts &costs) {
  if (Error error = verifyRequest(mesh, shape, elementBytes, from, to, costs))
    return Result<ReshardPlan>::failure(*error);
  ReshardPlan plan;
  if (sameLayout(from, to))
    return plan;
  for (bool restricted : {false, true}) {
    Search search(mesh, shape, elementBytes, from, to, costs, restricted);
    if (search.run()) {
      plan.steps = search.route();
      return plan;
    }
    if (!search.exceeded())
      break;
  }
  return Result<ReshardPlan>::failure("no way from " + str(mesh, from) + " to " + str(mesh, to) +
                                      ": a pending product cannot be made from complete values");
}

struct ReshardPlanner::Memo {
  std::mutex mutex;
  std::unordered_map<std::string, Result<ReshardPlan>> plans;
};

ReshardPlanner::ReshardPlanner(Mesh mesh, MeshCosts costs)
    : mesh(std::move(mesh)), costs(std::move(costs)), memo(std::make_unique<Memo>()) {}
ReshardPlanner::~ReshardPlanner() = default;

static void appendKey(std::string &key, const Sharding &sharding) {
  auto append = [&](const AxisList &axes) {
    for (const AxisRef &ref : axes)
      for (int64_t number : {int64_t(ref.axis), ref.pre, ref.size})
        key += std::to_string(number) + ",";
    key += ';';
  };
  for (const DimSharding &dim : sharding.dims)
    append(dim.axes);
  for (const auto &entry : sharding.partial)
    key += str(entry.first);
  append(sharding.partialAxes());
  key += '/';
}

const Result<ReshardPlan> &ReshardPlanner::plan(const Shape &shape, int64_t elementBytes,
                                                const Sharding &from, const Sharding &to) {
  std::string key = std::to_string(elementBytes) + ":";
  for (int64_t size : shape)
    key += std::to_string(size) + "x";
  appendKey(key, from);
  appendKey(key, to);
  std::lock_guard<std::mutex> lock(memo->mutex);
  auto found = memo->plans.find(key);
  if (found == memo->plans.end())
    found = memo->plans.emplace(key, planReshard(mesh, shape, elementBytes, from, to, costs)).first;
  return found->second;
}
