//===- Pack.cpp - shardc pack: a bundle's directory as one zip file -------===//

#include "shardc/Bundle/Archive.h"
#include "shardc/Driver/Driver.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

namespace shardc {

int packCommand(const PackOptions &options) {
  if (!isArchivePath(options.output)) {
    llvm::errs() << "error: pack needs an output: -o NAME.zip"
                 << (options.output.empty() ? "" : ", not " + options.output) << "\n";
    return kUsage;
  }
  if (llvm::sys::fs::exists(options.output) && !options.force) {
    llvm::errs() << "error: " << options.output << " exists; --force replaces it\n";
    return kUsage;
  }
  if (!llvm::sys::fs::is_directory(options.bundle)) {
    llvm::errs() << "error: " << options.bundle << ": pack takes a bundle's directory\n";
    return kFailed;
  }
  if (llvm::Error error = packBundle(options.bundle, options.output, options.force)) {
    llvm::errs() << "error: " << llvm::toString(std::move(error)) << "\n";
    return kFailed;
  }
  return kOk;
}

} // namespace shardc
