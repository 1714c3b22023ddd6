//===- CublasLt.h - Descriptors of the fake cuBLASLt ----------------------===//
#pragma once
#include "driver/Extension.h"
#include "driver/Log.h"
#include <memory>
#include <optional>

namespace fake::lt {

enum Status : int {
  Success = 0,
  NotInitialized = 1,
  AllocFailed = 3,
  InvalidValue = 7,
  ExecutionFailed = 13,
  NotSupported = 15
};

/// cudaDataType_t
enum DataType : int { F32 = 0, F64 = 1, F16 = 2, BF16 = 14, E4M3 = 28, E5M2 = 29 };
enum ComputeType : int { Compute32F = 68, Compute64F = 70, Compute32FFastTF32 = 77 };
enum Epilogue : uint32_t {
  Relu = 2,
  Bias = 4,
  Gelu = 32,
  Aux = 128,
  GradientA = 256,
  GradientB = 512
}; // 1: nothing; bits

unsigned bytesOf(int type);
inline bool isFloat8(int type) { return type == E4M3 || type == E5M2; }

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
  int32_t order = 0, batches = 1; // order: columns (0) or rows (1) are in one piece
  int64_t batchStride = 0;

  int64_t rowStride() const { return order ? leading : 1; }
  int64_t columnStride() const { return order ? 1 : leading; }
  /// Elements from the first to behind the last.
  uint64_t extent() const {
    return uint64_t(batches - 1) * uint64_t(batchStride) + (rows - 1) * uint64_t(rowStride()) +
           (columns - 1) * uint64_t(columnStride()) + 1;
  }
};

struct MatmulDesc {
  int compute, scale;
  int32_t transposeA = 0, transposeB = 0;
  uint32_t epilogue = 1;
  uint64_t bias = 0, aux = 0;
  int64_t auxLeading = 0;
  int32_t biasType = -1;           // as D
  uint64_t aScale = 0, bScale = 0; // of 8-bit floats: addresses of an f32, none: 1
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256}; // A, B, C, D
};

/// What the heuristic puts into the 64 bytes of an algorithm.
struct Algorithm {
  uint64_t magic, workspace;
  uint32_t alignment[4];
  uint64_t m, n, k, rest;
};
static_assert(sizeof(Algorithm) == 64);

/// cublasLtMatmulHeuristicResult_t
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

/// D = epilogue(alpha · op(A) · op(B) + beta · C); addresses are the device's.
struct Product {
  MatmulDesc desc;
  Layout a, b, c, d;
  uint64_t aData, bData, cData, dData, workspace, workspaceBytes;
  double alpha, beta;
  uint64_t m() const { return d.rows; }
  uint64_t n() const { return d.columns; }
  uint64_t k() const { return desc.transposeA ? a.rows : a.columns; }
  std::string name() const;
  bool hasBiasGradient() const { return desc.epilogue == GradientA || desc.epilogue == GradientB; }
};

/// Why it cannot be done, or nothing.
std::optional<std::string> refusal(const Product &product);
/// Reads, computes, writes and says what was touched.
void multiply(const Product &product, Accesses &accesses);

} // namespace fake::lt
