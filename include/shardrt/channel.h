/* Collectives between the ranks of a job, with the semantics of NCCL: every rank of a group makes
   the same calls in the same order; sources are not written, and results are ready when the call
   returns (or when its ticket was waited for). All counts are elements. src and dst lie in the
   caller's arena, unless said otherwise. One thread at a time may use a channel. */
#ifndef SHARDRT_CHANNEL_H
#define SHARDRT_CHANNEL_H

#include "shardrt/status.h"
#include "shardrt/types.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct shardrt_channel_s *shardrt_channel;

#define SHARDRT_DEFAULT_TIMEOUT_S 300.0
#define SHARDRT_WORLD_GROUP 0 /* the group of all ranks, always there */
#define SHARDRT_NO_TICKET (-1)

/* Zero means the default for every field but rank, ranks and arena_bytes. */
typedef struct shardrt_channel_options {
  int32_t rank, ranks;
  uint64_t arena_bytes; /* equal on all ranks */
  const char
      *job; /* shm: the same text on all ranks, different from every other job of this machine */
  uint64_t fingerprint; /* equal on all ranks, or create fails: they run different programs */
  double timeout_s;     /* longest wait inside one collective; < 0: for ever */
  double link_gbps;     /* simulated network, gigabits per second and rank; 0: as fast as memory */
  int32_t max_groups;   /* groups that may be created; default 64 */
  const char *mpi_shim; /* mpi: the shim library; default: searched beside the executable */
  const char *address;  /* tcp: the machine of rank 0 */
  int32_t port;         /* tcp: on which rank 0 listens */
} shardrt_channel_options;

/* N ranks as threads of this process: fills out_channels[0 … ranks-1]; options->rank is ignored. */
shardrt_status shardrt_channel_create_inprocess(const shardrt_channel_options *options,
                                                shardrt_channel *out_channels);
/* Ranks are processes of this machine. Returns when all have joined (cf. ncclCommInitRank). */
shardrt_status shardrt_channel_create_shm(const shardrt_channel_options *options,
                                          shardrt_channel *out_channel);
/* Ranks are MPI processes; rank and ranks must be those of MPI_COMM_WORLD. */
shardrt_status shardrt_channel_create_mpi(const shardrt_channel_options *options,
                                          shardrt_channel *out_channel);
/* Ranks are processes of any machines, whose programs run on GPUs: it carries what sessions have to
   agree about, and no collectives of programs (no groups). */
shardrt_status shardrt_channel_create_tcp(const shardrt_channel_options *options,
                                          shardrt_channel *out_channel);
void shardrt_channel_release(shardrt_channel channel);

/* Start of this rank's arena, 64-byte aligned, arena_bytes long, zero at first. */
shardrt_status shardrt_channel_arena(shardrt_channel channel, void **out_base);
/* Communicator of `ranks` (cf. ncclCommSplit). All ranks of the job call it in the same order, each
   with the group it belongs to; groups of one call are disjoint. */
shardrt_status shardrt_group_create(shardrt_channel channel, const int32_t *ranks, int32_t size,
                                    int32_t *out_group);

/* ticket: SHARDRT_NO_TICKET completes before returning; t >= 0 only starts the call,
 * shardrt_wait(t) completes it. */
typedef struct shardrt_call {
  int32_t group;
  int64_t ticket;
  shardrt_dtype dtype;
  const void *src;
  void *dst;
} shardrt_call;

/* dst[i] = reduce over ranks of src[i]; src == dst is allowed. */
shardrt_status shardrt_all_reduce(shardrt_channel channel, const shardrt_call *call,
                                  shardrt_reduce reduce, int64_t count);
/* dst: outer rows of total; src: outer rows of inner; dst[o][r*inner …) = src of rank r, cut off at
 * total. */
shardrt_status shardrt_all_gather(shardrt_channel channel, const shardrt_call *call, int64_t outer,
                                  int64_t inner, int64_t total);
/* The transpose of all_gather: dst[o][i] = reduce over ranks of src[o][r*inner + i], zero beyond
 * total. */
shardrt_status shardrt_reduce_scatter(shardrt_channel channel, const shardrt_call *call,
                                      shardrt_reduce reduce, int64_t outer, int64_t inner,
                                      int64_t total);
/* src has the local `shape`: whole in split_dim, local (ceil(concat_total / G)) in concat_dim; dst
 * the other way round. */
shardrt_status shardrt_all_to_all(shardrt_channel channel, const shardrt_call *call,
                                  const int64_t *shape, int32_t dims, int32_t split_dim,
                                  int32_t concat_dim, int64_t concat_total);
/* pairs: 2 * pair_count group indices, from and to; a rank that nobody sends to gets zeros (cf.
 * ncclSend/ncclRecv). */
shardrt_status shardrt_permute(shardrt_channel channel, const shardrt_call *call, int64_t count,
                               const int32_t *pairs, int32_t pair_count);
/* src == dst is allowed. */
shardrt_status shardrt_broadcast(shardrt_channel channel, const shardrt_call *call, int64_t count,
                                 int32_t root);
/* Root's dst (any memory, G * count) gets every rank's src; other ranks' dst is ignored. */
shardrt_status shardrt_gather(shardrt_channel channel, const shardrt_call *call, int64_t count,
                              int32_t root);
shardrt_status shardrt_barrier(shardrt_channel channel, int32_t group);
shardrt_status shardrt_wait(shardrt_channel channel, int64_t ticket);
/* Makes the calls of all other ranks fail with SHARDRT_RANK_LOST and this message (cf.
 * ncclCommAbort, MPI_Abort). */
void shardrt_channel_abort(shardrt_channel channel, const char *message);

#ifdef __cplusplus
}
#endif
#endif
