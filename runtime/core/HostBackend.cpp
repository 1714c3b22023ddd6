// Programs on processors: kernels from a shared library, collectives on the channel, and an arena
// between two pages that nobody may touch.
#include "runtime/core/Backend.h"
#include "runtime/core/Error.h"
#include "runtime/core/Executor.h"

#include <algorithm>
#include <sys/mman.h>

using namespace shardrt;

static const int64_t pageBytes = 4096;

static int64_t roundUp(int64_t bytes) { return ceilDiv(bytes, pageBytes) * pageBytes; }

static int64_t programBytes(const Bundle &bundle) {
  return ceilDiv(bundle.program.arenaBytes, 64) * 64;
}

int64_t shardrt::hostArenaBytes(const Bundle &bundle) {
  return bundle.program.target == Target::Cpu ? 2 * pageBytes + roundUp(programBytes(bundle)) : 0;
}

namespace {
/// The program's arena ends where the page behind it begins, so that the first byte beyond it is a
/// fault; in front there may be a little room.
class Guards {
public:
  Guards(std::byte *arena, int64_t bytes)
      : front(arena), begin(arena + pageBytes + roundUp(bytes) - bytes), back(begin + bytes) {
    for (std::byte *page : {front, back})
      if (mprotect(page, pageBytes, PROT_NONE) != 0)
        throw Error(SHARDRT_INTERNAL, cat("cannot protect the ends of the arena: ", systemError()));
  }
  ~Guards() {
    for (std::byte *page : {front, back}) // the channel may serve another session
      mprotect(page, pageBytes, PROT_READ | PROT_WRITE);
  }
  Guards(const Guards &) = delete;
  Guards &operator=(const Guards &) = delete;
  std::byte *base() const { return begin; }

private:
  std::byte *front, *begin, *back;
};

class HostBackend : public Backend {
public:
  HostBackend(const Bundle &bundle, Progress &progress, ThreadPool &pool)
      : bundle(bundle), progress(progress),
        guards(progress.channel().arena(), programBytes(bundle)), arena(guards.base()),
        kernels(openKernels(bundle)), groups(createGroups(bundle, progress.channel())),
        scratch(bundle.program, pool.threads()),
        machine{bundle.program, guards.base(), kernels.get(), groups, scratch, progress, pool} {}

  Memory &memory() override { return arena; }

  std::unique_ptr<Executable> prepare(const std::vector<Command> &commands,
                                      const char *name) override {
    auto executor = std::make_unique<Executor>(machine, commands, name);
    // A call that must stay behind started ones takes a place in the queue as well.
    if (size_t calls = executor->outstanding())
      progress.reserve(calls + 1);
    return executor;
  }

  void finish() noexcept override {}
  std::string codeLevel() const override { return bundle.kernels.level; }
  std::string device() const override { return ""; }
  int64_t scratchBytes() const override { return scratch.bytes(); }
  int64_t deviceBytes() const override { return -1; }

  int64_t arenaTouchedBytes() const override {
    int64_t bytes = programBytes(bundle), pages = ceilDiv(bytes, pageBytes);
    std::vector<unsigned char> resident(pages);
    // The end of the arena is that of a page.
    std::byte *begin = guards.base() + bytes - pages * pageBytes;
    if (mincore(begin, pages * pageBytes, resident.data()) != 0)
      return -1;
    return pageBytes * std::count_if(resident.begin(), resident.end(),
                                     [](unsigned char page) { return page & 1; });
  }

private:
  static std::vector<int> createGroups(const Bundle &bundle, Channel &channel) {
    std::vector<int> groups;
    for (const SubAxes &axes : bundle.program.groups)
      groups.push_back(channel.createGroup(bundle.manifest.mesh.group(channel.rank, axes)));
    return groups;
  }

  static std::unique_ptr<KernelLibrary> openKernels(const Bundle &bundle) {
    const std::vector<std::string> &names = bundle.program.kernels;
    if (names.empty())
      return nullptr;
    std::vector<std::string> files = {bundle.kernels.file};
    if (!bundle.kernels.rest.empty())
      files.push_back(bundle.kernels.rest);
    return std::make_unique<KernelLibrary>(bundle.files, files, names);
  }

  const Bundle &bundle;
  Progress &progress;
  Guards guards;
  HostMemory arena;
  std::unique_ptr<KernelLibrary> kernels;
  std::vector<int> groups;
  Scratch scratch;
  Machine machine;
};
} // namespace

std::unique_ptr<Backend> shardrt::createHostBackend(const Bundle &bundle, Progress &progress,
                                                    ThreadPool &pool) {
  return std::make_unique<HostBackend>(bundle, progress, pool);
}
