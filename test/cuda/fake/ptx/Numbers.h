//===- Numbers.h - The number types of PTX --------------------------------===//
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace fake {

inline float asFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline uint32_t asBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

/// IEEE half precision, as bits.
struct Half {
  uint16_t bits;
};
/// The upper half of an f32.
struct BFloat {
  uint16_t bits;
};

float toFloat(Half value);
Half toHalf(float value);
inline float toFloat(BFloat value) { return asFloat(uint32_t(value.bits) << 16); }
inline BFloat toBFloat(float value) {
  uint32_t bits = asBits(value);
  if (std::isnan(value))
    return {0x7fff};
  return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
/// Doubles are rounded to odd on their way, so that the second rounding is the only one.
float roundToOdd(double value);

/// What an instruction computes in: narrow floats in f32, all others in themselves.
template <class T> inline T widen(T value) { return value; }
inline float widen(Half value) { return toFloat(value); }
inline float widen(BFloat value) { return toFloat(value); }
template <class T> struct Narrow {
  template <class V> static T from(V value) { return T(value); }
};
template <> struct Narrow<Half> {
  static Half from(float value) { return toHalf(value); }
  static Half from(double value) { return toHalf(roundToOdd(value)); }
};
template <> struct Narrow<BFloat> {
  static BFloat from(float value) { return toBFloat(value); }
  static BFloat from(double value) { return toBFloat(roundToOdd(value)); }
};

/// A type suffix: `f32`, `bf16x2`, `pred`, …
enum class Type {
  B1,
  B8,
  U8,
  S8,
  B16,
  U16,
  S16,
  B32,
  U32,
  S32,
  B64,
  U64,
  S64,
  F16,
  BF16,
  F32,
  F64,
  F16x2,
  BF16x2,
  None
};

Type parseType(std::string_view text);
/// Of a register that holds it; a predicate has 1.
unsigned bitsOf(Type type);
inline bool isSigned(Type type) {
  return type == Type::S8 || type == Type::S16 || type == Type::S32 || type == Type::S64;
}
inline bool isFloat(Type type) { return type >= Type::F16 && type <= Type::BF16x2; }

} // namespace fake
