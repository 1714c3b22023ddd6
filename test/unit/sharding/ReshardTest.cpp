//===- ReshardTest.cpp - Plans, executed on all devices -------------------===//
//
// Brute force: every pair of shardings (sub-axes, orders, pending reductions) of small tensors on
// small meshes; the plan is executed and compared with cutting the global data directly. Padding is
// NaN, so that a value that comes from padding shows.
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/Reshard.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <numeric>

using namespace shardc;

namespace {

Mesh makeMesh(const std::vector<int64_t> &sizes) {
  Mesh mesh{"mesh", {}};
  for (size_t i = 0; i < sizes.size(); ++i)
    mesh.axes.push_back({std::string(1, static_cast<char>('a' + i)), sizes[i]});
  return mesh;
}

/// Axes of size 4 in two halves, others whole.
AxisList smallestParts(const Mesh &mesh) {
  AxisList parts;
  for (size_t i = 0; i < mesh.axes.size(); ++i) {
    AxisRef whole = wholeAxis(mesh, static_cast<int>(i));
    if (whole.size % 2 == 0 && whole.size > 2) {
      auto halves = splitAxis(whole, 2);
      parts.push_back(halves->first);
      parts.push_back(halves->second);
    } else {
      parts.push_back(whole);
    }
  }
  return parts;
}

/// Places part `next` and all later ones: nowhere, pending, or anywhere in any dimension's list.
void enumerate(const AxisList &parts, size_t next, ReduceKind kind, Sharding &current,
               std::vector<Sharding> &out) {
  if (next == parts.size()) {
    out.push_back(canonical(current));
    return;
  }
  enumerate(parts, next + 1, kind, current, out);
  current.partial.push_back({kind, parts[next]});
  enumerate(parts, next + 1, kind, current, out);
  current.partial.pop_back();
  for (DimSharding &dim : current.dims)
    for (size_t at = 0; at <= dim.axes.size(); ++at) {
      dim.axes.insert(dim.axes.begin() + at, parts[next]);
      enumerate(parts, next + 1, kind, current, out);
      dim.axes.erase(dim.axes.begin() + at);
    }
}

std::vector<Sharding> allShardings(const Mesh &mesh, size_t rank, ReduceKind kind) {
  Sharding empty = Sharding::replicated(rank);
  std::vector<Sharding> out;
  enumerate(smallestParts(mesh), 0, kind, empty, out);
  return out;
}

double combine(ReduceKind kind, double a, double b) {
  switch (kind) {
  case ReduceKind::Sum:
    return a + b;
  case ReduceKind::Max:
    return std::max(a, b);
  case ReduceKind::Min:
    return std::min(a, b);
  case ReduceKind::Prod:
    break;
  }
  return a * b;
}

/// The term that device `index` of `count` holds of `value`; all operations on them are exact.
double termOf(ReduceKind kind, double value, int64_t index, int64_t count) {
  if (std::isnan(value)) // Padding.
    return value;
  bool last = index + 1 == count;
  switch (kind) {
  case ReduceKind::Sum:
    return last ? value - 3.0 * index * (index + 1) / 2 : 3.0 * (index + 1);
  case ReduceKind::Max:
    return index == static_cast<int64_t>(value) % count ? value : value - 1 - index;
  case ReduceKind::Min:
    return index == static_cast<int64_t>(value) % count ? value : value + 1 + index;
  case ReduceKind::Prod:
    break;
  }
  return last ? value / std::pow(2.0, index) : 2;
}

std::vector<double> globalData(const Shape &shape) {
  std::vector<double> data(elementCount(shape));
  std::iota(data.begin(), data.end(), 1);
  return data;
}

DeviceBuffers scatter(const Mesh &mesh, const Shape &shape, const Sharding &sharding) {
  DeviceBuffers buffers;
  AxisList pending = sharding.partialAxes();
  for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank) {
    buffers.push_back(extractLocal(mesh, sharding, shape, globalData(shape), rank, std::nan("")));
    if (!pending.empty())
      for (double &value : buffers.back())
        value = termOf(*sharding.partialKind(), value, indexAlong(mesh, pending, rank),
                       axesSize(pending));
  }
  return buffers;
}

