/* Load a bundle, connect the ranks, set inputs, run an entry point, get outputs. One process (or
   thread) a rank:

     shardrt_bundle_open("llama.bundle", NULL, &bundle);
     shardrt_bundle_info(bundle, &info);              // info.ranks, info.arena_bytes, …
     shardrt_channel_create_shm(&(shardrt_channel_options){.rank = r, .ranks = info.ranks, …},
   &channel); shardrt_session_create(bundle, channel, NULL, &session);
     shardrt_session_set_input(session, "input_ids", SHARDRT_I64, shape, 2, ids);
     shardrt_session_run(session, "main");
     shardrt_session_get_output(session, "logits", logits, bytes); */
#ifndef SHARDRT_RUNTIME_H
#define SHARDRT_RUNTIME_H

#include "shardrt/channel.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct shardrt_bundle_s *shardrt_bundle;
typedef struct shardrt_session_s *shardrt_session;

typedef struct shardrt_bundle_facts {
  const char *model;  /* lives as long as the bundle */
  const char *isa;    /* level of the kernels that were chosen, "x86-64-v4"; cuda: empty, each rank
                         chooses for its device */
  const char *target; /* "cpu" or "cuda" */
  int32_t ranks;
  int32_t entries;    /* entry points: "main", or those of training */
  int32_t tensors;    /* that the states of a training program hold */
  int32_t max_groups; /* for shardrt_channel_options */
  uint64_t
      arena_bytes; /* for shardrt_channel_options: the program's arena and a small exchange area */
  uint64_t fingerprint; /* for shardrt_channel_options: differs between different programs */
} shardrt_bundle_facts;

typedef struct shardrt_entry_facts {
  const char *name; /* lives as long as the bundle */
  int32_t inputs, outputs;
} shardrt_entry_facts;

/* A tensor that lives from run to run, in the global view. By name: a weight's own; in front of it
   "optimizer.exp_avg." and the like, or "gradient."; "state." for what belongs to no weight. */
typedef struct shardrt_tensor_facts {
  const char *name, *role; /* role: parameter, exp_avg, exp_avg_sq, momentum, gradient, scalar */
  shardrt_dtype dtype;
  const int64_t *shape;
  int32_t dims;
  uint64_t bytes;
} shardrt_tensor_facts;

/* What a checkpoint keeps beside the tensors. */
typedef struct shardrt_trainer_state {
  int64_t step;              /* done so far */
  int64_t sequences, tokens; /* taken from the data, trained on */
  uint64_t seed;             /* of the order of the data */
  uint64_t data_fingerprint; /* tells whether it is the same data; 0: none */
} shardrt_trainer_state;

/* A model input or output in the global view; the strings and the shape live as long as the bundle.
 */
typedef struct shardrt_value_facts {
  const char *name, *alias; /* alias: the input whose storage this output replaces, or null */
  shardrt_dtype dtype;
  const int64_t *shape;
  int32_t dims;
  uint64_t bytes;
} shardrt_value_facts;

typedef struct shardrt_session_options {
  const char
      *weights; /* .safetensors file, *.index.json or directory; null: the bundle's own weights/ */
  int32_t threads;    /* compute threads of this rank; 0: one */
  int32_t pin;        /* bind thread t to processor (local_rank * threads + t) of those allowed */
  int32_t local_rank; /* this rank's number on its machine */
  int32_t trace;      /* record every command */
  int32_t poison;     /* a test mode: fill storage with ones as soon as no later command needs it */
  /* For bundles of target cuda; a rank takes the device with the number local_rank. */
  int32_t no_cuda_graph; /* hand over every call of every run, instead of replaying a graph; so it
                            is where several ranks are threads of one process */
  int32_t share_device;  /* a test mode: ranks of a machine may have a device together */
  int32_t nccl_ub;       /* let NCCL use the arena in place: 1 ncclCommRegister, 2 a window */
} shardrt_session_options;

