//===- FactorRule.cpp - Building, checking and printing sharding rules ----===//
#include "shardc/Sharding/FactorSharding.h"

#include <algorithm>
#include <numeric>

using namespace shardc;

const char *shardc::str(FactorKind kind) {
  static const char *const names[] = {"pass-through", "reduction", "need-replication",
                                      "permutation"};
  return names[static_cast<int>(kind)];
}

/// i, j, k, … z, then f18, f19, …
static std::string factorName(int factor) {
  return factor < 18 ? std::string(1, static_cast<char>('i' + factor))
                     : "f" + std::to_string(factor);
}

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

static std::string strTensors(const std::vector<FactorDims> &tensors) {
  std::string text = "(";
  for (size_t t = 0; t < tensors.size(); ++t) {
    text += t ? ", [" : "[";
    for (size_t d = 0; d < tensors[t].size(); ++d) {
      text += d ? ", " : "";
      if (tensors[t][d].empty())
        text += "-";
      for (int factor : tensors[t][d])
        text += factorName(factor);
    }
    text += "]";
  }
  return text + ")";
}

std::string ShardingRule::str() const {
  std::string text = strTensors(operands) + " -> " + strTensors(results) + " {";
  for (size_t f = 0; f < factors.size(); ++f) {
    text +=
        (f ? ", " : "") + factorName(static_cast<int>(f)) + "=" + std::to_string(factors[f].size);
    if (factors[f].kind == FactorKind::Reduction)
      text += std::string(" ") + shardc::str(factors[f].reduce);
    else if (factors[f].kind != FactorKind::PassThrough)
      text += std::string(" ") + shardc::str(factors[f].kind);
  }
  return text + "}" + (linear ? " linear" : "");
}

//===----------------------------------------------------------------------===//
// Verification
//===----------------------------------------------------------------------===//

/// `uses[f]` counts the tensors that have factor f.
static Error verifyTensor(const ShardingRule &rule, const FactorDims &dims, const Shape &shape,
                          const std::string &name, std::vector<int> &uses) {
  if (dims.size() != shape.size())
    return "rule gives " + name + " " + std::to_string(dims.size()) + " dimensions, it has " +
           std::to_string(shape.size());
  std::vector<bool> seen(rule.factors.size());
  for (size_t d = 0; d < dims.size(); ++d) {
    int64_t product = 1;
    for (int f : dims[d]) {
      if (f < 0 || f >= static_cast<int>(rule.factors.size()))
        return "factor " + std::to_string(f) + " in dimension " + std::to_string(d) + " of " +
               name + " is out of range, the rule has " + std::to_string(rule.factors.size()) +
               " factors";
      if (seen[f])
        return "factor " + factorName(f) + " occurs twice in " + name;
      seen[f] = true;
      ++uses[f];
      product *= rule.factors[f].size;
    }
    if (!dims[d].empty() && product != shape[d])
      return "factors of dimension " + std::to_string(d) + " of " + name + " have product " +
             std::to_string(product) + ", the dimension has size " + std::to_string(shape[d]);
  }
  return std::nullopt;
}

static Error verifyTensors(const ShardingRule &rule, const std::vector<FactorDims> &tensors,
                           const std::vector<Shape> &shapes, const std::string &what,
                           std::vector<int> &uses) {
  if (tensors.size() != shapes.size())
    return "rule has " + std::to_string(tensors.size()) + " " + what + "s, the op has " +
           std::to_string(shapes.size());
  for (size_t t = 0; t < tensors.size(); ++t)
    if (Error error =
            verifyTensor(rule, tensors[t], shapes[t], what + " " + std::to_string(t), uses))
      return error;
  return std::nullopt;
}

