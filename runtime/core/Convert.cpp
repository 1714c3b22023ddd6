// Through f32 where types differ: exact from the narrower types, and one rounding from f64 to f32.
#include "runtime/core/Convert.h"

#include <cmath>
#include <cstdint>
#include <cstring>

using namespace shardrt;

namespace {
#include "runtime/cpu/SmallFloat.inc"

struct Float32 {
  using Stored = float;
  static float load(float value) { return value; }
  static float store(float value) { return value; }
};
struct Float64 {
  using Stored = double;
  static float load(double value) { return static_cast<float>(value); }
  static double store(float value) { return value; }
};

template <typename From, typename To>
void convertAs(const std::byte *src, std::byte *dst, int64_t count) {
  for (int64_t i = 0; i < count; ++i) { // files align nothing: memcpy
    typename From::Stored value;
    std::memcpy(&value, src + i * sizeof(value), sizeof(value));
    typename To::Stored result = To::store(From::load(value));
    std::memcpy(dst + i * sizeof(result), &result, sizeof(result));
  }
}

template <typename From>
void convertFrom(DType to, const std::byte *src, std::byte *dst, int64_t count) {
  switch (to) {
  case SHARDRT_F64:
    return convertAs<From, Float64>(src, dst, count);
  case SHARDRT_F16:
    return convertAs<From, Float16>(src, dst, count);
  case SHARDRT_BF16:
    return convertAs<From, BFloat16>(src, dst, count);
  case SHARDRT_F8E4M3FN:
    return convertAs<From, Float8E4M3>(src, dst, count);
  case SHARDRT_F8E5M2:
    return convertAs<From, Float8E5M2>(src, dst, count);
  default:
    return convertAs<From, Float32>(src, dst, count);
  }
}

/// `exponent`: the bits that are all set in numbers that are not finite.
template <typename Bits> int64_t findBits(const std::byte *data, int64_t count, Bits exponent) {
  for (int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, data + i * sizeof(bits), sizeof(bits));
    if ((bits & exponent) == exponent)
      return i;
  }
  return -1;
}
} // namespace

bool shardrt::isFloat(DType dtype) {
  return dtype == SHARDRT_F64 || dtype == SHARDRT_F32 || dtype == SHARDRT_F16 ||
         dtype == SHARDRT_BF16 || dtype == SHARDRT_F8E4M3FN || dtype == SHARDRT_F8E5M2;
}

void shardrt::convert(DType from, const std::byte *src, DType to, std::byte *dst, int64_t count) {
  if (from == to) {
    if (count > 0)
      std::memcpy(dst, src, count * dtypeSize(from));
    return;
  }
  switch (from) {
  case SHARDRT_F64:
    return convertFrom<Float64>(to, src, dst, count);
  case SHARDRT_F16:
    return convertFrom<Float16>(to, src, dst, count);
  case SHARDRT_BF16:
    return convertFrom<BFloat16>(to, src, dst, count);
  case SHARDRT_F8E4M3FN:
    return convertFrom<Float8E4M3>(to, src, dst, count);
  case SHARDRT_F8E5M2:
    return convertFrom<Float8E5M2>(to, src, dst, count);
  default:
    return convertFrom<Float32>(to, src, dst, count);
  }
}

int64_t shardrt::findNonFinite(DType dtype, const std::byte *data, int64_t count) {
  switch (dtype) {
  case SHARDRT_F64:
    return findBits<uint64_t>(data, count, 0x7ff0000000000000);
  case SHARDRT_F32:
    return findBits<uint32_t>(data, count, 0x7f800000);
  case SHARDRT_F16:
    return findBits<uint16_t>(data, count, 0x7c00);
  case SHARDRT_BF16:
    return findBits<uint16_t>(data, count, 0x7f80);
  case SHARDRT_F8E4M3FN: // nothing but NaN
    return findBits<uint8_t>(data, count, 0x7f);
  case SHARDRT_F8E5M2:
    return findBits<uint8_t>(data, count, 0x7c);
  default:
    return -1;
  }
}
