//===- Archive.h - A bundle as one file -------------------------*- C++ -*-===//
#ifndef SHARDC_BUNDLE_ARCHIVE_H
#define SHARDC_BUNDLE_ARCHIVE_H

#include "mlir/Support/LLVM.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <memory>
#include <optional>

namespace llvm {
class MemoryBuffer;
} // namespace llvm

namespace shardc {

/// Whether an output is to be one file: it is named *.zip.
inline bool isArchivePath(llvm::StringRef path) { return path.ends_with(".zip"); }

/// Writes a bundle's directory as a zip file of stored members, aligned so that they can be mapped
/// where they lie (docs/contracts.md §3): what its manifest lists, and all weights/*.safetensors.
/// The same directory gives the same bytes. `path` appears complete or not at all; fails if it
/// exists, unless `force`, and if it is no bundle. Sizes and places from `zip64From` on are written
/// as 64 bits.
llvm::Error packBundle(llvm::StringRef directory, llvm::StringRef path, bool force,
                       uint64_t zip64From = UINT32_MAX);

/// A file of a bundle, which is a directory or such a zip file.
llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> readBundleFile(llvm::StringRef bundle,
                                                                   llvm::StringRef file);

} // namespace shardc

#endif // SHARDC_BUNDLE_ARCHIVE_H
