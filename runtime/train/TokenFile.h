// A flat file of token numbers, as windows of S + 1 tokens: S that go in, and the S that follow
// them.
#pragma once

#include "runtime/core/DType.h"
#include "runtime/core/MappedFile.h"

namespace shardrt {

class TokenFile {
public:
  /// dtype: "u16" or "u32"; empty takes what FILE.json says ({"dtype": "u16"}). Throws
  /// SHARDRT_BAD_INPUT when neither says it, or when the file is too short for one window.
  TokenFile(const std::string &path, const std::string &dtype, int64_t length, int64_t vocabulary);

  int64_t tokens() const { return count; }
  int64_t windows() const { return (count - 1) / length; }
  const std::string &path() const { return file.path(); }
  DType dtype() const { return type; }
  /// Tells whether two files are (most probably) the same: of the size and the first and last
  /// bytes.
  uint64_t fingerprint() const;

  /// Writes the window's tokens and those that follow them. Throws SHARDRT_BAD_INPUT that names a
  /// token which is not in the vocabulary and its position.
  template <typename T> void read(int64_t window, T *inputs, T *labels) const;

private:
  int64_t token(int64_t position) const;

  MappedFile file;
  DType type;
  int64_t count, length, vocabulary;
};

/// A permutation of [0, count) that depends on the seed and the epoch, without a table: `index`
/// goes to the result.
int64_t shuffled(uint64_t seed, int64_t epoch, int64_t count, int64_t index);

} // namespace shardrt
