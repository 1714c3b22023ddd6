//===- ReshardSearch.h - Search over sharding states (internal) -*- C++ -*-===//
//
// Used by the planner only: ReshardSearch.cpp (states and the search), ReshardEdges.cpp (what one
// step can do), and ReshardSteps.cpp (from moves to steps).
//
// A state is kept as short strings (an atom a character), so that hashing and copying it is cheap.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_LIB_SHARDING_RESHARDSEARCH_H
#define SHARDC_LIB_SHARDING_RESHARDSEARCH_H

#include "shardc/Sharding/Reshard.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <unordered_map>

namespace shardc::reshard {

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

/// A* (Dijkstra's algorithm with a lower bound of the rest), from one sharding of one tensor to
/// another.
class Search {
public:
  Search(const Mesh &mesh, const Shape &shape, int64_t elementBytes, const Sharding &from,
         const Sharding &to, const MeshCosts &costs, bool restricted,
         double bound = std::numeric_limits<double>::infinity());

  /// False if there is no route, or too many states on the way.
  bool run();
  double cost() const { return nodes[nodeOf.at(target.key())].cost; }
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
  double restMicros(const State &state) const;
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
  bool restricted; ///< Only gathers, reductions and slices towards the target: few states.
  double bound;    ///< Cost of a known route; dearer states are not kept.
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

} // namespace shardc::reshard

#endif // SHARDC_LIB_SHARDING_RESHARDSEARCH_H
