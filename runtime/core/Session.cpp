// Loading fills constants, axis indices and parameters of the arena, which is zero before. Inputs
// are kept outside the arena and copied in before each run, because the planner may reuse their
// storage once they were read; only an input that an output replaces in place (a KV cache) stays in
// the arena.
#include "runtime/core/Session.h"
#include "runtime/core/Error.h"
#include "runtime/core/ParameterLoader.h"

#include <algorithm>
#include <cstring>
#include <fstream>

using namespace shardrt;

static const int64_t chunkBytes = 64 << 10;

static int64_t programBytes(const Bundle &bundle) {
  return ceilDiv(bundle.program.arenaBytes, 64) * 64;
}

int64_t shardrt::sessionArenaBytes(const Bundle &bundle) {
  return programBytes(bundle) + chunkBytes + 64 + 8 * int64_t(bundle.ranks());
}

int shardrt::sessionGroups(const Bundle &bundle) {
  return static_cast<int>(bundle.program.groups.size()) + 1;
}

static void checkChannel(const Bundle &bundle, Channel &channel) {
  if (channel.ranks != bundle.ranks())
    throw Error(SHARDRT_RANK_COUNT,
                cat("the bundle is for ", bundle.ranks(), " ranks, the job has ", channel.ranks));
  if (channel.arenaBytes < sessionArenaBytes(bundle))
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("the channel's arena has ", channel.arenaBytes, " bytes, the bundle needs ",
                    sessionArenaBytes(bundle)));
}

Session::Session(const Bundle &bundle, Progress &progress, const SessionOptions &options)
    : bundle(bundle), progress(progress), rank(progress.channel().rank),
      pool(std::max(1, options.threads),
           options.pin ? options.localRank * std::max(1, options.threads) : -1) {
  checkChannel(bundle, progress.channel());
  if (!bundle.program.kernels.empty())
    kernels =
        std::make_unique<KernelLibrary>(bundle.pathOf(bundle.kernels.file), bundle.program.kernels);
  load(options.weights);
  describeInputs();
  const Program &program = bundle.program;
  std::vector<int> groups = createGroups();
  if (!program.init.empty())
    Executor(program, program.init, progress.channel().arena(), kernels.get(), groups, progress, pool)
        .run();
  executor = std::make_unique<Executor>(program, program.commands, progress.channel().arena(),
                                        kernels.get(), groups, progress, pool);
  if (options.trace) {
    trace = std::make_unique<Trace>();
    executor->setTrace(trace.get());
    progress.setTrace(trace.get());
  }
}

Session::~Session() { progress.setTrace(nullptr); }

std::byte *Session::address(int buffer) const {
  return progress.channel().arena() + bundle.program.buffers[buffer].offset;
}

std::vector<int> Session::createGroups() {
  std::vector<int> groups;
  for (const SubAxes &axes : bundle.program.groups)
    groups.push_back(progress.channel().createGroup(bundle.manifest.mesh.group(rank, axes)));
  return groups;
}

void Session::load(const std::string &weights) {
  const Program &program = bundle.program;
  for (const Buffer &buffer : program.buffers) // an arena that was used before is not zero
    if (buffer.kind == BufferKind::State)
      std::memset(progress.channel().arena() + buffer.offset, 0, buffer.bytes);
  for (const Constant &constant : program.constants)
    if (constant.bytes)
      std::memcpy(address(constant.buffer), bundle.constants->data() + constant.offset,
                  constant.bytes);
  for (const AxisIndex &index : program.axisIndices) {
    int64_t value = bundle.manifest.mesh.indexAlong(rank, index.axes);
    std::memcpy(address(index.buffer), &value, sizeof(value));
  }
  if (program.parameters.empty())
    return;
  WeightFiles files(weights.empty() ? bundle.pathOf("weights") : weights);
  loadParameters(program, bundle.manifest.mesh, rank, files, pool, progress.channel().arena());
}

void Session::describeInputs() {
  for (const Value &value : bundle.program.inputs) {
    Input input;
    input.value = &value;
    for (const Value &output : bundle.program.outputs)
      if (output.alias == value.name)
        input.replacement = &output;
    input.resident =
        input.replacement && address(input.replacement->buffer) == address(value.buffer);
    int64_t bytes = *checkedBytes(localShape(value.shape, value.sharding), value.dtype);
    if (input.resident)
      std::memset(address(value.buffer), 0, bytes);
    else
      input.staged.resize(bytes);
    inputs.push_back(std::move(input));
  }
}

Session::Input &Session::input(const std::string &name) {
  for (Input &input : inputs)
    if (input.value->name == name)
      return input;
  throw Error(SHARDRT_BAD_INPUT, cat("the model has no input \"", name, "\""));
}

const Value &Session::output(const std::string &name) const {
  for (const Value &output : bundle.program.outputs)
    if (output.name == name)
      return output;
  throw Error(SHARDRT_INVALID_ARGUMENT, cat("the model has no output \"", name, "\""));
}

