/* The few MPI functions that the runtime uses, behind a table of C functions. MPI libraries differ
   in their binary interface, so a tiny library with this table is built against each of them
   (build-shim.sh) and loaded at run time; the runtime itself never links MPI. Every function
   returns 0 or an MPI error code. Sizes are bytes. */
#ifndef SHARDRT_MPI_SHIM_H
#define SHARDRT_MPI_SHIM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHARDRT_MPI_SHIM_VERSION 1
#define SHARDRT_MPI_SHIM_SYMBOL "shardrt_mpi_shim_table"

typedef struct shardrt_mpi_comm_s *shardrt_mpi_comm;
typedef struct shardrt_mpi_request_s *shardrt_mpi_request;

typedef struct shardrt_mpi_shim {
  int32_t version; /* SHARDRT_MPI_SHIM_VERSION */
  /* Initialises MPI unless the program has done so. threads: 2 serialized, 3 multiple. */
  int (*init)(int32_t *out_rank, int32_t *out_ranks, int32_t *out_threads);
  int (*finalize)(void); /* only what init has initialised */
  void (*abort)(int32_t code);
  void (*library)(char *text, int32_t size);              /* name and version */
  void (*error_text)(int code, char *text, int32_t size); /* what went wrong */
  /* MPI_Comm_create_group of these ranks of MPI_COMM_WORLD; tag tells concurrent calls apart. */
  int (*comm_create)(const int32_t *ranks, int32_t size, int32_t tag, shardrt_mpi_comm *out_comm);
  int (*comm_release)(shardrt_mpi_comm comm);
  /* Non-blocking; `test` sets done and then releases the request. */
  int (*barrier)(shardrt_mpi_comm comm, shardrt_mpi_request *out);
  int (*all_gather)(shardrt_mpi_comm comm, const void *src, void *dst, int64_t each,
                    shardrt_mpi_request *out);
  int (*all_to_all)(shardrt_mpi_comm comm, const void *src, void *dst, int64_t each,
                    shardrt_mpi_request *out);
  int (*gather)(shardrt_mpi_comm comm, const void *src, void *dst, int64_t each, int32_t root,
                shardrt_mpi_request *out);
  int (*broadcast)(shardrt_mpi_comm comm, void *data, int64_t bytes, int32_t root,
                   shardrt_mpi_request *out);
  int (*send)(shardrt_mpi_comm comm, const void *src, int64_t bytes, int32_t to,
              shardrt_mpi_request *out);
  int (*receive)(shardrt_mpi_comm comm, void *dst, int64_t bytes, int32_t from,
                 shardrt_mpi_request *out);
  int (*test)(shardrt_mpi_request request, int32_t *out_done);
} shardrt_mpi_shim;

/* The symbol that a shim library exports. */
typedef const shardrt_mpi_shim *(*shardrt_mpi_shim_function)(void);

#ifdef __cplusplus
}
#endif
#endif