/* Reads and checks everything but the weights. isa: force a level ("x86-64-v3", "sm_90a"), null:
 * the best that runs here. */
shardrt_status shardrt_bundle_open(const char *path, const char *isa, shardrt_bundle *out_bundle);
void shardrt_bundle_release(shardrt_bundle bundle); /* after its sessions */
shardrt_status shardrt_bundle_info(shardrt_bundle bundle, shardrt_bundle_facts *out_facts);
shardrt_status shardrt_bundle_entry(shardrt_bundle bundle, int32_t index,
                                    shardrt_entry_facts *out_facts);
shardrt_status shardrt_bundle_input(shardrt_bundle bundle, int32_t entry, int32_t index,
                                    shardrt_value_facts *out_facts);
shardrt_status shardrt_bundle_output(shardrt_bundle bundle, int32_t entry, int32_t index,
                                     shardrt_value_facts *out_facts);
shardrt_status shardrt_bundle_tensor(shardrt_bundle bundle, int32_t index,
                                     shardrt_tensor_facts *out_facts);
/* What the program wants in step 1, 2, … as its input "learning_rate" (by the schedule that it was
   compiled with), "bias_correction1" or "bias_correction2". */
shardrt_status shardrt_bundle_scalar(shardrt_bundle bundle, const char *name, int64_t step,
                                     double *out_value);

/* Loads kernels, constants and this rank's part of the weights into the channel's arena. */
shardrt_status shardrt_session_create(shardrt_bundle bundle, shardrt_channel channel,
                                      const shardrt_session_options *options,
                                      shardrt_session *out_session);
void shardrt_session_release(shardrt_session session); /* before its channel */

/* `data` is the whole (global) tensor, row-major; this rank copies its part. The value stays set
   for later runs; an input that an output aliases is replaced by that output after each run, and is
   zero if never set. */
shardrt_status shardrt_session_set_input(shardrt_session session, const char *name,
                                         shardrt_dtype dtype, const int64_t *shape, int32_t dims,
                                         const void *data);
/* Runs on all ranks together. entry: null for the first. */
shardrt_status shardrt_session_run(shardrt_session session, const char *entry);
/* Called on all ranks: rank 0 receives the whole tensor (`bytes` must be its size), the others may
 * pass null. */
shardrt_status shardrt_session_get_output(shardrt_session session, const char *name, void *data,
                                          uint64_t bytes);
/* This rank's part, in the arena, valid until the next run. */
shardrt_status shardrt_session_local_output(shardrt_session session, const char *name,
                                            const void **out_data, uint64_t *out_bytes);
/* Called on all ranks: rank 0 receives the whole tensor, as of get_output. Gradients are whole when
   finish_grad_sync has run, and are to be divided by the step's "tokens". */
shardrt_status shardrt_session_get_tensor(shardrt_session session, const char *name, void *data,
                                          uint64_t bytes);
/* `data` is the whole tensor, from which this rank copies its part, converting between
   floating-point types. When parameters were set, shardrt_session_refresh on all ranks brings
   copies of them up to date. */
shardrt_status shardrt_session_set_tensor(shardrt_session session, const char *name,
                                          shardrt_dtype dtype, const int64_t *shape, int32_t dims,
                                          const void *data);
shardrt_status shardrt_session_refresh(shardrt_session session);
/* Called on all ranks. `path` becomes a directory with all parameters and optimizer states as whole
   tensors; what was there stays until the new one is on disk. A failure of one rank is one of all.
 */
shardrt_status shardrt_session_save(shardrt_session session, const char *path,
                                    const shardrt_trainer_state *state);
/* The checkpoint of any mesh. Nothing changes unless all of it was found right. */
shardrt_status shardrt_session_load(shardrt_session session, const char *path,
                                    shardrt_trainer_state *out_state);
/* Called on all ranks: rank 0 writes the events recorded so far as a Chrome / Perfetto trace. */
shardrt_status shardrt_session_write_trace(shardrt_session session, const char *path);

#ifdef __cplusplus
}
#endif
#endif
