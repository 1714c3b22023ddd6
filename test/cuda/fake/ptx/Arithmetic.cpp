//===- Arithmetic.cpp - Sums, products, quotients, elementary functions ---===//
#include "Handlers.h"
#include <limits>

namespace fake {
namespace {

// Integers wrap: -fwrapv, and narrow ones are promoted and cut.
struct Add {
  template <class V> static V apply(V a, V b) { return V(a + b); }
};
struct Sub {
  template <class V> static V apply(V a, V b) { return V(a - b); }
};
struct Mul {
  template <class V> static V apply(V a, V b) { return V(a * b); }
};
/// Full-width product of unsigned 16 bits would overflow a promoted int.
template <> uint16_t Mul::apply(uint16_t a, uint16_t b) { return uint16_t(uint32_t(a) * b); }
struct Mad {
  template <class V> static V apply(V a, V b, V c) { return V(Mul::apply(a, b) + c); }
};
struct Neg {
  template <class V> static V apply(V a) { return V(-a); }
};
struct Abs {
  template <class V> static V apply(V a) {
    if constexpr (std::is_floating_point_v<V>)
      return std::fabs(a);
    else
      return a < 0 ? V(-a) : a;
  }
};
struct Fma {
  static double apply(double a, double b, double c) { return std::fma(a, b, c); }
  static float apply(float a, float b, float c) { return std::fma(a, b, c); }
};
/// Of narrow floats: the product is exact in f64, the sum is rounded once more.
struct NarrowFma {
  static double apply(float a, float b, float c) {
    return std::fma(double(a), double(b), double(c));
  }
};
struct Div {
  template <class V> static V apply(V a, V b) {
    if constexpr (std::is_floating_point_v<V>)
      return a / b;
    else
      return b == 0 ? V(~V(0)) : std::is_signed_v<V> && b == V(-1) ? V(-a) : V(a / b);
  }
};
struct Rem {
  template <class V> static V apply(V a, V b) {
    return b == 0 ? a : std::is_signed_v<V> && b == V(-1) ? V(0) : V(a % b);
  }
};
/// The number, if one is none.
struct Min {
  template <class V> static V apply(V a, V b) {
    if constexpr (std::is_floating_point_v<V>)
      return std::fmin(a, b) == a && std::signbit(a) ? a : std::fmin(b, a);
    else
      return a < b ? a : b;
  }
};
struct Max {
  template <class V> static V apply(V a, V b) {
    if constexpr (std::is_floating_point_v<V>)
      return std::fmax(a, b) == a && !std::signbit(a) ? a : std::fmax(b, a);
    else
      return a > b ? a : b;
  }
};
template <class Op> struct NanOf {
  template <class V> static V apply(V a, V b) {
    return a != a || b != b ? std::numeric_limits<V>::quiet_NaN() : Op::apply(a, b);
  }
};
struct Sqrt {
  template <class V> static V apply(V a) { return std::sqrt(a); }
};
struct Rsqrt {
  template <class V> static V apply(V a) { return V(1 / std::sqrt(double(a))); }
};
struct Rcp {
  template <class V> static V apply(V a) { return 1 / a; }
};
struct Exp2 {
  template <class V> static V apply(V a) { return std::exp2(a); }
};
struct Log2 {
  template <class V> static V apply(V a) { return std::log2(a); }
};
struct Sin {
  template <class V> static V apply(V a) { return std::sin(a); }
};
struct Cos {
  template <class V> static V apply(V a) { return std::cos(a); }
};
struct Copysign {
  template <class V> static V apply(V a, V b) { return std::copysign(b, a); }
};

/// `.ftz`: subnormal operands and results are zeros of their sign.
template <class Op> struct Flushed {
  static float flush(float a) { return std::fabs(a) < 0x1p-126f ? std::copysign(0.0f, a) : a; }
  template <class... V> static float apply(V... operands) {
    return flush(Op::apply(flush(operands)...));
  }
};

template <class T> struct Wider;
template <> struct Wider<uint16_t> {
  using type = uint32_t;
};
template <> struct Wider<int16_t> {
  using type = int32_t;
};
template <> struct Wider<uint32_t> {
  using type = uint64_t;
};
template <> struct Wider<int32_t> {
  using type = int64_t;
};
template <> struct Wider<uint64_t> {
  using type = unsigned __int128;
};
template <> struct Wider<int64_t> {
  using type = __int128;
};

template <class T> void wideHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  using W = typename Wider<T>::type;
  W *d = warp.at<W>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]), *b = warp.at<T>(i.operands[2]);
  const W *c = i.extend ? warp.at<W>(i.operands[3]) : nullptr;
  eachLane(mask, [&](unsigned l) { d[l] = W(a[l]) * W(b[l]) + (c ? c[l] : 0); });
}
struct High {
  template <class V> static V apply(V a, V b) {
    return V((typename Wider<V>::type(a) * typename Wider<V>::type(b)) >> (8 * sizeof(V)));
  }
};

