// The CUDA driver, libcuda.so.1. Names, values and layouts are those of cuda.h (12.0 and newer).
#pragma once

#include "runtime/cuda/api/Library.h"
#include <cstddef>
#include <cstdint>

namespace shardrt::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;
using CUgraph = struct CUgraph_st *;
using CUgraphExec = struct CUgraphExec_st *;

constexpr CUresult CUDA_ERROR_OUT_OF_MEMORY = 2;
constexpr CUresult CUDA_ERROR_STUB_LIBRARY = 34;
constexpr CUresult CUDA_ERROR_NO_DEVICE = 100;
constexpr CUresult CUDA_ERROR_NOT_READY = 600;

constexpr int CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75;
constexpr int CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76;
constexpr int CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97;
constexpr int CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0;
constexpr int CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
constexpr int CU_JIT_ERROR_LOG_BUFFER = 5;
constexpr int CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6;
constexpr unsigned CU_STREAM_NON_BLOCKING = 1;
constexpr int CU_STREAM_CAPTURE_MODE_RELAXED = 2;
constexpr unsigned CU_EVENT_DEFAULT = 0;
constexpr unsigned CU_EVENT_DISABLE_TIMING = 2;
constexpr unsigned CU_MEMHOSTALLOC_PORTABLE = 1, CU_MEMHOSTALLOC_DEVICEMAP = 2;
constexpr int CU_MEMORYTYPE_DEVICE = 2;

struct CUDA_MEMCPY2D {
  size_t srcXInBytes, srcY;
  int srcMemoryType;
  const void *srcHost;
  CUdeviceptr srcDevice;
  void *srcArray;
  size_t srcPitch;
  size_t dstXInBytes, dstY;
  int dstMemoryType;
  void *dstHost;
  CUdeviceptr dstDevice;
  void *dstArray;
  size_t dstPitch;
  size_t WidthInBytes, Height;
};

class Driver : public Library {
public:
  Driver();
  [[noreturn]] void fail(const char *symbol, int status) const override;

private: // in front of what an older driver may lack
  Function<int(int *)> cuDriverGetVersion{*this, "cuDriverGetVersion"};

public:
  const int version = checkedVersion(); // 12040: CUDA 12.4

  Function<int(unsigned)> cuInit{*this, "cuInit"};
  Function<int(int *)> cuDeviceGetCount{*this, "cuDeviceGetCount"};
  Function<int(CUdevice *, int)> cuDeviceGet{*this, "cuDeviceGet"};
  Function<int(char *, int, CUdevice)> cuDeviceGetName{*this, "cuDeviceGetName"};
  Function<int(int *, int, CUdevice)> cuDeviceGetAttribute{*this, "cuDeviceGetAttribute"};
  Function<int(CUcontext *, CUdevice)> cuDevicePrimaryCtxRetain{*this, "cuDevicePrimaryCtxRetain"};
  Function<int(CUdevice)> cuDevicePrimaryCtxRelease{*this, "cuDevicePrimaryCtxRelease_v2"};
  Function<int(CUcontext)> cuCtxSetCurrent{*this, "cuCtxSetCurrent"};
  Function<int(int *, int *)> cuCtxGetStreamPriorityRange{*this, "cuCtxGetStreamPriorityRange"};

