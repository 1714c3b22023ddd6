//===- BitOperations.cpp - Logic, shifts, fields, bytes -------------------===//
#include "Handlers.h"

namespace fake {
namespace {

struct And {
  template <class V> static V apply(V a, V b) { return V(a & b); }
};
struct Or {
  template <class V> static V apply(V a, V b) { return V(a | b); }
};
struct Xor {
  template <class V> static V apply(V a, V b) { return V(a ^ b); }
};
struct Not {
  template <class V> static V apply(V a) { return V(~a); }
};
struct NotPredicate {
  template <class V> static V apply(V a) { return V(!a); }
};

template <class Op, int count, class PredicateOp = Op>
void logic(Decoder &decoder, Statement &s, Instruction &i) {
  sameType(decoder, s, i, count);
  i.handler = s.type() == Type::B1 ? sameTypeHandler<uint8_t, PredicateOp, count>()
                                   : integerHandler<Op, count>(s.type());
}

template <class T, bool left> void shiftHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]);
  const uint32_t *amount = warp.at<uint32_t>(i.operands[2]);
  constexpr unsigned width = 8 * sizeof(T);
  eachLane(mask, [&](unsigned l) {
    uint32_t by = amount[l];
    if (left)
      d[l] = by < width ? T(a[l] << by) : T(0);
    else if (std::is_signed_v<T>)
      d[l] = T(a[l] >> std::min(by, width - 1));
    else
      d[l] = by < width ? T(a[l] >> by) : T(0);
  });
}

template <bool left> void shift(Decoder &decoder, Statement &s, Instruction &i) {
  i.operands[0] = decoder.target(s, s.operands[0], bitsOf(s.type()));
  i.operands[1] = decoder.source(s, s.operands[1], bitsOf(s.type()));
  i.operands[2] = decoder.source(s, s.operands[2], 32);
  i.handler =
      forInteger(s.type(), [](auto v) -> Handler { return shiftHandler<decltype(v), left>; });
}

template <class T> void extractHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]);
  const uint32_t *start = warp.at<uint32_t>(i.operands[2]),
                 *length = warp.at<uint32_t>(i.operands[3]);
  constexpr unsigned width = 8 * sizeof(T);
  eachLane(mask, [&](unsigned l) {
    unsigned from = start[l] & 255, bits = length[l] & 255;
    T shifted = from < width ? T(a[l] >> from) : T(a[l] >> (width - 1));
    if (from >= width && !std::is_signed_v<T>)
      shifted = 0;
    if (bits == 0)
      d[l] = 0;
    else if (bits >= width)
      d[l] = shifted;
    else if (std::is_signed_v<T>) // The sign is the field's last bit, or the value's where that
                                  // lies beyond.
      d[l] = from + bits <= width ? T(T(shifted << (width - bits)) >> (width - bits)) : shifted;
    else
      d[l] = T(shifted & ((T(1) << bits) - 1));
  });
}

void extract(Decoder &decoder, Statement &s, Instruction &i) {
  i.operands[0] = decoder.target(s, s.operands[0], bitsOf(s.type()));
  i.operands[1] = decoder.source(s, s.operands[1], bitsOf(s.type()));
  i.operands[2] = decoder.source(s, s.operands[2], 32);
  i.operands[3] = decoder.source(s, s.operands[3], 32);
  if (bitsOf(s.type()) >= 32)
    i.handler = forInteger(s.type(), [](auto v) -> Handler { return extractHandler<decltype(v)>; });
}

template <class T> void insertHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]), *b = warp.at<T>(i.operands[2]);
  const uint32_t *start = warp.at<uint32_t>(i.operands[3]),
                 *length = warp.at<uint32_t>(i.operands[4]);
  constexpr unsigned width = 8 * sizeof(T);
  eachLane(mask, [&](unsigned l) {
    unsigned from = start[l] & 255, bits = length[l] & 255;
    T ones = bits >= width ? T(~T(0)) : T((T(1) << bits) - 1);
    T field = from < width ? T(ones << from) : T(0);
    d[l] = T((b[l] & ~field) | (from < width ? (a[l] << from) & field : 0));
  });
}

