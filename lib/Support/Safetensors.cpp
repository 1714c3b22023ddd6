//===- Safetensors.cpp - Weights from and to safetensors files ------------===//
//
// Format: u64 header size, JSON header {name: {dtype, shape, data_offsets}}, bytes. A checkpoint of
// several files has an index `model.safetensors.index.json` with {"weight_map": {name: file}}.
// Files are mapped, never copied; every offset that is read from one is checked against its size.
//
//===----------------------------------------------------------------------===//

#include "shardc/Support/WeightStore.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <cstring>

using namespace llvm;

namespace shardc {

static Error fileError(StringRef path, const Twine &what) {
  return createStringError(path + ": " + what);
}

/// Reads one header entry; checks it against the file's data section.
static Error readEntry(StringRef path, StringRef name, const json::Value &value,
                       ArrayRef<char> data, Weight &weight) {
  auto bad = [&](const Twine &what) { return fileError(path, "tensor \"" + name + "\": " + what); };
  const json::Object *entry = value.getAsObject();
  if (!entry)
    return bad("entry is not an object");
  std::optional<StringRef> dtype = entry->getString("dtype");
  const json::Array *shape = entry->getArray("shape"), *offsets = entry->getArray("data_offsets");
  if (!dtype || !shape || !offsets || offsets->size() != 2)
    return bad("entry needs dtype, shape and two data_offsets");
  std::optional<DType> known = parseDType(*dtype);
  if (!known)
    return bad("dtype " + *dtype + " is not supported");
  weight.dtype = *known;
  int64_t bytes = dtypeBytes(*known);
  for (const json::Value &size : *shape) {
    std::optional<int64_t> number = size.getAsInteger();
    if (!number || *number < 0 || MulOverflow(bytes, *number, bytes))
      return bad("shape is not a list of sizes");
    weight.shape.push_back(*number);
  }
  std::optional<int64_t> begin = (*offsets)[0].getAsInteger(), end = (*offsets)[1].getAsInteger();
  if (!begin || !end || *begin < 0 || *end < *begin || *end > static_cast<int64_t>(data.size()))
    return bad("data_offsets lie outside the " + Twine(data.size()) + " bytes of data");
  if (*end - *begin != bytes)
    return bad("shape and dtype take " + Twine(bytes) + " bytes, data_offsets span " +
               Twine(*end - *begin));
  weight.bytes = data.slice(*begin, bytes);
  weight.hasValue = true;
  return Error::success();
}

/// All tensors of one file.
static Error readFile(StringRef path, std::vector<std::pair<std::string, Weight>> &tensors) {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return fileError(path, "cannot read: " + buffer.getError().message());
  std::shared_ptr<MemoryBuffer> file = std::move(*buffer);
  StringRef content = file->getBuffer();
  uint64_t headerSize = 0;
  if (content.size() < 8)
    return fileError(path, "not a safetensors file: " + Twine(content.size()) + " bytes");
  std::memcpy(&headerSize, content.data(), 8);
  if (headerSize > content.size() - 8)
    return fileError(path, "header of " + Twine(headerSize) + " bytes exceeds the file's " +
                               Twine(content.size()));
  Expected<json::Value> header = json::parse(content.substr(8, headerSize));
  if (!header)
    return fileError(path, "header is not JSON: " + toString(header.takeError()));
  const json::Object *entries = header->getAsObject();
  if (!entries)
    return fileError(path, "header is not an object");
  ArrayRef<char> data(content.data() + 8 + headerSize, content.size() - 8 - headerSize);
  for (const auto &[key, value] : *entries) {
    StringRef name = key;
    if (name == "__metadata__")
      continue;
    Weight weight;
    weight.owner = file;
    if (Error error = readEntry(path, name, value, data, weight))
      return error;
    tensors.emplace_back(name.str(), std::move(weight));
  }
  return Error::success();
}

/// The files of an index, which may only name files beside it.
static Error readIndex(StringRef path, std::vector<std::string> &files) {
  auto buffer = MemoryBuffer::getFile(path);
  if (!buffer)
    return fileError(path, "cannot read: " + buffer.getError().message());
  Expected<json::Value> index = json::parse((*buffer)->getBuffer());
  if (!index)
    return fileError(path, "not JSON: " + toString(index.takeError()));
  const json::Object *root = index->getAsObject();
  const json::Object *map = root ? root->getObject("weight_map") : nullptr;
  if (!map)
    return fileError(path, "has no weight_map");
  StringMap<bool> seen;
  for (const auto &[name, value] : *map) {
    std::optional<StringRef> file = value.getAsString();
    if (!file || file->empty() || file->contains('/') || *file == "..")
      return fileError(path, "weight_map names a file outside its folder for \"" + StringRef(name) +
                                 "\"");
    if (!seen.try_emplace(*file, true).second)
      continue;
    SmallString<256> full(sys::path::parent_path(path));
    sys::path::append(full, *file);
    files.push_back(full.str().str());
  }
  return Error::success();
}

/// The safetensors files that `path` stands for.
static Error listFiles(StringRef path, std::vector<std::string> &files) {
  if (!sys::fs::is_directory(path)) {
    if (path.ends_with(".json"))
      return readIndex(path, files);
    files.push_back(path.str());
    return Error::success();
  }
  SmallString<256> index(path);
  sys::path::append(index, "model.safetensors.index.json");
  if (sys::fs::exists(index))
    return readIndex(index, files);
  std::error_code code;
  for (sys::fs::directory_iterator it(path, code), end; it != end && !code; it.increment(code))
    if (StringRef(it->path()).ends_with(".safetensors"))
      files.push_back(it->path());
  llvm::sort(files);
  if (files.empty())
    return fileError(path, "holds no .safetensors file");
  return Error::success();
}

static Error readAll(StringRef path, std::vector<std::pair<std::string, Weight>> &tensors) {
  std::vector<std::string> files;
  if (Error error = listFiles(path, files))
    return error;
  for (const std::string &file : files)
    if (Error error = readFile(file, tensors))
      return error;
  return Error::success();
}

static std::string describe(const Weight &weight) {
  std::string text;
  raw_string_ostream os(text);
  os << dtypeName(weight.dtype) << "[";
  interleaveComma(weight.shape, os);
  os << "]";
  return text;
}

Error WeightStore::addFromSafetensors(StringRef path) {
  std::vector<std::pair<std::string, Weight>> tensors;
  if (Error error = readAll(path, tensors))
    return error;
  for (auto &[name, weight] : tensors)
    if (!add(name, std::move(weight)))
      return fileError(path, "tensor \"" + StringRef(name) + "\" stands twice");
  return Error::success();
}

/// Whether values of one are rounded to the other by `WeightStore::read`.
static bool areConvertible(DType a, DType b) {
  auto isUsual = [](DType dtype) {
    return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16;
  };
  return isUsual(a) && isUsual(b);
}

Error WeightStore::fillFromSafetensors(StringRef path) {
  std::vector<std::pair<std::string, Weight>> tensors;
  if (Error error = readAll(path, tensors))
    return error;
  StringMap<Weight *> found;
  for (auto &[name, weight] : tensors) {
    auto alias = aliases.find(name);
    found.try_emplace(name, &weight);
    if (alias != aliases.end())
      found.try_emplace(alias->second, &weight);
  }
  std::string problems;
  raw_string_ostream os(problems);
  for (auto &[name, weight] : weights) {
    auto it = found.find(name);
    if (it == found.end()) {
      if (!weight.hasValue)
        os << "\n  \"" << name << "\" " << describe(weight) << " is missing";
      continue;
    }
    Weight &value = *it->second;
    bool isConverted = value.dtype != weight.dtype && areConvertible(value.dtype, weight.dtype);
    if ((value.dtype != weight.dtype && !isConverted) || value.shape != weight.shape) {
      os << "\n  \"" << name << "\" is " << describe(value) << ", the model wants "
         << describe(weight);
      continue;
    }
    DType dtype = weight.dtype;
    weight = value;
    weight.dtype = dtype;
    if (isConverted)
      weight.storedAs = value.dtype;
  }
  if (problems.empty())
    return Error::success();
  return fileError(path, "weights do not fit the model:" + Twine(problems));
}

Error WeightStore::writeSafetensors(StringRef path) const {
  json::Object header;
  header["__metadata__"] = json::Object{{"format", "pt"}};
  int64_t offset = 0;
  for (const auto &[name, weight] : weights) {
    if (!weight.hasValue)
      return fileError(path, "weight \"" + StringRef(name) + "\" has no value");
    json::Array shape;
    for (int64_t size : weight.shape)
      shape.push_back(size);
    header[name] = json::Object{{"dtype", dtypeName(weight.dtype)},
                                {"shape", std::move(shape)},
                                {"data_offsets", json::Array{offset, offset + weight.numBytes()}}};
    offset += weight.numBytes();
  }
  std::string text;
  raw_string_ostream(text) << json::Value(std::move(header));
  text.resize(alignTo(text.size(), 8), ' '); // readers map the data as aligned words
  // Written to a temporary file and renamed: nobody ever reads half a checkpoint.
  return writeToOutput(path, [&](raw_ostream &os) -> Error {
    uint64_t size = text.size();
    os.write(reinterpret_cast<const char *>(&size), 8);
    os << text;
    for (const auto &[name, weight] : weights) {
      std::vector<char> storage;
      Expected<ArrayRef<char>> bytes = read(name, storage);
      if (!bytes)
        return bytes.takeError();
      os.write(bytes->data(), bytes->size());
    }
    return Error::success();
  });
}

} // namespace shardc
