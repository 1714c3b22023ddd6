#include "runtime/train/TensorChecksum.h"

#include <cstdio>
#include <cstring>

using namespace shardrt;

template <typename Bits>
static uint64_t share(const std::byte *data, int64_t count, uint64_t weight, uint64_t step) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i, weight += step) {
    Bits bits;
    std::memcpy(&bits, data + i * sizeof(bits), sizeof(bits));
    sum += (bits + uint64_t(1)) * weight; // zeros count too
  }
  return sum;
}

uint64_t shardrt::checksumShare(const std::byte *data, int64_t size, int64_t count, int64_t index) {
  const uint64_t odd = 0x9e3779b97f4a7c15, step = 2 * odd;
  uint64_t weight = odd + step * static_cast<uint64_t>(index);
  switch (size) {
  case 1:
    return share<uint8_t>(data, count, weight, step);
  case 2:
    return share<uint16_t>(data, count, weight, step);
  case 4:
    return share<uint32_t>(data, count, weight, step);
  default:
    return share<uint64_t>(data, count, weight, step);
  }
}

std::string shardrt::checksumKey(const std::string &tensor) { return "checksum." + tensor; }

std::string shardrt::checksumText(uint64_t checksum) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(checksum));
  return text;
}
