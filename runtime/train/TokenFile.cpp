#include "runtime/train/TokenFile.h"
#include "runtime/core/Error.h"
#include "runtime/core/JsonNode.h"

#include <algorithm>
#include <cstring>
#include <sys/stat.h>

using namespace shardrt;

static DType tokenType(const std::string &path, const std::string &given) {
  std::string name = given, source = "--token-dtype";
  struct stat info;
  if (std::string sidecar = path + ".json"; name.empty() && stat(sidecar.c_str(), &info) == 0) {
    MappedFile text(sidecar);
    JsonDocument document(text.text(), sidecar, SHARDRT_BAD_INPUT);
    name = document.root().get("dtype").string();
    source = sidecar;
  }
  if (name == "u16" || name == "uint16")
    return SHARDRT_UI16;
  if (name == "u32" || name == "uint32")
    return SHARDRT_UI32;
  if (name.empty())
    throw Error(SHARDRT_BAD_INPUT, cat(path,
                                       ": nothing says what its tokens are: give --token-dtype "
                                       "u16 or u32, or write {\"dtype\": \"u16\"} into ",
                                       path, ".json"));
  throw Error(SHARDRT_BAD_INPUT, cat(source, ": \"", name, "\" is not one of u16, u32"));
}

TokenFile::TokenFile(const std::string &path, const std::string &dtype, int64_t length,
                     int64_t vocabulary)
    : file(path), type(tokenType(path, dtype)),
      count(static_cast<int64_t>(file.size()) / dtypeSize(type)), length(length),
      vocabulary(vocabulary) {
  if (static_cast<int64_t>(file.size()) % dtypeSize(type) != 0)
    throw Error(SHARDRT_BAD_INPUT, cat(path, ": ", file.size(), " bytes are no whole number of ",
                                       dtypeSize(type), "-byte tokens"));
  if (windows() < 1)
    throw Error(SHARDRT_BAD_INPUT, cat(path, ": has ", count, " tokens, a sequence of ", length,
                                       " and its labels need ", length + 1));
}

int64_t TokenFile::token(int64_t position) const {
  int64_t value = 0;
  std::memcpy(&value, file.data() + position * dtypeSize(type), dtypeSize(type));
  if (value >= vocabulary)
    throw Error(SHARDRT_BAD_INPUT, cat(file.path(), ": token ", value, " at position ", position,
                                       " is not in the vocabulary of ", vocabulary));
  return value;
}

template <typename T> void TokenFile::read(int64_t window, T *inputs, T *labels) const {
  int64_t begin = window * length, next = token(begin);
  for (int64_t i = 0; i < length; ++i) {
    inputs[i] = static_cast<T>(next);
    next = token(begin + i + 1);
    labels[i] = static_cast<T>(next);
  }
}
template void TokenFile::read(int64_t, int64_t *, int64_t *) const;
template void TokenFile::read(int64_t, int32_t *, int32_t *) const;

/// A well-mixed function of one number (the finaliser of splitmix64).
static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t TokenFile::fingerprint() const {
  const size_t sample = 64 << 10;
  uint64_t hash = mix(file.size()) ^ static_cast<uint64_t>(type);
  size_t length = std::min(sample, file.size());
  for (const std::byte *part : {file.data(), file.data() + file.size() - length})
    for (size_t i = 0; i < length; ++i)
      hash = (hash ^ std::to_integer<uint64_t>(part[i])) * 1099511628211ull;
  return hash;
}

// A Feistel network permutes the numbers of an even count of bits; walking on until the result is
// below `count` makes a permutation of [0, count) of it. That is at least a quarter of all numbers,
// so that four steps are expected at most.
int64_t shardrt::shuffled(uint64_t seed, int64_t epoch, int64_t count, int64_t index) {
  int half = 1;
  while (half < 31 && int64_t(1) << (2 * half) < count)
    ++half;
  uint64_t mask = (uint64_t(1) << half) - 1, at = static_cast<uint64_t>(index);
  uint64_t key = mix(mix(seed) ^ static_cast<uint64_t>(epoch));
  do {
    uint64_t left = at >> half, right = at & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      uint64_t next = left ^ (mix(key ^ (right << 3 | round)) & mask);
      left = right;
      right = next;
    }
    at = left << half | right;
  } while (at >= static_cast<uint64_t>(count));
  return static_cast<int64_t>(at);
}
