//===- FactorTest.cpp - Sharding rules, propagation, choice by cost -------===//
//
// The brute-force tests run small ops on all devices: reshard the operands to what the rule's
// assignment needs, do the op on local buffers, reshard the result to what is wanted, compare.
// Padding is NaN.
//
//===----------------------------------------------------------------------===//
#include "shardc/Sharding/FactorSharding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

using namespace shardc;

namespace {

const Mesh mesh{"mesh", {{"dp", 2}, {"tp", 4}}};

Sharding parseOn(const Mesh &mesh, const std::string &text) {
  Result<Sharding> sharding = parseSharding(mesh, text);
  EXPECT_TRUE(sharding) << sharding.error;
  return sharding ? *sharding : Sharding();
}
Sharding parse(const std::string &text) { return parseOn(mesh, text); }

ShardingRule built(const Result<ShardingRule> &rule) {
  EXPECT_TRUE(rule) << rule.error;
  return rule ? *rule : ShardingRule();
}

ShardingRule matmul(int64_t m, int64_t k, int64_t n) {
  return built(ShardingRuleBuilder({{m, k}, {k, n}}, {{m, n}})
                   .addFactor({0, -1}, {0}, m)
                   .addFactor({1, 0}, {-1}, k, FactorKind::Reduction)
                   .addFactor({-1, 1}, {1}, n)
                   .build());
}

ShardingRule reshape(const Shape &from, const Shape &to) {
  return built(ShardingRuleBuilder({from}, {to}).addReshape().setLinear().build());
}

//===----------------------------------------------------------------------===//
// Rules
//===----------------------------------------------------------------------===//

TEST(Rule, Prints) {
  EXPECT_EQ(matmul(64, 32, 16).str(), "([i, j], [j, k]) -> ([i, k]) {i=64, j=32 sum, k=16}");
  ShardingRule add = built(ShardingRuleBuilder({{4, 1, 8}, {4, 1, 8}, {}}, {{4, 1, 8}})
                               .addPointwise()
                               .setLinear()
                               .build());
  EXPECT_EQ(add.str(), "([i, -, j], [i, -, j], []) -> ([i, -, j]) {i=4, j=8} linear");
}

TEST(Rule, ReshapeFindsCommonFactors) {
  EXPECT_EQ(reshape({8, 6}, {2, 4, 6}).str(), "([ij, k]) -> ([i, j, k]) {i=2, j=4, k=6} linear");
  EXPECT_EQ(reshape({2, 3, 4}, {6, 1, 4}).str(),
            "([i, j, k]) -> ([ij, -, k]) {i=2, j=3, k=4} linear");
  EXPECT_EQ(reshape({2, 6}, {4, 3}).str(), "([i, jk]) -> ([ij, k]) {i=2, j=2, k=3} linear");
  EXPECT_EQ(reshape({2, 3}, {3, 2}).str(),
            "([i, k]) -> ([j, l]) {i=2 need-replication, j=3 need-replication, "
            "k=3 need-replication, l=2 need-replication} linear");
  // Behind the strange part factors are common again.
  EXPECT_EQ(reshape({2, 3, 5}, {3, 2, 5}).operands[0][2],
            reshape({2, 3, 5}, {3, 2, 5}).results[0][2]);
  EXPECT_EQ(reshape({1, 1}, {1}).str(), "([-, -]) -> ([-]) {} linear");
}

TEST(Rule, ErrorsNameBothNumbers) {
  auto error = [](const ShardingRuleBuilder &builder) { return builder.build().error; };
  EXPECT_EQ(error(ShardingRuleBuilder({{6}}, {{6}}).addFactor({0}, {0}, 4)),
            "factors of dimension 0 of operand 0 have product 4, the dimension has size 6 in rule "
            "([i]) -> ([i]) {i=4}");
  EXPECT_EQ(error(ShardingRuleBuilder({{6}}, {{6}}).addFactor({1}, {0}, 6)),
            "rule gives operand 0 2 dimensions, it has 1 in rule ([-, i]) -> ([i]) {i=6}");
  EXPECT_EQ(error(ShardingRuleBuilder({{6}}, {{6}}).addFactor({0}, {0}, 6, FactorKind::Reduction)),
            "reduction factor i occurs in every result in rule ([i]) -> ([i]) {i=6 sum}");
  EXPECT_EQ(error(ShardingRuleBuilder({{6}}, {{}}).addFactor({0}, {-1}, 6)),
            "pass-through factor i occurs in no result in rule ([i]) -> ([]) {i=6}");
  EXPECT_EQ(error(ShardingRuleBuilder({{6}}, {{}})
                      .addFactor({0}, {-1}, 6, FactorKind::Reduction, ReduceKind::Max)
                      .setLinear()),
            "reduction factor i of a linear op reduces by max, expected sum in rule "
            "([i]) -> ([]) {i=6 max} linear");
  ShardingRule rule = matmul(2, 3, 4);
  EXPECT_EQ(*rule.verify({{2, 3}}, {{2, 4}}), "rule has 2 operands, the op has 1");
  rule.operands[0][0] = {7};
  EXPECT_EQ(*rule.verify({{2, 3}, {3, 4}}, {{2, 4}}),
            "factor 7 in dimension 0 of operand 0 is out of range, the rule has 3 factors");
  rule.operands[0] = {{1}, {1}};
  EXPECT_EQ(*rule.verify({{3, 3}, {3, 4}}, {{2, 4}}), "factor j occurs twice in operand 0");
}

//===----------------------------------------------------------------------===//
// Merged dimensions
//===----------------------------------------------------------------------===//

/// By definition: does block r of the dimension hold just the elements of the r-th product of
/// factor blocks?
bool blocksMatch(const std::vector<int64_t> &sizes, const std::vector<int64_t> &counts) {
  int64_t size = 1, count = 1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    size *= sizes[i];
    count *= counts[i];
  }
  int64_t block = ceilDiv(size, count), paddedBlock = 1;
  for (size_t i = 0; i < sizes.size(); ++i)
    paddedBlock *= ceilDiv(sizes[i], counts[i]);
  if (block != paddedBlock) // Local shapes differ.
    return false;
  for (int64_t element = 0; element < size; ++element) {
    int64_t rest = element, owner = 0, at = 0, ownerStride = 1, stride = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
      int64_t index = rest % sizes[i], part = ceilDiv(sizes[i], counts[i]);
      rest /= sizes[i];
      owner += index / part * ownerStride;
      at += index % part * stride;
      ownerStride *= counts[i];
      stride *= part;
    }
    if (owner != element / block || at != element % block)
      return false;
  }
  return true;
}

