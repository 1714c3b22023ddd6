//===- MinCut.cpp - Minimum cut of a small network ------------------------===//

#include "MinCut.h"

#include <algorithm>
#include <deque>

using namespace shardc;

int FlowNetwork::addNode() {
  edges.emplace_back();
  return static_cast<int>(edges.size()) - 1;
}

void FlowNetwork::addEdge(int from, int to, int64_t capacity) {
  edges[from].push_back({to, capacity, static_cast<int>(edges[to].size())});
  edges[to].push_back({from, 0, static_cast<int>(edges[from].size()) - 1});
}

bool FlowNetwork::findLevels() {
  level.assign(edges.size(), -1);
  level[kSource] = 0;
  std::deque<int> queue = {kSource};
  while (!queue.empty()) {
    int node = queue.front();
    queue.pop_front();
    for (const Edge &edge : edges[node])
      if (edge.capacity > 0 && level[edge.to] < 0) {
        level[edge.to] = level[node] + 1;
        queue.push_back(edge.to);
      }
  }
  return level[kSink] >= 0;
}

int64_t FlowNetwork::push(int node, int64_t limit) {
  if (node == kSink)
    return limit;
  for (size_t &i = next[node]; i < edges[node].size(); ++i) {
    Edge &edge = edges[node][i];
    if (edge.capacity <= 0 || level[edge.to] != level[node] + 1)
      continue;
    if (int64_t flow = push(edge.to, std::min(limit, edge.capacity))) {
      edge.capacity -= flow;
      edges[edge.to][edge.reverse].capacity += flow;
      return flow;
    }
  }
  return 0;
}

std::vector<bool> FlowNetwork::minimumCut(Tie tie) {
  while (findLevels()) {
    next.assign(edges.size(), 0);
    while (push(kSource, kInfinite))
      ;
  }
  std::vector<bool> side(edges.size(), tie == Tie::NearSink);
  if (tie == Tie::NearSource) {
    for (size_t node = 0; node < edges.size(); ++node)
      side[node] = level[node] >= 0;
    return side;
  }
  // What still reaches the sink is on its side.
  std::deque<int> queue = {kSink};
  side[kSink] = false;
  while (!queue.empty()) {
    int node = queue.front();
    queue.pop_front();
    for (const Edge &edge : edges[node])
      if (side[edge.to] && edges[edge.to][edge.reverse].capacity > 0) {
        side[edge.to] = false;
        queue.push_back(edge.to);
      }
  }
  return side;
}
