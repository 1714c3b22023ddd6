//===- BundleFiles.h - The files of a bundle --------------------*- C++ -*-===//
#ifndef SHARDC_LIB_BUNDLE_BUNDLEFILES_H
#define SHARDC_LIB_BUNDLE_BUNDLEFILES_H

#include "mlir/Support/LLVM.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

namespace shardc {

std::string sha256(llvm::StringRef bytes);

/// "PATH: what: reason".
llvm::Error ioError(llvm::StringRef path, const char *what, std::error_code code);

/// Fails if `path` exists, unless `force`; then, if it is no bundle of the kind that its name says.
llvm::Error checkReplaceable(llvm::StringRef path, bool force);

/// A directory in the making: a temporary sibling of where it will be, which it becomes when
/// complete. If that is named *.zip, it becomes such a file.
class BundleDirectory {
public:
  /// Fails if `path` exists, unless `force`.
  static llvm::Expected<BundleDirectory> create(llvm::StringRef path, bool force);
  BundleDirectory(BundleDirectory &&other)
      : target(std::move(other.target)), temporary(std::move(other.temporary)),
        files(std::move(other.files)) {
    other.temporary.clear();
  }
  ~BundleDirectory(); ///< removes what was not committed

  std::string pathOf(llvm::StringRef file) const { return temporary + "/" + file.str(); }
  /// Writes a file and lists it.
  llvm::Error write(llvm::StringRef file, llvm::StringRef contents);
  /// Lists a file that somebody wrote. Only the header of a safetensors file is hashed: it fixes
  /// names, shapes and offsets.
  llvm::Error list(llvm::StringRef file);
  /// Entries for manifest.json.
  llvm::json::Array fileEntries() const { return files; }
  /// Moves the directory to its place.
  llvm::Error commit();

private:
  BundleDirectory(std::string target, std::string temporary)
      : target(std::move(target)), temporary(std::move(temporary)) {}
  std::string target, temporary;
  llvm::json::Array files;
};

} // namespace shardc

#endif // SHARDC_LIB_BUNDLE_BUNDLEFILES_H