TEST(MergedDim, ConditionIsExact) {
  int64_t legal = 0, checked = 0;
  for (int64_t a = 1; a <= 6; ++a)
    for (int64_t b = 1; b <= 6; ++b)
      for (int64_t c = 1; c <= 4; ++c)
        for (int64_t i = 1; i <= 7; ++i)
          for (int64_t j = 1; j <= 7; ++j)
            for (int64_t k = 1; k <= 5; ++k) {
              std::vector<int64_t> sizes = {a, b, c}, counts = {i, j, k};
              // More parts than elements: some devices hold nothing, and several counts are equally
              // right.
              if (i > a || j > b || k > c)
                continue;
              ++checked;
              legal += blocksAreFactorBlocks(sizes, counts);
              ASSERT_EQ(blocksAreFactorBlocks(sizes, counts), blocksMatch(sizes, counts))
                  << a << "," << b << "," << c << " in " << i << "," << j << "," << k;
            }
  EXPECT_GT(legal, 100);
  EXPECT_GT(checked, 1000);
}

TEST(MergedDim, ConditionIsSoundWithEmptyBlocks) {
  for (int64_t a = 1; a <= 6; ++a)
    for (int64_t b = 1; b <= 6; ++b)
      for (int64_t i = 1; i <= 9; ++i)
        for (int64_t j = 1; j <= 9; ++j)
          if (blocksAreFactorBlocks({a, b}, {i, j}))
            ASSERT_TRUE(blocksMatch({a, b}, {i, j})) << a << "," << b << " in " << i << "," << j;
}

TEST(MergedDim, AxesFillMajorFactorsFirst) {
  ShardingRule rule = reshape({8, 6}, {2, 4, 6});
  AxisRef tp = wholeAxis(mesh, 1), tpMajor = splitAxis(tp, 2)->first,
          tpMinor = splitAxis(tp, 2)->second;
  TensorFactors factors = projectToFactors(rule, rule.operands[0], parse("[{tp}, {}]"));
  EXPECT_EQ(factors.factors[0].axes, AxisList{tpMajor});
  EXPECT_EQ(factors.factors[1].axes, AxisList{tpMinor});
  factors = projectToFactors(rule, rule.operands[0], parse("[{dp}, {tp}]"));
  EXPECT_EQ(factors.factors[0].axes, AxisList{wholeAxis(mesh, 0)});
  EXPECT_EQ(factors.factors[1].axes, AxisList());
  EXPECT_EQ(factors.factors[2].axes, AxisList{tp});
  // A minor factor alone is strided.
  EXPECT_FALSE(shardingOf(rule, rule.operands[0], {{}, {tpMinor}, {}}));
  EXPECT_EQ(str(mesh, *shardingOf(rule, rule.operands[0], {{tpMajor}, {tpMinor}, {}})),
            "[{tp}, {}]");
}

