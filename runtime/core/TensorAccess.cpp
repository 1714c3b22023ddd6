#include "runtime/core/TensorAccess.h"
#include "runtime/core/Convert.h"
#include "runtime/core/Error.h"

#include <algorithm>
#include <cstring>

using namespace shardrt;

void shardrt::setTensor(Session &session, const GlobalTensor &tensor, DType dtype,
                        const Shape &shape, const void *data) {
  const Program &program = session.bundle.program;
  bool converts = isFloat(dtype) && isFloat(tensor.dtype);
  if (shape != tensor.shape || (dtype != tensor.dtype && !converts))
    throw Error(SHARDRT_BAD_INPUT, cat("tensor \"", tensor.name, "\" is ", dtypeName(tensor.dtype),
                                       " ", shapeString(tensor.shape), ", given ", dtypeName(dtype),
                                       " ", shapeString(shape)));
  const std::byte *source = static_cast<const std::byte *>(data);
  for (const TensorPart &part : tensor.parts) {
    DType to = program.buffers[part.state->buffer].dtype;
    accessRuns(session, tensor, part, Memory::Update, [&](const BucketRun &run, std::byte *own) {
      convert(dtype, source + run.tensor * dtypeSize(dtype), to, own, run.count);
    });
  }
}

void shardrt::accessRuns(Session &session, const GlobalTensor &tensor, const TensorPart &part,
                         Memory::Access mode, const RunBody &body) {
  std::vector<BucketRun> runs = runsOf(session.bundle.program, session.bundle.manifest.mesh,
                                       session.rank(), part, tensor.shape);
  if (runs.empty())
    return;
  const Buffer &buffer = session.bundle.program.buffers[part.state->buffer];
  int64_t size = dtypeSize(buffer.dtype), begin = runs.front().state, end = begin;
  for (const BucketRun &run : runs) {
    begin = std::min(begin, run.state);
    end = std::max(end, run.state + run.count);
  }
  session.memory().access(buffer.offset + begin * size, (end - begin) * size, mode,
                          [&](std::byte *data) {
                            for (const BucketRun &run : runs)
                              body(run, data + (run.state - begin) * size);
                          });
}

/// The runs that a rank owns, part by part.
static std::vector<std::pair<const TensorPart *, BucketRun>>
ownedRuns(const Session &session, int64_t rank, const GlobalTensor &tensor) {
  const Mesh &mesh = session.bundle.manifest.mesh;
  std::vector<std::pair<const TensorPart *, BucketRun>> result;
  for (const TensorPart &part : tensor.parts)
    if (owns(mesh, rank, part))
      for (const BucketRun &run : runsOf(session.bundle.program, mesh, rank, part, tensor.shape))
        result.push_back({&part, run});
  return result;
}

namespace {
/// Puts a rank's bytes, which come in pieces, to their places in the whole tensor.
class Scatter {
public:
  Scatter(const Session &session, int rank, const GlobalTensor &tensor)
      : runs(ownedRuns(session, rank, tensor)), size(dtypeSize(tensor.dtype)) {}

  void take(const std::byte *data, int64_t bytes, std::byte *whole) {
    while (bytes > 0) {
      const BucketRun &run = runs[next].second;
      int64_t count = std::min(bytes, run.count * size - done);
      std::memcpy(whole + run.tensor * size + done, data, count);
      data += count;
      bytes -= count;
      done += count;
      if (done == run.count * size) {
        ++next;
        done = 0;
      }
    }
  }

private:
  std::vector<std::pair<const TensorPart *, BucketRun>> runs;
  int64_t size;
  size_t next = 0;
  int64_t done = 0; // bytes of the next run
};
} // namespace

void shardrt::gatherTensor(Session &session, const GlobalTensor &tensor, void *data) {
  const Program &program = session.bundle.program;
  int64_t size = dtypeSize(tensor.dtype);
  std::vector<std::byte> mine;
  const Mesh &mesh = session.bundle.manifest.mesh;
  for (const TensorPart &part : tensor.parts) {
    if (!owns(mesh, session.rank(), part))
      continue;
    DType from = program.buffers[part.state->buffer].dtype;
    accessRuns(session, tensor, part, Memory::Read,
               [&](const BucketRun &run, const std::byte *own) {
                 size_t at = mine.size();
                 mine.resize(at + run.count * size);
                 convert(from, own, tensor.dtype, mine.data() + at, run.count);
               });
  }
  std::vector<Scatter> ranks;
  for (int rank = 0; session.rank() == 0 && rank < session.bundle.ranks(); ++rank)
    ranks.emplace_back(session, rank, tensor);
  session.exchange().collect(mine.data(), static_cast<int64_t>(mine.size()),
                             [&](int from, const std::byte *piece, int64_t bytes) {
                               ranks[from].take(piece, bytes, static_cast<std::byte *>(data));
                             });
}
