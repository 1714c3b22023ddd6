//===- CudaTarget.cpp - Architectures and ptxas ---------------------------===//
#include "shardc/Lower/CudaKernels.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdlib>

using namespace llvm;

namespace shardc {

Expected<CudaTarget> CudaTarget::parse(StringRef text) {
  // The PTX version is the oldest that has what is generated and the architecture: drivers refuse
  // newer ones than they know.
  static constexpr std::pair<const char *, const char *> known[] = {
      {"sm_80", "+ptx80"},   {"sm_86", "+ptx80"},  {"sm_89", "+ptx80"},
      {"sm_90", "+ptx80"},   {"sm_90a", "+ptx80"}, {"sm_100", "+ptx86"},
      {"sm_100a", "+ptx86"}, {"sm_120", "+ptx87"}, {"sm_120a", "+ptx87"}};
  std::string arch = text.starts_with("compute_") ? "sm_" + text.drop_front(8).str() : text.str();
  for (auto [name, features] : known)
    if (arch == name) {
      if (arch != text && arch.back() == 'a')
        return createStringError("cuda architecture \"%s\" runs on that device only, which is what "
                                 "%s is for; PTX for later ones is compute_%s",
                                 text.str().c_str(), name,
                                 text.drop_front(8).drop_back().str().c_str());
      return CudaTarget{text.str(), arch, features};
    }
  return createStringError(
      "unknown cuda architecture \"%s\", expected sm_80, sm_86, sm_89, sm_90, "
      "sm_90a, sm_100, sm_100a, sm_120 or sm_120a, or compute_ and one of those "
      "numbers for PTX",
      text.str().c_str());
}

std::string findPtxas(StringRef toolkit) {
  SmallVector<std::string> folders;
  if (!toolkit.empty())
    folders.push_back(toolkit.str());
  else
    for (const char *variable : {"CUDA_ROOT", "CUDA_HOME", "CUDA_PATH"})
      if (const char *folder = std::getenv(variable))
        folders.push_back(folder);
  for (const std::string &folder : folders) {
    SmallString<128> path(folder);
    sys::path::append(path, "bin", "ptxas");
    if (sys::fs::can_execute(path))
      return path.str().str();
  }
  if (!toolkit.empty())
    return "";
  if (ErrorOr<std::string> found = sys::findProgramByName("ptxas"))
    return *found;
  return sys::fs::can_execute("/usr/local/cuda/bin/ptxas") ? "/usr/local/cuda/bin/ptxas" : "";
}

/// ptxas -v: "Compiling entry function 'k'", "… 0 bytes spill stores, 0 bytes spill loads", "Used
/// 32 registers, …, 128 bytes smem".
static StringMap<PtxasReport> parseReport(StringRef text) {
  StringMap<PtxasReport> reports;
  PtxasReport *current = nullptr;
  Regex entry("Compiling entry function '([^']*)'"),
      spills("([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads"),
      used("Used ([0-9]+) registers"), shared("([0-9]+) bytes smem");
  SmallVector<StringRef> lines, match;
  text.split(lines, '\n');
  auto number = [&](unsigned n) {
    int64_t value = 0;
    match[n].getAsInteger(10, value);
    return value;
  };
  for (StringRef line : lines) {
    if (entry.match(line, &match))
      current = &reports[match[1]];
    if (!current)
      continue;
    if (spills.match(line, &match))
      current->spillBytes = number(1) + number(2);
    if (used.match(line, &match))
      current->registers = number(1);
    if (shared.match(line, &match))
      current->sharedBytes = number(1);
  }
  return reports;
}

Expected<Cubin> compileToCubin(StringRef ptx, const CudaTarget &target, StringRef ptxas) {
  SmallString<128> input, output, log;
  scope_exit remove([&] {
    for (StringRef path : {input.str(), output.str(), log.str()})
      if (!path.empty())
        sys::fs::remove(path);
  });
  int descriptor;
  for (auto [path, suffix] : {std::pair(&output, "cubin"), std::pair(&log, "log")})
    if (std::error_code error = sys::fs::createTemporaryFile("shardc", suffix, *path))
      return createStringError(error, "cannot make a temporary file");
  if (std::error_code error = sys::fs::createTemporaryFile("shardc", "ptx", descriptor, input))
    return createStringError(error, "cannot make a temporary file");
  raw_fd_ostream(descriptor, /*shouldClose=*/true) << ptx;

  std::string arch = "-arch=" + target.arch, message;
  StringRef arguments[] = {ptxas, arch, "-O3", "-v", input, "-o", output};
  std::optional<StringRef> redirects[] = {std::nullopt, StringRef(log), StringRef(log)};
  int status = sys::ExecuteAndWait(ptxas, arguments, std::nullopt, redirects, /*SecondsToWait=*/0,
                                   /*MemoryLimit=*/0, &message);
  auto said = MemoryBuffer::getFile(log), image = MemoryBuffer::getFile(output);
  if (status != 0 || !said || !image)
    return createStringError("%s failed for %s: %s%s", ptxas.str().c_str(), target.arch.c_str(),
                             message.c_str(),
                             said ? (*said)->getBuffer().trim().str().c_str() : "");
  return Cubin{(*image)->getBuffer().str(), parseReport((*said)->getBuffer())};
}

} // namespace shardc