TEST(MergedDim, WhatFitsNoFactorOverflows) {
  ShardingRule rule = reshape({12}, {3, 4});
  TensorFactors factors = projectToFactors(rule, rule.operands[0], parse("[{dp}]"));
  EXPECT_EQ(factors.factors[0].axes, AxisList());
  EXPECT_EQ(factors.overflow[0], AxisList{wholeAxis(mesh, 0)});
}

//===----------------------------------------------------------------------===//
// Propagation
//===----------------------------------------------------------------------===//

std::string spread(const ShardingRule &rule, std::vector<std::string> operands,
                   std::vector<std::string> results, const PropagateOptions &options = {},
                   std::vector<std::string> *conflicts = nullptr, std::vector<int64_t> bytes = {}) {
  std::vector<Sharding> in, out;
  for (const std::string &text : operands)
    in.push_back(parse(text));
  for (const std::string &text : results)
    out.push_back(parse(text));
  PropagateResult result = propagateOp(rule, mesh, in, out, options, bytes);
  EXPECT_EQ(result.changed, result.operands != in || result.results != out);
  if (conflicts)
    *conflicts = result.conflicts;
  std::string text;
  for (const Sharding &sharding : result.operands)
    text += str(mesh, sharding) + " ";
  text += "->";
  for (const Sharding &sharding : result.results)
    text += " " + str(mesh, sharding);
  return text;
}

TEST(Propagate, ColumnParallelMatmul) {
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{dp}, {}]", "[{}, {tp}]"}, {"[{?}, {?}]"}),
            "[{dp}, {}] [{}, {tp}] -> [{dp, ?}, {tp, ?}]");
}

TEST(Propagate, RowParallelMatmulSharesTheReduction) {
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{dp}, {?}]", "[{tp}, {}]"}, {"[{?}, {?}]"}),
            "[{dp}, {tp, ?}] [{tp}, {}] -> [{dp, ?}, {?}]");
}

TEST(Propagate, ClosedDimsStay) {
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{dp}, {}]", "[{}, {tp}]"}, {"[{}, {?}]"}),
            "[{dp}, {}] [{}, {tp}] -> [{}, {tp, ?}]");
}

TEST(Propagate, LongerListsExtendShorterOnes) {
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{tp:(1)2, ?}, {}]", "[{?}, {}]"}, {"[{tp, dp}, {}]"}),
            "[{tp, dp, ?}, {}] [{?}, {}] -> [{tp, dp}, {}]");
}

TEST(Propagate, Directions) {
  PropagateOptions forward, backward;
  forward.backward = false;
  backward.forward = false;
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{dp}, {}]", "[{}, {?}]"}, {"[{?}, {tp, ?}]"}, forward),
            "[{dp}, {}] [{}, {?}] -> [{dp, ?}, {tp, ?}]");
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{dp}, {}]", "[{}, {?}]"}, {"[{?}, {tp, ?}]"}, backward),
            "[{dp}, {}] [{}, {tp, ?}] -> [{?}, {tp, ?}]");
}

TEST(Propagate, Priorities) {
  PropagateOptions first;
  first.priority = 0;
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{dp}, {}]", "[{}, {tp}p1]"}, {"[{?}, {?}]"}, first),
            "[{dp}, {}] [{}, {tp}p1] -> [{dp, ?}, {?}]");
  // Both want tp for the result; the smaller priority gets it.
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{tp}p1, {}]", "[{}, {tp}]"}, {"[{?}, {?}]"}),
            "[{tp}p1, {}] [{}, {tp}] -> [{?}, {tp, ?}]");
}

TEST(Propagate, ConflictsAreReported) {
  std::vector<std::string> conflicts;
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{dp}, {}]", "[{}, {}]"}, {"[{tp, ?}, {}]"}, {}, &conflicts),
            "[{dp}, {}] [{}, {}] -> [{tp, ?}, {}]");
  EXPECT_EQ(conflicts,
            std::vector<std::string>{"factor 0 (size 8): operand 0 has {dp}, result 0 has {tp}"});
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{tp}, {}]", "[{}, {tp}]"}, {"[{?}, {?}]"}, {}, &conflicts,
                   {100, 200, 100}),
            "[{tp}, {}] [{}, {tp}] -> [{?}, {tp, ?}]");
  EXPECT_EQ(conflicts, std::vector<std::string>{"axis tp of factor 0 is already used in result 0"});
}

