// Names follow MLIR's type names; the safetensors and numpy spellings live with their readers.
#include "runtime/core/DType.h"

using namespace shardrt;

namespace {
struct DTypeInfo {
  const char *name;
  int64_t size;
};
} // namespace

static const DTypeInfo infos[] = {{"f64", 8},  {"f32", 4},      {"f16", 2},   {"bf16", 2},
                                  {"i64", 8},  {"i32", 4},      {"i16", 2},   {"i8", 1},
                                  {"ui64", 8}, {"ui32", 4},     {"ui16", 2},  {"ui8", 1},
                                  {"i1", 1},   {"f8E4M3FN", 1}, {"f8E5M2", 1}};

int64_t shardrt::dtypeSize(DType dtype) { return infos[dtype].size; }

const char *shardrt::dtypeName(DType dtype) { return infos[dtype].name; }

std::optional<DType> shardrt::parseDType(std::string_view name) {
  for (size_t i = 0; i < sizeof(infos) / sizeof(infos[0]); ++i)
    if (name == infos[i].name)
      return static_cast<DType>(i);
  if (name == "bool")
    return SHARDRT_BOOL;
  return std::nullopt;
}

std::string shardrt::shapeString(const Shape &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::optional<int64_t> shardrt::checkedMul(int64_t a, int64_t b) {
  int64_t result;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result))
    return std::nullopt;
  return result;
}

std::optional<int64_t> shardrt::checkedAdd(int64_t a, int64_t b) {
  int64_t result;
  if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &result))
    return std::nullopt;
  return result;
}

std::optional<int64_t> shardrt::checkedCount(const Shape &shape) {
  std::optional<int64_t> count = 1;
  for (int64_t dim : shape)
    if (!(count = checkedMul(*count, dim)))
      return std::nullopt;
  return count;
}

std::optional<int64_t> shardrt::checkedBytes(const Shape &shape, DType dtype) {
  std::optional<int64_t> count = checkedCount(shape);
  return count ? checkedMul(*count, dtypeSize(dtype)) : std::nullopt;
}
