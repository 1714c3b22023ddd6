//===- ReshardSteps.cpp - From moves on the cheapest route to steps -------===//
#include "ReshardSearch.h"

#include <map>

using namespace shardc;
using namespace shardc::reshard;

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