TEST(Propagate, PendingAxesAreTaken) {
  EXPECT_EQ(spread(matmul(8, 8, 8), {"[{tp}, {}]", "[{}, {}]"}, {"[{?}, {?}] partial=sum{tp}"}),
            "[{tp}, {}] [{}, {}] -> [{?}, {?}] partial=sum{tp}");
}

TEST(Propagate, ReshapeSplitsAndMerges) {
  EXPECT_EQ(spread(reshape({8, 6}, {2, 4, 6}), {"[{tp}, {dp}]"}, {"[{?}, {?}, {?}]"}),
            "[{tp}, {dp}] -> [{tp:(1)2, ?}, {tp:(2)2, ?}, {dp, ?}]");
  EXPECT_EQ(spread(reshape({2, 4}, {8}), {"[{dp}, {tp}]"}, {"[{?}]"}),
            "[{dp}, {tp}] -> [{dp, tp, ?}]");
  // The minor dimension alone would be strided in the merged one.
  EXPECT_EQ(spread(reshape({2, 4}, {8}), {"[{}, {tp}]"}, {"[{?}]"}), "[{}, {tp}] -> [{?}]");
}

TEST(Propagate, BroadcastDoesNotShardTheSource) {
  ShardingRule broadcast = built(
      ShardingRuleBuilder({{8}}, {{4, 8}}).addFactor({-1}, {0}, 4).addFactor({0}, {1}, 8).build());
  EXPECT_EQ(spread(broadcast, {"[{?}]"}, {"[{dp}, {tp}]"}), "[{tp, ?}] -> [{dp}, {tp}]");
}

TEST(Propagate, UnevenDims) {
  EXPECT_EQ(spread(matmul(5, 8, 7), {"[{dp}, {}]", "[{}, {tp}]"}, {"[{?}, {?}]"}),
            "[{dp}, {}] [{}, {tp}] -> [{dp, ?}, {tp, ?}]");
}

/// Grouped attention: 8 query heads in 2 groups of 4 share 2 key/value heads; tp = 4.
ShardingRule groupedAttention() {
  // q [batch, g·r, d], k [batch, g, d] -> scores [batch, g·r]
  return built(ShardingRuleBuilder({{2, 8, 16}, {2, 2, 16}}, {{2, 8}})
                   .addFactor({0, 0}, {0}, 2)
                   .addFactor({1, 1}, {1}, 2)
                   .addFactor({1, -1}, {1}, 4)
                   .addFactor({2, 2}, {-1}, 16, FactorKind::Reduction)
                   .build());
}

TEST(Propagate, KeyValueHeadsTakeTheMajorSubAxis) {
  EXPECT_EQ(spread(groupedAttention(), {"[{}, {tp}, {}]", "[{?}, {?}, {?}]"}, {"[{?}, {?}]"}),
            "[{}, {tp}, {}] [{?}, {tp:(1)2, ?}, {?}] -> [{?}, {tp, ?}]");
}

//===----------------------------------------------------------------------===//
// Choice by cost
//===----------------------------------------------------------------------===//

FactorRequest requestOf(const std::vector<Shape> &operandShapes,
                        const std::vector<Shape> &resultShapes,
                        const std::vector<std::string> &operands,
                        const std::vector<std::string> &results) {
  FactorRequest request;
  for (const Shape &shape : operandShapes)
    request.operandTypes.push_back({shape, 4});
  for (const Shape &shape : resultShapes)
    request.resultTypes.push_back({shape, 4});
  for (const std::string &text : operands)
    request.operands.push_back(parse(text));
  for (const std::string &text : results)
    request.results.push_back(text == "any" ? std::nullopt : std::optional<Sharding>(parse(text)));
  return request;
}

std::string choice(const ShardingRule &rule, const FactorRequest &request,
                   std::string *reason = nullptr) {
  ReshardPlanner planner(mesh, MeshCosts::uniform(mesh));
  Result<FactorAssignment> assignment = chooseFactorAxes(rule, planner, request);
  if (!assignment)
    return assignment.error;
  if (reason)
    *reason = assignment->reason;
  std::string text;
  for (const Sharding &sharding : assignment->operands)
    text += str(mesh, sharding) + " ";
  text += "->";
  for (const Sharding &sharding : assignment->results)
    text += " " + str(mesh, sharding);
  return text;
}

