//===- Reduce.cpp - Sums, products, extremes over ranks -------------------===//
#include "Nccl.h"
#include "ptx/Numbers.h"
#include <algorithm>

namespace fake::nccl {

unsigned bytesOf(int dtype) {
  static constexpr unsigned sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2}; // ncclInt8 … ncclBfloat16
  return dtype >= 0 && dtype < 10 ? sizes[dtype] : 0;
}

template <class V> static V combine(V a, V b, int reduction) {
  switch (reduction) {
  case 0:
    return V(a + b);
  case 1:
    return V(a * b);
  case 2:
    return std::max(a, b);
  default:
    return std::min(a, b);
  }
}

template <class T>
static void reduceAs(uint8_t *target, const std::vector<const uint8_t *> &sources, uint64_t count,
                     int reduction) {
  for (uint64_t i = 0; i < count; ++i) {
    T element;
    std::memcpy(&element, sources[0] + i * sizeof(T), sizeof(T));
    auto value = widen(element);
    for (size_t rank = 1; rank < sources.size(); ++rank) {
      std::memcpy(&element, sources[rank] + i * sizeof(T), sizeof(T));
      value = combine(value, widen(element), reduction);
    }
    element = Narrow<T>::from(value);
    std::memcpy(target + i * sizeof(T), &element, sizeof(T));
  }
}

void reduce(uint8_t *target, const std::vector<const uint8_t *> &sources, uint64_t count, int dtype,
            int reduction) {
  switch (dtype) {
  case 0:
    return reduceAs<int8_t>(target, sources, count, reduction);
  case 1:
    return reduceAs<uint8_t>(target, sources, count, reduction);
  case 2:
    return reduceAs<int32_t>(target, sources, count, reduction);
  case 3:
    return reduceAs<uint32_t>(target, sources, count, reduction);
  case 4:
    return reduceAs<int64_t>(target, sources, count, reduction);
  case 5:
    return reduceAs<uint64_t>(target, sources, count, reduction);
  case 6:
    return reduceAs<Half>(target, sources, count, reduction);
  case 7:
    return reduceAs<float>(target, sources, count, reduction);
  case 8:
    return reduceAs<double>(target, sources, count, reduction);
  default:
    return reduceAs<BFloat>(target, sources, count, reduction);
  }
}

} // namespace fake::nccl
