/* Kernels of the test bundles. Tiles are 4 elements, unless said otherwise. */
#include "shardrt/abi.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

const char shardrt_abi[] = SHARDRT_ABI;

enum { tile = 4 };

/* f32: out = a + b */
void test_add(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const float *a = buffers[0], *b = buffers[1];
  float *out = buffers[2];
  for (int64_t i = begin * tile; i < end * tile; ++i)
    out[i] = a[i] + b[i];
}

/* f32: out = x + 100 * index, with an i64 axis index */
void test_add_index(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const float *x = buffers[0];
  const int64_t *index = buffers[1];
  float *out = buffers[2];
  for (int64_t i = begin * tile; i < end * tile; ++i)
    out[i] = x[i] + 100 * (float)*index;
}

/* f32: out = 2 x, by way of 16 bytes of scratch for each thread */
void test_double(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const float *x = buffers[0];
  float *out = buffers[1], *own = scratch;
  for (int64_t t = begin; t < end; ++t) {
    memcpy(own, x + t * tile, tile * sizeof(float));
    for (int i = 0; i < tile; ++i)
      out[t * tile + i] = own[i] + own[i];
  }
}

/* Dies on the rank whose index is 2. */
void test_die(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const int64_t *index = buffers[0];
  if (*index == 2)
    kill(getpid(), SIGKILL);
}

/* Sleeps for two seconds on the rank whose index is 2. */
void test_sleep(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const int64_t *index = buffers[0];
  if (*index == 2)
    sleep(2);
}