std::string matmulChoice(const Shape &mkn, const std::string &x, const std::string &w,
                         const std::string &y, std::string *reason = nullptr) {
  Shape a = {mkn[0], mkn[1]}, b = {mkn[1], mkn[2]}, c = {mkn[0], mkn[2]};
  return choice(matmul(mkn[0], mkn[1], mkn[2]), requestOf({a, b}, {c}, {x, w}, {y}), reason);
}

TEST(Choose, AgreementCostsNothing) {
  EXPECT_EQ(matmulChoice({64, 64, 64}, "[{dp}, {}]", "[{}, {tp}]", "[{dp}, {tp}]"),
            "[{dp}, {}] [{}, {tp}] -> [{dp}, {tp}]");
}

TEST(Choose, RowParallelPends) {
  EXPECT_EQ(matmulChoice({512, 4096, 512}, "[{}, {tp}]", "[{tp}, {}]", "[{}, {}]"),
            "[{}, {tp}] [{tp}, {}] -> [{}, {}] partial=sum{tp}");
  EXPECT_EQ(matmulChoice({512, 4096, 512}, "[{}, {tp}]", "[{tp}, {}]", "[{tp}, {}]"),
            "[{}, {tp}] [{tp}, {}] -> [{}, {}] partial=sum{tp}");
  EXPECT_EQ(matmulChoice({512, 4096, 512}, "[{}, {tp}]", "[{tp}, {}]", "any"),
            "[{}, {tp}] [{tp}, {}] -> [{}, {}] partial=sum{tp}");
}

TEST(Choose, SmallerSideMoves) {
  // FSDP: the weight is sharded over the data axis; gathering it is cheaper than the large
  // activations.
  EXPECT_EQ(matmulChoice({65536, 64, 64}, "[{dp}, {}]", "[{dp}, {}]", "[{dp}, {}]"),
            "[{dp}, {}] [{}, {}] -> [{dp}, {}]");
  // Few rows, a large weight: the weight stays, the activations move.
  EXPECT_EQ(matmulChoice({2, 8192, 8192}, "[{dp}, {}]", "[{dp}, {}]", "[{dp}, {}]"),
            "[{}, {dp}] [{dp}, {}] -> [{}, {}] partial=sum{dp}");
}

TEST(Choose, WorkIsShared) {
  // Nobody is sharded, the result shall be: computing a part beats computing all and slicing.
  EXPECT_EQ(matmulChoice({512, 512, 512}, "[{}, {}]", "[{}, {}]", "[{tp}, {dp}]"),
            "[{tp}, {}] [{}, {dp}] -> [{tp}, {dp}]");
}

TEST(Choose, WantedPendingIsMade) {
  EXPECT_EQ(matmulChoice({64, 4096, 64}, "[{}, {}]", "[{}, {}]", "[{}, {}] partial=sum{tp}"),
            "[{}, {tp}] [{tp}, {}] -> [{}, {}] partial=sum{tp}");
}

TEST(Choose, ReasonNamesTheLoser) {
  std::string reason;
  matmulChoice({65536, 64, 64}, "[{dp}, {}]", "[{dp}, {}]", "[{dp}, {}]", &reason);
  EXPECT_NE(reason.find("factor 0 (size 65536): {dp}; lost: {} ("), std::string::npos) << reason;
  EXPECT_NE(reason.find("factor 1 (size 64): {}; lost: {dp} ("), std::string::npos) << reason;
  EXPECT_NE(reason.find("operand 1 [{dp}, {}] -> [{}, {}]: "), std::string::npos) << reason;
}

TEST(Choose, GroupedAttention) {
  Shape q = {2, 8, 16}, k = {2, 2, 16}, scores = {2, 8};
  EXPECT_EQ(choice(groupedAttention(),
                   requestOf({q, k}, {scores}, {"[{dp}, {tp}, {}]", "[{dp}, {tp:(1)2}, {}]"},
                             {"[{dp}, {tp}]"})),
            "[{dp}, {tp}, {}] [{dp}, {tp:(1)2}, {}] -> [{dp}, {tp}]");
  // Replicated key/value heads: each device slices its own.
  EXPECT_EQ(choice(groupedAttention(),
                   requestOf({q, k}, {scores}, {"[{}, {tp}, {}]", "[{}, {}, {}]"}, {"[{}, {tp}]"})),
            "[{}, {tp}, {}] [{}, {tp:(1)2}, {}] -> [{}, {tp}]");
}

