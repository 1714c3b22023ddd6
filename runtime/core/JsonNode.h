// A JSON value together with the file it came from, so that every complaint names file and key.
#pragma once

#include "runtime/core/DType.h"
#include "runtime/core/Error.h"
#include <memory>
#include <nlohmann/json_fwd.hpp>

namespace shardrt {

class JsonNode {
public:
  /// A missing key, or a value of another type or range, throws SHARDRT_BAD_BUNDLE (or `status`).
  JsonNode get(const char *key) const;
  bool has(const char *key) const; // present and not null
  bool isObject() const;
  size_t size() const; // of an array
  JsonNode at(size_t index) const;
  int64_t integer(int64_t min, int64_t max = INT64_MAX) const;
  int64_t integerOr(const char *key, int64_t fallback, int64_t min) const;
  /// An index into a list of `count` things called `what`.
  int index(size_t count, const char *what) const;
  bool boolean() const;
  double number() const; // finite
  std::string string() const;
  DType dtype() const;
  Shape shape() const;
  std::vector<std::string> keys() const; // of an object
  /// Throws "<file>: <path of this value>: <message>".
  [[noreturn]] void fail(const std::string &message) const;

private:
  friend class JsonDocument;
  JsonNode(const class JsonDocument *document, const nlohmann::json *value)
      : document(document), value(value) {}
  const JsonDocument *document;
  const nlohmann::json *value;
};

/// A parsed file. Nodes point into it.
class JsonDocument {
public:
  JsonDocument(std::string_view text, std::string file, shardrt_status status = SHARDRT_BAD_BUNDLE);
  ~JsonDocument();
  JsonNode root() const;

private:
  friend class JsonNode;
  std::string pathOf(const nlohmann::json *value) const;
  std::unique_ptr<nlohmann::json> json;
  std::string file;
  shardrt_status status;
};

} // namespace shardrt
