// Rank 0 makes the file in its full size, all ranks write what they own, rank 0 adds the header,
// whose length is known from the start, since checksums are of fixed length.
#include "runtime/core/Convert.h"
#include "runtime/core/Error.h"
#include "runtime/core/Safetensors.h"
#include "runtime/core/Sha256.h"
#include "runtime/core/TensorAccess.h"
#include "runtime/train/CheckpointDirectory.h"
#include "runtime/train/TensorChecksum.h"
#include "runtime/train/TrainerJson.h"

#include <cerrno>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

using namespace shardrt;

static const int64_t pieceElements = 64 << 10; // converted at once

namespace {
/// A file that is written at offsets.
class OutputFile {
public:
  OutputFile(const std::string &path, int flags)
      : path(path), fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666)) {
    if (fd < 0)
      fail("open");
  }
  ~OutputFile() {
    if (fd >= 0)
      close(fd);
  }
  OutputFile(const OutputFile &) = delete;
  OutputFile &operator=(const OutputFile &) = delete;

  /// Takes the room now where the file system can, so that a full disk is known before the work.
  void reserve(int64_t bytes) {
    if (fallocate(fd, 0, 0, bytes) != 0 && errno != EOPNOTSUPP && errno != EINTR)
      fail(cat("reserve ", bytes, " bytes").c_str());
    if (ftruncate(fd, bytes) != 0)
      fail("resize");
  }
  void write(const void *data, int64_t bytes, int64_t offset) {
    const char *from = static_cast<const char *>(data);
    while (bytes > 0) {
      ssize_t written = pwrite(fd, from, static_cast<size_t>(bytes), offset);
      if (written < 0 && errno == EINTR)
        continue;
      if (written <= 0)
        fail("write");
      from += written;
      bytes -= written;
      offset += written;
    }
  }
  void sync() {
    if (fsync(fd) != 0)
      fail("write to disk");
  }

private:
  [[noreturn]] void fail(const char *what) const {
    throw Error(SHARDRT_IO, cat(path, ": cannot ", what, ": ", systemError()));
  }
  std::string path;
  int fd;
};

/// The tensors, where each begins behind the header, and the header.
struct FilePlan {
  std::vector<GlobalTensor> tensors;
  std::vector<int64_t> begins;
  int64_t dataBytes = 0, headerBytes = 0; // with the length field

  explicit FilePlan(const Program &program) {
    for (GlobalTensor &tensor : globalTensors(program))
      if (isSaved(tensor.role)) {
        begins.push_back(dataBytes);
        dataBytes += *checkedBytes(tensor.shape, tensor.dtype);
        tensors.push_back(std::move(tensor));
      }
    headerBytes = static_cast<int64_t>(header(std::vector<uint64_t>(tensors.size())).size());
  }

  std::string header(const std::vector<uint64_t> &checksums) const {
    nlohmann::json json = {{"__metadata__", {{"format", "pt"}}}};
    for (size_t i = 0; i < tensors.size(); ++i) {
      const GlobalTensor &tensor = tensors[i];
      int64_t bytes = *checkedBytes(tensor.shape, tensor.dtype);
      json[tensor.name] = {{"dtype", safetensorsDTypeName(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {begins[i], begins[i] + bytes}}};
      json["__metadata__"][checksumKey(tensor.name)] = checksumText(checksums[i]);
    }
    std::string text = json.dump();
    text.append((64 - (text.size() + 8) % 64) % 64, ' ');
    uint64_t length = text.size();
    return std::string(reinterpret_cast<const char *>(&length), 8) + text;
  }
};
} // namespace

/// Writes what this rank owns of a tensor; returns its share of the checksum.
static uint64_t writeTensor(Session &session, const GlobalTensor &tensor, int64_t begin,
                            OutputFile &file) {
  const Program &program = session.bundle.program;
  const Mesh &mesh = session.bundle.manifest.mesh;
  int64_t size = dtypeSize(tensor.dtype);
  std::vector<std::byte> converted;
  uint64_t checksum = 0;
  for (const TensorPart &part : tensor.parts) {
    if (!owns(mesh, session.rank(), part))
      continue;
    DType own = program.buffers[part.state->buffer].dtype;
    auto writeRun = [&](const BucketRun &run, const std::byte *data) {
      for (int64_t at = 0; at < run.count; at += pieceElements) {
        int64_t count = std::min(pieceElements, run.count - at);
        const std::byte *from = data + at * dtypeSize(own);
        if (own != tensor.dtype) {
          converted.resize(count * size);
          convert(own, from, tensor.dtype, converted.data(), count);
          from = converted.data();
        }
        file.write(from, count * size, begin + (run.tensor + at) * size);
        checksum += checksumShare(from, size, count, run.tensor + at);
      }
    };
    accessRuns(session, tensor, part, Memory::Read, writeRun);
  }
  return checksum;
}

static void writeText(const std::string &path, const std::string &text) {
  OutputFile file(path, O_CREAT | O_TRUNC);
  file.write(text.data(), static_cast<int64_t>(text.size()), 0);
  file.sync();
}

static void save(Session &session, const CheckpointDirectory &directory,
                 const TrainerState &state) {
  Exchange &exchange = session.exchange();
  bool isRoot = session.rank() == 0;
  FilePlan plan(session.bundle.program);
  std::string folder = directory.partial(), tensors = folder + "/" + checkpointFile;
  exchange.together([&] {
    if (!isRoot)
      return;
    directory.begin();
    OutputFile(tensors, O_CREAT | O_EXCL).reserve(plan.headerBytes + plan.dataBytes);
  });
  std::vector<uint64_t> checksums(plan.tensors.size());
  exchange.together([&] {
    OutputFile file(tensors, 0);
    for (size_t i = 0; i < plan.tensors.size(); ++i)
      checksums[i] = writeTensor(session, plan.tensors[i], plan.headerBytes + plan.begins[i], file);
    file.sync();
  });
  exchange.sum(checksums);
  exchange.together([&] {
    if (!isRoot)
      return;
    std::string header = plan.header(checksums);
    OutputFile file(tensors, 0);
    file.write(header.data(), plan.headerBytes, 0);
    file.sync();
    std::string hash = sha256Hex(header.data(), header.size());
    writeText(folder + "/" + trainerFile, trainerJson(session.bundle, state, hash));
    directory.commit();
  });
}

void shardrt::saveCheckpoint(Session &session, const std::string &path, const TrainerState &state) {
  if (!session.bundle.program.isTraining())
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat(session.bundle.files.path(), ": the program has no states to save"));
  CheckpointDirectory directory(path);
  try {
    save(session, directory, state);
  } catch (...) {
    if (session.rank() == 0)
      directory.discard();
    throw;
  }
}