  Function<int(size_t *, size_t *)> cuMemGetInfo{*this, "cuMemGetInfo_v2"};
  Function<int(CUdeviceptr *, size_t)> cuMemAlloc{*this, "cuMemAlloc_v2"};
  Function<int(CUdeviceptr)> cuMemFree{*this, "cuMemFree_v2"};
  Function<int(void **, size_t, unsigned)> cuMemHostAlloc{*this, "cuMemHostAlloc"};
  Function<int(void *)> cuMemFreeHost{*this, "cuMemFreeHost"};
  Function<int(CUdeviceptr, const void *, size_t, CUstream)> cuMemcpyHtoDAsync{
      *this, "cuMemcpyHtoDAsync_v2"};
  Function<int(void *, CUdeviceptr, size_t, CUstream)> cuMemcpyDtoHAsync{*this,
                                                                         "cuMemcpyDtoHAsync_v2"};
  Function<int(CUdeviceptr, CUdeviceptr, size_t, CUstream)> cuMemcpyDtoDAsync{
      *this, "cuMemcpyDtoDAsync_v2"};
  Function<int(const CUDA_MEMCPY2D *, CUstream)> cuMemcpy2DAsync{*this, "cuMemcpy2DAsync_v2"};
  Function<int(CUdeviceptr, unsigned char, size_t, CUstream)> cuMemsetD8Async{*this,
                                                                              "cuMemsetD8Async"};
  Function<int(CUdeviceptr, size_t, unsigned char, size_t, size_t, CUstream)> cuMemsetD2D8Async{
      *this, "cuMemsetD2D8Async"};

  Function<int(CUstream *, unsigned, int)> cuStreamCreateWithPriority{*this,
                                                                      "cuStreamCreateWithPriority"};
  Function<int(CUstream)> cuStreamDestroy{*this, "cuStreamDestroy_v2"};
  Function<int(CUstream)> cuStreamQuery{*this, "cuStreamQuery"};
  Function<int(CUstream)> cuStreamSynchronize{*this, "cuStreamSynchronize"};
  Function<int(CUstream, CUevent, unsigned)> cuStreamWaitEvent{*this, "cuStreamWaitEvent"};
  Function<int(CUstream, CUdeviceptr, unsigned, unsigned)> cuStreamWriteValue32{
      *this, "cuStreamWriteValue32_v2"};
  Function<int(CUstream, int)> cuStreamBeginCapture{*this, "cuStreamBeginCapture_v2"};
  Function<int(CUstream, CUgraph *)> cuStreamEndCapture{*this, "cuStreamEndCapture"};
  Function<int(CUevent *, unsigned)> cuEventCreate{*this, "cuEventCreate"};
  Function<int(CUevent)> cuEventDestroy{*this, "cuEventDestroy_v2"};
  Function<int(CUevent, CUstream)> cuEventRecord{*this, "cuEventRecord"};
  Function<int(CUevent)> cuEventQuery{*this, "cuEventQuery"};
  Function<int(CUevent)> cuEventSynchronize{*this, "cuEventSynchronize"};
  Function<int(float *, CUevent, CUevent)> cuEventElapsedTime{*this, "cuEventElapsedTime"};

  Function<int(CUmodule *, const void *, unsigned, int *, void **)> cuModuleLoadDataEx{
      *this, "cuModuleLoadDataEx"};
  Function<int(CUmodule)> cuModuleUnload{*this, "cuModuleUnload"};
  Function<int(CUfunction *, CUmodule, const char *)> cuModuleGetFunction{*this,
                                                                          "cuModuleGetFunction"};
  Function<int(int *, int, CUfunction)> cuFuncGetAttribute{*this, "cuFuncGetAttribute"};
  Function<int(CUfunction, int, int)> cuFuncSetAttribute{*this, "cuFuncSetAttribute"};
  Function<int(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
               CUstream, void **, void **)>
      cuLaunchKernel{*this, "cuLaunchKernel"};
  Function<int(CUgraphExec *, CUgraph, unsigned long long)> cuGraphInstantiate{
      *this, "cuGraphInstantiateWithFlags"};
  Function<int(CUgraphExec, CUstream)> cuGraphLaunch{*this, "cuGraphLaunch"};
  Function<int(CUgraph)> cuGraphDestroy{*this, "cuGraphDestroy"};
  Function<int(CUgraphExec)> cuGraphExecDestroy{*this, "cuGraphExecDestroy"};

private:
  int checkedVersion() const;
};

/// Loaded by the first call; throws SHARDRT_NO_DEVICE. Starts nothing: cuInit is the caller's, so
/// that processes may fork before.
const Driver &driver();

} // namespace shardrt::cuda
