/* How much of a GPU's staging area a collective takes, and how its data lies there. The compiler
   reserves the most that any command of a program takes; the runtime asks again before it packs.
   docs/contracts.md §6.

   Rows (all_gather, reduce_scatter): NCCL wants what belongs to one rank in one piece. Unless it
   lies so already, staging holds [ranks][outer][inner] elements: a gather's received pieces, to be
   copied to [outer][total]; or a scatter's pieces to send, copied from there, zero beyond `total`.

   all_to_all: staging holds [ranks] pieces to send and, at the next multiple of 256 bytes, [ranks]
   received ones. A piece has the source's shape, but for ceil(split_total / ranks) along split_dim;
   what is beyond split_total is sent as it comes and not copied out.

   Everything else (all_reduce, broadcast, permute) goes from its source to its target. */
#ifndef SHARDRT_STAGING_H
#define SHARDRT_STAGING_H

#include <stdint.h>

#define SHARDRT_STAGING_ALIGNMENT 256

static inline int64_t shardrt_staging_align(int64_t bytes) {
  return (bytes + SHARDRT_STAGING_ALIGNMENT - 1) / SHARDRT_STAGING_ALIGNMENT *
         SHARDRT_STAGING_ALIGNMENT;
}

/* Bytes for an all_gather or reduce_scatter; 0: none, NCCL takes the data as it lies. */
static inline int64_t shardrt_rows_staging(int64_t ranks, int64_t element_bytes, int64_t outer,
                                           int64_t inner, int64_t total) {
  return outer == 1 && inner * ranks == total
             ? 0
             : shardrt_staging_align(ranks * outer * inner * element_bytes);
}

/* Elements that an all_to_all sends to one rank. `shape`: of the source, of `dims` sizes. */
static inline int64_t shardrt_all_to_all_piece(int64_t ranks, const int64_t *shape, int32_t dims,
                                               int32_t split_dim, int64_t split_total) {
  int64_t elements = (split_total + ranks - 1) / ranks;
  for (int32_t d = 0; d < dims; ++d)
    elements *= d == split_dim ? 1 : shape[d];
  return elements;
}

/* Bytes for an all_to_all; the received pieces start in the middle. */
static inline int64_t shardrt_all_to_all_staging(int64_t ranks, int64_t element_bytes,
                                                 const int64_t *shape, int32_t dims,
                                                 int32_t split_dim, int64_t split_total) {
  return 2 * shardrt_staging_align(
                 ranks * element_bytes *
                 shardrt_all_to_all_piece(ranks, shape, dims, split_dim, split_total));
}

#endif
