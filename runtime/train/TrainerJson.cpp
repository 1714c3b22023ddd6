#include "runtime/train/TrainerJson.h"
#include "runtime/core/Error.h"
#include "runtime/core/JsonNode.h"
#include "runtime/core/Sha256.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

using namespace shardrt;

static const int64_t format = 1;

static std::string hex(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

/// Covers everything that a resumed run depends on.
static std::string hashOf(const TrainerState &state, const std::string &headerHash) {
  std::string text = cat(format, ' ', state.step, ' ', state.sequences, ' ', state.tokens, ' ',
                         state.seed, ' ', state.dataFingerprint, ' ', headerHash);
  return sha256Hex(text.data(), text.size());
}

std::string shardrt::trainerJson(const Bundle &bundle, const TrainerState &state,
                                 const std::string &headerHash) {
  nlohmann::ordered_json json = {{"format", format},
                                 {"step", state.step},
                                 {"tokens", state.tokens},
                                 {"data",
                                  {{"sequences", state.sequences},
                                   {"seed", state.seed},
                                   {"fingerprint", hex(state.dataFingerprint)}}},
                                 {"model", bundle.manifest.model},
                                 {"producer", bundle.manifest.producer},
                                 {"mesh", nlohmann::json::object()},
                                 {"header_sha256", headerHash},
                                 {"sha256", hashOf(state, headerHash)}};
  for (const MeshAxis &axis : bundle.manifest.mesh.axes)
    json["mesh"][axis.name] = axis.size;
  if (bundle.manifest.training)
    json["optimizer"] = bundle.manifest.training->optimizer;
  return json.dump(2) + "\n";
}

TrainerState shardrt::readTrainerJson(std::string_view text, const std::string &file,
                                      const std::string &headerHash) {
  JsonDocument document(text, file, SHARDRT_BAD_WEIGHTS);
  JsonNode root = document.root();
  if (int64_t found = root.get("format").integer(INT64_MIN); found != format)
    root.get("format").fail(cat("format ", found, ", this runtime reads format ", format));
  JsonNode data = root.get("data");
  TrainerState state;
  state.step = root.get("step").integer(0);
  state.tokens = root.get("tokens").integer(0);
  state.sequences = data.get("sequences").integer(0);
  state.seed = static_cast<uint64_t>(data.get("seed").integer(0));
  state.dataFingerprint = std::strtoull(data.get("fingerprint").string().c_str(), nullptr, 16);
  if (root.get("header_sha256").string() != headerHash)
    root.get("header_sha256")
        .fail(cat("belongs to a tensor file with the header ", root.get("header_sha256").string(),
                  ", the one beside it has ", headerHash));
  if (root.get("sha256").string() != hashOf(state, headerHash))
    root.get("sha256").fail("the file is damaged, its hash is another");
  return state;
}
