/* What a kernel library exports and how the runtime calls it. Stable within one shardrt_abi string.
 */
#ifndef SHARDRT_ABI_H
#define SHARDRT_ABI_H

#include <stdint.h>

/* The value of the symbol `const char shardrt_abi[]` that every kernel library exports. */
#define SHARDRT_ABI "shardrt-1"

/* Runs tiles [tile_begin, tile_end) of one launch.
     buffers     addresses in this rank's arena, 64-byte aligned, in the order of the launch command
     tile_begin, tile_end   tiles are independent of each other; each thread is given a contiguous
   range scratch     the launch's "scratch" bytes, 64-byte aligned, private to the thread, contents
   undefined; null when the launch asks for none A kernel is a pure function of its buffers: it
   calls nothing but libm, reads no global state and cannot fail. */
typedef void (*shardrt_kernel)(void *const *buffers, int64_t tile_begin, int64_t tile_end,
                               void *scratch);

#endif
