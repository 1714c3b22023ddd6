// Checkpoints in the C interface (include/shardrt/runtime.h).
#include "runtime/core/Handles.h"
#include "runtime/train/Checkpoint.h"

using namespace shardrt;

shardrt_status shardrt_session_save(shardrt_session session, const char *path,
                                    const shardrt_trainer_state *state) {
  return guard([&] {
    saveCheckpoint(
        *session->session, path,
        {state->step, state->sequences, state->tokens, state->seed, state->data_fingerprint});
  });
}

shardrt_status shardrt_session_load(shardrt_session session, const char *path,
                                    shardrt_trainer_state *out) {
  return guard([&] {
    TrainerState state = loadCheckpoint(*session->session, path);
    *out = {state.step, state.sequences, state.tokens, state.seed, state.dataFingerprint};
  });
}
