// An executable's own malloc takes the place of the library's, for all code of the process; glibc
// offers its own under other names. operator new ends here too.
#include "tools/shard-run/AllocationCounter.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) ||                         \
    __has_feature(thread_sanitizer)
#define SHARDRT_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHARDRT_SANITIZED
#endif

static std::atomic<int64_t> count{0};

int64_t shardrt::allocations() { return count.load(std::memory_order_relaxed); }

#if defined(__GLIBC__) && !defined(SHARDRT_SANITIZED)

bool shardrt::canCountAllocations() { return true; }

extern "C" {
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static void add() { count.fetch_add(1, std::memory_order_relaxed); }

void *malloc(size_t size) {
  add();
  return __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
  add();
  return __libc_calloc(items, size);
}

void *realloc(void *memory, size_t size) {
  add();
  return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
  add();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **out, size_t alignment, size_t size) {
  void *memory = memalign(alignment, size);
  if (!memory)
    return ENOMEM;
  *out = memory;
  return 0;
}
}

#else

bool shardrt::canCountAllocations() { return false; }

#endif