/// Does every device hold its part (after the pending reduction)? Padding does not matter.
bool holds(const Mesh &mesh, const Shape &shape, const Sharding &sharding,
           const DeviceBuffers &buffers) {
  for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank) {
    std::vector<int64_t> group = groupOf(mesh, sharding.partialAxes(), rank);
    std::vector<double> expected =
        extractLocal(mesh, sharding, shape, globalData(shape), rank, std::nan(""));
    for (size_t i = 0; i < expected.size(); ++i) {
      if (std::isnan(expected[i]))
        continue;
      double value = buffers[group[0]][i];
      for (size_t g = 1; g < group.size(); ++g)
        value = combine(*sharding.partialKind(), value, buffers[group[g]][i]);
      if (value != expected[i])
        return false;
    }
  }
  return true;
}

/// All-reduce, gather every dimension, make pending what shall be, slice every dimension.
double naiveMicros(const Mesh &mesh, const Shape &shape, const Sharding &from, const Sharding &to,
                   const MeshCosts &costs) {
  double micros = 0;
  Sharding now = from;
  auto add = [&](StepKind kind, const AxisList &axes, const Sharding &next, bool local = false) {
    if (axes.empty())
      return;
    ReshardStep step;
    step.kind = kind;
    step.axes = axes;
    if (!local)
      step.pairs = {{0, 1}};
    estimateStep(costs, 4 * elementCount(localShape(now, shape)),
                 4 * elementCount(localShape(next, shape)), step);
    micros += step.micros;
    now = next;
  };
  Sharding next = now;
  next.partial.clear();
  add(StepKind::AllReduce, from.partialAxes(), next);
  for (size_t d = 0; d < shape.size(); ++d) {
    next.dims[d].axes.clear();
    add(StepKind::AllGather, from.dims[d].axes, next);
  }
  add(StepKind::Permute, to.partialAxes(), next, true);
  for (size_t d = 0; d < shape.size(); ++d) {
    next.dims[d] = to.dims[d];
    add(StepKind::Slice, to.dims[d].axes, next);
  }
  return micros;
}

struct Statistics {
  int64_t plans = 0;
  double micros = 0, slowest = 0;
};

void check(const Mesh &mesh, const Shape &shape, const Sharding &from, const Sharding &to,
           const MeshCosts &costs, Statistics &statistics) {
  std::string what = mesh.str() + " " + str(mesh, from) + " -> " + str(mesh, to) + " of";
  for (int64_t size : shape)
    what += " " + std::to_string(size);
  auto begin = std::chrono::steady_clock::now();
  Result<ReshardPlan> plan = planReshard(mesh, shape, 4, from, to, costs);
  double took =
      std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  statistics.plans += 1;
  statistics.micros += took;
  statistics.slowest = std::max(statistics.slowest, took);
  ASSERT_TRUE(plan) << what << ": " << plan.error;
  what += "\n" + str(mesh, *plan);
  const Sharding &last = plan->steps.empty() ? from : plan->steps.back().result;
  ASSERT_TRUE(sameLayout(last, to)) << what;
  for (const ReshardStep &step : plan->steps)
    ASSERT_FALSE(verify(mesh, step.result, shape)) << what;
  auto result = executeSteps(mesh, shape, from, plan->steps, scatter(mesh, shape, from));
  ASSERT_TRUE(result) << what << result.error;
  ASSERT_TRUE(holds(mesh, shape, to, *result)) << what;
  ASSERT_LE(plan->micros(), naiveMicros(mesh, shape, from, to, costs) + 1e-9) << what;
}

MeshCosts unequalCosts(const Mesh &mesh) {
  MeshCosts costs = MeshCosts::uniform(mesh);
  for (size_t i = 0; i < costs.axes.size(); ++i)
    costs.axes[i] = {10.0 * (i + 1), 5.0 / (i + 1)};
  return costs;
}

/// Every `stride`-th pair.
void checkPairs(const std::vector<int64_t> &sizes, const std::vector<Shape> &shapes, size_t stride,
                const MeshCosts *given = nullptr) {
  Mesh mesh = makeMesh(sizes);
  MeshCosts costs = given ? *given : unequalCosts(mesh);
  Statistics statistics;
  for (const Shape &shape : shapes) {
    std::vector<Sharding> shardings = allShardings(mesh, shape.size(), ReduceKind::Sum);
    size_t pairs = shardings.size() * shardings.size();
    for (size_t pair = 0; pair < pairs; pair += stride) {
      check(mesh, shape, shardings[pair / shardings.size()], shardings[pair % shardings.size()],
            costs, statistics);
      if (testing::Test::HasFatalFailure())
        return;
    }
  }
  std::printf("  %s: %lld plans, %.0f us on average, %.0f us at most\n", mesh.str().c_str(),
              static_cast<long long>(statistics.plans), statistics.micros / statistics.plans,
              statistics.slowest);
}

