//===- Allocator.cpp - Memory that nobody counts ------------------------------===//
//
// shard-run --check-allocations counts what goes through malloc in a step, to find what the runtime
// allocates. These libraries take theirs behind its back.
//
//===----------------------------------------------------------------------===//
#include <cstddef>
#include <new>

extern "C" void *__libc_malloc(std::size_t bytes);
extern "C" void __libc_free(void *memory);

void *operator new(std::size_t bytes) {
  if (void *memory = __libc_malloc(bytes ? bytes : 1))
    return memory;
  throw std::bad_alloc();
}
void operator delete(void *memory) noexcept { __libc_free(memory); }
void operator delete(void *memory, std::size_t) noexcept { __libc_free(memory); }
