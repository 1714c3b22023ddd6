#include "Gpu.h"

namespace fake::tests {

void use(int device) {
  CUcontext context;
  driver().cuDevicePrimaryCtxRetain(&context, device);
  driver().cuCtxSetCurrent(context);
}

void start(const Settings &settings, int device) {
  setenv("SHARDRT_LIBCUDA", FAKE_CUDA_FOLDER "/libcuda.so.1", 1);
  setenv("SHARDRT_CUBLASLT", FAKE_CUDA_FOLDER "/libcublasLt.so.13", 1);
  setenv("SHARDRT_NCCL", FAKE_CUDA_FOLDER "/libnccl.so.2", 1);
  for (const auto &[name, value] : settings)
    setenv(name.c_str(), value.c_str(), 1);
  driver().cuInit(0u);
  use(device);
}

void require(bool condition, const std::string &what) {
  if (condition)
    return;
  std::fprintf(stderr, "not so: %s\n", what.c_str());
  std::_Exit(3);
}

CUstream makeStream() {
  CUstream stream;
  driver().cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0);
  return stream;
}

static const char *const text = R"(
.version 8.0
.target sm_80
.address_size 64
.visible .entry increment(.param .u64 .ptr .align 16 a) {
  .reg .b32 %r<5>; .reg .b64 %rd<5>;
  ld.param.b64 %rd1, [a];
  mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
  mad.lo.s32 %r1, %r2, %r3, %r1;
  mul.wide.u32 %rd2, %r1, 4;
  add.s64 %rd1, %rd1, %rd2;
  ld.global.b32 %r4, [%rd1];
  add.s32 %r4, %r4, 1;
  st.global.b32 [%rd1], %r4;
  ret;
}
.visible .entry copy(.param .u64 a, .param .u64 b) {
  .reg .b32 %r<3>; .reg .b64 %rd<5>;
  ld.param.b64 %rd1, [a];
  ld.param.b64 %rd2, [b];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd1, %rd1, %rd3;
  add.s64 %rd2, %rd2, %rd3;
  ld.global.b32 %r2, [%rd1];
  st.global.b32 [%rd2], %r2;
  ret;
}
.visible .entry all_write_first(.param .u64 a) {
  .reg .b32 %r<2>; .reg .b64 %rd<2>;
  ld.param.b64 %rd1, [a];
  mov.u32 %r1, %tid.x;
  st.global.b32 [%rd1], %r1;
  ret;
}
)";

CUfunction kernel(const char *name) {
  static CUmodule module = nullptr;
  if (!module)
    driver().cuModuleLoadDataEx(&module, text, 0u, nullptr, nullptr);
  CUfunction function;
  driver().cuModuleGetFunction(&function, module, name);
  return function;
}

void launch(CUfunction function, unsigned blocks, unsigned threads,
            std::vector<CUdeviceptr> arguments, CUstream stream) {
  std::vector<void *> pointers;
  for (CUdeviceptr &argument : arguments)
    pointers.push_back(&argument);
  driver().cuLaunchKernel(function, blocks, 1u, 1u, threads, 1u, 1u, 0u, stream, pointers.data(),
                          nullptr);
}

} // namespace fake::tests
