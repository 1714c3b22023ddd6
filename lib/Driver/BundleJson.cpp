//===- BundleJson.cpp - what a bundle's files say -----------------------------------------------===//

#include "BundleJson.h"

#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

namespace json = llvm::json;

namespace shardc {

std::optional<json::Value> readBundleJson(const std::string &bundle, llvm::StringRef name) {
  llvm::SmallString<128> path(bundle);
  llvm::sys::path::append(path, name);
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer) {
    llvm::errs() << "error: " << bundle << " is not a bundle: cannot read " << name << ": "
                 << buffer.getError().message() << "\n";
    return std::nullopt;
  }
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

} // namespace shardc
