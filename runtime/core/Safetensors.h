// Safetensors files: an 8-byte header length, a JSON header, raw little-endian tensors.
#pragma once

#include "runtime/core/BundleFiles.h"
#include "runtime/core/DType.h"
#include <map>
#include <memory>

namespace shardrt {

struct TensorEntry {
  std::optional<DType> dtype; // empty: a type that this runtime does not know (fp8, …)
  std::string dtypeText;
  Shape shape;
  int64_t begin, end; // in the file
};

/// Length field plus header. Throws SHARDRT_BAD_WEIGHTS when the file is shorter.
size_t safetensorsHeaderBytes(std::string_view text, const std::string &file);
std::map<std::string, TensorEntry> readSafetensorsHeader(std::string_view text,
                                                         const std::string &file);
/// The texts of "__metadata__".
std::map<std::string, std::string> readSafetensorsMetadata(std::string_view text,
                                                           const std::string &file);
const char *safetensorsDTypeName(DType dtype);

/// A tensor inside a mapped weight file.
struct WeightTensor {
  const TensorEntry *entry;
  const std::byte *data;
  std::string file;
};

/// All tensors below a path: one .safetensors file, a Hugging Face index (*.index.json), or a
/// directory that holds one of these. Files are opened when a tensor of theirs is first asked for.
class WeightFiles {
public:
  explicit WeightFiles(const std::string &path);
  /// Those of a bundle: its folder "weights".
  static WeightFiles ofBundle(const BundleFiles &bundle);
  WeightFiles(WeightFiles &&);
  ~WeightFiles();
  /// Empty when there is no such tensor.
  std::optional<WeightTensor> find(const std::string &tensor);
  /// Of a tensor that was read: a weight file need not stay in memory as a whole.
  void release(const WeightTensor &tensor);
  const std::string &path() const { return root; }

private:
  struct File;
  WeightFiles() = default;
  void addDirectory(const std::string &path);
  void addFile(const std::string &path);
  void addIndex(const std::string &path);
  File &open(const std::string &path);
  std::string root;
  std::map<std::string, std::string> fileOf; // tensor to file
  std::map<std::string, std::unique_ptr<File>> files;
};

} // namespace shardrt
