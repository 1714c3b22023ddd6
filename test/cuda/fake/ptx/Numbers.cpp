//===- Numbers.cpp - The number types of PTX ------------------------------===//
#include "Numbers.h"
#include <iterator>

namespace fake {

float toFloat(Half value) {
  uint32_t sign = uint32_t(value.bits & 0x8000) << 16, exponent = (value.bits >> 10) & 31,
           mantissa = value.bits & 0x3ff;
  if (exponent == 31)
    return asFloat(sign | 0x7f800000 | (mantissa << 13));
  if (exponent == 0)
    return asFloat(sign | asBits(float(mantissa) * 0x1p-24f));
  return asFloat(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

Half toHalf(float value) {
  uint32_t bits = asBits(value), sign = (bits >> 16) & 0x8000;
  float magnitude = std::fabs(value);
  if (std::isnan(value))
    return {0x7fff};
  if (magnitude >= 65520.0f)
    return {uint16_t(sign | 0x7c00)};
  // Below the smallest normal number the distance of neighbours is 2^-24.
  if (magnitude < 0x1p-14f)
    return {uint16_t(sign | uint32_t(std::nearbyint(magnitude * 0x1p24f)))};
  uint32_t rounded = (bits & 0x7fffffff) + 0xfff + ((bits >> 13) & 1);
  return {uint16_t(sign | ((rounded >> 13) - (112 << 10)))};
}

float roundToOdd(double value) {
  float rounded = float(value);
  if (double(rounded) == value || !std::isfinite(rounded) || !std::isfinite(value))
    return rounded;
  // Truncate, then set the last bit: something was cut off.
  uint32_t bits = asBits(rounded);
  if (std::fabs(double(rounded)) > std::fabs(value))
    --bits;
  return asFloat(bits | 1);
}

namespace {
struct TypeName {
  std::string_view name;
  Type type;
  unsigned bits;
};
constexpr TypeName types[] = {
    {"b1", Type::B1, 1},        {"pred", Type::B1, 1},       {"b8", Type::B8, 8},
    {"u8", Type::U8, 8},        {"s8", Type::S8, 8},         {"b16", Type::B16, 16},
    {"u16", Type::U16, 16},     {"s16", Type::S16, 16},      {"b32", Type::B32, 32},
    {"u32", Type::U32, 32},     {"s32", Type::S32, 32},      {"b64", Type::B64, 64},
    {"u64", Type::U64, 64},     {"s64", Type::S64, 64},      {"f16", Type::F16, 16},
    {"bf16", Type::BF16, 16},   {"f32", Type::F32, 32},      {"f64", Type::F64, 64},
    {"f16x2", Type::F16x2, 32}, {"bf16x2", Type::BF16x2, 32}};
} // namespace

Type parseType(std::string_view text) {
  for (const TypeName &entry : types)
    if (entry.name == text)
      return entry.type;
  return Type::None;
}

unsigned bitsOf(Type type) {
  for (const TypeName &entry : types)
    if (entry.type == type)
      return entry.bits;
  return 0;
}

} // namespace fake
