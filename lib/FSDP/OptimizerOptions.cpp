//===- OptimizerOptions.cpp - The table of optimizers' options ------------===//

#include "shardc/FSDP/Optimizer.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

using namespace llvm;

namespace shardc {

static constexpr StringLiteral kBool[] = {"true", "false"};
static constexpr StringLiteral kDtypes[] = {"bfloat16", "float32"};
static constexpr StringLiteral kAdjustments[] = {"original", "match_rms_adamw"};
static constexpr unsigned kAdam = OptimizerSpec::AdamW | OptimizerSpec::Muon,
                          kMomentum = OptimizerSpec::Sgd | OptimizerSpec::Muon,
                          kAll = kAdam | kMomentum, kMuon = OptimizerSpec::Muon;

ArrayRef<OptimizerOption> optimizerOptions() {
  static const OptimizerOption options[] = {
      {"weight_decay", kAll, &OptimizerSpec::weightDecay, nullptr, {}},
      {"beta1", kAdam, &OptimizerSpec::beta1, nullptr, {}},
      {"beta2", kAdam, &OptimizerSpec::beta2, nullptr, {}},
      {"epsilon", kAdam, &OptimizerSpec::epsilon, nullptr, {}},
      {"momentum", kMomentum, &OptimizerSpec::momentum, nullptr, {}},
      {"nesterov", kMuon, nullptr, &OptimizerSpec::nesterov, kBool},
      {"newton_schulz_steps", kMuon, &OptimizerSpec::newtonSchulzSteps, nullptr, {}},
      {"newton_schulz_dtype", kMuon, nullptr, &OptimizerSpec::newtonSchulzDtype, kDtypes},
      {"adjust_learning_rate", kMuon, nullptr, &OptimizerSpec::adjustLearningRate, kAdjustments},
  };
  return options;
}

static constexpr std::pair<OptimizerSpec::Kind, StringLiteral> kKinds[] = {
    {OptimizerSpec::AdamW, "adamw"}, {OptimizerSpec::Sgd, "sgd"}, {OptimizerSpec::Muon, "muon"}};

StringRef str(OptimizerSpec::Kind kind) {
  return llvm::find_if(kKinds, [&](const auto &known) { return known.first == kind; })->second;
}

std::string OptimizerOption::spelling() const {
  std::string text = name.str();
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

static Error setOption(OptimizerSpec &spec, StringRef name, StringRef value) {
  auto option = llvm::find_if(
      optimizerOptions(), [&](const OptimizerOption &known) { return known.spelling() == name; });
  if (option == optimizerOptions().end())
    return createStringError("optimizer: there is no option \"" + name + "\"");
  if (!(option->kinds & spec.kind)) {
    std::string owners;
    for (auto &[kind, text] : kKinds)
      if (option->kinds & kind)
        owners += (owners.empty() ? "" : " and ") + text.str();
    return createStringError(name + " is an option of " + owners + ", the optimizer is " +
                             str(spec.kind));
  }
  if (option->word) {
    if (!llvm::is_contained(option->words, value))
      return createStringError(name + " \"" + value + "\" is not " +
                               llvm::join(option->words, " or "));
    spec.*option->word = value.str();
    return Error::success();
  }
  double number = 0;
  if (value.getAsDouble(number) || !(number >= 0))
    return createStringError(name + " \"" + value + "\" is not a number of at least 0");
  spec.*option->number = number;
  return Error::success();
}

Expected<OptimizerSpec> parseOptimizer(StringRef text) {
  SmallVector<StringRef> parts;
  text.split(parts, ',');
  OptimizerSpec spec;
  auto kind = llvm::find_if(kKinds, [&](const auto &known) { return known.second == parts[0]; });
  if (kind == std::end(kKinds))
    return createStringError("optimizer: \"" + parts[0] + "\" is not adamw, sgd or muon");
  spec.kind = kind->first;
  if (spec.kind == OptimizerSpec::Muon)
    spec.momentum = 0.95;
  for (StringRef part : ArrayRef(parts).drop_front()) {
    auto [name, value] = part.split('=');
    if (Error error = setOption(spec, name, value))
      return std::move(error);
  }
  if (double steps = spec.newtonSchulzSteps;
      spec.kind == OptimizerSpec::Muon &&
      (steps < 1 || steps > 99 || steps != static_cast<int>(steps)))
    return createStringError(
        formatv("newton-schulz-steps: {0} is not a whole number from 1 to 99", json::Value(steps))
            .str());
  return spec;
}

json::Object optimizerJson(const OptimizerSpec &spec) {
  json::Object object{{"name", str(spec.kind)}};
  for (const OptimizerOption &option : optimizerOptions())
    if (option.kinds & spec.kind)
      object[option.name] =
          option.number ? json::Value(spec.*option.number) : json::Value(spec.*option.word);
  return object;
}

} // namespace shardc
