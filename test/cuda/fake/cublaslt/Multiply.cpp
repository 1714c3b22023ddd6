//===- Multiply.cpp - The products themselves -----------------------------===//
//
// Sums are in f32 (f64 for f64) in ascending order of k; tf32 rounds the factors to 10 bits first.
//
//===----------------------------------------------------------------------===//
#include "CublasLt.h"
#include "ptx/Numbers.h"
#include <cmath>
#include <cstring>

namespace fake::lt {

unsigned bytesOf(int type) {
  switch (type) {
  case F32:
    return 4;
  case F64:
    return 8;
  case F16:
  case BF16:
    return 2;
  case E4M3:
  case E5M2:
    return 1;
  default:
    return 0;
  }
}

std::string Product::name() const {
  std::string text = std::to_string(m()) + "x" + std::to_string(n()) + "x" + std::to_string(k());
  return d.batches > 1 ? std::to_string(d.batches) + "x" + text : text;
}

/// What the library's documentation demands of 8-bit floats on sm_89 and sm_90: A transposed and B
/// not, so that both lie along k; lines, sizes and results of 16 bytes; a product of two E5M2 is
/// none.
static std::optional<std::string> refusalOfFloat8(const Product &p) {
  if (uint64_t arch = setting("FAKE_CUDA_ARCH", 80); arch < 89)
    return "8-bit floats on sm_" + std::to_string(arch);
  if (!isFloat8(p.b.type) || (p.a.type == E5M2 && p.b.type == E5M2))
    return "types " + std::to_string(p.a.type) + " and " + std::to_string(p.b.type);
  if (p.d.type != F32 && p.d.type != F16 && p.d.type != BF16)
    return "8-bit floats to a result of type " + std::to_string(p.d.type);
  if (p.desc.compute != Compute32F || p.desc.scale != F32)
    return "8-bit floats in compute type " + std::to_string(p.desc.compute);
  if (!p.desc.transposeA || p.desc.transposeB || p.a.order || p.b.order || p.d.order)
    return "8-bit floats that are not transposed and not (TN)";
  if (p.k() % 16 || p.m() % 16 || p.a.leading % 16 || p.b.leading % 16 ||
      p.d.leading * bytesOf(p.d.type) % 16)
    return "8-bit floats with sizes or lines that are no multiples of 16";
  if (p.desc.epilogue != 1)
    return "an epilogue of 8-bit floats, which nobody has asked for yet";
  return std::nullopt;
}

std::optional<std::string> refusal(const Product &p) {
  uint64_t aRows = p.desc.transposeA ? p.a.columns : p.a.rows,
           bRows = p.desc.transposeB ? p.b.columns : p.b.rows,
           bColumns = p.desc.transposeB ? p.b.rows : p.b.columns;
  if (aRows != p.m() || bColumns != p.n() || bRows != p.k() || p.c.rows != p.m() ||
      p.c.columns != p.n())
    return "shapes do not agree";
  for (const Layout *layout : {&p.a, &p.b, &p.c, &p.d})
    if (layout->leading < int64_t(layout->order ? layout->columns : layout->rows))
      return "a leading dimension of " + std::to_string(layout->leading) + " for " +
             std::to_string(layout->rows) + " x " + std::to_string(layout->columns);
  if (p.a.batches != p.d.batches || p.b.batches != p.d.batches || p.c.batches != p.d.batches)
    return "batch counts do not agree";
  if ((p.desc.aScale && !isFloat8(p.a.type)) || (p.desc.bScale && !isFloat8(p.b.type)))
    return "a scale for a matrix that is not of 8-bit floats";
  if (isFloat8(p.a.type))
    return refusalOfFloat8(p);
  bool doubles = p.a.type == F64;
  if (p.a.type != p.b.type || p.c.type != p.d.type ||
      (doubles ? p.d.type != F64 : p.d.type != p.a.type && p.d.type != F32))
    return "types " + std::to_string(p.a.type) + ", " + std::to_string(p.b.type) + " to " +
           std::to_string(p.d.type);
  if (doubles != (p.desc.compute == Compute64F) || p.desc.scale != (doubles ? F64 : F32) ||
      (p.desc.compute == Compute32FFastTF32 && p.a.type != F32))
    return "compute type " + std::to_string(p.desc.compute) + " with scale type " +
           std::to_string(p.desc.scale);
  uint32_t kind = p.hasBiasGradient() ? 1 : p.desc.epilogue & ~uint32_t(Bias);
  if (kind == (Gelu | Aux)) {
    if (p.desc.auxLeading < int64_t(p.d.rows) || p.desc.auxLeading % 8 || p.d.batches > 1)
      return "an aux of leading dimension " + std::to_string(p.desc.auxLeading) + " for " +
             std::to_string(p.d.batches) + " x " + std::to_string(p.d.rows) + " rows";
    kind = Gelu;
  }
  if (p.hasBiasGradient() && p.d.batches > 1)
    return "a gradient of a bias of " + std::to_string(p.d.batches) + " products";
  if ((kind > 2 && kind != Gelu) || p.desc.epilogue == 0 || p.desc.epilogue == (1 | Bias) ||
      (doubles && p.desc.epilogue != 1))
    return "epilogue " + std::to_string(p.desc.epilogue);
  int32_t biasType = p.desc.biasType < 0 ? p.d.type : p.desc.biasType;
  if (p.desc.epilogue & Bias && biasType != p.d.type && !(biasType == p.a.type && p.d.type == F32))
    return "a bias of type " + std::to_string(biasType) + " for a result of type " +
           std::to_string(p.d.type);
  return std::nullopt;
}

/// E4M3 has no infinity; all ones is NaN.
static double loadFloat8(uint8_t byte, int type) {
  int mantissaBits = type == E4M3 ? 3 : 2, bias = type == E4M3 ? 7 : 15;
  int magnitude = byte & 0x7f, exponent = magnitude >> mantissaBits,
      mantissa = magnitude & ((1 << mantissaBits) - 1);
  double value = exponent
                     ? std::ldexp((1 << mantissaBits) + mantissa, exponent - bias - mantissaBits)
                     : std::ldexp(mantissa, 1 - bias - mantissaBits);
  if (type == E4M3 ? magnitude == 0x7f : magnitude > 0x7c)
    value = NAN;
  else if (type == E5M2 && magnitude == 0x7c)
    value = INFINITY;
  return byte & 0x80 ? -value : value;
}

static double load(const uint8_t *data, int type, uint64_t index) {
  data += index * bytesOf(type);
  uint16_t half;
  float single;
  double value;
  switch (type) {
  case F64:
    std::memcpy(&value, data, 8);
    return value;
  case F32:
    std::memcpy(&single, data, 4);
    return single;
  case E4M3:
  case E5M2:
    return loadFloat8(*data, type);
  case F16:
    std::memcpy(&half, data, 2);
    return toFloat(Half{half});
  default:
    std::memcpy(&half, data, 2);
    return toFloat(BFloat{half});
  }
}

static void save(uint8_t *data, int type, uint64_t index, double value) {
  data += index * bytesOf(type);
  auto single = float(value);
  uint16_t half = type == F16 ? toHalf(single).bits : toBFloat(single).bits;
  if (type == F64)
    std::memcpy(data, &value, 8);
  else if (type == F32)
    std::memcpy(data, &single, 4);
  else
    std::memcpy(data, &half, 2);
}

static float toTf32(float value) {
  uint32_t bits = asBits(value);
  return std::isfinite(value) ? asFloat((bits + 0xfff + ((bits >> 13) & 1)) & 0xffffe000) : value;
}

/// One matrix of a batch, rows x columns after transposition, without gaps.
template <class T>
static std::vector<T> gather(const uint8_t *data, const Layout &layout, bool transposed,
                             uint64_t offset, bool tf32) {
  uint64_t rows = transposed ? layout.columns : layout.rows,
           columns = transposed ? layout.rows : layout.columns;
  auto rowStride = uint64_t(transposed ? layout.columnStride() : layout.rowStride()),
       columnStride = uint64_t(transposed ? layout.rowStride() : layout.columnStride());
  std::vector<T> values(rows * columns);
  for (uint64_t row = 0; row < rows; ++row)
    for (uint64_t column = 0; column < columns; ++column) {
      auto value = T(load(data, layout.type, offset + row * rowStride + column * columnStride));
      values[row * columns + column] = tf32 ? T(toTf32(float(value))) : value;
    }
  return values;
}

/// Sums of op(A) (of op(B)) over k, into the bias.
template <class T>
static void sumFactor(const Product &p, const std::vector<T> &factor, int type,
                      Accesses &accesses) {
  bool ofA = p.desc.epilogue == GradientA;
  uint64_t count = ofA ? p.m() : p.n(), k = p.k();
  uint8_t *bias = deviceBytes(p.desc.bias, count * bytesOf(type), "gradient of the bias");
  for (uint64_t i = 0; i < count; ++i) {
    T sum = 0;
    for (uint64_t depth = 0; depth < k; ++depth)
      sum += ofA ? factor[i * k + depth] : factor[depth * count + i];
    save(bias, type, i, sum);
  }
  accesses.writes.push_back({p.desc.bias, p.desc.bias + count * bytesOf(type)});
}

static void addRanges(std::vector<Range> &ranges, const Layout &layout, uint64_t address) {
  uint64_t size = bytesOf(layout.type), lines = layout.order ? layout.rows : layout.columns,
           width = layout.order ? layout.columns : layout.rows;
  for (int batch = 0; batch < layout.batches; ++batch) {
    uint64_t begin = address + uint64_t(batch) * uint64_t(layout.batchStride) * size;
    for (uint64_t line = 0; line < lines; ++line, begin += uint64_t(layout.leading) * size)
      if (!ranges.empty() && ranges.back().end == begin)
        ranges.back().end += width * size;
      else
        ranges.push_back({begin, begin + width * size});
  }
}

template <class T> static T finish(const Product &p, T value) {
  if (p.desc.epilogue & Relu)
    return value > 0 ? value : 0;
  if (p.desc.epilogue & Gelu)
    return T(0.5) * value *
           (1 + std::tanh(T(0.7978845608028654) * (value + T(0.044715) * value * value * value)));
  return value;
}

template <class T> static void multiplyIn(const Product &p, Accesses &accesses) {
  const uint8_t *a = deviceBytes(p.aData, p.a.extent() * bytesOf(p.a.type), "matrix A"),
                *b = deviceBytes(p.bData, p.b.extent() * bytesOf(p.b.type), "matrix B");
  uint8_t *d = deviceBytes(p.dData, p.d.extent() * bytesOf(p.d.type), "matrix D");
  const uint8_t *c =
      p.beta != 0 ? deviceBytes(p.cData, p.c.extent() * bytesOf(p.c.type), "matrix C") : nullptr;
  int biasType = p.desc.biasType < 0 ? p.d.type : p.desc.biasType;
  bool hasBias = p.desc.epilogue & Bias, tf32 = p.desc.compute == Compute32FFastTF32;
  const uint8_t *bias =
      hasBias ? deviceBytes(p.desc.bias, p.m() * bytesOf(biasType), "bias") : nullptr;
  T scale = T(p.alpha);
  for (uint64_t address : {p.desc.aScale, p.desc.bScale})
    if (address) {
      scale *= T(load(deviceBytes(address, 4, "scale"), F32, 0));
      accesses.reads.push_back({address, address + 4});
    }
  uint64_t m = p.m(), n = p.n(), k = p.k();
  bool hasAux = p.desc.epilogue & Aux;
  Layout auxLayout = p.d;
  auxLayout.leading = p.desc.auxLeading;
  uint8_t *aux =
      hasAux ? deviceBytes(p.desc.aux, auxLayout.extent() * bytesOf(p.d.type), "aux") : nullptr;
  for (int batch = 0; batch < p.d.batches; ++batch) {
    auto at = [&](const Layout &layout) { return uint64_t(batch) * uint64_t(layout.batchStride); };
    std::vector<T> left = gather<T>(a, p.a, p.desc.transposeA, at(p.a), tf32),
                   right = gather<T>(b, p.b, p.desc.transposeB, at(p.b), tf32), sums(n);
    if (p.hasBiasGradient())
      sumFactor(p, p.desc.epilogue == GradientA ? left : right, biasType, accesses);
    for (uint64_t row = 0; row < m; ++row) {
      std::fill(sums.begin(), sums.end(), T(0));
      for (uint64_t depth = 0; depth < k; ++depth) {
        T factor = left[row * k + depth];
        const T *line = &right[depth * n];
        for (uint64_t column = 0; column < n; ++column)
          sums[column] += factor * line[column];
      }
      for (uint64_t column = 0; column < n; ++column) {
        auto value = scale * sums[column];
        if (c)
          value += T(p.beta) * T(load(c, p.c.type,
                                      at(p.c) + row * uint64_t(p.c.rowStride()) +
                                          column * uint64_t(p.c.columnStride())));
        T before = value + (bias ? T(load(bias, biasType, row)) : T(0));
        if (hasAux)
          save(aux, p.d.type,
               row * uint64_t(auxLayout.rowStride()) + column * uint64_t(auxLayout.columnStride()),
               before);
        save(d, p.d.type,
             at(p.d) + row * uint64_t(p.d.rowStride()) + column * uint64_t(p.d.columnStride()),
             finish(p, before));
      }
    }
  }
  addRanges(accesses.reads, p.a, p.aData);
  addRanges(accesses.reads, p.b, p.bData);
  if (c)
    addRanges(accesses.reads, p.c, p.cData);
  if (hasBias)
    accesses.reads.push_back({p.desc.bias, p.desc.bias + m * bytesOf(biasType)});
  addRanges(accesses.writes, p.d, p.dData);
  if (hasAux)
    addRanges(accesses.writes, auxLayout, p.desc.aux);
  if (p.workspaceBytes) {
    // Contents are of no use to anybody else.
    std::memset(deviceBytes(p.workspace, p.workspaceBytes, "workspace"), 0xff, p.workspaceBytes);
    accesses.writes.push_back({p.workspace, p.workspace + p.workspaceBytes});
  }
}

void multiply(const Product &product, Accesses &accesses) {
  if (product.a.type == F64)
    multiplyIn<double>(product, accesses);
  else
    multiplyIn<float>(product, accesses);
}

} // namespace fake::lt
