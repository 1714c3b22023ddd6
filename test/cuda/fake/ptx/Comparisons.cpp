//===- Comparisons.cpp - Predicates and selections ------------------------===//
#include "Handlers.h"

namespace fake {
namespace {

enum class Order { Eq, Ne, Lt, Le, Gt, Ge, Num, Nan };

template <class V> bool holds(Order order, bool orUnordered, V a, V b) {
  bool unordered = a != a || b != b;
  switch (order) {
  case Order::Num:
    return !unordered;
  case Order::Nan:
    return unordered;
  case Order::Eq:
    return unordered ? orUnordered : a == b;
  case Order::Ne:
    return unordered ? orUnordered : a != b;
  case Order::Lt:
    return unordered ? orUnordered : a < b;
  case Order::Le:
    return unordered ? orUnordered : a <= b;
  case Order::Gt:
    return unordered ? orUnordered : a > b;
  case Order::Ge:
    return unordered ? orUnordered : a >= b;
  }
  return false;
}

/// 0: the comparison; 1, 2, 3: and, or, xor with a predicate.
bool combine(unsigned how, bool a, bool b) {
  return how == 0 ? a : how == 1 ? a && b : how == 2 ? a || b : a != b;
}

template <class T> void compareHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  uint8_t *d = warp.at<uint8_t>(i.operands[0]), *inverse = warp.at<uint8_t>(i.operands[4]);
  const T *a = warp.at<T>(i.operands[1]), *b = warp.at<T>(i.operands[2]);
  const uint8_t *other = warp.at<uint8_t>(i.operands[3]);
  auto order = Order(i.width);
  bool orUnordered = i.vector;
  eachLane(mask, [&](unsigned l) {
    bool result = holds(order, orUnordered, widen(a[l]), widen(b[l])), with = other[l];
    d[l] = combine(i.extend, result, with);
    inverse[l] = combine(i.extend, !result, with);
  });
}

/// Two narrow floats in 32 bits: a predicate for each half.
template <class T> void comparePairHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  uint8_t *low = warp.at<uint8_t>(i.operands[0]), *high = warp.at<uint8_t>(i.operands[4]);
  const T *a = warp.at<T>(i.operands[1]), *b = warp.at<T>(i.operands[2]);
  eachLane(mask, [&](unsigned l) {
    low[l] = holds(Order(i.width), i.vector, widen(a[2 * l]), widen(b[2 * l]));
    high[l] = holds(Order(i.width), i.vector, widen(a[2 * l + 1]), widen(b[2 * l + 1]));
  });
}

void compare(Decoder &decoder, Statement &s, Instruction &i) {
  static const std::pair<const char *, Order> names[] = {{"eq", Order::Eq}, {"ne", Order::Ne},
                                                         {"lt", Order::Lt}, {"le", Order::Le},
                                                         {"gt", Order::Gt}, {"ge", Order::Ge}};
  static const std::pair<const char *, Order> unsignedNames[] = {
      {"lo", Order::Lt}, {"ls", Order::Le}, {"hi", Order::Gt}, {"hs", Order::Ge}};
  bool real = isFloat(s.type()), found = false;
  i.vector = 0;
  auto take = [&](const std::string &name, Order order, bool unordered) {
    if (found || !s.take(name))
      return;
    found = true;
    i.width = uint8_t(order);
    i.vector = unordered;
  };
  for (auto [name, order] : names) {
    take(name, order, false);
    if (real)
      take(std::string(name) + "u", order, true);
  }
  if (real) {
    take("num", Order::Num, false);
    take("nan", Order::Nan, false);
  } else {
    for (auto [name, order] : unsignedNames)
      take(name, order, false);
  }
  if (!found)
    return;
  i.extend = s.take("and") ? 1 : s.take("or") ? 2 : s.take("xor") ? 3 : 0;
  std::string first = s.operands[0], second = "_";
  if (size_t bar = first.find('|'); bar != std::string::npos) {
    second = first.substr(bar + 1);
    first.resize(bar);
  }
  unsigned bits = bitsOf(s.type());
  i.operands[0] = decoder.target(s, first, 1);
  i.operands[1] = decoder.source(s, s.operands[1], bits);
  i.operands[2] = decoder.source(s, s.operands[2], bits);
  i.operands[3] = i.extend ? decoder.source(s, s.operands[3], 1) : i.operands[0];
  i.operands[4] = decoder.target(s, second, 1);
  if (s.type() == Type::F16x2 || s.type() == Type::BF16x2) {
    if (!i.extend)
      i.handler = s.type() == Type::F16x2 ? comparePairHandler<Half> : comparePairHandler<BFloat>;
    return;
  }
  i.handler = forNumber(s.type(), [](auto v) -> Handler { return compareHandler<decltype(v)>; });
}

template <class T> void selectHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]), *b = warp.at<T>(i.operands[2]);
  const uint8_t *choice = warp.at<uint8_t>(i.operands[3]);
  eachLane(mask, [&](unsigned l) { d[l] = choice[l] ? a[l] : b[l]; });
}

void select(Decoder &decoder, Statement &s, Instruction &i) {
  sameType(decoder, s, i, 2);
  i.operands[3] = decoder.source(s, s.operands[3], 1);
  switch (bitsOf(s.type())) {
  case 16:
    i.handler = selectHandler<uint16_t>;
    break;
  case 32:
    i.handler = selectHandler<uint32_t>;
    break;
  case 64:
    i.handler = selectHandler<uint64_t>;
    break;
  default:
    break;
  }
}

} // namespace

void addComparisons(BuilderTable &table) {
  table["setp"] = compare;
  table["selp"] = select;
}

} // namespace fake