const std::byte *Session::localData(const Value &value) const { return address(value.buffer); }

void Session::setInput(const std::string &name, DType dtype, const Shape &shape, const void *data) {
  Input &target = input(name);
  const Value &value = *target.value;
  if (dtype != value.dtype || shape != value.shape)
    throw Error(SHARDRT_BAD_INPUT, cat("input \"", name, "\" is ", dtypeName(value.dtype), " ",
                                       shapeString(value.shape), ", given ", dtypeName(dtype), " ",
                                       shapeString(shape)));
  Slices slices = slicesOf(bundle.manifest.mesh, rank, value.shape, value.sharding);
  copyToLocal(slices, rowMajorStrides(value.shape), dtypeSize(value.dtype),
              static_cast<const std::byte *>(data),
              target.resident ? address(value.buffer) : target.staged.data());
  target.isSet = true;
}

void Session::run(const std::string &entry) {
  const std::vector<std::string> &entries = bundle.manifest.entryPoints;
  if (!entry.empty() && std::find(entries.begin(), entries.end(), entry) == entries.end())
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("the bundle has no entry point \"", entry, "\""));
  for (const Input &input : inputs)
    if (!input.isSet && !input.replacement)
      throw Error(SHARDRT_BAD_INPUT, cat("input \"", input.value->name, "\" was not set"));
  for (const Input &input : inputs)
    if (!input.resident && !input.staged.empty())
      std::memcpy(address(input.value->buffer), input.staged.data(), input.staged.size());
  executor->run();
  for (Input &input : inputs)
    if (input.replacement && !input.staged.empty())
      std::memcpy(input.staged.data(), address(input.replacement->buffer), input.staged.size());
}

void Session::gatherOutput(const Value &output, void *data) {
  int64_t size = dtypeSize(output.dtype),
          local = *checkedCount(localShape(output.shape, output.sharding));
  if (isReplicated(output.sharding)) {
    if (rank == 0)
      std::memcpy(data, localData(output), local * size);
    return;
  }
  std::vector<std::byte> parts(rank == 0 ? local * size * bundle.ranks() : 0);
  Collective call;
  call.kind = CollectiveKind::Gather;
  call.dtype = output.dtype;
  call.src = localData(output);
  call.dst = parts.data();
  call.count = local;
  progress.run(call);
  for (int from = 0; from < bundle.ranks() && rank == 0; ++from)
    copyToGlobal(slicesOf(bundle.manifest.mesh, from, output.shape, output.sharding),
                 rowMajorStrides(output.shape), size, parts.data() + from * local * size,
                 static_cast<std::byte *>(data));
}

void Session::barrier() { progress.run(Collective()); }

std::vector<std::string> Session::gatherTexts(const std::string &text) {
  std::byte *chunk = progress.channel().arena() + programBytes(bundle),
            *lengths = chunk + chunkBytes + 64;
  int ranks = bundle.ranks();
  int64_t length = static_cast<int64_t>(text.size());
  std::memcpy(chunk, &length, sizeof(length));
  Collective call;
  call.kind = CollectiveKind::AllGather;
  call.dtype = SHARDRT_I64;
  call.src = chunk;
  call.dst = lengths;
  call.outer = call.inner = 1;
  call.total = ranks;
  progress.run(call);
  std::vector<int64_t> sizes(ranks);
  std::memcpy(sizes.data(), lengths, ranks * sizeof(int64_t));
  std::vector<std::string> texts(rank == 0 ? ranks : 0);
  std::vector<char> received(rank == 0 ? chunkBytes * ranks : 0);
  call.kind = CollectiveKind::Gather;
  call.dtype = SHARDRT_UI8;
  call.dst = received.data();
  call.count = chunkBytes;
  for (int64_t at = 0, end = *std::max_element(sizes.begin(), sizes.end()); at < end;
       at += chunkBytes) {
    if (at < length)
      std::memcpy(chunk, text.data() + at, std::min(chunkBytes, length - at));
    progress.run(call);
    for (int from = 0; from < ranks && rank == 0; ++from)
      if (at < sizes[from])
        texts[from].append(received.data() + from * chunkBytes,
                           std::min(chunkBytes, sizes[from] - at));
  }
  return texts;
}

void Session::writeTrace(const std::string &path) {
  if (!trace)
    throw Error(SHARDRT_INVALID_ARGUMENT, "the session was created without tracing");
  std::vector<std::string> texts = gatherTexts(trace->json(rank));
  if (rank != 0)
    return;
  std::ofstream file(path);
  file << "{\"traceEvents\":[\n";
  for (size_t i = 0; i < texts.size(); ++i)
    file << (i ? ",\n" : "") << texts[i];
  file << "\n],\"displayTimeUnit\":\"ms\"}\n";
  if (!file.flush())
    throw Error(SHARDRT_IO, cat(path, ": cannot write the trace: ", systemError()));
}
