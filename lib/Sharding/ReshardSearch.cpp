//===- ReshardSearch.cpp - Sharding states and the search over them -------===//
#include "ReshardSearch.h"

using namespace shardc;
using namespace shardc::reshard;

static constexpr size_t maxStates = 20000;

Search::Search(const Mesh &mesh, const Shape &shape, int64_t elementBytes, const Sharding &from,
               const Sharding &to, const MeshCosts &costs, bool restricted, double bound)
    : mesh(mesh), shape(shape), elementBytes(elementBytes), costs(costs), restricted(restricted),
      bound(bound) {
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

/// At least one more step for what is in the wrong dimension (or pends): with the latency of its
/// axis, whatever the step. Never more than the true rest, and falling by no more than a step
/// costs, as A* needs.
double Search::restMicros(const State &state) const {
  double latency = -1;
  for (size_t i = 0; i < state.lists.size(); ++i)
    for (char atom : state.lists[i])
      if (target.lists[i].find(atom) == std::string::npos)
        latency = std::max(latency, costs.axes[refOf(atom).axis].latencyMicros);
  return latency < 0 ? 0 : costs.stepMicros + latency;
}

void Search::relax(int from, State state, Move move) {
  std::string key = state.key();
  auto known = nodeOf.find(key);
  double least = nodes[from].cost + costs.stepMicros;
  if (known != nodeOf.end() && (nodes[known->second].done || nodes[known->second].cost <= least))
    return;
  ReshardStep step;
  step.kind = move.kind;
  if (move.kind == StepKind::Permute && !move.makesPending)
    move.atoms = movedAtoms(nodes[from].state, state);
  step.axes = decode(move.atoms);
  if (move.kind == StepKind::Permute && !move.makesPending)
    step.pairs = {{0, 1}}; // Not local; the real pairs are made for the chosen route only.
  estimateStep(costs, localBytes(nodes[from].state), localBytes(state), step);
  double cost = nodes[from].cost + step.micros, rest = restMicros(state);
  if (cost + rest > bound)
    return;
  int index = known == nodeOf.end() ? static_cast<int>(nodes.size()) : known->second;
  if (known == nodeOf.end()) {
    nodeOf.emplace(std::move(key), index);
    nodes.push_back({std::move(state), cost, from, std::move(move)});
  } else if (cost < nodes[index].cost) {
    nodes[index].cost = cost;
    nodes[index].previous = from;
    nodes[index].move = std::move(move);
  } else {
    return;
  }
  queue.push({cost + rest, index});
}

bool Search::run() {
  nodes.push_back({start, 0, -1, Move()});
  nodeOf[start.key()] = 0;
  queue.push({0, 0});
  std::string goal = target.key();
  while (!queue.empty() && nodes.size() <= maxStates) {
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
