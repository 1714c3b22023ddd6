//===- BundleFiles.cpp - The files of a bundle ----------------------------===//
#include "BundleFiles.h"
#include "shardc/Bundle/Archive.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SHA256.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace shardc {

llvm::Error ioError(StringRef path, const char *what, std::error_code code) {
  return llvm::createStringError("%s: %s: %s", path.str().c_str(), what, code.message().c_str());
}

std::string sha256(StringRef bytes) {
  auto digest = llvm::SHA256::hash(llvm::arrayRefFromStringRef(bytes));
  return llvm::toHex(digest, /*LowerCase=*/true);
}

llvm::Error checkReplaceable(StringRef path, bool force) {
  if (!llvm::sys::fs::exists(path))
    return llvm::Error::success();
  if (!force)
    return llvm::createStringError("%s: exists; remove it or use force to replace it",
                                   path.str().c_str());
  if (llvm::sys::fs::is_directory(path) == isArchivePath(path))
    return llvm::createStringError("%s: exists and is %s; it will not be replaced",
                                   path.str().c_str(),
                                   isArchivePath(path) ? "a directory" : "no directory");
  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> manifest =
      readBundleFile(path, "manifest.json");
  if (manifest)
    return llvm::Error::success();
  llvm::consumeError(manifest.takeError());
  return llvm::createStringError(
      "%s: exists and is no bundle (it has no manifest.json); it will not be replaced",
      path.str().c_str());
}

llvm::Expected<BundleDirectory> BundleDirectory::create(StringRef path, bool force) {
  while (path.size() > 1 && path.ends_with("/"))
    path = path.drop_back();
  if (path.empty())
    return llvm::createStringError("no path was given for the bundle");
  if (llvm::Error error = checkReplaceable(path, force))
    return std::move(error);
  SmallString<128> temporary;
  llvm::sys::fs::createUniquePath(path + ".%%%%%%.partial", temporary, /*MakeAbsolute=*/false);
  if (std::error_code code = llvm::sys::fs::create_directories(temporary))
    return ioError(temporary, "cannot create the bundle", code);
  return BundleDirectory(path.str(), temporary.str().str());
}

BundleDirectory::~BundleDirectory() {
  if (!temporary.empty())
    (void)llvm::sys::fs::remove_directories(temporary);
}

llvm::Error BundleDirectory::write(StringRef file, StringRef contents) {
  std::string path = pathOf(file);
  std::error_code code = llvm::sys::fs::create_directories(llvm::sys::path::parent_path(path));
  if (code)
    return ioError(path, "cannot create the directory", code);
  llvm::raw_fd_ostream os(path, code);
  if (code)
    return ioError(path, "cannot write", code);
  os << contents;
  os.close();
  if (os.has_error()) {
    code = os.error();
    os.clear_error();
    return ioError(path, "cannot write", code);
  }
  return file == "manifest.json" ? llvm::Error::success() : list(file);
}

llvm::Error BundleDirectory::list(StringRef file) {
  std::string path = pathOf(file);
  auto buffer =
      llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return ioError(path, "cannot read", buffer.getError());
  StringRef contents = (*buffer)->getBuffer(), hashed = contents;
  if (file.ends_with(".safetensors") && contents.size() >= 8)
    hashed = contents.take_front(8 + llvm::support::endian::read64le(contents.data()));
  files.push_back(llvm::json::Object{
      {"path", file.str()}, {"bytes", int64_t(contents.size())}, {"sha256", sha256(hashed)}});
  return llvm::Error::success();
}

llvm::Error BundleDirectory::commit() {
  if (isArchivePath(target)) // the directory goes with this object
    return packBundle(temporary, target, /*force=*/true);
  // A directory cannot be renamed over one that is not empty: the old one steps aside first.
  std::string old;
  if (llvm::sys::fs::exists(target)) {
    old = temporary + ".old";
    if (std::error_code code = llvm::sys::fs::rename(target, old))
      return ioError(target, "cannot be replaced", code);
  }
  if (std::error_code code = llvm::sys::fs::rename(temporary, target)) {
    if (!old.empty())
      (void)llvm::sys::fs::rename(old, target);
    return ioError(target, "cannot move the finished bundle here", code);
  }
  temporary.clear();
  if (!old.empty())
    (void)llvm::sys::fs::remove_directories(old);
  return llvm::Error::success();
}

} // namespace shardc
