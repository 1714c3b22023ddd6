// Checked access to JSON. The path of a value is only found (by searching the document for its
// address) when something is wrong with it, so that reading long command lists costs no string
// building.
#include "runtime/core/JsonNode.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

using namespace shardrt;
using Json = nlohmann::json;

static const int maxDepth = 64; // far above any valid file; findPath and others recurse

/// Nesting of brackets outside of strings.
static int depthOf(std::string_view text) {
  int depth = 0, deepest = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quoted && c == '\\')
      ++i;
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && (c == '[' || c == '{'))
      deepest = std::max(deepest, ++depth);
    else if (!quoted && (c == ']' || c == '}'))
      --depth;
  }
  return deepest;
}

JsonDocument::JsonDocument(std::string_view text, std::string fileName, shardrt_status onError)
    : file(std::move(fileName)), status(onError) {
  if (int depth = depthOf(text); depth > maxDepth)
    throw Error(status,
                cat(file, ": JSON is nested ", depth, " deep, at most ", maxDepth, " is allowed"));
  try {
    json = std::make_unique<Json>(Json::parse(text.begin(), text.end()));
  } catch (const Json::parse_error &error) {
    throw Error(status, cat(file, ": not valid JSON at byte ", error.byte, " of ", text.size()));
  } catch (const Json::exception &error) { // a number beyond all limits
    throw Error(status, cat(file, ": not valid JSON: ", error.what()));
  }
}

JsonDocument::~JsonDocument() = default;

JsonNode JsonDocument::root() const { return JsonNode(this, json.get()); }

static bool findPath(const Json &at, const Json *target, std::string &path) {
  if (&at == target)
    return true;
  size_t length = path.size();
  if (at.is_object())
    for (auto it = at.begin(); it != at.end(); ++it) {
      path += (length ? "." : "") + it.key();
      if (findPath(*it, target, path))
        return true;
      path.resize(length);
    }
  else if (at.is_array())
    for (size_t i = 0; i < at.size(); ++i) {
      path += "[" + std::to_string(i) + "]";
      if (findPath(at[i], target, path))
        return true;
      path.resize(length);
    }
  return false;
}

std::string JsonDocument::pathOf(const Json *value) const {
  std::string path;
  findPath(*json, value, path);
  return path;
}

void JsonNode::fail(const std::string &message) const {
  std::string path = document->pathOf(value);
  throw Error(document->status, cat(document->file, ": ", path, path.empty() ? "" : ": ", message));
}

static const char *kindOf(const Json &value) { return value.type_name(); }

JsonNode JsonNode::get(const char *key) const {
  if (!value->is_object())
    fail(cat("expected an object, found ", kindOf(*value)));
  auto it = value->find(key);
  if (it == value->end())
    fail(cat("key \"", key, "\" is missing"));
  return JsonNode(document, &*it);
}

bool JsonNode::isObject() const { return value->is_object(); }

bool JsonNode::has(const char *key) const {
  if (!value->is_object())
    fail(cat("expected an object, found ", kindOf(*value)));
  auto it = value->find(key);
  return it != value->end() && !it->is_null();
}

size_t JsonNode::size() const {
  if (!value->is_array())
    fail(cat("expected an array, found ", kindOf(*value)));
  return value->size();
}

JsonNode JsonNode::at(size_t index) const {
  if (index >= size())
    fail(cat("element ", index, " is missing, the array has ", size()));
  return JsonNode(document, &(*value)[index]);
}

int64_t JsonNode::integer(int64_t min, int64_t max) const {
  if (!value->is_number_integer())
    fail(cat("expected an integer, found ", kindOf(*value)));
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    fail(cat(value->get<uint64_t>(), " is above the largest integer ", INT64_MAX));
  int64_t number = value->get<int64_t>();
  if (number < min)
    fail(cat(number, " is below the smallest allowed value ", min));
  if (number > max)
    fail(cat(number, " is above the largest allowed value ", max));
  return number;
}

int64_t JsonNode::integerOr(const char *key, int64_t fallback, int64_t min) const {
  return has(key) ? get(key).integer(min) : fallback;
}

int JsonNode::index(size_t count, const char *what) const {
  int64_t number = integer(INT64_MIN);
  if (number < 0 || static_cast<uint64_t>(number) >= count)
    fail(cat(what, " ", number, " does not exist, there are ", count));
  return static_cast<int>(number);
}

bool JsonNode::boolean() const {
  if (!value->is_boolean())
    fail(cat("expected true or false, found ", kindOf(*value)));
  return value->get<bool>();
}

double JsonNode::number() const {
  if (!value->is_number())
    fail(cat("expected a number, found ", kindOf(*value)));
  double number = value->get<double>();
  if (!std::isfinite(number))
    fail("the number is not finite");
  return number;
}

std::string JsonNode::string() const {
  if (!value->is_string())
    fail(cat("expected a string, found ", kindOf(*value)));
  return value->get<std::string>();
}

DType JsonNode::dtype() const {
  std::string name = string();
  std::optional<DType> dtype = parseDType(name);
  if (!dtype)
    fail(cat("unknown dtype \"", name, "\""));
  return *dtype;
}

Shape JsonNode::shape() const {
  Shape result;
  for (size_t i = 0, e = size(); i < e; ++i)
    result.push_back(at(i).integer(0));
  if (!checkedCount(result))
    fail(cat("shape ", shapeString(result), " has more elements than a 64-bit integer can count"));
  return result;
}

std::vector<std::string> JsonNode::keys() const {
  if (!value->is_object())
    fail(cat("expected an object, found ", kindOf(*value)));
  std::vector<std::string> result;
  for (auto it = value->begin(); it != value->end(); ++it)
    result.push_back(it.key());
  return result;
}
