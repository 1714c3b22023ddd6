// Checkpoints: every state that must be kept, as whole tensors in one safetensors file, so that any
// mesh can load what any other mesh saved; and trainer.json. All calls are collective, and a
// problem of one rank is an error on all.
#pragma once

#include "runtime/core/Session.h"

namespace shardrt {

/// What a checkpoint keeps beside the tensors.
struct TrainerState {
  int64_t step = 0;             // done so far
  int64_t sequences = 0;        // taken from the data since its beginning
  int64_t tokens = 0;           // trained on so far
  uint64_t seed = 0;            // of the order of the data
  uint64_t dataFingerprint = 0; // 0: trained on nothing yet
};

/// The directory appears, or takes the last one's place, when everything is on disk.
void saveCheckpoint(Session &session, const std::string &path, const TrainerState &state);

/// Checks everything before it changes the session's states. Throws SHARDRT_BAD_WEIGHTS that names
/// missing, extra, misshapen or damaged tensors.
TrainerState loadCheckpoint(Session &session, const std::string &path);

} // namespace shardrt
