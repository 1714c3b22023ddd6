//===- PtxTest.cpp - What the interpreter of PTX does and finds -----------===//
#include "Gpu.h"
#include <numeric>

using namespace fake::tests;

/// Runs `body` on 64 threads: %r1 is the thread, %r2 its element of the first buffer; %rd4 and %rd5
/// are its places in the buffers, %rd8 in shared memory. Returns the second buffer.
static std::vector<int> run(const std::string &body) {
  std::string text = R"(
.version 8.0
.target sm_80
.visible .entry k(.param .u64 .ptr .align 64 a, .param .u64 .ptr .align 64 b)
.maxntid 64, 1, 1
{
  .reg .pred %p<4>;
  .reg .b16 %rs<4>;
  .reg .b32 %r<9>;
  .reg .b64 %rd<9>;
  .shared .align 4 .b8 places[256];
  ld.param.b64 %rd1, [a];
  ld.param.b64 %rd2, [b];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd4, %rd1, %rd3;
  add.s64 %rd5, %rd2, %rd3;
  mov.b64 %rd7, places;
  add.s64 %rd8, %rd7, %rd3;
  ld.global.nc.b32 %r2, [%rd4];
)" + body + "\n  ret;\n}\n";
  start();
  std::vector<int> values(64);
  std::iota(values.begin(), values.end(), 0);
  DeviceArray<int> source(values), target(std::vector<int>(64, 0));
  CUmodule module;
  driver().cuModuleLoadDataEx(&module, text.c_str(), 0u, nullptr, nullptr);
  CUfunction function;
  driver().cuModuleGetFunction(&function, module, "k");
  launch(function, 1, 64, {source.address, target.address}, nullptr);
  return target.get();
}

static std::string reverse(const std::string &barrier) {
  return "st.shared.b32 [%rd8], %r2; " + barrier +
         " sub.s64 %rd3, %rd7, %rd3; ld.shared.b32 %r3, [%rd3+252]; st.global.b32 [%rd5], %r3;";
}

static std::string copy(const std::string &commit, const std::string &wait) {
  return "cp.async.ca.shared.global [%rd8], [%rd4], 4; " + commit + wait +
         " ld.shared.b32 %r3, [%rd8]; st.global.b32 [%rd5], %r3;";
}

/// Through the other half of a pair of lanes that are `distance` bytes apart.
static std::string neighbour(const std::string &distance) {
  return "st.shared.b32 [%rd8], %r2; bar.warp.sync -1; xor.b64 %rd3, %rd8, " + distance +
         "; ld.shared.b32 %r3, [%rd3]; st.global.b32 [%rd5], %r3;";
}

TEST(FakePtx, SharedMemoryIsOrderedByBarriers) {
  EXPECT_PROCESS(0, "", require(run(reverse("bar.sync 0;"))[3] == 60, "elements are reversed"));
  EXPECT_PROCESS(1, "two threads use word [0-9]+ of shared memory", run(reverse("")));
  EXPECT_PROCESS(0, "", require(run(neighbour("4"))[6] == 7, "a warp's barrier orders the warp"));
  EXPECT_PROCESS(1, "two threads use word", run(neighbour("128")));
}

TEST(FakePtx, FindsMisaligned) {
  EXPECT_PROCESS(1, "is not a multiple of 8", run("ld.global.v2.b32 {%r3, %r4}, [%rd4];"));
}

TEST(FakePtx, ThreadsThatUseHalvesOfAWordDoNotRace) {
  // Thread 2i and 2i + 1 add to their halves of word i.
  EXPECT_PROCESS(0, "",
                 run("mul.wide.u32 %rd3, %r1, 2; add.s64 %rd5, %rd2, %rd3; ld.global.b16 "
                     "%rs1, [%rd5]; add.s16 %rs1, %rs1, 1; st.global.b16 [%rd5], %rs1;"));
}

TEST(FakePtx, FindsThreadsThatAreMissing) {
  EXPECT_PROCESS(1, "not all threads of a warp reach the barrier",
                 run("setp.lt.u32 %p1, %r1, 40; @%p1 bra $L; bar.sync 0; $L:"));
  EXPECT_PROCESS(1, "not all lanes that take part are here",
                 run("setp.lt.u32 %p1, %r1, 40; @%p1 bra $L; shfl.sync.bfly.b32 %r3|%p2, %r2, 1, "
                     "31, -1; $L:"));
}

TEST(FakePtx, DivergedThreadsMeet) {
  EXPECT_PROCESS(0, "", {
    std::vector<int> got =
        run("setp.lt.u32 %p1, %r1, 3; mov.b32 %r3, 7; @%p1 bra $L; mov.b32 %r3, 9; $L: "
            "shfl.sync.bfly.b32 %r4|%p2, %r3, 1, 31, -1; st.global.b32 [%rd5], %r4;");
    require(std::vector<int>(got.begin(), got.begin() + 5) == std::vector<int>({7, 7, 9, 7, 9}),
            "a swap of neighbours");
  });
}

TEST(FakePtx, LanesWaitForThoseThatComeFromBehind) {
  // Three threads go another way, which lies behind the place where all meet.
  EXPECT_PROCESS(0, "", {
    std::vector<int> got =
        run("setp.lt.u32 %p1, %r1, 3; mov.b32 %r3, 7; @%p1 bra $B; mov.b32 %r3, 9; $A: "
            "shfl.sync.bfly.b32 %r4|%p2, %r3, 1, 31, -1; st.global.b32 [%rd5], %r4; bra $E; "
            "$B: mov.b32 %r3, 5; bra $A; $E:");
    require(std::vector<int>(got.begin(), got.begin() + 5) == std::vector<int>({5, 5, 9, 5, 9}),
            "a swap of neighbours");
  });
}

TEST(FakePtx, CopiesArriveWhenTheyAreWaitedFor) {
  const std::string commit = "cp.async.commit_group; ", wait = "cp.async.wait_group 0; ";
  EXPECT_PROCESS(0, "", require(run(copy(commit, wait))[5] == 5, "it arrives"));
  EXPECT_PROCESS(0, "", require(run(copy(commit, ""))[5] != 5, "nobody waits"));
  EXPECT_PROCESS(0, "",
                 require(run(copy(commit, "cp.async.wait_group 1; "))[5] != 5, "one may be open"));
  EXPECT_PROCESS(0, "", require(run(copy("", wait))[5] != 5, "it belongs to no group yet"));
}

TEST(FakePtx, MultipliesMatrices) {
  // Ones in all rows but those of g + 8, which are twos, by ones and twos: 8 * 1 * 1 + 8 * 1 * 2 in
  // the first rows.
  EXPECT_PROCESS(0, "", {
    std::vector<int> got =
        run("mov.b32 %r3, 0x3F803F80; mov.b32 %r4, 0x40004000; mov.b32 %r5, 0; "
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r5, %r6, %r7, %r8}, "
            "{%r3, %r4, %r3, %r4}, {%r3, %r4}, {%r5, %r5, %r5, %r5}; "
            "cvt.rzi.s32.f32 %r5, %r5; cvt.rzi.s32.f32 %r7, %r7; mad.lo.s32 %r5, %r7, 1000, %r5; "
            "st.global.b32 [%rd5], %r5;");
    require(got[0] == 48024 && got[31] == 48024, "sums of products");
  });
}
