#include "runtime/cuda/api/Nccl.h"

using namespace shardrt;
using namespace shardrt::cuda;

static const int oldestVersion = 22800; // ncclConfig's layout, ncclCommWindowRegister

Nccl::Nccl()
    : Library({{"libnccl.so.2"},
               "SHARDRT_NCCL",
               "ranks on GPUs talk through NCCL 2.28 or newer: install it (PyPI: nvidia-nccl-cu13, "
               "nvidia-nccl-cu12) and put its folder into LD_LIBRARY_PATH"}) {}

std::string cuda::ncclVersionText(int version) {
  return cat(version / 10000, ".", version % 10000 / 100, ".", version % 100);
}

int Nccl::checkedVersion() const {
  int found = 0;
  ncclGetVersion(&found);
  if (found < oldestVersion)
    throw Error(SHARDRT_NO_DEVICE,
                cat(file(), ": is NCCL ", ncclVersionText(found), ", this runtime needs ",
                    ncclVersionText(oldestVersion), " or newer"));
  return found;
}

static std::string meaningIn(const Library &library, int status) {
  const char *text = plainFunction<const char *(int)>(library, "ncclGetErrorString")(status);
  const char *last = plainFunction<const char *(ncclComm_t)>(library, "ncclGetLastError")(nullptr);
  return cat(text ? text : "unknown error", last && *last ? cat(" (", last, ")") : "");
}

/// NCCL has one status for all that the driver refuses; what it was stands in the last message.
static Error errorIn(const Library &library, const std::string &what, int status) {
  std::string meaning = meaningIn(library, status);
  if (meaning.find("out of memory") == std::string::npos)
    return Error(SHARDRT_DEVICE_FAILED, cat(what, ": ", meaning));
  return Error(
      SHARDRT_OUT_OF_MEMORY,
      cat(what, ": ", meaning, "; NCCL keeps memory of its own beside the program's arena"));
}

Error cuda::ncclError(const std::string &what, int status) { return errorIn(nccl(), what, status); }

void Nccl::fail(const char *symbol, int status) const { throw errorIn(*this, symbol, status); }

const Nccl &cuda::nccl() {
  static const Nccl instance;
  return instance;
}
