//===- BundleJson.cpp - What a bundle's files say -------------------------===//

#include "BundleJson.h"
#include "shardc/Driver/Driver.h"

#include "shardc/Bundle/Archive.h"

#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
namespace json = llvm::json;

namespace shardc {

std::optional<json::Value> readBundleJson(const std::string &bundle, llvm::StringRef name) {
  auto buffer = readBundleFile(bundle, name);
  if (!buffer) {
    llvm::errs() << "error: " << bundle
                 << " is not a bundle: " << llvm::toString(buffer.takeError()) << "\n";
    return std::nullopt;
  }
  std::string path = bundle + "/" + name.str();
  auto value = json::parse((*buffer)->getBuffer());
  if (!value) {
    llvm::errs() << "error: " << path << ": " << llvm::toString(value.takeError()) << "\n";
    return std::nullopt;
  }
  if (!value->getAsObject()) {
    llvm::errs() << "error: " << path << " is not a JSON object\n";
    return std::nullopt;
  }
  return std::move(*value);
}

FailureOr<CostTable> readCosts(const std::string &file, const json::Object &manifest,
                               const std::string &bundle) {
  const json::Object *record = manifest.getObject("costs");
  llvm::Expected<CostTable> table =
      !file.empty() ? CostTable::read(file)
      : record      ? CostTable::fromRecord(*record, bundle + "/manifest.json: costs")
                    : CostTable();
  if (table)
    return *table;
  llvm::errs() << "error: " << (file.empty() ? "" : "--costs: ")
               << llvm::toString(table.takeError()) << "\n";
  return failure();
}

FailureOr<CostTable> readCosts(const PipelineOptions &pipeline) {
  return readCosts(pipeline.costs, json::Object(), "");
}

} // namespace shardc