TEST(Choose, ReplicatedFactorsAreGathered) {
  ShardingRule sort = built(ShardingRuleBuilder({{8, 8}}, {{8, 8}})
                                .addFactor({0}, {0}, 8)
                                .addFactor({1}, {1}, 8, FactorKind::NeedReplication)
                                .build());
  EXPECT_EQ(choice(sort, requestOf({{8, 8}}, {{8, 8}}, {"[{dp}, {tp}]"}, {"[{dp}, {tp}]"})),
            "[{dp}, {}] -> [{dp}, {}]");
}

TEST(Choose, LinearOpsPassPendingSums) {
  ShardingRule add = built(
      ShardingRuleBuilder({{512, 64}, {512, 64}}, {{512, 64}}).addPointwise().setLinear().build());
  auto request = requestOf({{512, 64}, {512, 64}}, {{512, 64}},
                           {"[{}, {}] partial=sum{tp}", "[{}, {}] partial=sum{tp}"}, {"[{}, {}]"});
  // One all-reduce of the sum instead of two.
  EXPECT_EQ(choice(add, request),
            "[{}, {}] partial=sum{tp} [{}, {}] partial=sum{tp} -> [{}, {}] partial=sum{tp}");
  add.linear = false;
  EXPECT_EQ(choice(add, request).find("partial"), std::string::npos);
}

TEST(Choose, UnevenReductionsNeedLeave) {
  auto request =
      requestOf({{64, 4095}, {4095, 64}}, {{64, 64}}, {"[{}, {tp}]", "[{tp}, {}]"}, {"any"});
  EXPECT_EQ(choice(matmul(64, 4095, 64), request).find("partial"), std::string::npos);
  request.allowUnevenReduction = true;
  EXPECT_EQ(choice(matmul(64, 4095, 64), request),
            "[{}, {tp}] [{tp}, {}] -> [{}, {}] partial=sum{tp}");
}

TEST(Choose, Errors) {
  EXPECT_EQ(choice(matmul(8, 8, 8), requestOf({{8, 8}, {8, 8}}, {{8, 8}}, {"[{}, {}]"}, {"any"})),
            "got 1 operand and 1 result shardings for 2 operands and 1 results");
  EXPECT_EQ(
      choice(matmul(8, 8, 8), requestOf({{8, 8}, {8, 8}}, {{8, 8}}, {"[{}, {}]", "[{}]"}, {"any"})),
      "operand 1: sharding has 1 dimensions, the tensor has 2");
}

//===----------------------------------------------------------------------===//
// Brute force
//===----------------------------------------------------------------------===//

using Buffer = std::vector<double>;
/// An op on row-major buffers; shapes of operands and of the result, global or local alike.
using Op =
    std::function<Buffer(const std::vector<Buffer> &, const std::vector<Shape> &, const Shape &)>;

Buffer runMatmul(const std::vector<Buffer> &in, const std::vector<Shape> &shapes,
                 const Shape &result) {
  int64_t m = result[0], k = shapes[0][1], n = result[1];
  Buffer out(m * n);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t l = 0; l < k; ++l)
        out[i * n + j] += in[0][i * k + l] * in[1][l * n + j];
  return out;
}

Buffer runReshape(const std::vector<Buffer> &in, const std::vector<Shape> &, const Shape &result) {
  EXPECT_EQ(static_cast<int64_t>(in[0].size()), elementCount(result));
  return in[0];
}

Buffer runTranspose(const std::vector<Buffer> &in, const std::vector<Shape> &shapes,
                    const Shape &) {
  int64_t rows = shapes[0][0], columns = shapes[0][1];
  Buffer out(rows * columns);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      out[j * rows + i] = in[0][i * columns + j];
  return out;
}

Buffer runAdd(const std::vector<Buffer> &in, const std::vector<Shape> &, const Shape &) {
  Buffer out = in[0];
  for (size_t i = 0; i < out.size(); ++i)
    out[i] += in[1][i];
  return out;
}

