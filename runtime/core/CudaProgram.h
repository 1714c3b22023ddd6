// What a program for GPUs has beyond one for processors (docs/contracts.md §6): kernels are lists
// of calls, and the arena has areas that no buffer may use.
#pragma once

#include "runtime/core/DType.h"
#include <string>
#include <variant>

namespace shardrt {

enum class Target { Cpu, Cuda };
const char *targetName(Target target);

/// What a call works on: a buffer of the launch command, or a place in the scratch area.
struct CudaArgument {
  int buffer = -1;     // index into the command's buffers, or -1
  int64_t scratch = 0; // bytes from the area's start
};

/// A generated kernel; its parameters are the arguments' addresses.
struct CudaLaunch {
  std::string symbol;
  int64_t blocks, threads, sharedBytes;
  std::vector<CudaArgument> arguments;
};

/// Strides in elements.
struct CudaMatrix {
  CudaArgument argument;
  DType dtype;
  int64_t row, column;
  std::vector<int64_t> batch;
  std::optional<CudaArgument> scale =
      std::nullopt; // of 8-bit floats: what a unit is worth, one f32
};

enum class CudaCompute { F32, Tf32, F64 };

/// d[b, m, n] = a[b, m, k] · b[b, k, n] (+ c[b, m, n], which lies as d does); then the bias, which
/// has n elements of d's type, then the activation, of what is written to `aux` if there is one.
struct CudaGemm {
  enum Activation { None, Relu, Gelu };
  /// What the bias is: added, or written: the sums of a (m elements) or b (n elements) over k.
  enum BiasUse { Added, SumsOfA, SumsOfB };
  Shape batch;
  int64_t m, n, k;
  CudaMatrix a, b, d;
  std::optional<CudaArgument> c; // may be d
  CudaCompute compute;
  Activation activation = None;
  std::optional<CudaArgument> bias, aux;
  BiasUse biasUse = Added;
};

struct CudaMemset {
  CudaArgument argument;
  int64_t bytes;
};

using CudaCall = std::variant<CudaLaunch, CudaGemm, CudaMemset>;

struct CudaKernel {
  std::string name;
  std::vector<CudaCall> calls;
  /// Executed instead where the library has no algorithm for one of the calls; may be empty.
  std::vector<CudaCall> otherwise;
  /// For each of the command's buffers the bytes that the calls touch there, as far as they say so
  /// (a generated kernel does not).
  std::vector<int64_t> bytes;
};

/// Bytes of the arena, or behind it.
struct CudaArea {
  int64_t offset = 0, bytes = 0;
};

struct CudaProgram {
  CudaArea scratch, workspace, staging;
  /// Behind the arena: states in this machine's memory. Places of buffers say which memory they are in.
  CudaArea host;
  std::vector<CudaKernel> kernels;
};

} // namespace shardrt
