//===- PlanFile.cpp - Plans from YAML and JSON files, pattern matching ----===//

#include "shardc/Annotate/Plan.h"

#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/YAMLParser.h"

namespace shardc {

static bool isNumber(llvm::StringRef segment) {
  return !segment.empty() && llvm::all_of(segment, llvm::isDigit);
}

static bool matchesSegments(llvm::ArrayRef<llvm::StringRef> pattern,
                            llvm::ArrayRef<llvm::StringRef> path) {
  if (pattern.size() != path.size())
    return false;
  for (auto [want, have] : llvm::zip(pattern, path))
    if (want != have && want != "*" && !(want == "{}" && isNumber(have)))
      return false;
  return true;
}

bool matchesPattern(llvm::StringRef pattern, llvm::StringRef path) {
  llvm::SmallVector<llvm::StringRef> want, have;
  pattern.split(want, '.');
  path.split(have, '.');
  for (size_t skipped = 0; skipped + want.size() <= have.size(); ++skipped) {
    if (matchesSegments(want, llvm::ArrayRef(have).drop_front(skipped)))
      return true;
    if (isNumber(have[skipped]))
      return false; // "q_proj" alone must not match inside some layer's submodule list
  }
  return false;
}

bool speaksOf(llvm::StringRef pattern, llvm::StringRef path) {
  for (; !path.empty(); path = path.contains('.') ? path.rsplit('.').first : "")
    if (matchesPattern(pattern, path))
      return true;
  return false;
}

namespace {

/// Reads the map under one key of a plan file.
struct PlanReader {
  std::string file;
  Plan plan;

  llvm::Error fail(const llvm::Twine &message) {
    return llvm::createStringError(file + ": " + message);
  }

  llvm::Expected<std::string> scalar(llvm::yaml::Node *node, const llvm::Twine &what) {
    auto *value = llvm::dyn_cast_or_null<llvm::yaml::ScalarNode>(node);
    if (!value)
      return fail(what + " is not a string");
    llvm::SmallString<32> storage;
    return value->getValue(storage).str();
  }

  llvm::Error readEntries(llvm::yaml::MappingNode &map, std::vector<PlanEntry> &entries) {
    // The class's own plan stands after the base model's and is complete: later keys replace
    // earlier ones.
    entries.clear();
    for (llvm::yaml::KeyValueNode &entry : map) {
      auto pattern = scalar(entry.getKey(), "a pattern");
      if (!pattern)
        return pattern.takeError();
      auto name = scalar(entry.getValue(), "the style of \"" + *pattern + "\"");
      if (!name)
        return name.takeError();
      auto style = parseStyle(*name);
      if (!style)
        return fail("\"" + *pattern + "\": " + llvm::toString(style.takeError()));
      entries.push_back({*pattern, *style, file});
    }
    return llvm::Error::success();
  }