/// Some shardings of a tensor of this rank on `mesh`, pending sums among them.
std::vector<Sharding> someShardings(const Mesh &mesh, size_t rank, bool pending) {
  AxisList parts;
  for (size_t i = 0; i < mesh.axes.size(); ++i) {
    AxisRef whole = wholeAxis(mesh, static_cast<int>(i));
    if (auto halves = whole.size == 4 ? splitAxis(whole, 2) : std::nullopt) {
      parts.push_back(halves->first);
      parts.push_back(halves->second);
    } else {
      parts.push_back(whole);
    }
  }
  std::vector<Sharding> out = {Sharding::replicated(static_cast<int64_t>(rank))};
  for (const AxisRef &part : parts) {
    std::vector<Sharding> more;
    for (const Sharding &sharding : out) {
      more.push_back(sharding);
      for (size_t d = 0; d < rank; ++d) {
        more.push_back(sharding);
        more.back().dims[d].axes.push_back(part);
      }
      if (pending) {
        more.push_back(sharding);
        more.back().partial.push_back({ReduceKind::Sum, part});
      }
    }
    out = more;
  }
  return out;
}

DeviceBuffers distribute(const Mesh &mesh, const Sharding &sharding, const Shape &shape,
                         const Buffer &global) {
  DeviceBuffers buffers;
  for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank) {
    buffers.push_back(extractLocal(mesh, sharding, shape, global, rank, std::nan("")));
    // The first device of a pending group holds the value plus the others' -1.
    int64_t count = axesSize(sharding.partialAxes());
    int64_t index = indexAlong(mesh, sharding.partialAxes(), rank);
    for (double &value : buffers.back())
      value = count == 1 ? value : index == 0 ? value + static_cast<double>(count - 1) : -1.0;
  }
  return buffers;
}

/// All devices: reshard operands, run the op on local buffers, reshard the result.
void checkOp(ReshardPlanner &planner, const ShardingRule &rule, const Op &op,
             const FactorRequest &request) {
  const Mesh &mesh = planner.getMesh();
  Result<FactorAssignment> chosen = chooseFactorAxes(rule, planner, request);
  ASSERT_TRUE(chosen) << chosen.error;
  std::vector<Buffer> globals;
  std::vector<DeviceBuffers> locals;
  std::vector<Shape> shapes, localShapes;
  for (size_t i = 0; i < request.operands.size(); ++i) {
    const Shape &shape = request.operandTypes[i].shape;
    Buffer data(elementCount(shape));
    std::iota(data.begin(), data.end(), 1 + static_cast<double>(i));
    auto plan = planner.plan(shape, 4, request.operands[i], chosen->operands[i]);
    ASSERT_TRUE(plan) << plan.error;
    auto moved = executeSteps(mesh, shape, request.operands[i], plan->steps,
                              distribute(mesh, request.operands[i], shape, data));
    ASSERT_TRUE(moved) << moved.error;
    globals.push_back(data);
    locals.push_back(*moved);
    shapes.push_back(shape);
    localShapes.push_back(localShape(chosen->operands[i], shape));
  }
  const Shape &shape = request.resultTypes[0].shape;
  Buffer expected = op(globals, shapes, shape);
  DeviceBuffers results;
  for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank) {
    std::vector<Buffer> in;
    for (const DeviceBuffers &buffers : locals)
      in.push_back(buffers[rank]);
    results.push_back(op(in, localShapes, localShape(chosen->results[0], shape)));
  }
  const Sharding &wanted = *request.results[0];
  auto plan = planner.plan(shape, 4, chosen->results[0], wanted);
  ASSERT_TRUE(plan) << plan.error;
  auto moved = executeSteps(mesh, shape, chosen->results[0], plan->steps, results);
  ASSERT_TRUE(moved) << moved.error;
  for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank) {
    Buffer part = extractLocal(mesh, wanted, shape, expected, rank, std::nan(""));
    std::vector<int64_t> group = groupOf(mesh, wanted.partialAxes(), rank);
    for (size_t i = 0; i < part.size(); ++i) {
      double value = 0;
      for (int64_t member : group)
        value += (*moved)[member][i];
      ASSERT_TRUE(std::isnan(part[i]) || value == part[i])
          << mesh.str() << " rank " << rank << " element " << i << ": " << value << " for "
          << part[i] << "\n"
          << chosen->reason;
    }
  }
}

