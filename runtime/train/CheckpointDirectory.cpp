#include "runtime/train/CheckpointDirectory.h"
#include "runtime/core/Error.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

using namespace shardrt;
namespace fs = std::filesystem;

const char shardrt::checkpointFile[] = "checkpoint.safetensors";
const char shardrt::trainerFile[] = "trainer.json";

static std::string withoutSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/')
    path.pop_back();
  return path;
}

static std::string parentOf(const std::string &path) {
  std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

CheckpointDirectory::CheckpointDirectory(const std::string &path) : path(withoutSlashes(path)) {}

static bool exists(const std::string &path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

static bool isComplete(const std::string &path) {
  return exists(path + "/" + checkpointFile) && exists(path + "/" + trainerFile);
}

void shardrt::syncToDisk(const std::string &path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  int failed = fd < 0 ? -1 : fsync(fd);
  std::string reason = systemError();
  if (fd >= 0)
    close(fd);
  if (failed)
    throw Error(SHARDRT_IO, cat(path, ": cannot write to disk: ", reason));
}

/// The name of something that is no part of a checkpoint; empty if there is nothing else.
static std::string strangerIn(const std::string &path) {
  for (const fs::directory_entry &entry : fs::directory_iterator(path))
    if (std::string name = entry.path().filename().string();
        name != checkpointFile && name != trainerFile)
      return name;
  return "";
}

/// Only what a checkpoint is made of is ever removed.
static void removeDirectory(const std::string &path) {
  for (const char *file : {checkpointFile, trainerFile})
    if (unlink((path + "/" + file).c_str()) != 0 && errno != ENOENT)
      throw Error(SHARDRT_IO, cat(path, "/", file, ": cannot remove: ", systemError()));
  if (rmdir(path.c_str()) != 0 && errno != ENOENT)
    throw Error(SHARDRT_IO, cat(path, ": cannot remove: ", systemError()));
}

static void moveDirectory(const std::string &from, const std::string &to) {
  if (rename(from.c_str(), to.c_str()) != 0)
    throw Error(SHARDRT_IO, cat(from, ": cannot rename to ", to, ": ", systemError()));
}

void CheckpointDirectory::checkWritable() const {
  for (const std::string &name : {path, partial(), previous()}) {
    if (!exists(name))
      continue;
    if (!fs::is_directory(name) || fs::is_symlink(name))
      throw Error(SHARDRT_INVALID_ARGUMENT, cat(name, ": is not a directory"));
    if (std::string stranger = strangerIn(name); !stranger.empty())
      throw Error(SHARDRT_INVALID_ARGUMENT, cat(name, ": holds \"", stranger,
                                                "\", a checkpoint needs a directory of its own"));
  }
  if (access(parentOf(path).c_str(), W_OK | X_OK) != 0)
    throw Error(SHARDRT_IO, cat(path, ": cannot write into ", parentOf(path), ": ", systemError()));
}

void CheckpointDirectory::begin() const {
  checkWritable();
  removeDirectory(partial()); // of a process that was killed
  if (mkdir(partial().c_str(), 0777) != 0)
    throw Error(SHARDRT_IO, cat(partial(), ": cannot create: ", systemError()));
}

void CheckpointDirectory::commit() const {
  syncToDisk(partial());
  if (exists(path)) {
    removeDirectory(previous()); // PATH is good, and this is older
    moveDirectory(path, previous());
  }
  moveDirectory(partial(), path);
  syncToDisk(parentOf(path));
  removeDirectory(previous());
}

void CheckpointDirectory::discard() const noexcept {
  try {
    removeDirectory(partial());
  } catch (const std::exception &) { // the next one removes it
  }
}

std::string CheckpointDirectory::find() const {
  for (const std::string &name : {path, previous()})
    if (isComplete(name))
      return name;
  throw Error(SHARDRT_BAD_WEIGHTS, exists(path) ? cat(path, ": is no checkpoint, ", checkpointFile,
                                                      " or ", trainerFile, " is missing")
                                                : cat(path, ": no such checkpoint"));
}
