// A checkpoint is a directory with two files. It is written beside the last one and then takes its
// place, so that a process that is killed at any moment leaves a whole one:
//   1. PATH.partial is written.       2. PATH becomes PATH.previous.
//   3. PATH.partial becomes PATH.     4. PATH.previous is removed.
// A reader that finds no PATH (a kill between 2 and 3) takes PATH.previous.
#pragma once

#include <string>

namespace shardrt {

extern const char checkpointFile[]; // "checkpoint.safetensors"
extern const char trainerFile[];    // "trainer.json"

class CheckpointDirectory {
public:
  explicit CheckpointDirectory(const std::string &path);

  /// Throws SHARDRT_INVALID_ARGUMENT if the path holds anything that a checkpoint would destroy,
  /// and SHARDRT_IO if it cannot be written.
  void checkWritable() const;
  /// Step 1: partial() as an empty directory.
  void begin() const;
  /// Steps 2 to 4, with everything on disk before and after.
  void commit() const;
  /// After a failure: removes what begin() made.
  void discard() const noexcept;
  /// Where a reader finds the last good checkpoint. Throws SHARDRT_BAD_WEIGHTS if there is none.
  std::string find() const;

  std::string partial() const { return path + ".partial"; }
  const std::string path;

private:
  std::string previous() const { return path + ".previous"; }
};

/// Writes the file's and the directory's data to disk. Throws SHARDRT_IO.
void syncToDisk(const std::string &path);

} // namespace shardrt