const std::vector<Shape> shapes1D = {{5}, {6}, {7}, {8}, {12}, {1}, {0}};
const std::vector<Shape> shapes2D = {{8, 12}, {5, 6}, {7, 8}, {12, 5}};

TEST(ReshardBruteForce, OneAxis) {
  for (int64_t size : {2, 3, 4}) {
    checkPairs({size}, shapes1D, 1);
    checkPairs({size}, shapes2D, 1);
  }
}

TEST(ReshardBruteForce, TwoAxes) {
  for (std::vector<int64_t> sizes : {std::vector<int64_t>{2, 2}, {2, 3}}) {
    checkPairs(sizes, shapes1D, 1);
    checkPairs(sizes, shapes2D, 1);
  }
  checkPairs({2, 4}, shapes1D, 1);
  checkPairs({2, 4}, shapes2D, 13);
}

TEST(ReshardBruteForce, ThreeAxes) {
  checkPairs({2, 2, 2}, shapes1D, 3);
  checkPairs({2, 2, 2}, shapes2D, 17);
}

TEST(ReshardBruteForce, FourAxes) {
  checkPairs({2, 2, 2, 2}, {{5}, {8}, {16}}, 31);
  checkPairs({2, 2, 2, 2}, {{16, 16}, {7, 12}}, 997);
}

TEST(ReshardBruteForce, ThreeDimensions) {
  checkPairs({2, 2}, {{4, 5, 6}, {2, 4, 8}}, 3);
  checkPairs({2, 2, 2}, {{4, 5, 6}, {8, 8, 8}}, 197);
  checkPairs({2, 2, 2, 2}, {{4, 8, 16}}, 9973);
}

TEST(ReshardBruteForce, OtherCosts) {
  Mesh mesh = makeMesh({2, 4});
  MeshCosts slowFirst = MeshCosts::uniform(mesh), noLatency = slowFirst;
  slowFirst.axes[0].gigabytesPerSecond = 1;
  for (AxisCost &axis : noLatency.axes)
    axis = {1e-3, 0};
  noLatency.stepMicros = 0;
  for (const MeshCosts *costs : {&slowFirst, &noLatency})
    checkPairs({2, 4}, {{8, 12}, {5, 6}}, 29, costs);
}

TEST(ReshardBruteForce, OtherReductions) {
  Mesh mesh = makeMesh({2, 2});
  Statistics statistics;
  for (ReduceKind first : {ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod})
    for (ReduceKind second : {ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min})
      for (const Sharding &from : allShardings(mesh, 1, first))
        for (const Sharding &to : allShardings(mesh, 1, second))
          for (const Shape &shape : {Shape{8}, Shape{5}})
            check(mesh, shape, from, to, unequalCosts(mesh), statistics);
}

//===----------------------------------------------------------------------===//
// What plans look like
//===----------------------------------------------------------------------===//

struct PlanTest : testing::Test {
  Mesh mesh{"mesh", {{"x", 2}, {"y", 4}, {"six", 6}}};
  MeshCosts costs = MeshCosts::uniform(mesh);

  Sharding parse(const std::string &text) {
    Result<Sharding> sharding = parseSharding(mesh, text);
    EXPECT_TRUE(sharding) << sharding.error;
    return sharding ? *sharding : Sharding();
  }

  ReshardPlan planOf(const Shape &shape, const char *from, const char *to) {
    Statistics statistics;
    check(mesh, shape, parse(from), parse(to), costs, statistics);
    return *planReshard(mesh, shape, 4, parse(from), parse(to), costs);
  }

  /// Kinds of steps, with their axes.
  std::string kinds(const Shape &shape, const char *from, const char *to) {
    std::string text;
    for (const ReshardStep &step : planOf(shape, from, to).steps)
      text += (text.empty() ? "" : "; ") + std::string(str(step.kind)) + str(mesh, step.axes);
    return text;
  }
};

TEST_F(PlanTest, SameLayoutNeedsNothing) {
  EXPECT_EQ(kinds({48, 48}, "[{y}, {}]", "[{y:(1)2, y:(2)2, ?}, {}]"), "");
  EXPECT_EQ(kinds({48}, "[{x}] partial=sum{y}", "[{x}] partial=sum{y}"), "");
}