void wide(Decoder &decoder, Statement &s, Instruction &i, bool adds) {
  unsigned bits = bitsOf(s.type());
  i.extend = adds;
  if (bits == 64)
    return;
  i.operands[0] = decoder.target(s, s.operands[0], 2 * bits);
  i.operands[1] = decoder.source(s, s.operands[1], bits);
  i.operands[2] = decoder.source(s, s.operands[2], bits);
  if (adds)
    i.operands[3] = decoder.source(s, s.operands[3], 2 * bits);
  switch (s.type()) {
  case Type::U16:
    i.handler = wideHandler<uint16_t>;
    break;
  case Type::S16:
    i.handler = wideHandler<int16_t>;
    break;
  case Type::U32:
    i.handler = wideHandler<uint32_t>;
    break;
  case Type::S32:
    i.handler = wideHandler<int32_t>;
    break;
  default:
    break;
  }
}

bool flushes(Statement &s) { return s.type() == Type::F32 && s.take("ftz"); }

/// Any number type; `.rn` is what floats do anyway.
template <class Op, int count> void number(Decoder &decoder, Statement &s, Instruction &i) {
  if (isFloat(s.type()))
    s.take("rn");
  sameType(decoder, s, i, count);
  i.handler =
      isFloat(s.type()) ? floatHandler<Op, count>(s.type()) : integerHandler<Op, count>(s.type());
}

template <class Op, int count> void floatOnly(Decoder &decoder, Statement &s, Instruction &i) {
  // Hardware approximates; here it is exact.
  s.take("rn") || s.take("approx") || s.take("full");
  sameType(decoder, s, i, count);
  i.handler =
      flushes(s) ? sameTypeHandler<float, Flushed<Op>, count>() : floatHandler<Op, count>(s.type());
}

template <class Op> void extreme(Decoder &decoder, Statement &s, Instruction &i) {
  bool nan = s.take("NaN");
  sameType(decoder, s, i, 2);
  i.handler = !isFloat(s.type()) ? (nan ? nullptr : integerHandler<Op, 2>(s.type()))
              : nan              ? floatHandler<NanOf<Op>, 2>(s.type())
                                 : floatHandler<Op, 2>(s.type());
}

void multiply(Decoder &decoder, Statement &s, Instruction &i) {
  if (isFloat(s.type()))
    return number<Mul, 2>(decoder, s, i);
  if (s.take("wide"))
    return wide(decoder, s, i, false);
  sameType(decoder, s, i, 2);
  if (s.take("hi"))
    i.handler = integerHandler<High, 2>(s.type());
  else if (s.take("lo"))
    i.handler = integerHandler<Mul, 2>(s.type());
}

void multiplyAdd(Decoder &decoder, Statement &s, Instruction &i) {
  if (s.take("wide"))
    return wide(decoder, s, i, true);
  sameType(decoder, s, i, 3);
  if (s.take("lo"))
    i.handler = integerHandler<Mad, 3>(s.type());
}

void fusedMultiplyAdd(Decoder &decoder, Statement &s, Instruction &i) {
  if (!s.take("rn"))
    return;
  sameType(decoder, s, i, 3);
  i.handler = s.type() == Type::F32 || s.type() == Type::F64 ? floatHandler<Fma, 3>(s.type())
                                                             : floatHandler<NarrowFma, 3>(s.type());
}

void remainder(Decoder &decoder, Statement &s, Instruction &i) {
  sameType(decoder, s, i, 2);
  i.handler = integerHandler<Rem, 2>(s.type());
}

void divide(Decoder &decoder, Statement &s, Instruction &i) {
  if (isFloat(s.type()))
    return floatOnly<Div, 2>(decoder, s, i);
  number<Div, 2>(decoder, s, i);
}

} // namespace

void addArithmetic(BuilderTable &table) {
  table["add"] = number<Add, 2>;
  table["sub"] = number<Sub, 2>;
  table["neg"] = number<Neg, 1>;
  table["abs"] = number<Abs, 1>;
  table["mul"] = multiply;
  table["mad"] = multiplyAdd;
  table["fma"] = fusedMultiplyAdd;
  table["div"] = divide;
  table["rem"] = remainder;
  table["min"] = extreme<Min>;
  table["max"] = extreme<Max>;
  table["sqrt"] = floatOnly<Sqrt, 1>;
  table["rsqrt"] = floatOnly<Rsqrt, 1>;
  table["rcp"] = floatOnly<Rcp, 1>;
  table["ex2"] = floatOnly<Exp2, 1>;
  table["lg2"] = floatOnly<Log2, 1>;
  table["sin"] = floatOnly<Sin, 1>;
  table["cos"] = floatOnly<Cos, 1>;
  table["copysign"] = floatOnly<Copysign, 2>;
}

} // namespace fake
