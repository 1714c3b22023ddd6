#include "tools/shard-run/Inputs.h"
#include "runtime/core/Error.h"
#include "runtime/core/Npy.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <unistd.h>

using namespace shardrt;
namespace fs = std::filesystem;

static std::string describe(const Value &value) {
  return cat(dtypeName(value.dtype), " ", shapeString(value.shape));
}

static const Value *findValue(const std::vector<Value> &values, const std::string &name) {
  auto it = std::find_if(values.begin(), values.end(),
                         [&](const Value &value) { return value.name == name; });
  return it == values.end() ? nullptr : &*it;
}

static std::string listNames(const std::vector<Value> &values) {
  std::string text;
  for (const Value &value : values)
    text += (text.empty() ? "" : ", ") + value.name;
  return text.empty() ? "none" : text;
}

/// Maps a file if it holds the value; otherwise says why not.
static std::string openInput(const Value &value, const std::string &path, InputFile &input) {
  input.value = &value;
  input.file = std::make_unique<MappedFile>(path);
  NpyHeader header = readNpyHeader(input.file->text(), path);
  if (!npyHolds(header.descr, value.dtype) || header.shape != value.shape)
    return cat("\"", value.name, "\" is ", describe(value), ", ", path, " holds ",
               npyTypeName(header.descr), " ", shapeString(header.shape));
  size_t bytes = static_cast<size_t>(*checkedBytes(value.shape, value.dtype));
  size_t present = input.file->size() - header.dataOffset;
  if (present < bytes)
    return cat("\"", value.name, "\" needs ", bytes, " bytes of data, ", path, " has ", present);
  input.data = input.file->data() + header.dataOffset;
  return "";
}

/// What is wrong with other things than shapes is openInputs' to say.
static bool takes(const Entry &entry, const std::map<std::string, NpyHeader> &headers) {
  return std::all_of(headers.begin(), headers.end(), [&](const auto &given) {
    const Value *value = findValue(entry.inputs, given.first);
    return !value || value->shape == given.second.shape;
  });
}

const Entry &shardrt::chooseEntry(const Program &program, const RunOptions &options) {
  if (options.entry.empty() && program.hasInstances()) {
    std::map<std::string, NpyHeader> headers;
    std::string given;
    for (const auto &[name, path] : options.inputs) {
      NpyHeader header = readNpyHeader(MappedFile(path).text(), path);
      given += cat(given.empty() ? "" : ", ", name, " ", shapeString(header.shape));
      headers.emplace(name, std::move(header));
    }
    for (const Entry &entry : program.entries)
      if (takes(entry, headers))
        return entry;
    throw Error(SHARDRT_BAD_INPUT, cat("the inputs (", given, ") fit no instance of the model: ",
                                       program.listInstances()));
  }
  if (const Entry *entry = program.findEntry(options.entry))
    return *entry;
  std::string names;
  for (const Entry &entry : program.entries)
    names += (names.empty() ? "" : ", ") + entry.name;
  throw Error(SHARDRT_INVALID_ARGUMENT, cat("--entry: the bundle has no entry point \"",
                                            options.entry, "\", it has ", names));
}

std::vector<InputFile> shardrt::openInputs(const Entry &entry, const RunOptions &options) {
  std::vector<std::string> problems;
  std::vector<InputFile> files;
  std::set<std::string> given;
  for (const auto &[name, path] : options.inputs) {
    const Value *value = findValue(entry.inputs, name);
    if (!given.insert(name).second)
      problems.push_back(cat("\"", name, "\" is given twice"));
    else if (!value)
      problems.push_back(cat("\"", name, "\" is not an input of the model, its inputs are: ",
                             listNames(entry.inputs)));
    else
      try {
        files.emplace_back();
        if (std::string problem = openInput(*value, path, files.back()); !problem.empty())
          problems.push_back(problem);
      } catch (const Error &error) {
        problems.push_back(cat("\"", name, "\": ", error.what()));
      }
  }
  for (const Value &value : entry.inputs) {
    bool isState = std::any_of(entry.outputs.begin(), entry.outputs.end(),
                               [&](const Value &output) { return output.alias == value.name; });
    if (!given.count(value.name) && !isState)
      problems.push_back(cat("\"", value.name, "\" is missing, give --input ", value.name,
                             "=FILE.npy of ", describe(value)));
  }
  std::string message =
      cat(problems.size(), problems.size() == 1 ? " input is wrong:" : " inputs are wrong:");
  for (const std::string &problem : problems)
    message += "\n  " + problem;
  if (!problems.empty())
    throw Error(SHARDRT_BAD_INPUT, message);
  return files;
}

void shardrt::checkWritable(const std::string &path) {
  std::error_code ignored;
  fs::path directory = fs::path(path).parent_path();
  if (directory.empty())
    directory = ".";
  if (!fs::is_directory(directory, ignored))
    throw Error(SHARDRT_IO,
                cat(path, ": cannot write, ", directory.string(), " is not a directory"));
  if (fs::is_directory(path, ignored))
    throw Error(SHARDRT_IO, cat(path, ": cannot write, it is a directory"));
  if (access(directory.c_str(), W_OK | X_OK) != 0)
    throw Error(SHARDRT_IO,
                cat(path, ": cannot write into ", directory.string(), ": ", systemError()));
}

std::vector<OutputFile> shardrt::resolveOutputs(const Entry &entry, const RunOptions &options) {
  const std::vector<Value> &outputs = entry.outputs;
  std::vector<OutputFile> files;
  for (const auto &[name, path] : options.outputs) {
    const Value *value =
        name.empty() && outputs.size() == 1 ? &outputs[0] : findValue(outputs, name);
    if (!value && name.empty())
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("--output ", path, ": the model has ", outputs.size(),
                      " outputs, give NAME=FILE with one of: ", listNames(outputs)));
    if (!value)
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("--output: \"", name,
                      "\" is not an output of the model, its outputs are: ", listNames(outputs)));
    checkWritable(path);
    files.push_back({value, path});
  }
  if (!options.trace.empty())
    checkWritable(options.trace);
  return files;
}
