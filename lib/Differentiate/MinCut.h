//===- MinCut.h - Minimum cut of a small network --------------------------===//

#ifndef SHARDC_LIB_DIFFERENTIATE_MINCUT_H
#define SHARDC_LIB_DIFFERENTIATE_MINCUT_H

#include <cstdint>
#include <limits>
#include <vector>

namespace shardc {

/// Maximum flow by shortest augmenting paths with level graphs (Dinic 1970); plain data.
class FlowNetwork {
public:
  static constexpr int64_t kInfinite = std::numeric_limits<int64_t>::max() / 4;
  static constexpr int kSource = 0, kSink = 1;

  FlowNetwork() : edges(2) {}
  int addNode();
  void addEdge(int from, int to, int64_t capacity);
  enum class Tie { NearSource, NearSink };
  /// Nodes on the source's side of a minimum cut; of equal ones the first or the last.
  std::vector<bool> minimumCut(Tie tie);

private:
  struct Edge {
    int to;
    int64_t capacity; ///< what is left
    int reverse;      ///< index in edges[to]
  };
  bool findLevels();
  int64_t push(int node, int64_t limit);

  std::vector<std::vector<Edge>> edges;
  std::vector<int> level;
  std::vector<size_t> next;
};

} // namespace shardc

#endif // SHARDC_LIB_DIFFERENTIATE_MINCUT_H
