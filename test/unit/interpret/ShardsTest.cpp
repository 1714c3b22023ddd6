//===- ShardsTest.cpp - Cutting, putting together, rank-order reduction ---===//

#include "shardc/Interpret/Shards.h"
#include "Testing.h"
#include "shardc/Interpret/Random.h"

using namespace shardc;

namespace {

class Shards : public ProgramTest {
protected:
  Mesh mesh{"mesh", {{"dp", 2}, {"tp", 3}}};
  Sharding parsed(const char *text) {
    Result<Sharding> sharding = parseSharding(mesh, text);
    EXPECT_TRUE(sharding) << sharding.error;
    return *sharding;
  }
  DeviceTensors cut(const HostTensor &global, const Sharding &sharding) {
    DeviceTensors parts;
    for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank)
      parts.push_back(takeShard(global, mesh, sharding, rank));
    return parts;
  }
};

TEST_F(Shards, CutAndPutTogetherAreInverse) {
  HostTensor global = randomTensor(f32({5, 7}), 1);
  for (const char *text :
       {"[{}, {}]", "[{tp}, {}]", "[{dp, tp}, {}]", "[{tp}, {dp}]", "[{}, {tp, dp}]"}) {
    Sharding sharding = parsed(text);
    Result<HostTensor> whole = assembleShards(cut(global, sharding), global.type, mesh, sharding);
    ASSERT_TRUE(whole) << text << ": " << whole.error;
    EXPECT_EQ(whole->f, global.f) << text;
  }
}

TEST_F(Shards, PaddingIsZeroAndIgnored) {
  Sharding sharding = parsed("[{tp}]");
  HostTensor global = tensor(f32({4}), {1, 2, 3, 4});
  DeviceTensors parts = cut(global, sharding);
  EXPECT_EQ(parts[1].f, (std::vector<double>{3, 4}));
  EXPECT_EQ(parts[2].f, (std::vector<double>{0, 0}));
  parts[2].f = {7, 7};
  parts[5].f = {8, 8};
  EXPECT_EQ(assembleShards(parts, global.type, mesh, sharding)->f, global.f);
}

TEST_F(Shards, ReplicasMustAgree) {
  Sharding sharding = parsed("[{tp}, {}]");
  HostTensor global = tensor(f32({3, 2}), {1, 2, 3, 4, 5, 6});
  DeviceTensors parts = cut(global, sharding);
  parts[4].f[1] += 0.5;
  EXPECT_NE(assembleShards(parts, global.type, mesh, sharding)
                .error.find("devices 1 and 4 hold different replicas"),
            std::string::npos);
}

TEST_F(Shards, PendingSumsAreResolved) {
  Sharding sharding = parsed("[{tp}] partial=sum{dp}");
  HostTensor global = tensor(f32({3}), {1, 2, 3});
  EXPECT_EQ(assembleShards(cut(global, sharding), global.type, mesh, sharding)->f,
            (std::vector<double>{2, 4, 6}));
}

TEST_F(Shards, HalfPrecisionAccumulatesInSingleAndRoundsOnce) {
  auto f16 = mlir::RankedTensorType::get({1}, mlir::Float16Type::get(&context));
  HostTensor a = tensor(f16, {2048}), one = tensor(f16, {1});
  EXPECT_EQ(shard::reduceInOrder(ReduceKind::Sum, {&a, &one, &one}).f[0], 2050);
  // f32 itself is added in rank order: 2^24 + 1 + 1 stays.
  HostTensor big = tensor(f32({1}), {16777216}), small = tensor(f32({1}), {1});
  EXPECT_EQ(shard::reduceInOrder(ReduceKind::Sum, {&big, &small, &small}).f[0], 16777216);
  EXPECT_EQ(shard::reduceInOrder(ReduceKind::Sum, {&small, &small, &big}).f[0], 16777218);
}

TEST_F(Shards, DifferencesOfNanAndInfinity) {
  double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  HostTensor a = tensor(f32({4}), {1, nan, inf, 2});
  EXPECT_FALSE(largestDifference(a, a));
  HostTensor b = tensor(f32({4}), {1, 0, inf, 2.5});
  EXPECT_EQ(largestDifference(a, b)->at, 1);
  EXPECT_EQ(largestDifference(a, b)->amount, inf);
  EXPECT_EQ(formatIndex({2, 3, 4}, 17), "[1, 1, 1]");
}

} // namespace
