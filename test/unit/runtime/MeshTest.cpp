// Sub-axes, groups and slices.
#include "runtime/core/Mesh.h"

#include <gtest/gtest.h>

using namespace shardrt;

namespace {

const Mesh square{{{"dp", 2}, {"tp", 4}}};

TEST(Mesh, GroupsAreOrderedByTheirSubAxes) {
  EXPECT_EQ(square.ranks(), 8);
  EXPECT_EQ(square.group(5, {{1, 1, 4}}), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(square.group(5, {{0, 1, 2}}), (std::vector<int>{1, 5}));
  EXPECT_EQ(square.group(5, {{1, 1, 2}}), (std::vector<int>{5, 7})); // the major half of tp
  EXPECT_EQ(square.group(5, {{1, 2, 2}}), (std::vector<int>{4, 5})); // the minor half
  EXPECT_EQ(square.group(5, {{1, 2, 2}, {0, 1, 2}}), (std::vector<int>{0, 4, 1, 5}));
  EXPECT_EQ(square.group(5, {}), (std::vector<int>{5}));
}

TEST(Mesh, IndexAlongIsThePlaceInTheGroup) {
  for (int rank = 0; rank < 8; ++rank)
    for (const SubAxes &axes :
         {SubAxes{{1, 1, 2}}, SubAxes{{1, 2, 2}, {0, 1, 2}}, SubAxes{{0, 1, 2}, {1, 1, 4}}})
      EXPECT_EQ(square.group(rank, axes)[square.indexAlong(rank, axes)], rank);
}

TEST(Mesh, OverlappingSubAxes) {
  EXPECT_TRUE(overlap({0, 1, 4}, {0, 2, 2}));
  EXPECT_TRUE(overlap({0, 2, 2}, {0, 2, 2}));
  EXPECT_FALSE(overlap({0, 1, 2}, {0, 2, 2}));
  EXPECT_FALSE(overlap({0, 1, 2}, {1, 1, 2}));
  EXPECT_FALSE(overlap({0, 1, 1}, {0, 1, 4}));
}

TEST(Mesh, UnevenSlicesArePaddedAndCoverTheTensor) {
  Sharding sharding = {{{0, 1, 2}}, {{1, 1, 4}}};
  Shape global = {3, 6};
  EXPECT_EQ(localShape(global, sharding), (Shape{2, 2}));
  std::vector<float> whole(18), back(18);
  for (int i = 0; i < 18; ++i)
    whole[i] = static_cast<float>(i + 1);
  for (int rank = 0; rank < 8; ++rank) {
    Slices slices = slicesOf(square, rank, global, sharding);
    std::vector<float> local(4, -1);
    copyToLocal(slices, rowMajorStrides(global), 4, reinterpret_cast<std::byte *>(whole.data()),
                reinterpret_cast<std::byte *>(local.data()));
    if (rank == 7) { // row 2 of 3, columns beyond 6
      EXPECT_EQ(local, (std::vector<float>{0, 0, 0, 0}));
    }
    if (rank == 6) { // row 2, columns 4 and 5; no row 3
      EXPECT_EQ(local, (std::vector<float>{17, 18, 0, 0}));
    }
    copyToGlobal(slices, rowMajorStrides(global), 4, reinterpret_cast<std::byte *>(local.data()),
                 reinterpret_cast<std::byte *>(back.data()));
  }
  EXPECT_EQ(back, whole);
}

TEST(Mesh, ScalarsHaveOneElement) {
  double value = 3, local = 0;
  copyToLocal({}, {}, 8, reinterpret_cast<std::byte *>(&value),
              reinterpret_cast<std::byte *>(&local));
  EXPECT_EQ(local, 3);
}

} // namespace
