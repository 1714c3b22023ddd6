//===- Handlers.h - Loops over lanes --------------------------------------===//
#pragma once
#include "Decoder.h"

namespace fake {

template <class T, class Op> void unaryHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]);
  eachLane(mask, [&](unsigned l) { d[l] = Narrow<T>::from(Op::apply(widen(a[l]))); });
}

template <class T, class Op> void binaryHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]), *b = warp.at<T>(i.operands[2]);
  eachLane(mask, [&](unsigned l) { d[l] = Narrow<T>::from(Op::apply(widen(a[l]), widen(b[l]))); });
}

template <class T, class Op> void ternaryHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]), *b = warp.at<T>(i.operands[2]),
          *c = warp.at<T>(i.operands[3]);
  eachLane(mask, [&](unsigned l) {
    d[l] = Narrow<T>::from(Op::apply(widen(a[l]), widen(b[l]), widen(c[l])));
  });
}

/// Two narrow floats in 32 bits: a register is 64 of them.
template <class T, class Op, int count>
void packedHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *s[3];
  for (int n = 0; n < count; ++n)
    s[n] = warp.at<T>(i.operands[n + 1]);
  eachLane(mask, [&](unsigned l) {
    for (unsigned half = 2 * l; half < 2 * l + 2; ++half)
      if constexpr (count == 1)
        d[half] = Narrow<T>::from(Op::apply(widen(s[0][half])));
      else if constexpr (count == 2)
        d[half] = Narrow<T>::from(Op::apply(widen(s[0][half]), widen(s[1][half])));
      else
        d[half] =
            Narrow<T>::from(Op::apply(widen(s[0][half]), widen(s[1][half]), widen(s[2][half])));
  });
}

template <class T, class Op, int count> Handler sameTypeHandler() {
  if constexpr (count == 1)
    return unaryHandler<T, Op>;
  else if constexpr (count == 2)
    return binaryHandler<T, Op>;
  else
    return ternaryHandler<T, Op>;
}

template <class Op, int count> Handler floatHandler(Type type) {
  if (type == Type::F16x2)
    return packedHandler<Half, Op, count>;
  if (type == Type::BF16x2)
    return packedHandler<BFloat, Op, count>;
  return forFloat(type, [](auto value) { return sameTypeHandler<decltype(value), Op, count>(); });
}
template <class Op, int count> Handler integerHandler(Type type) {
  return forInteger(type, [](auto value) { return sameTypeHandler<decltype(value), Op, count>(); });
}

/// Result and sources all of the instruction's type.
inline void sameType(Decoder &decoder, const Statement &s, Instruction &i, int sources) {
  i.operands[0] = decoder.target(s, s.operands[0], bitsOf(s.type()));
  for (int n = 1; n <= sources; ++n)
    i.operands[n] = decoder.source(s, s.operands[n], bitsOf(s.type()));
}

} // namespace fake
