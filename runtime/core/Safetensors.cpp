// Reads safetensors headers with bounds checks; tensors stay in the mapped file.
#include "runtime/core/Safetensors.h"
#include "runtime/core/JsonNode.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

using namespace shardrt;
namespace fs = std::filesystem;

static const uint64_t maxHeaderBytes = 100 << 20; // the limit of the reference implementation

size_t shardrt::safetensorsHeaderBytes(std::string_view text, const std::string &file) {
  uint64_t length = 0;
  if (text.size() < 8)
    throw Error(SHARDRT_BAD_WEIGHTS,
                cat(file, ": has ", text.size(), " bytes, a safetensors file has at least 8"));
  std::memcpy(&length, text.data(), 8);
  if (length > maxHeaderBytes || length > text.size() - 8)
    throw Error(SHARDRT_BAD_WEIGHTS,
                cat(file, ": header of ", length, " bytes does not fit into the file of ",
                    text.size(), " bytes"));
  return 8 + length;
}

static const std::pair<const char *, DType> dtypeNames[] = {
    {"F64", SHARDRT_F64},       {"F32", SHARDRT_F32},
    {"F16", SHARDRT_F16},       {"BF16", SHARDRT_BF16},
    {"I64", SHARDRT_I64},       {"I32", SHARDRT_I32},
    {"I16", SHARDRT_I16},       {"I8", SHARDRT_I8},
    {"U64", SHARDRT_UI64},      {"U32", SHARDRT_UI32},
    {"U16", SHARDRT_UI16},      {"U8", SHARDRT_UI8},
    {"BOOL", SHARDRT_BOOL},     {"F8_E4M3", SHARDRT_F8E4M3FN},
    {"F8_E5M2", SHARDRT_F8E5M2}};

static std::optional<DType> parseSafetensorsDType(const std::string &name) {
  for (const auto &[text, dtype] : dtypeNames)
    if (name == text)
      return dtype;
  return std::nullopt;
}

const char *shardrt::safetensorsDTypeName(DType dtype) {
  for (const auto &[text, candidate] : dtypeNames)
    if (dtype == candidate)
      return text;
  return "unknown";
}

static TensorEntry readEntry(const JsonNode &node, int64_t dataBegin, int64_t dataBytes) {
  TensorEntry entry;
  entry.dtypeText = node.get("dtype").string();
  entry.dtype = parseSafetensorsDType(entry.dtypeText);
  entry.shape = node.get("shape").shape();
  JsonNode offsets = node.get("data_offsets");
  if (offsets.size() != 2)
    offsets.fail(cat("expected 2 offsets, found ", offsets.size()));
  int64_t begin = offsets.at(0).integer(0), end = offsets.at(1).integer(0);
  if (begin > end || end > dataBytes)
    offsets.fail(cat("[", begin, ", ", end, ") is not inside the ", dataBytes, " bytes of data"));
  std::optional<int64_t> bytes =
      entry.dtype ? checkedBytes(entry.shape, *entry.dtype) : end - begin;
  if (!bytes || *bytes != end - begin)
    offsets.fail(cat("[", begin, ", ", end, ") has ", end - begin, " bytes, ", entry.dtypeText, " ",
                     shapeString(entry.shape), " needs ",
                     bytes ? std::to_string(*bytes) : "too many"));
  entry.begin = dataBegin + begin;
  entry.end = dataBegin + end;
  return entry;
}

std::map<std::string, TensorEntry> shardrt::readSafetensorsHeader(std::string_view text,
                                                                  const std::string &file) {
  size_t headerBytes = safetensorsHeaderBytes(text, file);
  JsonDocument document(text.substr(8, headerBytes - 8), file, SHARDRT_BAD_WEIGHTS);
  std::map<std::string, TensorEntry> entries;
  JsonNode root = document.root();
  for (const std::string &name : root.keys())
    if (name != "__metadata__")
      entries.emplace(name,
                      readEntry(root.get(name.c_str()), headerBytes, text.size() - headerBytes));
  return entries;
}

std::map<std::string, std::string> shardrt::readSafetensorsMetadata(std::string_view text,
                                                                    const std::string &file) {
  size_t headerBytes = safetensorsHeaderBytes(text, file);
  JsonDocument document(text.substr(8, headerBytes - 8), file, SHARDRT_BAD_WEIGHTS);
  std::map<std::string, std::string> texts;
  if (!document.root().has("__metadata__"))
    return texts;
  JsonNode metadata = document.root().get("__metadata__");
  for (const std::string &key : metadata.keys())
    texts.emplace(key, metadata.get(key.c_str()).string());
  return texts;
}

