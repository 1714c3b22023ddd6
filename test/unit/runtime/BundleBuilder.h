// Writes small bundles for tests. Everything is open JSON, so that a test can damage what it likes.
#pragma once

#include "runtime/core/DType.h"
#include <map>
#include <nlohmann/json.hpp>

namespace shardrt_test {

using Json = nlohmann::json;

/// A directory that disappears with the object.
class TemporaryDirectory {
public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  std::string operator/(const std::string &name) const { return path + "/" + name; }
  const std::string path;
};

std::string readText(const std::string &path);
void writeText(const std::string &path, const std::string &text);

struct Tensor {
  std::string dtype; // as safetensors spells it
  std::vector<int64_t> shape;
  std::string data;
};
std::string safetensorsText(const std::map<std::string, Tensor> &tensors);

template <typename T> std::string rawBytes(const std::vector<T> &values) {
  return std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
}

class BundleBuilder {
public:
  /// One axis for each (name, size). There is an entry "main" at first.
  explicit BundleBuilder(const std::vector<std::pair<std::string, int>> &axes);

  /// Appends a buffer at the next free place of the arena; returns its index.
  int buffer(const std::string &name, const std::string &dtype, const std::vector<int64_t> &shape,
             const std::string &kind);
  /// What follows belongs to another entry.
  void beginEntry(const std::string &name);
  Json &entry() { return program["entries"].back(); }
  void input(const std::string &name, int buffer, const std::vector<int64_t> &shape,
             const Json &shard);
  void output(const std::string &name, int buffer, const std::vector<int64_t> &shape,
              const Json &shard, const std::string &alias = "");
  void parameter(const std::string &tensor, int buffer, const std::vector<int64_t> &shape,
                 const Json &shard);
  int group(const Json &axes);
  /// The last `results` buffers are written.
  void launch(const std::string &kernel, const std::vector<int> &buffers, int tiles,
              int scratch = 0, int results = 1);
  void command(const Json &command);
  static Json axis(int axis, int size, int pre = 1);

  Json manifest, program;
  std::string constants;
  std::map<std::string, Tensor> weights;
  std::string kernelFile;                   // empty: none
  std::map<std::string, std::string> files; // others, by name

  /// Writes the bundle; the manifest lists the files with their hashes.
  void write(const std::string &path);
};

/// out = (x + 100 * rank) summed over 4 ranks; x and out are f32 [6] whole on every rank.
BundleBuilder sumBundle();
/// As sumBundle, with another kernel ("test_die", "test_sleep") that gets the rank's index before
/// the sum.
BundleBuilder sumBundleWith(const std::string &kernel);

/// For GPUs: y = x · w, accumulated into zeros, by a kernel of three calls whose result passes
/// through the scratch area; then y is summed over 2 ranks. x is f32 [2, 3], w f32 [3, 4].
BundleBuilder cudaBundle();

} // namespace shardrt_test