void insert(Decoder &decoder, Statement &s, Instruction &i) {
  i.operands[0] = decoder.target(s, s.operands[0], bitsOf(s.type()));
  for (int n : {1, 2})
    i.operands[n] = decoder.source(s, s.operands[n], bitsOf(s.type()));
  for (int n : {3, 4})
    i.operands[n] = decoder.source(s, s.operands[n], 32);
  if (s.type() == Type::B32)
    i.handler = insertHandler<uint32_t>;
  else if (s.type() == Type::B64)
    i.handler = insertHandler<uint64_t>;
}

void permuteHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  uint32_t *d = warp.at<uint32_t>(i.operands[0]);
  const uint32_t *a = warp.at<uint32_t>(i.operands[1]), *b = warp.at<uint32_t>(i.operands[2]),
                 *selector = warp.at<uint32_t>(i.operands[3]);
  eachLane(mask, [&](unsigned l) {
    uint64_t both = a[l] | uint64_t(b[l]) << 32;
    uint32_t result = 0;
    for (int byte = 0; byte < 4; ++byte) {
      unsigned choice = selector[l] >> (4 * byte) & 15, value = uint8_t(both >> (8 * (choice & 7)));
      // The upper bit of a choice spreads the sign.
      result |= (choice & 8 ? (value & 128 ? 255u : 0u) : value) << (8 * byte);
    }
    d[l] = result;
  });
}

void permute(Decoder &decoder, Statement &s, Instruction &i) {
  if (s.type() != Type::B32)
    return;
  sameType(decoder, s, i, 3);
  i.handler = permuteHandler;
}

template <class T, int kind> void countHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  uint32_t *d = warp.at<uint32_t>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]);
  constexpr int width = 8 * sizeof(T);
  eachLane(mask, [&](unsigned l) {
    d[l] = uint32_t(kind == 0   ? __builtin_popcountll(a[l])
                    : a[l] == 0 ? width
                                : __builtin_clzll(a[l]) - (64 - width));
  });
}

template <int kind> void count(Decoder &decoder, Statement &s, Instruction &i) {
  i.operands[0] = decoder.target(s, s.operands[0], 32);
  i.operands[1] = decoder.source(s, s.operands[1], bitsOf(s.type()));
  i.handler = s.type() == Type::B32   ? countHandler<uint32_t, kind>
              : s.type() == Type::B64 ? countHandler<uint64_t, kind>
                                      : nullptr;
}

/// Two registers as one, moved: the upper half of the sum of shifts.
template <bool left> void funnelHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  uint32_t *d = warp.at<uint32_t>(i.operands[0]);
  const uint32_t *low = warp.at<uint32_t>(i.operands[1]), *high = warp.at<uint32_t>(i.operands[2]),
                 *amount = warp.at<uint32_t>(i.operands[3]);
  eachLane(mask, [&](unsigned l) {
    uint64_t both = low[l] | uint64_t(high[l]) << 32;
    unsigned by = i.extend ? std::min(amount[l], 32u) : amount[l] & 31;
    d[l] = left ? uint32_t((both << by) >> 32) : uint32_t(both >> by);
  });
}

void funnel(Decoder &decoder, Statement &s, Instruction &i) {
  bool left = s.take("l"), right = s.take("r");
  i.extend = s.take("clamp");
  if (left == right || (!i.extend && !s.take("wrap")) || s.type() != Type::B32)
    return;
  sameType(decoder, s, i, 3);
  i.handler = left ? funnelHandler<true> : funnelHandler<false>;
}

} // namespace

void addBitOperations(BuilderTable &table) {
  table["and"] = logic<And, 2>;
  table["or"] = logic<Or, 2>;
  table["xor"] = logic<Xor, 2>;
  table["not"] = logic<Not, 1, NotPredicate>;
  table["shl"] = shift<true>;
  table["shr"] = shift<false>;
  table["bfe"] = extract;
  table["bfi"] = insert;
  table["prmt"] = permute;
  table["popc"] = count<0>;
  table["clz"] = count<1>;
  table["shf"] = funnel;
}

} // namespace fake
