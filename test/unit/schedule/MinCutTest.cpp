//===- MinCutTest.cpp - The smallest cut, against all cuts ----------------===//
#include "lib/Differentiate/MinCut.h"
#include <gtest/gtest.h>
#include <random>

namespace shardc {
namespace {

constexpr int kSource = FlowNetwork::kSource, kSink = FlowNetwork::kSink;
using Edges = std::vector<std::array<int64_t, 3>>;

int64_t weight(const Edges &edges, const std::vector<bool> &side) {
  int64_t sum = 0;
  for (auto [from, to, capacity] : edges)
    if (side[from] && !side[to])
      sum += capacity;
  return sum;
}

TEST(MinCut, SmallestOfAllCuts) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    FlowNetwork network;
    int nodes = 2 + static_cast<int>(random() % 6);
    for (int n = 2; n < nodes; ++n)
      network.addNode();
    Edges edges;
    for (int n = 0; n < 3 * nodes; ++n) {
      int from = static_cast<int>(random() % nodes), to = static_cast<int>(random() % nodes);
      int64_t capacity = random() % 9;
      if (from == to || from == kSink || to == kSource)
        continue;
      edges.push_back({from, to, capacity});
      network.addEdge(from, to, capacity);
    }
    int64_t best = INT64_MAX;
    for (int bits = 0; bits < 1 << nodes; ++bits) {
      std::vector<bool> side(nodes);
      for (int n = 0; n < nodes; ++n)
        side[n] = bits >> n & 1;
      if (side[kSource] && !side[kSink])
        best = std::min(best, weight(edges, side));
    }
    for (FlowNetwork::Tie tie : {FlowNetwork::Tie::NearSource, FlowNetwork::Tie::NearSink}) {
      FlowNetwork copy = network;
      std::vector<bool> side = copy.minimumCut(tie);
      ASSERT_TRUE(side[kSource] && !side[kSink]);
      ASSERT_EQ(weight(edges, side), best) << "round " << round;
    }
  }
}

TEST(MinCut, OfEqualCutsTheFirstOrTheLast) {
  FlowNetwork network;
  int a = network.addNode(), b = network.addNode();
  network.addEdge(kSource, a, 2);
  network.addEdge(a, b, 2);
  network.addEdge(b, kSink, 2);
  FlowNetwork other = network;
  EXPECT_EQ(network.minimumCut(FlowNetwork::Tie::NearSource),
            (std::vector<bool>{true, false, false, false}));
  EXPECT_EQ(other.minimumCut(FlowNetwork::Tie::NearSink),
            (std::vector<bool>{true, false, true, true}));
}

TEST(MinCut, NothingBetweenIsNothingToCut) {
  FlowNetwork network;
  int a = network.addNode();
  network.addEdge(kSource, a, 5);
  std::vector<bool> side = network.minimumCut(FlowNetwork::Tie::NearSource);
  EXPECT_TRUE(side[a]);
  EXPECT_FALSE(side[kSink]);
}

} // namespace
} // namespace shardc
