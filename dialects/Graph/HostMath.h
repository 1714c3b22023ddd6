//===- HostMath.h - Scalar functions of the reference evaluation ----------===//
//
// On double and on int64. Integer arithmetic wraps (computed unsigned); results are wrapped to the
// element type afterwards. Division by integer zero gives zero rather than a trap.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_DIALECTS_GRAPH_HOSTMATH_H
#define SHARDC_DIALECTS_GRAPH_HOSTMATH_H

#include <cmath>
#include <cstdint>
#include <limits>

namespace shardc::graph::host {

inline uint64_t u(int64_t x) { return static_cast<uint64_t>(x); }
inline int64_t s(uint64_t x) { return static_cast<int64_t>(x); }

inline double neg(double x) { return -x; }
inline int64_t neg(int64_t x) { return s(0 - u(x)); }
inline double abs(double x) { return std::fabs(x); }
inline int64_t abs(int64_t x) { return x < 0 ? neg(x) : x; }
template <typename T> T sign(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x; }
template <typename T> T relu(T x) { return x < 0 ? T(0) : x; }

inline double gelu(double x) { return x * (0.5 * (1 + std::erf(x * 0.70710678118654752440))); }
inline double geluTanh(double x) {
  return 0.5 * x * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}
inline double softplus(double x) {
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

inline double add(double x, double y) { return x + y; }
inline int64_t add(int64_t x, int64_t y) { return s(u(x) + u(y)); }
inline double sub(double x, double y) { return x - y; }
inline int64_t sub(int64_t x, int64_t y) { return s(u(x) - u(y)); }
inline double mul(double x, double y) { return x * y; }
inline int64_t mul(int64_t x, int64_t y) { return s(u(x) * u(y)); }

inline double div(double x, double y, bool) { return x / y; }
inline int64_t div(int64_t x, int64_t y, bool isUnsigned) {
  if (y == 0)
    return 0;
  if (isUnsigned)
    return s(u(x) / u(y));
  return y == -1 ? neg(x) : x / y;
}
inline double rem(double x, double y, bool) { return std::fmod(x, y); }
inline int64_t rem(int64_t x, int64_t y, bool isUnsigned) {
  if (y == 0 || (!isUnsigned && y == -1))
    return 0;
  return isUnsigned ? s(u(x) % u(y)) : x % y;
}
template <typename T> T mod(T x, T y, bool isUnsigned) {
  T r = rem(x, y, isUnsigned);
  return !isUnsigned && r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

inline double pow(double x, double y) { return std::pow(x, y); }
inline int64_t pow(int64_t x, int64_t y) {
  if (y < 0)
    return x == 1 ? 1 : x == -1 ? (y % 2 ? -1 : 1) : 0;
  int64_t result = 1;
  for (; y; y >>= 1, x = mul(x, x))
    if (y & 1)
      result = mul(result, x);
  return result;
}

inline double max(double x, double y, bool) {
  return std::isnan(x) ? x : std::isnan(y) ? y : x > y ? x : y;
}
inline double min(double x, double y, bool) {
  return std::isnan(x) ? x : std::isnan(y) ? y : x < y ? x : y;
}
inline int64_t max(int64_t x, int64_t y, bool isUnsigned) {
  return (isUnsigned ? u(x) > u(y) : x > y) ? x : y;
}
inline int64_t min(int64_t x, int64_t y, bool isUnsigned) {
  return (isUnsigned ? u(x) < u(y) : x < y) ? x : y;
}

// Bit operations exist for integers only; the double forms let one generic lambda serve both.
inline double bitNot(double x) { return x; }
inline int64_t bitNot(int64_t x) { return ~x; }
inline double bitAnd(double x, double) { return x; }
inline int64_t bitAnd(int64_t x, int64_t y) { return x & y; }
inline double bitOr(double x, double) { return x; }
inline int64_t bitOr(int64_t x, int64_t y) { return x | y; }
inline double bitXor(double x, double) { return x; }
inline int64_t bitXor(int64_t x, int64_t y) { return x ^ y; }
inline double shl(double x, double) { return x; }
inline int64_t shl(int64_t x, int64_t y) { return u(y) > 63 ? 0 : s(u(x) << y); }
inline double shr(double x, double, bool) { return x; }
inline int64_t shr(int64_t x, int64_t y, bool isUnsigned) {
  if (u(y) > 63)
    return !isUnsigned && x < 0 ? -1 : 0;
  return isUnsigned ? s(u(x) >> y) : x >> y;
}

} // namespace shardc::graph::host

#endif // SHARDC_DIALECTS_GRAPH_HOSTMATH_H