/// Every `stride`-th combination of shardings of operands and result.
void checkAll(const Mesh &mesh, const ShardingRule &rule, const Op &op,
              const std::vector<Shape> &operandShapes, const Shape &resultShape, size_t stride) {
  ReshardPlanner planner(mesh, MeshCosts::uniform(mesh));
  FactorRequest request;
  std::vector<std::vector<Sharding>> choices;
  size_t combinations = 1;
  for (const Shape &shape : operandShapes) {
    request.operandTypes.push_back({shape, 4});
    choices.push_back(someShardings(mesh, shape.size(), true));
  }
  request.resultTypes.push_back({resultShape, 4});
  choices.push_back(someShardings(mesh, resultShape.size(), true));
  for (const auto &options : choices)
    combinations *= options.size();
  for (size_t index = 0; index < combinations; index += stride) {
    size_t rest = index;
    request.operands.clear();
    for (size_t i = 0; i < operandShapes.size(); ++i) {
      request.operands.push_back(choices[i][rest % choices[i].size()]);
      rest /= choices[i].size();
    }
    request.results = {choices.back()[rest]};
    checkOp(planner, rule, op, request);
    if (testing::Test::HasFatalFailure())
      return;
  }
}

const Mesh square{"square", {{"x", 2}, {"y", 2}}};
const Mesh oblong{"oblong", {{"x", 2}, {"y", 3}}};

TEST(ChooseBruteForce, Matmul) {
  for (const Mesh &mesh : {square, oblong}) {
    checkAll(mesh, matmul(4, 6, 8), runMatmul, {{4, 6}, {6, 8}}, {4, 8}, 17);
    checkAll(mesh, matmul(5, 7, 3), runMatmul, {{5, 7}, {7, 3}}, {5, 3}, 17);
  }
  checkAll(mesh, matmul(4, 8, 6), runMatmul, {{4, 8}, {8, 6}}, {4, 6}, 1009);
}

TEST(ChooseBruteForce, Reshape) {
  for (const Mesh &mesh : {square, oblong, mesh}) {
    size_t stride = mesh == square || mesh == oblong ? 1 : 23;
    checkAll(mesh, reshape({8, 6}, {2, 4, 6}), runReshape, {{8, 6}}, {2, 4, 6}, stride);
    checkAll(mesh, reshape({2, 3, 4}, {6, 4}), runReshape, {{2, 3, 4}}, {6, 4}, stride);
    checkAll(mesh, reshape({2, 6}, {4, 3}), runReshape, {{2, 6}}, {4, 3}, stride);
    checkAll(mesh, reshape({5, 3}, {15}), runReshape, {{5, 3}}, {15}, stride);
    checkAll(mesh, reshape({2, 3, 5}, {3, 2, 5}), runReshape, {{2, 3, 5}}, {3, 2, 5}, stride);
  }
}

TEST(ChooseBruteForce, TransposeAndAdd) {
  ShardingRule transpose = built(ShardingRuleBuilder({{5, 6}}, {{6, 5}})
                                     .addFactor({0}, {1}, 5)
                                     .addFactor({1}, {0}, 6)
                                     .setLinear()
                                     .build());
  ShardingRule add =
      built(ShardingRuleBuilder({{5, 4}, {5, 4}}, {{5, 4}}).addPointwise().setLinear().build());
  for (const Mesh &mesh : {square, oblong}) {
    checkAll(mesh, transpose, runTranspose, {{5, 6}}, {6, 5}, 1);
    checkAll(mesh, add, runAdd, {{5, 4}, {5, 4}}, {5, 4}, 7);
  }
}

/// Whatever axes factors get: if the rule allows it, the local reshape is right; the local op needs
/// no communication.
TEST(ChooseBruteForce, EveryAllowedReshapeIsLocal) {
  int allowed = 0;
  for (const Mesh &mesh : {square, oblong, mesh})
    for (auto [from, to] :
         {std::pair<Shape, Shape>{{8, 6}, {2, 4, 6}}, {{12}, {2, 3, 2}}, {{6, 4}, {3, 8}}}) {
      ShardingRule rule = reshape(from, to);
      size_t factors = rule.factors.size();
      for (const Sharding &axes : someShardings(mesh, factors, false)) {
        std::vector<AxisList> lists;
        for (const DimSharding &dim : axes.dims)
          lists.push_back(dim.axes);
        auto source = shardingOf(rule, rule.operands[0], lists);
        auto result = shardingOf(rule, rule.results[0], lists);
        if (!source || !result)
          continue;
        ++allowed;
        Buffer data(elementCount(from));
        std::iota(data.begin(), data.end(), 1);
        for (int64_t rank = 0; rank < mesh.deviceCount(); ++rank)
          ASSERT_EQ(extractLocal(mesh, *source, from, data, rank, -1.0),
                    extractLocal(mesh, *result, to, data, rank, -1.0))
              << rule.str() << " " << str(mesh, *source) << " -> " << str(mesh, *result);
      }
    }
  EXPECT_GT(allowed, 50);
}

} // namespace