TEST_F(PlanTest, PartialToShardedIsReduceScatter) {
  EXPECT_EQ(kinds({48, 48}, "[{}, {}] partial=sum{y}", "[{y}, {}]"), "reduce-scatter{y}");
  EXPECT_EQ(kinds({48, 48}, "[{x}, {}] partial=sum{y}", "[{x}, {y}]"), "reduce-scatter{y}");
  EXPECT_EQ(kinds({5, 48}, "[{}, {}] partial=sum{y}", "[{y}, {}]"), "reduce-scatter{y}");
}

TEST_F(PlanTest, PartialToReplicatedIsAllReduce) {
  EXPECT_EQ(kinds({48, 48}, "[{}, {}] partial=sum{y}", "[{}, {}]"), "all-reduce{y}");
  EXPECT_EQ(kinds({48}, "[{}] partial=sum{x, y}", "[{}]"), "all-reduce{x, y}");
}

TEST_F(PlanTest, PartialMayStayPending) {
  EXPECT_EQ(kinds({48}, "[{x}] partial=sum{y}", "[{}] partial=sum{y}"), "all-gather{x}");
  EXPECT_EQ(kinds({48}, "[{}] partial=sum{y}", "[{}] partial=sum{y:(1)2}"), "all-reduce{y:(2)2}");
}

TEST_F(PlanTest, DimMoveIsAllToAll) {
  EXPECT_EQ(kinds({48, 48}, "[{y}, {}]", "[{}, {y}]"), "all-to-all{y}");
  EXPECT_EQ(kinds({48, 48}, "[{x, y}, {}]", "[{x}, {y}]"), "all-to-all{y}");
  EXPECT_EQ(kinds({5, 7}, "[{y}, {}]", "[{}, {y}]"), "all-to-all{y}");
}

TEST_F(PlanTest, ReorderIsOnePermute) {
  EXPECT_EQ(kinds({48}, "[{x, y}]", "[{y, x}]"), "permute{x, y}");
  EXPECT_EQ(kinds({48}, "[{y}]", "[{y:(2)2, y:(1)2}]"), "permute{y}");
  EXPECT_EQ(kinds({48, 48}, "[{x}, {y:(1)2}]", "[{y:(1)2}, {x}]"), "permute{x, y:(1)2}");
  EXPECT_EQ(kinds({48}, "[{x}]", "[{y:(2)2}]"), "permute{x, y:(2)2}");
}

TEST_F(PlanTest, SlicesAreFree) {
  ReshardPlan plan = planOf({48, 48}, "[{}, {}]", "[{x}, {y}]");
  EXPECT_EQ(plan.bytes(), 0);
  EXPECT_EQ(kinds({5}, "[{}]", "[{y}]"), "slice{y}");
}

TEST_F(PlanTest, SlicesBeforeItSends) {
  // Cutting the other dimension first halves what the all-to-all moves, but takes more messages.
  EXPECT_EQ(kinds({48, 48}, "[{}, {y}]", "[{y, x}, {}]"), "all-to-all{y}; slice{x}");
  for (AxisCost &axis : costs.axes)
    axis.latencyMicros = 0;
  EXPECT_EQ(kinds({48, 48}, "[{}, {y}]", "[{y, x}, {}]"), "slice{x}; all-to-all{y, x}");
}

TEST_F(PlanTest, UnevenBlocksThatDoNotNestAreGatheredWhole) {
  // 5 rows: four blocks of 2 do not make up two blocks of 3.
  EXPECT_EQ(kinds({5}, "[{y}]", "[{y:(1)2}]"), "all-gather{y}; slice{y:(1)2}");
  EXPECT_EQ(kinds({7}, "[{y}]", "[{y:(1)2}]"), "all-gather{y:(2)2}");
}

TEST_F(PlanTest, SubAxesWithoutCommonView) {
  planOf({48}, "[{six:(1)2}]", "[{six:(1)3}]");
  planOf({48}, "[{six:(3)2}]", "[{six:(1)2}]");
  planOf({48, 5}, "[{six:(1)3}, {six:(3)2}]", "[{six:(2)3, six:(1)2}, {x}]");
  planOf({48, 5}, "[{six:(1)3}, {six:(3)2}]", "[{six:(1)2}, {six:(2)3}]");
  planOf({48, 5}, "[{six:(1)3}, {}] partial=sum{six:(3)2}", "[{six:(1)2}, {six:(2)3}]");
}

