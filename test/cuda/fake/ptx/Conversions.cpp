//===- Conversions.cpp - Moves and conversions ----------------------------===//
#include "Handlers.h"
#include <limits>

namespace fake {
namespace {

template <class T> void moveHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  T *d = warp.at<T>(i.operands[0]);
  const T *a = warp.at<T>(i.operands[1]);
  eachLane(mask, [&](unsigned l) { d[l] = a[l]; });
}

Handler moveOf(unsigned bits) {
  switch (bits) {
  case 1:
    return moveHandler<uint8_t>;
  case 16:
    return moveHandler<uint16_t>;
  case 32:
    return moveHandler<uint32_t>;
  case 64:
    return moveHandler<uint64_t>;
  default:
    return nullptr;
  }
}

/// The pieces of a register, from the lowest; `width` bytes each, `vector` of them.
template <bool pack> void piecesHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  uint8_t *whole = warp.at<uint8_t>(i.operands[0]);
  eachLane(mask, [&](unsigned l) {
    uint8_t copy[8];
    std::memcpy(copy, whole + l * i.width * i.vector, i.width * i.vector);
    for (unsigned n = 0; n < i.vector; ++n) {
      uint8_t *piece = warp.at<uint8_t>(i.operands[n + 1]) + l * i.width;
      std::memcpy(pack ? copy + n * i.width : piece, pack ? piece : copy + n * i.width, i.width);
    }
    if (pack)
      std::memcpy(whole + l * i.width * i.vector, copy, i.width * i.vector);
  });
}

void move(Decoder &decoder, Statement &s, Instruction &i) {
  unsigned bits = bitsOf(s.type());
  bool pack = s.operands[1][0] == '{', unpack = s.operands[0][0] == '{';
  if (!pack && !unpack) {
    sameType(decoder, s, i, 1);
    i.handler = moveOf(bits);
    return;
  }
  auto pieces = Decoder::list(s.operands[pack ? 1 : 0]);
  if (pieces.size() > 4 || bits % (8 * pieces.size()))
    decoder.reject(s, "instruction not understood");
  i.vector = uint8_t(pieces.size());
  i.width = uint8_t(bits / 8 / pieces.size());
  i.operands[0] =
      pack ? decoder.target(s, s.operands[0], bits) : decoder.source(s, s.operands[1], bits);
  for (size_t n = 0; n < pieces.size(); ++n)
    i.operands[n + 1] = pack ? decoder.source(s, pieces[n], 8u * i.width)
                             : decoder.target(s, pieces[n], 8u * i.width);
  i.handler = pack ? piecesHandler<true> : piecesHandler<false>;
}

/// Addresses of the global space are generic ones; those of the shared space lie in a window of
/// their own.
void convertAddress(Decoder &decoder, Statement &s, Instruction &i) {
  s.take("to");
  if (!s.take("global"))
    return;
  sameType(decoder, s, i, 1);
  i.handler = moveOf(bitsOf(s.type()));
}

enum class Rounding : uint8_t { None, Zero, Nearest, Down, Up };

template <class V> V rounded(V value, uint8_t how) {
  switch (Rounding(how)) {
  case Rounding::Zero:
    return std::trunc(value);
  case Rounding::Nearest:
    return std::nearbyint(value);
  case Rounding::Down:
    return std::floor(value);
  case Rounding::Up:
    return std::ceil(value);
  default:
    return value;
  }
}

/// Saturates; what is no number is zero.
template <class D, class S> D convertNumber(S source, uint8_t how) {
  if constexpr (std::is_floating_point_v<S> && std::is_integral_v<D>) {
    S value = rounded(source, how);
    if (value != value)
      return 0;
    if (value < S(std::numeric_limits<D>::min()))
      return std::numeric_limits<D>::min();
    return value >= std::ldexp(S(1), std::numeric_limits<D>::digits) ? std::numeric_limits<D>::max()
                                                                     : D(value);
  } else if constexpr (std::is_floating_point_v<S>) {
    return D(rounded(source, how));
  } else {
    return D(source);
  }
}

/// The register may be wider than the type: it holds the extended value. `Store` is as wide as the
/// register.
template <class D, class Store, class S, class Load>
void convertHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  Store *d = warp.at<Store>(i.operands[0]);
  const Load *a = warp.at<Load>(i.operands[1]);
  uint8_t how = i.extend;
  eachLane(mask, [&](unsigned l) {
    S source;
    std::memcpy(&source, &a[l], sizeof(S));
    if constexpr (std::is_same_v<D, Half> || std::is_same_v<D, BFloat>) {
      auto value = widen(source);
      if constexpr (std::is_floating_point_v<decltype(value)>)
        d[l] = Narrow<D>::from(rounded(value, how));
      else
        d[l] = Narrow<D>::from(double(value));
    } else {
      d[l] = Store(convertNumber<D>(widen(source), how));
    }
  });
}

