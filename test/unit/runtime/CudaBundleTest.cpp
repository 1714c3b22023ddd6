// Damaged and contradictory bundles for GPUs; and libraries that are missing or too old.
#include "BundleBuilder.h"
#include "runtime/cuda/api/CublasLt.h"
#include "runtime/cuda/api/Nccl.h"
#include "shardrt/runtime.h"

#include <cstdlib>
#include <functional>
#include <gtest/gtest.h>

using namespace shardrt_test;

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

namespace {

std::string openError(const std::string &path, int status = SHARDRT_BAD_BUNDLE) {
  shardrt_bundle bundle = nullptr;
  shardrt_status actual = shardrt_bundle_open(path.c_str(), nullptr, &bundle);
  if (actual == SHARDRT_OK)
    shardrt_bundle_release(bundle);
  EXPECT_EQ(actual, status) << shardrt_last_error();
  return actual == SHARDRT_OK ? "" : shardrt_last_error();
}

/// The kernel's calls: memset, gemm, launch.
Json &call(BundleBuilder &b, int index) { return b.program["kernels"][0]["calls"][index]; }

Json rows(const char *op, int outer, int inner, int total) {
  return {{"op", op},       {"group", 0},     {"dtype", "f32"}, {"src", 2},       {"dst", 3},
          {"outer", outer}, {"inner", inner}, {"total", total}, {"reduce", "sum"}};
}

struct Damage {
  const char *what;
  std::function<void(BundleBuilder &)> apply;
  const char *message;
};

const Damage damages[] = {
    {"target", [](BundleBuilder &b) { b.manifest["target"] = "rocm"; },
     "manifest.json: target: unknown target \"rocm\", this runtime runs cpu and cuda"},
    {"two targets", [](BundleBuilder &b) { b.program.erase("target"); },
     "kernels[0]: expected a string, found object"},
    {"other target",
     [](BundleBuilder &b) {
       b.program.erase("target");
       b.program["kernels"] = Json::array();
       b.entry()["commands"] = Json::array();
     },
     "manifest.json: target is cuda, program.json is for cpu"},
    {"format", [](BundleBuilder &b) { b.manifest["kernels"][0]["format"] = "fatbin"; },
     "kernels[0].format: unknown format \"fatbin\", it is cubin or ptx"},
    {"no image", [](BundleBuilder &b) { b.manifest["kernels"] = Json::array(); },
     "kernels: empty, but program.json launches kernels"},
    {"no areas", [](BundleBuilder &b) { b.program.erase("cuda"); }, "key \"cuda\" is missing"},
    {"area alignment", [](BundleBuilder &b) { b.program["cuda"]["scratch"]["offset"] = 264; },
     "cuda.scratch.offset: offset 264 is not a multiple of 256"},
    {"area range", [](BundleBuilder &b) { b.program["cuda"]["staging"]["bytes"] = 1000; },
     "cuda.staging: the area at offset 1792 with 1000 bytes ends beyond the arena of 2048 bytes"},
    {"area on buffer", [](BundleBuilder &b) { b.program["cuda"]["scratch"]["offset"] = 0; },
     "cuda.scratch: the area begins at 0, buffer \"x\" ends at 64"},
    {"areas overlap", [](BundleBuilder &b) { b.program["cuda"]["workspace"]["offset"] = 512; },
     "cuda.workspace: begins at 512 inside of scratch [256, 768)"},
    {"call", [](BundleBuilder &b) { call(b, 0)["kind"] = "attention"; },
     "kernels[0].calls[0].kind: unknown call \"attention\""},
    {"memset", [](BundleBuilder &b) { call(b, 0)["bytes"] = 300; },
     "kernels[0].calls[0].argument.scratch: offset 256 with 300 bytes ends beyond the scratch area "
     "of 512 bytes"},
    {"scratch alignment", [](BundleBuilder &b) { call(b, 0)["argument"]["scratch"] = 4; },
     "offset 4 is not a multiple of 256"},
    {"blocks", [](BundleBuilder &b) { call(b, 2)["blocks"] = 1ll << 31; },
     "kernels[0].calls[2].blocks: 2147483648 is above the largest allowed value 2147483647"},
    {"no block", [](BundleBuilder &b) { call(b, 2)["blocks"] = 0; },
     "0 is below the smallest allowed value 1"},
    {"threads", [](BundleBuilder &b) { call(b, 2)["threads"] = 2048; },
     "kernels[0].calls[2].threads: 2048 is above the largest allowed value 1024"},
    {"shared", [](BundleBuilder &b) { call(b, 2)["shared"] = 1 << 20; },
     "1048576 bytes of shared memory, no GPU has more than 232448"},
    {"argument", [](BundleBuilder &b) { call(b, 2)["arguments"][1] = 3; },
     "entries[0].commands[0].buffers: kernel \"kernel_0\" works on 4 buffers, given 3"},
    {"negative argument", [](BundleBuilder &b) { call(b, 2)["arguments"][1] = -1; },
     "-1 is below the smallest allowed value 0"},
    {"matrix size", [](BundleBuilder &b) { call(b, 1)["b"]["row"] = 8; },
     "entries[0].commands[0].buffers[1]: kernel \"kernel_0\" touches 80 bytes, buffer 1 \"w\" has "
     "64"},
    {"matrix scratch", [](BundleBuilder &b) { call(b, 1)["d"]["row"] = 100; },
     "offset 256 with 416 bytes ends beyond the scratch area"},
    {"strides", [](BundleBuilder &b) { call(b, 1)["a"]["column"] = 2; },
     "kernels[0].calls[1].a: neither rows nor columns are contiguous: strides 3 and 2"},
    {"folded", [](BundleBuilder &b) { call(b, 1)["a"]["row"] = 2; },
     "a 2 x 3 matrix with strides 2 and 1 overlaps itself"},
    {"matrix type", [](BundleBuilder &b) { call(b, 1)["a"]["dtype"] = "i8"; },
     "a matrix is f64, f32, f16, bf16, f8E4M3FN or f8E5M2, not i8"},
    {"scale", [](BundleBuilder &b) { call(b, 1)["a"]["scale"] = 0; },
     "a.scale: a matrix of f32 has no scale, one of 8-bit floats has"},
    {"one of 8 bits", [](BundleBuilder &b) { call(b, 1)["a"]["dtype"] = "f8E5M2"; },
     "kernels[0].calls[1]: factors of f8E5M2 and f32"},
    {"result of 8 bits", [](BundleBuilder &b) { call(b, 1)["d"]["dtype"] = "f8E4M3FN"; },
     "d.dtype: a result is not of 8-bit floats"},
    {"lines of 8 bits",
     [](BundleBuilder &b) { call(b, 1)["a"]["dtype"] = call(b, 1)["b"]["dtype"] = "f8E4M3FN"; },
     "n, k and lines along k are multiples of 16"},
    {"compute", [](BundleBuilder &b) { call(b, 1)["compute"] = "f64"; },
     "f32 by f32 to f32 is not computed in f64"},
    {"compute name", [](BundleBuilder &b) { call(b, 1)["compute"] = "f8"; },
     "unknown compute type \"f8\""},
    {"batch", [](BundleBuilder &b) { call(b, 1)["batch"] = {2}; },
     "kernels[0].calls[1].a.batch: 0 strides for 1 batch dimensions"},
    {"batch of one place",
     [](BundleBuilder &b) {
       call(b, 1)["batch"] = {2};
       for (const char *name : {"a", "b", "d"})
         call(b, 1)[name]["batch"] = {0};
     },
     "all 2 results along batch dimension 0 have the same place"},
    {"batch overflow",
     [](BundleBuilder &b) {
       call(b, 1)["batch"] = {1ll << 40};
       for (const char *name : {"a", "b", "d"})
         call(b, 1)[name]["batch"] = {1ll << 39};
     },
     "the matrix has more bytes than a 64-bit integer can count"},
    {"epilogue", [](BundleBuilder &b) { call(b, 1)["epilogue"] = "swiglu"; },
     "unknown epilogue \"swiglu\""},
    {"no bias", [](BundleBuilder &b) { call(b, 1)["epilogue"] = "gelu_bias"; },
     "epilogue \"gelu_bias\" needs a bias"},
    {"stray c",
     [](BundleBuilder &b) {
       call(b, 1)["accumulate"] = false;
       call(b, 1)["c"] = 0;
     },
     "c: there is a matrix to add, and accumulate is false"},
    {"c size", [](BundleBuilder &b) { call(b, 1)["c"] = {{"scratch", 512}}; },
     "offset 512 with 32 bytes ends beyond the scratch area"},
    {"stray bias", [](BundleBuilder &b) { call(b, 1)["bias"] = 0; },
     "epilogue \"none\" has a bias"},
    {"no aux",
     [](BundleBuilder &b) {
       call(b, 1)["epilogue"] = "gelu_aux_bias";
       call(b, 1)["bias"] = {{"scratch", 0}};
     },
     "epilogue \"gelu_aux_bias\" needs an aux"},
    {"aux rows",
     [](BundleBuilder &b) {
       call(b, 1)["epilogue"] = "gelu_aux_bias";
       call(b, 1)["bias"] = call(b, 1)["aux"] = {{"scratch", 0}};
     },
     "an aux needs rows at multiples of 8 elements and no batch, d has 4 and 0"},
    {"aux without gelu", [](BundleBuilder &b) { call(b, 1)["aux"] = {{"scratch", 0}}; },
     "epilogue \"none\" has an aux"},
    {"gradient size",
     [](BundleBuilder &b) {
       call(b, 1)["epilogue"] = "bias_gradient_b";
       call(b, 1)["bias"] = {{"scratch", 512}};
     },
     "offset 512 with 16 bytes ends beyond the scratch area"},
    {"gradient without a place",
     [](BundleBuilder &b) { call(b, 1)["epilogue"] = "bias_gradient_a"; },
     "key \"bias\" is missing"},
    {"otherwise",
     [](BundleBuilder &b) {
       b.program["kernels"][0]["otherwise"] = b.program["kernels"][0]["calls"];
       b.program["kernels"][0]["otherwise"][2]["threads"] = 2048;
     },
     "kernels[0].otherwise[2].threads: 2048 is above the largest allowed value 1024"},
    {"bias size",
     [](BundleBuilder &b) {
       call(b, 1)["epilogue"] = "bias";
       call(b, 1)["bias"] = {{"scratch", 512}};
     },
     "offset 512 with 16 bytes ends beyond the scratch area"},
    {"staging",
     [](BundleBuilder &b) {
       b.program["cuda"]["staging"]["bytes"] = 32;
       b.command(rows("all_gather", 2, 2, 4));
     },
     "entries[0].commands[2]: the command stages 256 bytes, the staging area has 32"},
    {"staged ticket",
     [](BundleBuilder &b) {
       Json command = rows("reduce_scatter", 2, 2, 3);
       command["ticket"] = 0;
       b.command(command);
       b.command({{"op", "wait"}, {"ticket", 0}});
     },
     "a staged collective completes at once, it carries no ticket"},
    {"reduction type", [](BundleBuilder &b) { b.entry()["commands"][1]["dtype"] = "i16"; },
     "NCCL reduces no i16"},
    {"host memory apart",
     [](BundleBuilder &b) { b.program["cuda"]["host"] = {{"offset", 4096}, {"bytes", 64}}; },
     "cuda.host.offset: begins at 4096, the arena ends at 2048"},
    {"host memory range",
     [](BundleBuilder &b) {
       b.program["cuda"]["host"] = {{"offset", 2048}, {"bytes", 64}};
       b.program["buffers"][0]["offset"] = 2112;
     },
     "ends beyond the host memory [2048, 2112)"},
    {"no state in host memory",
     [](BundleBuilder &b) {
       b.program["cuda"]["host"] = {{"offset", 2048}, {"bytes", 256}};
       b.program["buffers"][0]["offset"] = 2048;
     },
     "buffers[0]: buffer \"x\" lies in host memory, and is no state"},
    {"reduction in host memory",
     [](BundleBuilder &b) {
       b.program["cuda"]["host"] = {{"offset", 2048}, {"bytes", 256}};
       b.program["buffers"][3]["offset"] = 2048;
       b.program["buffers"][3]["kind"] = "state";
     },
     "which lies in host memory: only a gather into a whole buffer reads from there"},
    {"bytes of host memory",
     [](BundleBuilder &b) {
       b.manifest["memory"] = {{"arena_bytes", b.program["arena"]["bytes"]}, {"host_bytes", 64}};
     },
     "memory.host_bytes is 64, program.json has 0 of host memory"},
    {"slice in place",
     [](BundleBuilder &b) {
       Json command = rows("slice", 2, 2, 4);
       command["dst"] = command["src"];
       b.command(command);
     },
     "a slice of 2 rows onto itself"},
    {"panels",
     [](BundleBuilder &b) {
       b.program["parameters"][0]["layout"] = {{"kind", "panels"},
                                               {"n_dims", {1}},
                                               {"k_dims", {0}},
                                               {"batch_dims", Json::array()},
                                               {"n_tile", 4}};
     },
     "panels are a layout of processors, the target is cuda"}};

TEST(CudaBundle, Opens) {
  TemporaryDirectory directory;
  cudaBundle().write(directory / "b");
  EXPECT_EQ(openError(directory / "b", SHARDRT_OK), "");
}

TEST(CudaBundle, DamageIsNamed) {
  for (const Damage &damage : damages) {
    SCOPED_TRACE(damage.what);
    TemporaryDirectory directory;
    BundleBuilder builder = cudaBundle();
    damage.apply(builder);
    builder.write(directory / "b");
    EXPECT_HAS(openError(directory / "b"), damage.message);
  }
}

/// A variable of the environment, until the end of the scope.
class Variable {
public:
  Variable(const char *name, const std::string &value) : name(name) {
    setenv(name, value.c_str(), 1);
  }
  ~Variable() { unsetenv(name); }

private:
  const char *name;
};

template <typename Body> std::string errorOf(const Body &body) {
  try {
    body();
  } catch (const shardrt::Error &error) {
    EXPECT_EQ(error.status(), SHARDRT_NO_DEVICE);
    return error.what();
  }
  return "no error";
}

TEST(CudaLibraries, MissingOneIsNamed) {
  Variable driver("SHARDRT_LIBCUDA", "/nowhere/libcuda.so.1"),
      nccl("SHARDRT_NCCL", "/nowhere/libnccl.so.2"),
      cublas("SHARDRT_CUBLASLT", "/nowhere/libcublasLt.so.13");
  std::string text = errorOf([] { shardrt::cuda::Driver(); });
  EXPECT_HAS(text, "cannot load /nowhere/libcuda.so.1, which SHARDRT_LIBCUDA names");
  EXPECT_HAS(text, "a bundle for cuda needs a machine with an NVIDIA GPU and its driver");
  text = errorOf([] { shardrt::cuda::Nccl(); });
  EXPECT_HAS(text, "cannot load /nowhere/libnccl.so.2");
  EXPECT_HAS(text, "install it (PyPI: nvidia-nccl-cu13, nvidia-nccl-cu12)");
  text = errorOf([] { shardrt::cuda::CublasLt(13000); });
  EXPECT_HAS(text, "install it (PyPI: nvidia-cublas)");
}

TEST(CudaLibraries, OldOneSaysBothVersions) {
  Variable driver("SHARDRT_LIBCUDA", SHARDRT_OLD_CUDA), nccl("SHARDRT_NCCL", SHARDRT_OLD_CUDA),
      cublas("SHARDRT_CUBLASLT", SHARDRT_OLD_CUDA);
  EXPECT_HAS(errorOf([] { shardrt::cuda::Driver(); }),
             "the driver is for CUDA 11.4, this runtime needs 12.0 or newer");
  EXPECT_HAS(errorOf([] { shardrt::cuda::Nccl(); }),
             "is NCCL 2.18.3, this runtime needs 2.28.0 or newer");
  EXPECT_HAS(errorOf([] { shardrt::cuda::CublasLt(13000); }), "has no function cublasLtCreate");
}

} // namespace
