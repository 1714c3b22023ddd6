// The levels of the x86-64 psABI, then x86-64-v4 with instructions for bf16, best last.
// __builtin_cpu_supports also asks whether the system saves the registers.
#include "runtime/cpu/IsaLevel.h"
#include "runtime/core/Error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace shardrt;

namespace {
struct Level {
  const char *name;
  bool (*supported)();
  bool (*pays)() = [] { return true; }; // is chosen when nobody asks for a level
};
} // namespace

#if defined(__x86_64__)
static bool hasV3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("popcnt");
}
static bool hasV4() {
  return hasV3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
static bool hasBF16() {
  unsigned a, b, c, d;
  return hasV4() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}
/// Intel's processors run vdpbf16ps at half the speed of f32's multiply-adds, AMD's at twice.
static bool dotIsFast() { return __builtin_cpu_is("amd"); }
/// Linux gives a process the registers of matrix tiles when it asks; all its threads have them
/// then.
static bool hasMatrixTiles() {
#if defined(__linux__)
  constexpr long requestPermission = 0x1023, tileData = 18; // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  unsigned a, b, c, d;
  return hasBF16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1) &&
         syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
#else
  return false;
#endif
}
static const std::vector<Level> levels = {{"x86-64", [] { return true; }},
                                          {"x86-64-v3", hasV3},
                                          {"x86-64-v4", hasV4},
                                          {"x86-64-v4+avx512bf16", hasBF16, dotIsFast},
                                          {"x86-64-v4+amx-bf16", hasMatrixTiles}};
#else
static const std::vector<Level> levels = {};
#endif

static int rankOf(const std::string &name) {
  for (size_t i = 0; i < levels.size(); ++i)
    if (name == levels[i].name)
      return static_cast<int>(i);
  return -1;
}

bool shardrt::cpuRuns(const std::string &level) {
  int rank = rankOf(level);
  return rank >= 0 && levels[rank].supported();
}

/// Of two levels that run here.
static bool isBetter(const std::string &level, const std::string &than) {
  int rank = rankOf(level), other = rankOf(than);
  bool pays = levels[rank].pays(), otherPays = levels[other].pays();
  return pays != otherPays ? pays : rank > other;
}

static std::string listOf(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

static std::string levelsOfThisCpu() {
  std::vector<std::string> names;
  for (const Level &level : levels)
    if (level.supported())
      names.push_back(level.name);
  return listOf(names);
}

size_t shardrt::chooseIsaLevel(const std::vector<std::string> &offered, const std::string &forced) {
  int best = -1;
  for (size_t i = 0; i < offered.size(); ++i) {
    if (!forced.empty() && offered[i] == forced && cpuRuns(forced))
      return i;
    if (forced.empty() && cpuRuns(offered[i]) && (best < 0 || isBetter(offered[i], offered[best])))
      best = static_cast<int>(i);
  }
  if (best >= 0)
    return static_cast<size_t>(best);
  throw Error(SHARDRT_UNSUPPORTED_CPU,
              cat("the bundle has kernels for ", listOf(offered), ", this processor runs ",
                  levelsOfThisCpu(), forced.empty() ? "" : ", and " + forced + " was asked for"));
}
