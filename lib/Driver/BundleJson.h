//===- BundleJson.h - What a bundle's files say ---------------------------===//

#ifndef SHARDC_LIB_DRIVER_BUNDLEJSON_H
#define SHARDC_LIB_DRIVER_BUNDLEJSON_H

#include "llvm/Support/JSON.h"

#include <optional>
#include <string>

namespace shardc {

/// A JSON file of a bundle, an object; nullopt if it is none, which has been said on stderr.
std::optional<llvm::json::Value> readBundleJson(const std::string &bundle, llvm::StringRef name);

/// A member's text; empty if there is none.
inline std::string text(const llvm::json::Object &object, llvm::StringRef key) {
  return object.getString(key).value_or("").str();
}

} // namespace shardc

#endif // SHARDC_LIB_DRIVER_BUNDLEJSON_H
