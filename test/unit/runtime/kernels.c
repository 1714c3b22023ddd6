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

/* Writes 8 bytes behind a buffer of 64 bytes on the rank whose index is 2. */
void test_overrun(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const int64_t *index = buffers[0];
  volatile int64_t *buffer = buffers[1];
  if (*index == 2)
    buffer[8] = 1;
}

/* Sleeps for two seconds on the rank whose index is 2. */
void test_sleep(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const int64_t *index = buffers[0];
  if (*index == 2)
    sleep(2);
}

/* Training of a table: prediction = weight[id] + bias[id % 3], target = label / 8, loss = mean of
   half the squared error over `total` positions. A label of -100 does not count, and the ids of
   other parts of the table are somebody else's. Writes loss, tokens and all of the gradient. */
void test_table_gradient(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const int64_t *ids = buffers[0], *labels = buffers[1];
  const float *bucket = buffers[2];
  const int64_t *sizes =
      buffers[3]; /* positions, total, rows of a part, length, offset of bias, length of a part */
  const int64_t *part = buffers[4];
  float *loss = buffers[5], *tokens = buffers[6], *gradient = buffers[7];
  const float *bias = bucket + sizes[4];
  memset(gradient, 0, sizes[3] * sizeof(float));
  *loss = *tokens = 0;
  for (int64_t i = 0; i < sizes[0]; ++i) {
    int64_t row = ids[i] - *part * sizes[2];
    if (row < 0 || row >= sizes[2] || labels[i] == -100)
      continue;
    float error = bucket[row] + bias[ids[i] % 3] - (float)labels[i] / 8;
    gradient[row] += error / (float)sizes[1];
    gradient[sizes[4] + ids[i] % 3] += error / (float)sizes[1];
    *loss += error * error / 2 / (float)sizes[1];
    *tokens += 1 / (float)sizes[1];
  }
}

/* f32: out = sum over a part of the bucket of (x / tokens)^2 */
void test_square_sum(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const float *x = buffers[0], *tokens = buffers[1];
  const int64_t *sizes = buffers[2];
  float *out = buffers[3];
  *out = 0;
  for (int64_t i = 0; i < sizes[5]; ++i)
    *out += x[i] / *tokens * (x[i] / *tokens);
}

/* f32: out = square root of x, one number */
void test_root(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const float *x = buffers[0];
  float *out = buffers[1], root = *x;
  for (int i = 0; i < 40 && root > 0; ++i)
    root = (root + *x / root) / 2;
  *out = root;
}

/* f32: momentum = momentum / 2 + gradient / tokens; parameter -= rate * momentum */
void test_momentum(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  const float *gradient = buffers[0], *tokens = buffers[1], *rate = buffers[2];
  float *parameter = buffers[3], *momentum = buffers[4];
  for (int64_t i = begin * tile; i < end * tile; ++i) {
    momentum[i] = momentum[i] / 2 + gradient[i] / *tokens;
    parameter[i] -= *rate * momentum[i];
  }
}

void test_zero(void *const *buffers, int64_t begin, int64_t end, void *scratch) {
  float *out = buffers[0];
  for (int64_t i = begin * tile; i < end * tile; ++i)
    out[i] = 0;
}
