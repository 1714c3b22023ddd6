//===- Origin.cpp - Why a collective is there, in words -------------------===//
//
// Partition leaves a dictionary on every collective: what needed it, who asked, from which sharding
// to which, at what cost, and what the decision was against. `shardc explain` prints these lines.
//
//===----------------------------------------------------------------------===//

#include "Origin.h"

#include "dialects/Shard/Shard.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace shardc {

static std::string get(DictionaryAttr origin, StringRef key) {
  auto value = origin.getAs<StringAttr>(key);
  return value ? value.str() : "";
}

/// The smallest change that would take the collective away.
static std::string remedy(Operation *op, const std::string &asked) {
  if (isa<shard::AllReduceOp, shard::ReduceScatterOp>(op))
    return "to remove it: do not cut the dimension that is summed over (style replicate for that "
           "weight), or let the next op "
           "take the pending sum";
  if (!asked.empty())
    return "to remove it: drop or change that plan line";
  return "to remove it: give the value and what reads it one sharding";
}

std::string originText(Operation *op) {
  Attribute attr = op->getAttr(shard::ShardDialect::kOriginAttr);
  if (auto text = dyn_cast_or_null<StringAttr>(attr))
    return text.str();
  auto origin = dyn_cast_or_null<DictionaryAttr>(attr);
  if (!origin)
    return "";
  std::string asked = get(origin, "asked");
  std::string text =
      get(origin, "for") + " needs " + get(origin, "to") + ", has " + get(origin, "from");
  if (!asked.empty())
    text += "\nasked by " + asked;
  if (auto micros = origin.getAs<FloatAttr>("micros"))
    text += llvm::formatv("\nestimated {0:F1} us", micros.getValueAsDouble()).str();
  if (std::string choice = get(origin, "choice"); !choice.empty())
    text += "\n" + choice;
  if (auto pieces = origin.getAs<IntegerAttr>("pieces"))
    text +=
        "\none of " + std::to_string(pieces.getInt()) + " pieces, beside the products of others";
  if (std::string why = get(origin, "whole"); !why.empty())
    text += "\nnot cut into pieces: " + why;
  return text + "\n" + remedy(op, asked);
}

std::string originPath(Operation *op) {
  if (auto path = op->getAttrOfType<StringAttr>("graph.path"))
    return path.str();
  auto origin = op->getAttrOfType<DictionaryAttr>(shard::ShardDialect::kOriginAttr);
  return origin ? get(origin, "path") : "";
}

} // namespace shardc