Error ShardingRule::verify(const std::vector<Shape> &operandShapes,
                           const std::vector<Shape> &resultShapes) const {
  for (size_t f = 0; f < factors.size(); ++f)
    if (factors[f].size < 0)
      return "factor " + factorName(static_cast<int>(f)) + " has size " +
             std::to_string(factors[f].size) + ", expected at least 0";
  std::vector<int> inOperands(factors.size()), inResults(factors.size());
  if (Error error = verifyTensors(*this, operands, operandShapes, "operand", inOperands))
    return error;
  if (Error error = verifyTensors(*this, results, resultShapes, "result", inResults))
    return error;
  for (size_t f = 0; f < factors.size(); ++f) {
    std::string name =
        std::string(shardc::str(factors[f].kind)) + " factor " + factorName(static_cast<int>(f));
    if (inOperands[f] + inResults[f] == 0)
      return name + " occurs in no tensor";
    if (factors[f].kind == FactorKind::Reduction &&
        inResults[f] == static_cast<int>(results.size()))
      return name + " occurs in every result";
    if (factors[f].kind == FactorKind::PassThrough && !inResults[f])
      return name + " occurs in no result";
    if (linear && factors[f].kind == FactorKind::Reduction && factors[f].reduce != ReduceKind::Sum)
      return name + " of a linear op reduces by " + shardc::str(factors[f].reduce) +
             ", expected sum";
  }
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------===//

ShardingRuleBuilder::ShardingRuleBuilder(std::vector<Shape> operandShapes,
                                         std::vector<Shape> resultShapes)
    : operandShapes(std::move(operandShapes)), resultShapes(std::move(resultShapes)) {
  for (const Shape &shape : this->operandShapes)
    rule.operands.emplace_back(shape.size());
  for (const Shape &shape : this->resultShapes)
    rule.results.emplace_back(shape.size());
}

/// Beyond the rank: makes room, so that build() reports it instead of crashing here.
void ShardingRuleBuilder::appendFactor(FactorDims &dims, size_t dim, int factor) {
  if (dim >= dims.size())
    dims.resize(dim + 1);
  dims[dim].push_back(factor);
}

ShardingRuleBuilder &ShardingRuleBuilder::addFactor(const std::vector<int> &operandDims,
                                                    const std::vector<int> &resultDims,
                                                    int64_t size, FactorKind kind,
                                                    ReduceKind reduce) {
  if (size == 1)
    return *this;
  int factor = static_cast<int>(rule.factors.size());
  rule.factors.push_back({size, kind, reduce});
  for (size_t t = 0; t < operandDims.size() && t < rule.operands.size(); ++t)
    if (operandDims[t] >= 0)
      appendFactor(rule.operands[t], operandDims[t], factor);
  for (size_t t = 0; t < resultDims.size() && t < rule.results.size(); ++t)
    if (resultDims[t] >= 0)
      appendFactor(rule.results[t], resultDims[t], factor);
  return *this;
}

ShardingRuleBuilder &ShardingRuleBuilder::addPointwise() {
  if (resultShapes.empty())
    return *this;
  for (size_t d = 0; d < resultShapes[0].size(); ++d) {
    std::vector<int> inOperands, inResults(resultShapes.size(), static_cast<int>(d));
    for (const Shape &shape : operandShapes)
      inOperands.push_back(shape.empty() ? -1 : static_cast<int>(d));
    addFactor(inOperands, inResults, resultShapes[0][d]);
  }
  return *this;
}

ShardingRuleBuilder &ShardingRuleBuilder::addReshape() {
  if (operandShapes.empty() || resultShapes.empty())
    return *this;
  const Shape &from = operandShapes[0], &to = resultShapes[0];
  if (elementCount(from) == 0 || elementCount(to) == 0)
    return *this; // Nothing to shard.
  size_t a = 0, b = 0;
  // Sizes that are left of the current dimensions, and of what has no common factor on either side.
  int64_t restA = 1, restB = 1, strangeA = 1, strangeB = 1;
  while (true) {
    while (restA == 1 && a < from.size())
      restA = from[a++];
    while (restB == 1 && b < to.size())
      restB = to[b++];
    if (restA == 1 && restB == 1)
      return *this;
    int64_t common = strangeA == strangeB ? std::gcd(restA, restB) : 1;
    if (common > 1) {
      addFactor({static_cast<int>(a) - 1}, {static_cast<int>(b) - 1}, common);
      restA /= common;
      restB /= common;
      strangeA = strangeB = 1;
    } else if (restA > 1 && (strangeA * restA <= strangeB * restB || restB == 1)) {
      addFactor({static_cast<int>(a) - 1}, {-1}, restA, FactorKind::NeedReplication);
      strangeA *= restA;
      restA = 1;
    } else {
      addFactor({-1}, {static_cast<int>(b) - 1}, restB, FactorKind::NeedReplication);
      strangeB *= restB;
      restB = 1;
    }
  }
}

ShardingRuleBuilder &ShardingRuleBuilder::setLinear() {
  rule.linear = true;
  return *this;
}

Result<ShardingRule> ShardingRuleBuilder::build() const {
  if (Error error = rule.verify(operandShapes, resultShapes))
    return Result<ShardingRule>::failure(*error + " in rule " + rule.str());
  return rule;
}
