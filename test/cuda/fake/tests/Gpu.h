//===- Gpu.h - The fake libraries through the runtime's own loader --------===//
//
// A test's body runs in a process of its own: settings are read when the driver starts, and a
// device that has failed stays so.
//
//===----------------------------------------------------------------------===//
#pragma once
#include "runtime/cuda/api/CublasLt.h"
#include "runtime/cuda/api/Nccl.h"
#include <cstdio>
#include <cstdlib>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <vector>

namespace fake::tests {

using namespace shardrt::cuda;
using Settings = std::map<std::string, std::string>;

/// Sets the environment, starts the driver on a device, and makes it the thread's.
void start(const Settings &settings = {}, int device = 0);
void use(int device);

/// Ends the process with `what` on stderr if it is not so.
void require(bool condition, const std::string &what);

template <class T> struct DeviceArray {
  CUdeviceptr address = 0;
  size_t count;
  explicit DeviceArray(size_t count) : count(count) {
    driver().cuMemAlloc(&address, count * sizeof(T));
  }
  explicit DeviceArray(const std::vector<T> &values) : DeviceArray(values.size()) { set(values); }
  void set(const std::vector<T> &values) {
    driver().cuMemcpyHtoDAsync(address, values.data(), count * sizeof(T), nullptr);
  }
  std::vector<T> get() const {
    std::vector<T> values(count);
    driver().cuMemcpyDtoHAsync(values.data(), address, count * sizeof(T), nullptr);
    return values;
  }
  void *pointer() const { return reinterpret_cast<void *>(address); }
};

CUstream makeStream();
/// Kernels on i32: `increment` adds 1 to every element of the first buffer, `copy` the first to the
/// second.
CUfunction kernel(const char *name);
void launch(CUfunction function, unsigned blocks, unsigned threads,
            std::vector<CUdeviceptr> arguments, CUstream stream);

/// Ends the process: 1 and the message if `body` throws.
template <class F> [[noreturn]] void runToEnd(F &&body) {
  try {
    body();
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(1);
  }
  std::_Exit(0);
}

/// The body must end with this exit status and this on stderr.
#define EXPECT_PROCESS(status, message, ...)                                                       \
  EXPECT_EXIT(runToEnd([&] { __VA_ARGS__; }), testing::ExitedWithCode(status), message)

} // namespace fake::tests