struct WeightFiles::File {
  explicit File(MappedFile file)
      : mapped(std::move(file)), entries(readSafetensorsHeader(mapped.text(), mapped.path())) {}
  MappedFile mapped;
  std::map<std::string, TensorEntry> entries;
};

static bool isIndex(const fs::path &path) {
  std::string name = path.filename().string(), suffix = ".index.json";
  return name.size() > suffix.size() &&
         name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
}

WeightFiles::WeightFiles(const std::string &path) : root(path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored))
    throw Error(SHARDRT_BAD_WEIGHTS, cat(path, ": no such weight file or directory"));
  if (fs::is_directory(path, ignored))
    addDirectory(path);
  else if (isIndex(path))
    addIndex(path);
  else
    addFile(path);
}

void WeightFiles::addDirectory(const std::string &path) {
  std::vector<std::string> indices, plain;
  for (const fs::directory_entry &entry : fs::directory_iterator(path))
    if (isIndex(entry.path()))
      indices.push_back(entry.path().string());
    else if (entry.path().extension() == ".safetensors")
      plain.push_back(entry.path().string());
  std::sort(plain.begin(), plain.end());
  if (indices.size() > 1)
    throw Error(SHARDRT_BAD_WEIGHTS,
                cat(path, ": holds ", indices.size(), " index files, name one of them"));
  if (indices.empty() && plain.empty())
    throw Error(SHARDRT_BAD_WEIGHTS, cat(path, ": holds neither a .safetensors file nor an index"));
  if (!indices.empty())
    return addIndex(indices.front());
  for (const std::string &file : plain)
    addFile(file);
}

WeightFiles WeightFiles::ofBundle(const BundleFiles &bundle) {
  if (!bundle.isArchive())
    return WeightFiles(bundle.pathOf("weights"));
  WeightFiles weights;
  weights.root = bundle.pathOf("weights");
  for (const ArchiveMember &member : bundle.members()) {
    if (fs::path(member.name).extension() != ".safetensors")
      continue;
    std::string path = bundle.pathOf(member.name);
    weights.files[path] = std::make_unique<File>(bundle.open(member.name));
    weights.addFile(path);
  }
  if (weights.files.empty())
    throw Error(SHARDRT_BAD_WEIGHTS, cat(weights.root, ": no such weight file or directory"));
  return weights;
}

WeightFiles::WeightFiles(WeightFiles &&) = default;
WeightFiles::~WeightFiles() = default;

WeightFiles::File &WeightFiles::open(const std::string &path) {
  std::unique_ptr<File> &file = files[path];
  if (!file)
    file = std::make_unique<File>(MappedFile(path));
  return *file;
}

void WeightFiles::addFile(const std::string &path) {
  for (const auto &[tensor, entry] : open(path).entries)
    if (auto [it, isNew] = fileOf.emplace(tensor, path); !isNew)
      throw Error(SHARDRT_BAD_WEIGHTS,
                  cat(path, ": tensor \"", tensor, "\" is also in ", it->second));
}

void WeightFiles::addIndex(const std::string &path) {
  MappedFile file(path);
  JsonDocument document(file.text(), path, SHARDRT_BAD_WEIGHTS);
  JsonNode map = document.root().get("weight_map");
  fs::path directory = fs::path(path).parent_path();
  for (const std::string &tensor : map.keys()) {
    JsonNode name = map.get(tensor.c_str());
    if (name.string().empty() || fs::path(name.string()).is_absolute())
      name.fail("expected a file name beside the index");
    fileOf[tensor] = (directory / name.string()).string();
  }
}

std::optional<WeightTensor> WeightFiles::find(const std::string &tensor) {
  auto it = fileOf.find(tensor);
  if (it == fileOf.end())
    return std::nullopt;
  File &file = open(it->second);
  auto entry = file.entries.find(tensor);
  if (entry == file.entries.end())
    throw Error(SHARDRT_BAD_WEIGHTS, cat(it->second, ": the index says that tensor \"", tensor,
                                         "\" is here, but it is not"));
  return WeightTensor{&entry->second, file.mapped.data() + entry->second.begin, it->second};
}

void WeightFiles::release(const WeightTensor &tensor) {
  open(tensor.file).mapped.release(tensor.entry->begin, tensor.entry->end);
}
