//===- ShardingTest.cpp - Meshes, sub-axes, shardings ---------------------===//
#include "shardc/Sharding/Sharding.h"

#include <gtest/gtest.h>

#include <numeric>

using namespace shardc;

namespace {

const Mesh mesh{"mesh", {{"dp", 4}, {"tp", 2}}};

Sharding parse(const char *text) {
  Result<Sharding> sharding = parseSharding(mesh, text);
  EXPECT_TRUE(sharding) << sharding.error;
  return sharding ? *sharding : Sharding();
}

TEST(Mesh, RanksAreRowMajor) {
  EXPECT_EQ(mesh.deviceCount(), 8);
  EXPECT_EQ(mesh.coordinates(5), (std::vector<int64_t>{2, 1}));
  for (int64_t rank = 0; rank < 8; ++rank)
    EXPECT_EQ(mesh.rankOf(mesh.coordinates(rank)), rank);
  EXPECT_EQ(mesh.str(), "@mesh[\"dp\"=4, \"tp\"=2]");
}

TEST(Mesh, Verify) {
  EXPECT_FALSE(mesh.verify());
  EXPECT_EQ(*Mesh({"m", {{"a", 2}, {"a", 2}}}).verify(), "mesh \"m\" has two axes named \"a\"");
  EXPECT_EQ(*Mesh({"m", {{"a", 0}}}).verify(), "axis \"a\" has size 0, expected at least 1");
  EXPECT_EQ(*Mesh({"m", {{"a", 65536}, {"b", 65536}}}).verify(),
            "mesh \"m\" has more than 2147483647 devices");
}

TEST(AxisRef, OverlapNeedsOneMixedRadixView) {
  EXPECT_TRUE(overlaps(AxisRef{0, 1, 4}, AxisRef{0, 2, 2}));
  EXPECT_FALSE(overlaps(AxisRef{0, 1, 2}, AxisRef{0, 2, 2}));
  EXPECT_FALSE(overlaps(AxisRef{0, 1, 2}, AxisRef{1, 1, 2}));
  EXPECT_TRUE(overlaps(AxisRef{0, 1, 2}, AxisRef{0, 3, 2}));
}

TEST(AxisRef, MergeSplitIntersect) {
  EXPECT_EQ(*mergeAdjacent({0, 1, 2}, {0, 2, 2}), (AxisRef{0, 1, 4}));
  EXPECT_FALSE(mergeAdjacent({0, 2, 2}, {0, 1, 2}));
  auto parts = splitAxis({0, 1, 4}, 2);
  EXPECT_EQ(parts->first, (AxisRef{0, 1, 2}));
  EXPECT_EQ(parts->second, (AxisRef{0, 2, 2}));
  EXPECT_FALSE(splitAxis({0, 1, 4}, 3));
  EXPECT_EQ(*intersect({0, 1, 4}, {0, 2, 2}), (AxisRef{0, 2, 2}));
  EXPECT_FALSE(intersect({0, 1, 2}, {0, 1, 3}));
  EXPECT_FALSE(intersect({0, 1, 2}, {0, 2, 2}));
}

TEST(AxisRef, PrefixesSeeThroughSubAxes) {
  AxisRef whole{0, 1, 4}, major{0, 1, 2}, minor{0, 2, 2}, tp{1, 1, 2};
  EXPECT_EQ(commonPrefix({whole}, {major, tp}), (AxisList{major}));
  EXPECT_EQ(commonPrefix({whole, tp}, {major, minor, tp}), (AxisList{whole, tp}));
  EXPECT_EQ(commonPrefix({minor}, {whole}), AxisList());
  EXPECT_EQ(*dropPrefix({whole, tp}, {major}), (AxisList{minor, tp}));
  EXPECT_FALSE(dropPrefix({major}, {whole}));
  EXPECT_EQ(refineBy({whole, tp}, {minor}), (AxisList{major, minor, tp}));
}

TEST(Sharding, TextRoundTrips) {
  for (const char *text : {"[]", "[{}]", "[{tp}, {dp:(1)2, ?}p1] partial=sum{dp:(2)2}",
                           "[{?}, {dp, tp}]", "[{}] partial=max{dp, tp}"})
    EXPECT_EQ(str(mesh, parse(text)), text);
}

TEST(Sharding, ParseErrors) {
  auto error = [](const char *text) { return parseSharding(mesh, text).error; };
  EXPECT_EQ(error("[{x}]"), "mesh \"mesh\" has no axis \"x\" at character 3 of \"[{x}]\"");
  EXPECT_EQ(error("[{tp}"), "expected ',' at character 5 of \"[{tp}\"");
  EXPECT_EQ(error("[{dp:(2)4}]"),
            "sub-axis \"dp\":(2)4 does not divide axis \"dp\" of size 4, in dimension 0");
  EXPECT_EQ(error("[{dp}, {dp:(2)2}]"), "axis dp:(2)2 in dimension 1 overlaps dp in dimension 0");
  EXPECT_EQ(error("[{tp}] partial=sum{tp}"),
            "axis tp in the pending reduction overlaps tp in dimension 0");
  EXPECT_EQ(error("[{}] partial=mean{tp}"), "expected sum, max, min or prod, found \"mean\" at "
                                            "character 17 of \"[{}] partial=mean{tp}\"");
  EXPECT_NE(error("[{dp:(99999999999)1}]"), "");
  EXPECT_NE(error(""), "");
}

TEST(Sharding, VerifyAgainstShape) {
  EXPECT_EQ(*verify(mesh, parse("[{tp}]"), {4, 4}), "sharding has 1 dimensions, the tensor has 2");
  EXPECT_EQ(*verify(mesh, parse("[{tp}]"), {-1}), "dimension 0 has size -1, expected at least 0");
  EXPECT_FALSE(verify(mesh, parse("[{tp}]"), {5}));
  Sharding mixed = parse("[]");
  mixed.partial = {{ReduceKind::Sum, {0, 1, 4}}, {ReduceKind::Max, {1, 1, 2}}};
  EXPECT_EQ(*verify(mesh, mixed), "pending reductions of two kinds, sum and max, do not commute");
}

TEST(Sharding, CanonicalFormDecidesLayout) {
  EXPECT_TRUE(sameLayout(parse("[{dp:(1)2, dp:(2)2}]"), parse("[{dp, ?}p2]")));
  EXPECT_FALSE(sameLayout(parse("[{dp:(2)2, dp:(1)2}]"), parse("[{dp}]")));
  EXPECT_TRUE(
      sameLayout(parse("[] partial=sum{tp, dp:(2)2, dp:(1)2}"), parse("[] partial=sum{dp, tp}")));
  EXPECT_FALSE(sameLayout(parse("[] partial=sum{dp}"), parse("[] partial=max{dp}")));
}

TEST(Sharding, LocalShapeAndRanges) {
  Sharding sharding = parse("[{tp, dp:(1)2}, {dp:(2)2}]");
  Shape shape{5, 8};
  EXPECT_EQ(localShape(sharding, shape), (Shape{2, 4}));
  // Rank 6 = dp 3 (major digit 1, minor digit 1), tp 0: rows of block 1, columns of block 1.
  EXPECT_EQ(globalRange(mesh, sharding, shape, 6), (std::vector<Range>{{2, 4}, {4, 8}}));
  // Rank 7: block 3 of rows begins behind the end.
  EXPECT_EQ(globalRange(mesh, sharding, shape, 7)[0], (Range{5, 5}));
}

TEST(Sharding, GroupsAreOrderedFirstListedMajor) {
  AxisRef dp{0, 1, 4}, tp{1, 1, 2};
  EXPECT_EQ(groupOf(mesh, {tp}, 5), (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(groupOf(mesh, {{0, 1, 2}}, 7), (std::vector<int64_t>{3, 7}));
  EXPECT_EQ(groupOf(mesh, {tp, dp}, 3), (std::vector<int64_t>{0, 2, 4, 6, 1, 3, 5, 7}));
  EXPECT_EQ(groupsAlong(mesh, {dp}),
            (std::vector<std::vector<int64_t>>{{0, 2, 4, 6}, {1, 3, 5, 7}}));
  for (const auto &group : groupsAlong(mesh, {{0, 2, 2}, tp}))
    for (size_t i = 0; i < group.size(); ++i)
      EXPECT_EQ(indexAlong(mesh, {{0, 2, 2}, tp}, group[i]), static_cast<int64_t>(i));
}

TEST(Sharding, ExtractLocalPadsUnevenBlocks) {
  std::vector<int> global(5);
  std::iota(global.begin(), global.end(), 0);
  EXPECT_EQ(extractLocal(mesh, parse("[{tp}]"), {5}, global, 1, -1), (std::vector<int>{3, 4, -1}));
}

TEST(Sharding, BlocksNest) {
  EXPECT_TRUE(blocksNest(8, 2, 4));
  EXPECT_FALSE(blocksNest(5, 2, 4));
  EXPECT_TRUE(blocksNest(5, 1, 4));
  EXPECT_TRUE(blocksNest(7, 2, 4)); // Blocks of 4 are two of 2.
  EXPECT_TRUE(blocksNest(1, 2, 4));
  EXPECT_TRUE(blocksNest(0, 2, 4));
}

} // namespace
