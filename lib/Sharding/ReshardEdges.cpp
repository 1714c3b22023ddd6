//===- ReshardEdges.cpp - What one step can make of a sharding ------------===//
//
// Every function adds the states that one kind of step leads to from a node. Gathers and
// all-to-alls take a suffix of a dimension's axes, slices and reduce-scatters append, as the
// collectives do.
//
//===----------------------------------------------------------------------===//
#include "ReshardSearch.h"

using namespace shardc;
using namespace shardc::reshard;

/// Up to here all subsets and orders of pending atoms are tried.
static constexpr size_t maxPendingSubsets = 4;

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
