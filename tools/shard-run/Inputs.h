// The .npy files of a run, checked against the bundle before anything starts.
#pragma once

#include "runtime/core/Bundle.h"
#include "tools/shard-run/CommandLine.h"

namespace shardrt {

struct InputFile {
  const Value *value;
  std::unique_ptr<MappedFile> file;
  const std::byte *data;
};

/// The entry that is asked for; else the first, or of a model for several shapes the first that
/// takes the input files as they are. Throws SHARDRT_BAD_INPUT that lists the instances if none
/// does.
const Entry &chooseEntry(const Program &program, const RunOptions &options);

/// Throws SHARDRT_BAD_INPUT that lists every input that is missing, unknown, or of the wrong dtype
/// or shape.
std::vector<InputFile> openInputs(const Entry &entry, const RunOptions &options);

struct OutputFile {
  const Value *value;
  std::string path;
};

/// Throws SHARDRT_INVALID_ARGUMENT for unknown names, SHARDRT_IO for paths that cannot be written.
std::vector<OutputFile> resolveOutputs(const Entry &entry, const RunOptions &options);
void checkWritable(const std::string &path);

} // namespace shardrt
