//===- MatrixOperations.cpp - Mma.sync, ldmatrix --------------------------===//
//
// A warp multiplies a 16 x k matrix by a k x 8 one; who holds which element is the PTX manual's
// layout: with g = lane / 4 and t = lane % 4, results are rows g and g + 8, columns 2t and 2t + 1.
//
//===----------------------------------------------------------------------===//
#include "Handlers.h"

namespace fake {
namespace {

/// The sum of exact products, in f32, in ascending order of k. Tensor cores sum in an order of
/// their own.
template <class T> float element(Warp &warp, uint32_t slot, unsigned lane, unsigned half) {
  if constexpr (sizeof(T) == 4) // tf32: the lower 13 bits do not count
    return asFloat(warp.at<uint32_t>(slot)[lane] & 0xffffe000);
  else
    return widen(warp.at<T>(slot)[2 * lane + half]);
}

template <class T, unsigned depth>
void multiplyHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  if (!warp.meet(i, mask, allLanes))
    return;
  constexpr unsigned perRegister = 4 / sizeof(T),
                     spread =
                         4 * perRegister; // columns of one register over the four lanes of a group
  float a[16][depth], b[depth][8];
  for (unsigned lane = 0; lane < lanes; ++lane)
    for (unsigned half = 0; half < perRegister; ++half)
      for (unsigned block = 0; block < depth / spread; ++block) {
        unsigned k = block * spread + (lane % 4) * perRegister + half, g = lane / 4;
        a[g][k] = element<T>(warp, i.operands[4 + 2 * block], lane, half);
        a[g + 8][k] = element<T>(warp, i.operands[5 + 2 * block], lane, half);
        b[k][g] = element<T>(warp, i.operands[8 + block], lane, half);
      }
  float d[4][lanes];
  for (unsigned lane = 0; lane < lanes; ++lane)
    for (unsigned n = 0; n < 4; ++n) {
      unsigned row = lane / 4 + (n / 2) * 8, column = lane % 4 * 2 + n % 2;
      float sum = warp.at<float>(i.operands[10 + n])[lane];
      for (unsigned k = 0; k < depth; ++k)
        sum += a[row][k] * b[k][column];
      d[n][lane] = sum;
    }
  for (unsigned n = 0; n < 4; ++n)
    std::memcpy(warp.at<float>(i.operands[n]), d[n], sizeof(d[n]));
}

void multiply(Decoder &decoder, Statement &s, Instruction &i) {
  if (!s.take("sync") || !s.take("aligned") || !s.take("row") || !s.take("col"))
    return;
  // tf32 is no type of a register.
  bool tf32 = s.take("tf32") && s.take("tf32");
  if (s.types.size() != (tf32 ? 2u : 4u) || s.types.front() != Type::F32 ||
      s.types.back() != Type::F32)
    return;
  Type type = tf32 ? Type::F32 : s.types[1];
  if (!tf32 && s.types[2] != type)
    return;
  unsigned depth = s.take("m16n8k16") ? 16 : s.take("m16n8k8") ? 8 : s.take("m16n8k4") ? 4 : 0;
  if (type == Type::F16)
    i.handler = depth == 16  ? multiplyHandler<Half, 16>
                : depth == 8 ? multiplyHandler<Half, 8>
                             : nullptr;
  else if (type == Type::BF16)
    i.handler = depth == 16  ? multiplyHandler<BFloat, 16>
                : depth == 8 ? multiplyHandler<BFloat, 8>
                             : nullptr;
  else if (tf32)
    i.handler = depth == 8   ? multiplyHandler<float, 8>
                : depth == 4 ? multiplyHandler<float, 4>
                             : nullptr;
  if (!i.handler)
    return;
  unsigned blocks = depth * (tf32 ? 4 : 2) / 16, sizes[] = {4, 2 * blocks, blocks, 4},
           starts[] = {0, 4, 8, 10};
  for (int group = 0; group < 4; ++group) {
    auto registers = Decoder::list(s.operands[group]);
    if (registers.size() != sizes[group])
      decoder.reject(s, "operand " + std::to_string(group) + " has " +
                            std::to_string(registers.size()) + " registers, the shape wants " +
                            std::to_string(sizes[group]));
    for (size_t n = 0; n < registers.size(); ++n)
      i.operands[starts[group] + n] =
          group ? decoder.source(s, registers[n], 32) : decoder.target(s, registers[n], 32);
  }
}

/// Rows of 8 x 8 matrices of 16-bit elements: lanes 8j … 8j+7 hold the addresses of matrix j.
template <bool transposed> void loadHandler(Warp &warp, const Instruction &i, uint32_t mask) {
  if (!warp.meet(i, mask, allLanes))
    return;
  uint32_t results[4][lanes];
  for (unsigned matrix = 0; matrix < i.vector; ++matrix) {
    uint16_t elements[8][8];
    for (unsigned row = 0; row < 8; ++row) {
      unsigned lane = matrix * 8 + row;
      uint64_t address = i.extend == 32 ? warp.at<uint32_t>(i.operands[4])[lane]
                                        : warp.at<uint64_t>(i.operands[4])[lane];
      std::memcpy(elements[row], warp.shared(i, lane, address + uint64_t(i.offset), 16, false), 16);
    }
    for (unsigned lane = 0; lane < lanes; ++lane) {
      unsigned row = lane / 4, column = lane % 4 * 2;
      uint16_t low = transposed ? elements[column][row] : elements[row][column],
               high = transposed ? elements[column + 1][row] : elements[row][column + 1];
      results[matrix][lane] = low | uint32_t(high) << 16;
    }
  }
  for (unsigned matrix = 0; matrix < i.vector; ++matrix)
    std::memcpy(warp.at<uint32_t>(i.operands[matrix]), results[matrix], sizeof(results[matrix]));
}

void loadMatrix(Decoder &decoder, Statement &s, Instruction &i) {
  if (!s.take("sync") || !s.take("aligned") || !s.take("m8n8") || !s.take("shared") ||
      s.type() != Type::B16)
    return;
  i.vector = s.take("x4") ? 4 : s.take("x2") ? 2 : s.take("x1") ? 1 : 0;
  bool transposed = s.take("trans");
  auto targets = Decoder::list(s.operands[0]);
  if (targets.size() != i.vector)
    return;
  for (size_t n = 0; n < targets.size(); ++n)
    i.operands[n] = decoder.target(s, targets[n], 32);
  decoder.address(s, s.operands[1], i, 4);
  i.handler = transposed ? loadHandler<true> : loadHandler<false>;
}

} // namespace

void addMatrixOperations(BuilderTable &table) {
  table["mma"] = multiply;
  table["ldmatrix"] = loadMatrix;
}

} // namespace fake
