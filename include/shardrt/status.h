/* Result of every function of the runtime's C interface. Nothing here throws; a function that fails
   returns a status other than SHARDRT_OK and leaves its out_ arguments untouched. */
#ifndef SHARDRT_STATUS_H
#define SHARDRT_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers are also the exit codes of shard-run and do not change between versions. */
typedef enum shardrt_status {
  SHARDRT_OK = 0,
  SHARDRT_INTERNAL = 1,         /* a fault of the runtime itself */
  SHARDRT_INVALID_ARGUMENT = 2, /* an argument or option that makes no sense */
  SHARDRT_BAD_BUNDLE = 3,  /* damaged, incomplete, or of a format that this runtime does not read */
  SHARDRT_BAD_INPUT = 4,   /* model inputs of the wrong name, dtype or shape */
  SHARDRT_BAD_WEIGHTS = 5, /* a weight is missing, or has another dtype or shape */
  SHARDRT_IO = 6,          /* a file cannot be read or written */
  SHARDRT_UNSUPPORTED_CPU = 7, /* the bundle has no kernels that this processor or GPU can run */
  SHARDRT_RANK_COUNT = 8,      /* the bundle needs another number of ranks */
  SHARDRT_RANK_LOST = 9,       /* another rank died or gave up */
  SHARDRT_TIMEOUT = 10,        /* a collective waited longer than the deadline */
  SHARDRT_OUT_OF_MEMORY = 11,  /* the arena or a buffer cannot be allocated */
  SHARDRT_NOT_FINITE = 12,     /* a loss or gradient is infinite or not a number */
  SHARDRT_NO_DEVICE = 13,      /* no GPU for this rank, or a driver or library that it needs */
  SHARDRT_DEVICE_FAILED = 14   /* a call of CUDA, cuBLASLt or NCCL failed */
} shardrt_status;

/* What went wrong in the last failing call of this thread: a sentence that names the thing, the
   place and the numbers. Valid until the next call of this thread. Never null. */
const char *shardrt_last_error(void);

/* A short name such as "bad bundle". */
const char *shardrt_status_name(shardrt_status status);

/* "0.1.0" */
const char *shardrt_version(void);

#ifdef __cplusplus
}
#endif
#endif
