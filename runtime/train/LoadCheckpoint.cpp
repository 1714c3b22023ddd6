// Nothing of the session changes before names, shapes, types and checksums were found right on all
// ranks. For the checksums every rank reads what it owns, so that each element is read once.
#include "runtime/core/Convert.h"
#include "runtime/core/Error.h"
#include "runtime/core/Safetensors.h"
#include "runtime/core/Sha256.h"
#include "runtime/core/TensorAccess.h"
#include "runtime/train/CheckpointDirectory.h"
#include "runtime/train/TensorChecksum.h"
#include "runtime/train/TrainerJson.h"

#include <cstring>

using namespace shardrt;

static const size_t maxListed = 10;

namespace {
/// A checkpoint's files, found to fit the program.
class Opened {
public:
  Opened(const std::string &folder, const Program &program)
      : file(folder + "/" + checkpointFile),
        entries(readSafetensorsHeader(file.text(), file.path())),
        metadata(readSafetensorsMetadata(file.text(), file.path())) {
    MappedFile trainer(folder + "/" + trainerFile);
    size_t header = safetensorsHeaderBytes(file.text(), file.path());
    state = readTrainerJson(trainer.text(), trainer.path(), sha256Hex(file.data(), header));
    for (GlobalTensor &tensor : globalTensors(program))
      if (isSaved(tensor.role))
        tensors.push_back(std::move(tensor));
    check();
  }

  const TensorEntry &entryOf(const GlobalTensor &tensor) const { return entries.at(tensor.name); }
  const std::byte *dataOf(const GlobalTensor &tensor) const {
    return file.data() + entryOf(tensor).begin;
  }
  void release(const GlobalTensor &tensor) const {
    file.release(entryOf(tensor).begin, entryOf(tensor).end);
  }
  std::string checksumOf(const GlobalTensor &tensor) const {
    auto found = metadata.find(checksumKey(tensor.name));
    return found == metadata.end() ? "missing" : found->second;
  }

  MappedFile file;
  std::map<std::string, TensorEntry> entries;
  std::map<std::string, std::string> metadata;
  std::vector<GlobalTensor> tensors;
  TrainerState state;

private:
  void check() {
    std::vector<std::string> problems;
    auto extra = entries;
    for (const GlobalTensor &tensor : tensors) {
      auto found = entries.find(tensor.name);
      extra.erase(tensor.name);
      if (std::string problem = misfit(tensor, found == entries.end() ? nullptr : &found->second);
          !problem.empty())
        problems.push_back(cat("\"", tensor.name, "\" ", problem));
    }
    for (const auto &[name, entry] : extra)
      problems.push_back(cat("\"", name, "\" is not a tensor of the program"));
    if (problems.empty())
      return;
    std::string message = cat(file.path(), ": ", problems.size(), " tensors do not fit:");
    for (size_t i = 0; i < problems.size() && i < maxListed; ++i)
      message += "\n  " + problems[i];
    if (problems.size() > maxListed)
      message += cat("\n  and ", problems.size() - maxListed, " more");
    throw Error(SHARDRT_BAD_WEIGHTS, message);
  }

  static std::string misfit(const GlobalTensor &tensor, const TensorEntry *entry) {
    if (!entry)
      return "is missing";
    if (entry->shape != tensor.shape)
      return cat("has shape ", shapeString(entry->shape), ", the program wants ",
                 shapeString(tensor.shape));
    if (entry->dtype != tensor.dtype &&
        !(entry->dtype && isFloat(*entry->dtype) && isFloat(tensor.dtype)))
      return cat("has dtype ", entry->dtypeText, ", which does not convert to ",
                 dtypeName(tensor.dtype));
    return "";
  }
};
} // namespace

static std::vector<uint64_t> ownChecksums(const Session &session, const Opened &opened) {
  const Mesh &mesh = session.bundle.manifest.mesh;
  std::vector<uint64_t> sums;
  for (const GlobalTensor &tensor : opened.tensors) {
    int64_t size = dtypeSize(*opened.entryOf(tensor).dtype);
    uint64_t sum = 0;
    for (const TensorPart &part : tensor.parts)
      if (owns(mesh, session.rank(), part))
        for (const BucketRun &run :
             runsOf(session.bundle.program, mesh, session.rank(), part, tensor.shape))
          sum +=
              checksumShare(opened.dataOf(tensor) + run.tensor * size, size, run.count, run.tensor);
    sums.push_back(sum);
    opened.release(tensor);
  }
  return sums;
}

static void fillStates(Session &session, const Opened &opened) {
  const Program &program = session.bundle.program;
  for (const State &state : program.states) // padding; gradients are of the past
    session.memory().zero(session.offsetOf(state.buffer), program.buffers[state.buffer].bytes);
  for (const GlobalTensor &tensor : opened.tensors) {
    DType from = *opened.entryOf(tensor).dtype;
    for (const TensorPart &part : tensor.parts) {
      DType to = program.buffers[part.state->buffer].dtype;
      accessRuns(session, tensor, part, Memory::Update, [&](const BucketRun &run, std::byte *own) {
        convert(from, opened.dataOf(tensor) + run.tensor * dtypeSize(from), to, own, run.count);
      });
    }
    opened.release(tensor);
  }
}

TrainerState shardrt::loadCheckpoint(Session &session, const std::string &path) {
  Exchange &exchange = session.exchange();
  std::unique_ptr<Opened> opened;
  exchange.together([&] {
    opened = std::make_unique<Opened>(CheckpointDirectory(path).find(), session.bundle.program);
  });
  std::vector<uint64_t> sums = ownChecksums(session, *opened);
  exchange.sum(sums);
  std::string damage;
  for (size_t i = 0; i < sums.size() && damage.empty(); ++i)
    if (const GlobalTensor &tensor = opened->tensors[i];
        checksumText(sums[i]) != opened->checksumOf(tensor))
      damage =
          cat(opened->file.path(), ": tensor \"", tensor.name, "\" is damaged: its checksum is ",
              checksumText(sums[i]), ", the header says ", opened->checksumOf(tensor));
  exchange.agree(SHARDRT_BAD_WEIGHTS, damage);
  fillStates(session, *opened);
  session.refreshParameters();
  return opened->state;
}
