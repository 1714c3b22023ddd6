// trainer.json of a checkpoint.
#pragma once

#include "runtime/core/Bundle.h"
#include "runtime/train/Checkpoint.h"

namespace shardrt {

/// `headerHash`: of the tensor file that it belongs to.
std::string trainerJson(const Bundle &bundle, const TrainerState &state,
                        const std::string &headerHash);
/// Throws SHARDRT_BAD_WEIGHTS if the text is damaged or belongs to another tensor file.
TrainerState readTrainerJson(std::string_view text, const std::string &file,
                             const std::string &headerHash);

} // namespace shardrt