  /// The map of patterns: below one of Hugging Face's keys, or the file itself.
  llvm::Error readRoot(llvm::yaml::MappingNode &root) {
    // YAML nodes are read once, in order: decide by the first key.
    static const llvm::StringRef kPlanKeys[] = {"model._tp_plan", "base_model_tp_plan", "tp_plan"},
                                 kExpertKeys[] = {"model._ep_plan", "base_model_ep_plan",
                                                  "ep_plan"};
    bool isBundleOfPlans = false, found = false;
    for (llvm::yaml::KeyValueNode &entry : root) {
      auto key = scalar(entry.getKey(), "a key");
      if (!key)
        return key.takeError();
      auto *map = llvm::dyn_cast_or_null<llvm::yaml::MappingNode>(entry.getValue());
      bool isExpertKey = llvm::is_contained(kExpertKeys, *key),
           isPlanKey = isExpertKey || llvm::is_contained(kPlanKeys, *key);
      isBundleOfPlans |=
          isPlanKey || map || llvm::isa_and_nonnull<llvm::yaml::NullNode>(entry.getValue());
      if (isPlanKey && map) {
        if (llvm::Error error = readEntries(*map, isExpertKey ? plan.experts : plan.entries))
          return error;
        found = true;
      } else if (!isBundleOfPlans) {
        auto name = scalar(entry.getValue(), "the style of \"" + *key + "\"");
        if (!name)
          return name.takeError();
        auto style = parseStyle(*name);
        if (!style)
          return fail("\"" + *key + "\": " + llvm::toString(style.takeError()));
        plan.entries.push_back({*key, *style, file});
      } else {
        entry.skip();
      }
    }
    if (isBundleOfPlans && !found)
      return fail("holds no tensor-parallel plan (base_model_tp_plan or model._tp_plan)");
    return llvm::Error::success();
  }
};

} // namespace

llvm::Expected<Plan> readPlanFile(llvm::StringRef file) {
  auto buffer = llvm::MemoryBuffer::getFile(file);
  if (!buffer)
    return llvm::createStringError("cannot read plan " + file.str() + ": " +
                                   buffer.getError().message());
  llvm::SourceMgr sources;
  std::string message;
  sources.setDiagHandler(
      [](const llvm::SMDiagnostic &diag, void *out) {
        *static_cast<std::string *>(out) =
            std::to_string(diag.getLineNo()) + ": " + diag.getMessage().str();
      },
      &message);
  llvm::yaml::Stream stream((*buffer)->getMemBufferRef(), sources);
  PlanReader reader;
  reader.file = llvm::sys::path::filename(file).str();
  reader.plan.name = reader.file;
  auto document = stream.begin();
  auto *root = document == stream.end()
                   ? nullptr
                   : llvm::dyn_cast_or_null<llvm::yaml::MappingNode>(document->getRoot());
  if (!root)
    return reader.fail(message.empty() ? "is not a map from patterns to styles" : message);
  llvm::Error error = reader.readRoot(*root);
  if (stream.failed()) {
    llvm::consumeError(std::move(error));
    return reader.fail(message.empty() ? "is not YAML or JSON" : message);
  }
  if (error)
    return std::move(error);
  return reader.plan;
}

llvm::Expected<Plan> withExperts(Plan plan, int64_t ep) {
  std::vector<PlanEntry> experts = std::move(plan.experts), others;
  for (const PlanEntry &entry : experts)
    if (!isExpertStyle(entry.style) || entry.style == Style::EpRouter)
      return llvm::createStringError(
          entry.origin + ": \"" + entry.pattern + "\": " + styleName(entry.style).str() +
          " is no style of an expert-parallel plan: grouped_gemm, ep_dispatch_experts");
  for (const PlanEntry &entry : plan.entries)
    (isExpertStyle(entry.style) ? experts : others).push_back(entry);
  if (experts.empty())
    return llvm::createStringError("ep = " + std::to_string(ep) + ": " + plan.name +
                                   " has no lines for experts (grouped_gemm, ep_dispatch_experts)");
  llvm::erase_if(others, [&](const PlanEntry &entry) {
    return llvm::any_of(
        experts, [&](const PlanEntry &expert) { return speaksOf(expert.pattern, entry.pattern); });
  });
  plan.entries = std::move(experts);
  plan.entries.insert(plan.entries.end(), others.begin(), others.end());
  return plan;
}

llvm::Expected<Plan> selectPlan(llvm::StringRef choice) {
  if (choice.empty() || choice == "default")
    return defaultPlan();
  if (auto plan = builtinPlan(choice))
    return *plan;
  if (choice.contains('.') || choice.contains('/'))
    return readPlanFile(choice);
  std::string names;
  for (const std::string &name : builtinPlanNames())
    names += (names.empty() ? "" : ", ") + name;
  return llvm::createStringError("plan \"" + choice.str() +
                                 "\" is neither a YAML or JSON file nor a built-in plan: " + names);
}

} // namespace shardc
