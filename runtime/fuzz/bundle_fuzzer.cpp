// Fuzzes everything that reads files of a bundle: manifest, program, safetensors and npy headers,
// and zip files.
// The first byte chooses the reader. Bad input must end in an Error, never in a crash, an assertion
// or a huge allocation.
//
// With libFuzzer (clang -fsanitize=fuzzer) LLVMFuzzerTestOneInput is the entry; otherwise
// StandaloneDriver.cpp mutates the given seeds.
#include "runtime/core/Bundle.h"
#include "runtime/core/Error.h"
#include "runtime/core/Npy.h"
#include "runtime/core/ProgramReader.h"
#include "runtime/core/Safetensors.h"

using namespace shardrt;

/// Of a bundle as one file: every byte of every member must be there.
static void readMembers(std::string_view text) {
  std::vector<ArchiveMember> members;
  std::string problem = readArchive(text, members);
  if (!problem.empty())
    throw Error(SHARDRT_BAD_BUNDLE, problem);
  volatile char last = 0;
  for (const ArchiveMember &member : members)
    for (char byte : std::string_view(text.data() + member.offset, member.size))
      last = byte;
  (void)last;
}

static void readOne(uint8_t kind, std::string_view text) {
  static const Mesh mesh{{{"dp", 2}, {"tp", 4}}};
  switch (kind % 5) {
  case 0:
    readProgram(text, "program.json", mesh, 4096);
    break;
  case 1:
    readManifest(text, "manifest.json");
    break;
  case 2:
    readSafetensorsHeader(text, "model.safetensors");
    break;
  case 3:
    readNpyHeader(text, "x.npy");
    break;
  default:
    readMembers(text);
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  try {
    readOne(data[0], {reinterpret_cast<const char *>(data) + 1, size - 1});
  } catch (const Error &) { // what bad input should lead to; anything else is a finding
  }
  return 0;
}