TEST_F(PlanTest, SlowAxisCarriesLess) {
  costs.axes[1].gigabytesPerSecond = 0.01;
  // Hierarchical: over the slow axis while blocks are small.
  EXPECT_EQ(kinds({48, 48}, "[{x, y}, {}]", "[{}, {}]"), "all-gather{y}; all-gather{x}");
}

TEST_F(PlanTest, BytesAreRingVolumes) {
  EXPECT_EQ(planOf({48}, "[{y}]", "[{}]").bytes(), 12 * 4 * 3);
  EXPECT_EQ(planOf({48}, "[{}] partial=sum{y}", "[{}]").bytes(), 2 * 12 * 4 * 3);
  EXPECT_EQ(planOf({48}, "[{}] partial=sum{y}", "[{y}]").bytes(), 12 * 4 * 3);
  EXPECT_EQ(planOf({48, 4}, "[{y}, {}]", "[{}, {y}]").bytes(), 12 * 4 * 3);
}

TEST_F(PlanTest, CommonPrefixStays) {
  for (const ReshardStep &step : planOf({48, 48}, "[{y, x}, {}]", "[{y, six}, {}]").steps)
    for (const AxisRef &ref : step.axes)
      EXPECT_NE(ref.axis, 1);
}

TEST_F(PlanTest, ErrorsNameWhatIsWrong) {
  auto error = [&](const Sharding &from, const Sharding &to, const Shape &shape,
                   int64_t bytes = 4) {
    return planReshard(mesh, shape, bytes, from, to, costs).error;
  };
  EXPECT_EQ(error(parse("[{x}]"), parse("[{}, {}]"), {4}),
            "target sharding: sharding has 2 dimensions, the tensor has 1");
  EXPECT_EQ(error(parse("[{x}]"), parse("[{}]"), {4}, 0),
            "element size is 0 bytes, expected at least 1");
  EXPECT_EQ(error(parse("[{}]"), parse("[{}] partial=prod{x}"), {4}),
            "no way from [{}] to [{}] partial=prod{x}: a pending product cannot be made from "
            "complete values");
  costs.axes.pop_back();
  EXPECT_EQ(error(parse("[{x}]"), parse("[{}]"), {4}),
            "costs are given for 2 axes, mesh \"mesh\" has 3");
}

TEST_F(PlanTest, ExecuteRejectsWrongBuffers) {
  EXPECT_EQ(executeSteps(mesh, {4}, parse("[{x}]"), {}, DeviceBuffers(1)).error,
            "got 1 buffers for 48 devices");
  EXPECT_EQ(executeSteps(mesh, {4}, parse("[{x}]"), {}, DeviceBuffers(48)).error,
            "a buffer has 0 elements, the local shape has 2");
}

TEST_F(PlanTest, StateLimitFallsBackToGathering) {
  // Eight atoms reversed: far more states than are searched.
  Mesh large = makeMesh({2, 2, 2, 2, 2, 2, 2, 2});
  Sharding from = Sharding::replicated(2), to = from;
  for (int axis = 0; axis < 8; ++axis) {
    from.dims[axis % 2].axes.push_back(wholeAxis(large, axis));
    to.dims[axis / 3 % 2].axes.insert(to.dims[axis / 3 % 2].axes.begin(), wholeAxis(large, axis));
  }
  Statistics statistics;
  check(large, {32, 64}, from, to, MeshCosts::uniform(large), statistics);
  EXPECT_LT(statistics.micros, 2e6);
}

TEST_F(PlanTest, PlannerRemembers) {
  ReshardPlanner planner(mesh, costs);
  const auto &first = planner.plan({48}, 4, parse("[{x}]"), parse("[{y}]"));
  EXPECT_EQ(&first, &planner.plan({48}, 4, parse("[{x}]"), parse("[{y}]")));
  EXPECT_NE(&first, &planner.plan({48}, 2, parse("[{x}]"), parse("[{y}]")));
  EXPECT_NE(&first, &planner.plan({48}, 4, parse("[{y}]"), parse("[{x}]")));
}

TEST_F(PlanTest, StepsReadWell) {
  EXPECT_EQ(str(mesh, planOf({48, 4}, "[{y}, {}]", "[{}, {y}]")),
            "all-to-all dim 0 to dim 1 over {y}: 144 bytes, 4.5 us -> [{}, {y}]\n");
}

} // namespace
