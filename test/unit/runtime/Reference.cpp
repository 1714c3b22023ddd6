#include "Reference.h"

#include <cmath>
#include <cstring>

using namespace shardrt_test;

template <typename T> static Bytes bytesOf(T value) {
  Bytes bytes(sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

template <typename T> static T valueOf(const unsigned char *at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

/// Nearest value with `fraction` fraction bits and exponents from `minExponent`, as a double.
static double roundTo(double value, int fraction, int minExponent, double largest) {
  if (value == 0 || !std::isfinite(value))
    return value;
  int exponent = std::max(std::ilogb(value), minExponent);
  double rounded =
      std::ldexp(std::nearbyint(std::ldexp(value, fraction - exponent)), exponent - fraction);
  return std::fabs(rounded) > largest ? std::copysign(INFINITY, value) : rounded;
}

static uint16_t halfBits(double value) {
  uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  double magnitude = std::fabs(roundTo(value, 10, -14, 65504));
  if (std::isnan(magnitude))
    return sign | 0x7e00;
  if (std::isinf(magnitude))
    return sign | 0x7c00;
  if (magnitude < std::ldexp(1, -14))
    return sign | static_cast<uint16_t>(std::ldexp(magnitude, 24));
  int exponent = std::ilogb(magnitude);
  return sign | static_cast<uint16_t>((exponent + 15) << 10) |
         (static_cast<uint16_t>(std::ldexp(magnitude, 10 - exponent)) & 0x3ff);
}

static double halfValue(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                     : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                    : std::ldexp(fraction, -24);
  return bits & 0x8000 ? -magnitude : magnitude;
}

static uint16_t brainBits(double value) {
  float rounded = static_cast<float>(roundTo(value, 7, -126, 3.3895313892515355e38));
  return static_cast<uint16_t>(valueOf<uint32_t>(bytesOf(rounded).data()) >> 16);
}

/// f8E4M3FN has 3 fraction bits and no infinity, f8E5M2 has 2.
static uint8_t float8Bits(DType dtype, double value) {
  bool isE4M3 = dtype == SHARDRT_F8E4M3FN;
  int fraction = isE4M3 ? 3 : 2, bias = isE4M3 ? 7 : 15;
  uint8_t sign = std::signbit(value) ? 0x80 : 0;
  double magnitude = std::fabs(roundTo(value, fraction, 1 - bias, isE4M3 ? 448 : 57344));
  if (std::isnan(magnitude))
    return sign | 0x7f;
  if (std::isinf(magnitude))
    return sign | (isE4M3 ? 0x7f : 0x7c);
  if (magnitude < std::ldexp(1, 1 - bias))
    return sign | static_cast<uint8_t>(std::ldexp(magnitude, bias - 1 + fraction));
  int exponent = std::ilogb(magnitude);
  auto significand = static_cast<uint8_t>(std::ldexp(magnitude, fraction - exponent));
  return sign | static_cast<uint8_t>((exponent + bias) << fraction) |
         (significand & ((1 << fraction) - 1));
}

static double float8Value(DType dtype, uint8_t bits) {
  bool isE4M3 = dtype == SHARDRT_F8E4M3FN;
  int fraction = isE4M3 ? 3 : 2, bias = isE4M3 ? 7 : 15, magnitude = bits & 0x7f;
  int exponent = magnitude >> fraction, rest = magnitude & ((1 << fraction) - 1);
  double value = exponent ? std::ldexp((1 << fraction) + rest, exponent - bias - fraction)
                          : std::ldexp(rest, 1 - bias - fraction);
  if (magnitude >= (isE4M3 ? 0x7f : 0x7d))
    value = NAN;
  else if (!isE4M3 && magnitude == 0x7c)
    value = INFINITY;
  return bits & 0x80 ? -value : value;
}

Bytes shardrt_test::encode(DType dtype, double value) {
  switch (dtype) {
  case SHARDRT_F64:
    return bytesOf(value);
  case SHARDRT_F32:
    return bytesOf(static_cast<float>(value));
  case SHARDRT_F16:
    return bytesOf(halfBits(value));
  case SHARDRT_BF16:
    return bytesOf(brainBits(value));
  case SHARDRT_F8E4M3FN:
  case SHARDRT_F8E5M2:
    return {float8Bits(dtype, value)};
  case SHARDRT_BOOL:
    return {static_cast<unsigned char>(value != 0)};
  default: {
    Bytes wide = bytesOf(static_cast<int64_t>(value));
    wide.resize(shardrt::dtypeSize(dtype)); // little-endian: wraps
    return wide;
  }
  }
}

double shardrt_test::decode(DType dtype, const unsigned char *at) {
  switch (dtype) {
  case SHARDRT_F64:
    return valueOf<double>(at);
  case SHARDRT_F32:
    return valueOf<float>(at);
  case SHARDRT_F16:
    return halfValue(valueOf<uint16_t>(at));
  case SHARDRT_BF16:
    return valueOf<float>(bytesOf(static_cast<uint32_t>(valueOf<uint16_t>(at)) << 16).data());
  case SHARDRT_F8E4M3FN:
  case SHARDRT_F8E5M2:
    return float8Value(dtype, *at);
  case SHARDRT_I64:
    return static_cast<double>(valueOf<int64_t>(at));
  case SHARDRT_I32:
    return valueOf<int32_t>(at);
  case SHARDRT_I16:
    return valueOf<int16_t>(at);
  case SHARDRT_I8:
    return valueOf<int8_t>(at);
  case SHARDRT_UI64:
    return static_cast<double>(valueOf<uint64_t>(at));
  case SHARDRT_UI32:
    return valueOf<uint32_t>(at);
  case SHARDRT_UI16:
    return valueOf<uint16_t>(at);
  default:
    return *at;
  }
}

static double apply(shardrt_reduce reduce, double a, double b) {
  switch (reduce) {
  case SHARDRT_SUM:
    return a + b;
  case SHARDRT_PROD:
    return a * b;
  case SHARDRT_MAX:
    return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b);
  default:
    return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b);
  }
}

Bytes shardrt_test::reduceElements(DType dtype, shardrt_reduce reduce,
                                   const std::vector<Bytes> &elements) {
  double result = decode(dtype, elements[0].data());
  for (size_t i = 1; i < elements.size(); ++i) {
    double next = decode(dtype, elements[i].data());
    if (dtype == SHARDRT_BOOL)
      result = reduce == SHARDRT_SUM || reduce == SHARDRT_MAX ? result != 0 || next != 0
                                                              : result != 0 && next != 0;
    else
      result = apply(reduce, result, next);
    if (dtype == SHARDRT_F32 || dtype == SHARDRT_F16 || dtype == SHARDRT_BF16 ||
        dtype >= SHARDRT_F8E4M3FN)
      result = static_cast<float>(result); // sums and products of two floats are rounded once
  }
  return encode(dtype, result);
}
