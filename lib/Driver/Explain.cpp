//===- Explain.cpp - shardc explain and inspect: what a bundle's manifest says -===//

#include "BundleJson.h"
#include "shardc/Driver/Driver.h"

#include "llvm/Support/Format.h"

#include <map>

using namespace mlir;
namespace json = llvm::json;

namespace shardc {

/// Collectives that are the same but for the layer that they are in.
namespace {
struct Line {
  std::string entry, op, group, path, origin;
  int64_t bytes = 0, count = 0;
  double micros = 0; ///< each
};
} // namespace

static double microsOf(const CostTable &costs, const json::Object &collective) {
  return costs.collectiveMicros(text(collective, "op"), text(collective, "group"),
                                collective.getInteger("ranks").value_or(1),
                                collective.getInteger("bytes").value_or(0));
}

static std::vector<Line> collectLines(const json::Array &collectives, const CostTable &costs) {
  std::vector<Line> lines;
  std::map<std::string, size_t> known;
  for (const json::Value &value : collectives) {
    const json::Object *entry = value.getAsObject();
    if (!entry)
      continue;
    Line line{text(*entry, "entry"),
              text(*entry, "op"),
              text(*entry, "group"),
              text(*entry, "path"),
              text(*entry, "origin"),
              entry->getInteger("bytes").value_or(0),
              1,
              microsOf(costs, *entry)};
    std::string key = line.entry + "|" + line.op + "|" + line.group + "|" + line.path + "|" +
                      line.origin + "|" + std::to_string(line.bytes);
    auto [found, isNew] = known.try_emplace(key, lines.size());
    if (isNew)
      lines.push_back(line);
    else
      ++lines[found->second].count;
  }
  return lines;
}

static void printNotes(const json::Object &report) {
  const json::Array *notes = report.getArray("notes");
  for (const json::Value &value : notes ? *notes : json::Array())
    if (const json::Object *entry = value.getAsObject())
      llvm::outs() << llvm::left_justify("note", 15) << text(*entry, "path") << "\n    "
                   << text(*entry, "note") << "\n";
}

int explainCommand(const std::string &bundle, const std::string &costsFile, bool asJson) {
  std::optional<json::Value> manifest = readBundleJson(bundle, "manifest.json");
  if (!manifest)
    return kFailed;
  const json::Object &root = *manifest->getAsObject();
  const json::Object *report = root.getObject("report");
  const json::Array *collectives = report ? report->getArray("collectives") : nullptr;
  if (!collectives) {
    llvm::errs() << "error: " << bundle << "/manifest.json has no report of collectives\n";
    return kFailed;
  }
  FailureOr<CostTable> costs = readCosts(costsFile, root, bundle);
  if (failed(costs))
    return kFailed;
  if (asJson) {
    json::Array list(*collectives);
    for (json::Value &value : list)
      if (json::Object *entry = value.getAsObject())
        (*entry)["us"] = microsOf(*costs, *entry);
    llvm::outs() << llvm::formatv("{0:2}\n", json::Value(std::move(list)));
    return kOk;
  }
  int64_t total = 0, count = 0;
  double micros = 0;
  const json::Array *entries = root.getArray("entry_points");
  bool hasSeveral = entries && entries->size() > 1;
  std::string entry;
  auto finish = [&] { // an entry point's
    if (!hasSeveral || count)
      llvm::outs() << count << " collectives" << (hasSeveral ? " in " + entry : "") << ", " << total
                   << " bytes sent a rank in a run"
                   << llvm::format(", %.1f us one after the other (", micros) << costs->describe()
                   << ")\n"
                   << (hasSeveral ? "\n" : "");
    total = count = 0;
    micros = 0;
  };
  for (const Line &line : collectLines(*collectives, *costs)) {
    if (hasSeveral && line.entry != entry) {
      finish();
      entry = line.entry;
      llvm::outs() << entry << ":\n";
    }
    total += line.bytes * line.count;
    micros += line.micros * line.count;
    count += line.count;
    llvm::outs() << llvm::left_justify(line.op, 15) << "over {" << line.group << "}  " << line.bytes
                 << " bytes" << llvm::format("  %.1f us", line.micros)
                 << (line.count > 1 ? "  x " + std::to_string(line.count) : "")
                 << (line.path.empty() ? "" : "  in " + line.path) << "\n";
    llvm::SmallVector<llvm::StringRef> reasons;
    llvm::StringRef(line.origin).split(reasons, '\n', -1, /*KeepEmpty=*/false);
    for (llvm::StringRef reason : reasons)
      llvm::outs() << "    " << reason << "\n";
  }
  finish();
  printNotes(*report);
  return kOk;
}

static void printValues(const json::Object &root, llvm::StringRef key, llvm::StringRef title) {
  const json::Array *values = root.getArray(key);
  for (const json::Value &value : values ? *values : json::Array()) {
    const json::Object &entry = *value.getAsObject();
    llvm::outs() << llvm::left_justify(title, 10) << text(entry, "name") << " : "
                 << text(entry, "dtype") << " " << llvm::formatv("{0}", *entry.get("shape"))
                 << "\n";
    title = "";
  }
}

int inspectCommand(const std::string &bundle, bool asJson) {
  std::optional<json::Value> manifest = readBundleJson(bundle, "manifest.json");
  if (!manifest)
    return kFailed;
  if (asJson) {
    llvm::outs() << llvm::formatv("{0:2}\n", *manifest);
    return kOk;
  }
  const json::Object &root = *manifest->getAsObject();
  llvm::outs() << "model     " << text(root, "model") << ", by " << text(root, "producer") << "\n";
  llvm::outs() << "ranks     " << root.getInteger("ranks").value_or(0) << "\n";
  llvm::StringRef title = "code";
  for (const json::Value &value :
       root.getArray("kernels") ? *root.getArray("kernels") : json::Array()) {
    const json::Object &image = *value.getAsObject();
    std::string machine = image.get("arch") ? text(image, "arch") : text(image, "level");
    llvm::outs() << llvm::left_justify(title, 10) << llvm::left_justify(machine, 12)
                 << text(image, "file") << "\n";
    title = "";
  }
  const json::Array *entries = root.getArray("entries");
  if (entries && entries->size() > 1) {
    for (const json::Value &value : *entries) {
      const json::Object &entry = *value.getAsObject();
      llvm::outs() << "entry     " << text(entry, "name") << "\n";
      printValues(entry, "inputs", "  inputs");
      printValues(entry, "outputs", "  outputs");
    }
  } else {
    printValues(root, "inputs", "inputs");
    printValues(root, "outputs", "outputs");
  }
  for (llvm::StringRef section : {"memory", "communication"})
    if (const json::Object *object = root.getObject(section))
      for (const auto &[key, value] : *object)
        llvm::outs() << llvm::left_justify(section, 14) << llvm::left_justify(key, 18)
                     << llvm::formatv("{0}", value) << "\n";
  if (const json::Object *report = root.getObject("report"))
    llvm::outs() << "commands  " << report->getInteger("launches").value_or(0) << " launches of "
                 << report->getInteger("kernels").value_or(0) << " kernels\n";
  return kOk;
}

} // namespace shardc