template <class D, class Store> Handler convertFrom(Type source, unsigned bits) {
  switch (source) {
  case Type::F16:
    return convertHandler<D, Store, Half, Half>;
  case Type::BF16:
    return convertHandler<D, Store, BFloat, BFloat>;
  case Type::F32:
    return convertHandler<D, Store, float, float>;
  case Type::F64:
    return convertHandler<D, Store, double, double>;
  case Type::S8:
    return bits == 16   ? Handler(convertHandler<D, Store, int8_t, int16_t>)
           : bits == 32 ? Handler(convertHandler<D, Store, int8_t, int32_t>)
                        : Handler(convertHandler<D, Store, int8_t, int64_t>);
  case Type::U8:
    return bits == 16   ? Handler(convertHandler<D, Store, uint8_t, uint16_t>)
           : bits == 32 ? Handler(convertHandler<D, Store, uint8_t, uint32_t>)
                        : Handler(convertHandler<D, Store, uint8_t, uint64_t>);
  case Type::S16:
    return bits == 16   ? Handler(convertHandler<D, Store, int16_t, int16_t>)
           : bits == 32 ? Handler(convertHandler<D, Store, int16_t, int32_t>)
                        : nullptr;
  case Type::U16:
    return bits == 16   ? Handler(convertHandler<D, Store, uint16_t, uint16_t>)
           : bits == 32 ? Handler(convertHandler<D, Store, uint16_t, uint32_t>)
                        : nullptr;
  case Type::S32:
    return bits == 32 ? Handler(convertHandler<D, Store, int32_t, int32_t>) : nullptr;
  case Type::U32:
    return bits == 32 ? Handler(convertHandler<D, Store, uint32_t, uint32_t>) : nullptr;
  case Type::S64:
    return convertHandler<D, Store, int64_t, int64_t>;
  case Type::U64:
    return convertHandler<D, Store, uint64_t, uint64_t>;
  default:
    return nullptr;
  }
}

template <class D, class S16, class S32, class S64>
Handler widerStore(unsigned bits, Type source, unsigned sourceBits) {
  return bits == 16   ? convertFrom<D, S16>(source, sourceBits)
         : bits == 32 ? convertFrom<D, S32>(source, sourceBits)
                      : convertFrom<D, S64>(source, sourceBits);
}

Handler convertTo(Type target, unsigned bits, Type source, unsigned sourceBits) {
  switch (target) {
  case Type::F16:
    return convertFrom<Half, Half>(source, sourceBits);
  case Type::BF16:
    return convertFrom<BFloat, BFloat>(source, sourceBits);
  case Type::F32:
    return convertFrom<float, float>(source, sourceBits);
  case Type::F64:
    return convertFrom<double, double>(source, sourceBits);
  case Type::S8:
    return widerStore<int8_t, int16_t, int32_t, int64_t>(bits, source, sourceBits);
  case Type::U8:
    return widerStore<uint8_t, uint16_t, uint32_t, uint64_t>(bits, source, sourceBits);
  case Type::S16:
    return widerStore<int16_t, int16_t, int32_t, int64_t>(bits, source, sourceBits);
  case Type::U16:
    return widerStore<uint16_t, uint16_t, uint32_t, uint64_t>(bits, source, sourceBits);
  case Type::S32:
    return bits == 32 ? convertFrom<int32_t, int32_t>(source, sourceBits) : nullptr;
  case Type::U32:
    return bits == 32 ? convertFrom<uint32_t, uint32_t>(source, sourceBits) : nullptr;
  case Type::S64:
    return convertFrom<int64_t, int64_t>(source, sourceBits);
  case Type::U64:
    return convertFrom<uint64_t, uint64_t>(source, sourceBits);
  default:
    return nullptr;
  }
}

/// The first source is the upper half.
template <class T> void packHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  uint32_t *d = warp.at<uint32_t>(i.operands[0]);
  const float *high = warp.at<float>(i.operands[1]), *low = warp.at<float>(i.operands[2]);
  eachLane(mask, [&](unsigned l) {
    d[l] = uint32_t(Narrow<T>::from(high[l]).bits) << 16 | Narrow<T>::from(low[l]).bits;
  });
}

void convert(Decoder &decoder, Statement &s, Instruction &i) {
  if (s.types.size() != 2)
    return;
  Type target = s.types[0], source = s.types[1];
  if (target == Type::F16x2 || target == Type::BF16x2) {
    if (source != Type::F32 || !s.take("rn"))
      return;
    i.operands[0] = decoder.target(s, s.operands[0], 32);
    i.operands[1] = decoder.source(s, s.operands[1], 32);
    i.operands[2] = decoder.source(s, s.operands[2], 32);
    i.handler = target == Type::F16x2 ? packHandler<Half> : packHandler<BFloat>;
    return;
  }
  static const std::pair<const char *, Rounding> roundings[] = {{"rzi", Rounding::Zero},
                                                                {"rni", Rounding::Nearest},
                                                                {"rmi", Rounding::Down},
                                                                {"rpi", Rounding::Up},
                                                                {"rn", Rounding::None}};
  bool found = false;
  for (auto [name, rounding] : roundings)
    if (!found && s.take(name)) {
      found = true;
      i.extend = uint8_t(rounding);
    }
  uint8_t bits = 0, sourceBits = uint8_t(bitsOf(source));
  i.operands[0] = decoder.anyRegister(s, s.operands[0], bits);
  if (s.operands[1][0] == '%')
    i.operands[1] = decoder.anyRegister(s, s.operands[1], sourceBits);
  else
    i.operands[1] = decoder.source(s, s.operands[1], sourceBits);
  bool exact = isFloat(target) || bitsOf(target) == 64;
  if ((exact ? bits != bitsOf(target) : bits < bitsOf(target)) ||
      (isFloat(source) ? sourceBits != bitsOf(source) : sourceBits < bitsOf(source)))
    decoder.reject(s, "register and type have different widths");
  // Between integers the sources' low bits decide, so that any wider register may be read.
  Type read = source;
  if (!isFloat(source) && bitsOf(source) < sourceBits && bitsOf(source) >= 16 && sourceBits == 64)
    decoder.reject(s, "a 64-bit register is read as a narrower type");
  i.handler = convertTo(target, bits, read, sourceBits);
}

} // namespace

void addConversions(BuilderTable &table) {
  table["mov"] = move;
  table["cvta"] = convertAddress;
  table["cvt"] = convert;
}

} // namespace fake
