#include "BundleBuilder.h"

using namespace shardrt_test;

// Copies two elements a thread of the one block, out = in.
static const char copyPtx[] = R"(.version 7.0
.target sm_80
.address_size 64
.visible .entry copy8(.param .u64 copy8_param_0, .param .u64 copy8_param_1)
{
  .reg .b32 %r<2>;
  .reg .f32 %f<3>;
  .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [copy8_param_0];
  ld.param.u64 %rd2, [copy8_param_1];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 8;
  add.s64 %rd4, %rd1, %rd3;
  add.s64 %rd5, %rd2, %rd3;
  ld.global.f32 %f1, [%rd4];
  ld.global.f32 %f2, [%rd4+4];
  st.global.f32 [%rd5], %f1;
  st.global.f32 [%rd5+4], %f2;
  ret;
}
)";

static Json matrix(const Json &argument, int row) {
  return {{"argument", argument},
          {"dtype", "f32"},
          {"row", row},
          {"column", 1},
          {"batch", Json::array()}};
}

BundleBuilder shardrt_test::cudaBundle() {
  BundleBuilder builder({{"tp", 2}});
  Json whole = Json::array({Json::array(), Json::array()});
  int x = builder.buffer("x", "f32", {2, 3}, "input"),
      w = builder.buffer("w", "f32", {3, 4}, "parameter"),
      y = builder.buffer("y", "f32", {2, 4}, "temporary"),
      out = builder.buffer("out", "f32", {2, 4}, "output");
  builder.input("x", x, {2, 3}, whole);
  builder.output("out", out, {2, 4}, whole);
  builder.parameter("w", w, {3, 4}, whole);
  std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  builder.weights["w"] = {"F32", {3, 4}, rawBytes(values)};
  int group = builder.group(Json::array({BundleBuilder::axis(0, 2)}));
  builder.command({{"op", "launch"}, {"kernel", 0}, {"buffers", {x, w, y}}, {"results", 1}});
  builder.command({{"op", "all_reduce"},
                   {"group", group},
                   {"reduce", "sum"},
                   {"dtype", "f32"},
                   {"src", y},
                   {"dst", out},
                   {"count", 8}});
  Json scratch = {{"scratch", 256}};
  builder.program["kernels"] =
      Json::array({{{"name", "kernel_0"},
                    {"calls",
                     {{{"kind", "memset"}, {"argument", scratch}, {"bytes", 32}},
                      {{"kind", "gemm"},
                       {"batch", Json::array()},
                       {"m", 2},
                       {"n", 4},
                       {"k", 3},
                       {"a", matrix(0, 3)},
                       {"b", matrix(1, 4)},
                       {"d", matrix(scratch, 4)},
                       {"accumulate", true},
                       {"compute", "f32"},
                       {"epilogue", "none"}},
                      {{"kind", "launch"},
                       {"symbol", "copy8"},
                       {"blocks", 1},
                       {"threads", 4},
                       {"shared", 0},
                       {"arguments", {scratch, 2}}}}}}});
  int64_t at = builder.program["arena"]["bytes"];
  at = (at + 255) / 256 * 256;
  builder.program["cuda"] = {{"scratch", {{"offset", at}, {"bytes", 512}}},
                             {"workspace", {{"offset", at + 512}, {"bytes", 1024}}},
                             {"staging", {{"offset", at + 1536}, {"bytes", 256}}}};
  builder.program["arena"]["bytes"] = at + 1792;
  builder.program["target"] = builder.manifest["target"] = "cuda";
  builder.kernelFile.clear();
  builder.files["kernels-compute_80.ptx"] = copyPtx;
  builder.manifest["kernels"] = Json::array(
      {{{"arch", "compute_80"}, {"format", "ptx"}, {"file", "kernels-compute_80.ptx"}}});
  return builder;
}
