// Element types: sizes, names, and checked arithmetic on sizes that come from files.
#pragma once

#include "shardrt/types.h"
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shardrt {

using DType = shardrt_dtype;
using Shape = std::vector<int64_t>;

int64_t dtypeSize(DType dtype);
/// The name used in bundles: "f32", "ui8", "i1".
const char *dtypeName(DType dtype);
std::optional<DType> parseDType(std::string_view name);

inline bool isFloat8(DType dtype) {
  return dtype == SHARDRT_F8E4M3FN || dtype == SHARDRT_F8E5M2;
}

std::string shapeString(const Shape &shape);

/// Empty when the product (or sum) does not fit into an int64_t or a factor is negative.
std::optional<int64_t> checkedMul(int64_t a, int64_t b);
std::optional<int64_t> checkedAdd(int64_t a, int64_t b);
/// Elements of a shape; empty on overflow.
std::optional<int64_t> checkedCount(const Shape &shape);
std::optional<int64_t> checkedBytes(const Shape &shape, DType dtype);

inline int64_t ceilDiv(int64_t a, int64_t b) { return a / b + (a % b != 0); }

} // namespace shardrt
