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

static const char gatherEntry[] = "gather"; // of a training bundle
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
    Executor(program, program.init, progress.channel().arena(), kernels.get(), groups, progress,
             pool)
        .run();
  for (const Entry &entry : program.entries)
    runners.push_back(makeRunner(entry, groups));
  current = &program.entries.front();
  refreshParameters();
  if (options.trace) {
    trace = std::make_unique<Trace>();
    for (Runner &runner : runners)
      runner.executor->setTrace(trace.get());
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
  auto isParameter = [](const State &state) { return state.role == StateRole::Parameter; };
  if (program.parameters.empty() &&
      std::none_of(program.states.begin(), program.states.end(), isParameter))
    return;
  WeightFiles files(weights.empty() ? bundle.pathOf("weights") : weights);
  loadParameters(program, bundle.manifest.mesh, rank, files, pool, progress.channel().arena());
  loadStates(program, bundle.manifest.mesh, rank, files, progress.channel().arena());
}

/// The output that takes an input's place after a run, or null.
static const Value *replacementOf(const Entry &entry, const Value &input) {
  for (const Value &output : entry.outputs)
    if (output.alias == input.name)
      return &output;
  return nullptr;
}

void Session::describeInputs() {
  const std::vector<Entry> &entries = bundle.program.entries;
  for (const Entry &entry : entries)
    for (const Value &value : entry.inputs) {
      const Value *replacement = replacementOf(entry, value);
      auto known = std::find_if(inputs.begin(), inputs.end(), [&](const Input &input) {
        return input.value->name == value.name;
      });
      if (known != inputs.end()) {
        known->hasValue |= replacement != nullptr;
        continue;
      }
      Input input;
      input.value = &value;
      input.hasValue = replacement != nullptr;
      // Other entries may use the same part of the arena for other things.
      input.resident = replacement && entries.size() == 1 &&
                       address(replacement->buffer) == address(value.buffer);
      int64_t bytes = *checkedBytes(localShape(value.shape, value.sharding), value.dtype);
      if (input.resident)
        std::memset(address(value.buffer), 0, bytes);
      else
        input.staged.resize(bytes);
      inputs.push_back(std::move(input));
    }
}

Session::Runner Session::makeRunner(const Entry &entry, const std::vector<int> &groups) {
  Runner runner{&entry, {}, nullptr};
  for (const Value &value : entry.inputs) {
    const Value *replacement = replacementOf(entry, value);
    runner.bindings.push_back({static_cast<size_t>(&input(value.name) - inputs.data()),
                               value.buffer, replacement ? replacement->buffer : -1});
  }
  runner.executor =
      std::make_unique<Executor>(bundle.program, entry.commands, progress.channel().arena(),
                                 kernels.get(), groups, progress, pool);
  return runner;
}

Session::Input &Session::input(const std::string &name) {
  for (Input &input : inputs)
    if (input.value->name == name)
      return input;
  throw Error(SHARDRT_BAD_INPUT, cat("the model has no input \"", name, "\""));
}

const Value &Session::output(const std::string &name) const {
  for (const Value &output : current->outputs)
    if (output.name == name)
      return output;
  for (const Entry &entry : bundle.program.entries)
    for (const Value &output : entry.outputs)
      if (output.name == name)
        throw Error(SHARDRT_INVALID_ARGUMENT,
                    cat("output \"", name, "\" belongs to entry point \"", entry.name, "\", \"",
                        current->name, "\" was the last to run"));
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
  target.hasValue = true;
}

void Session::run(const std::string &name) {
  const Entry *entry = bundle.program.findEntry(name);
  if (!entry)
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("the bundle has no entry point \"", name, "\""));
  Runner &runner = runners[entry - bundle.program.entries.data()];
  for (const Runner::Binding &binding : runner.bindings)
    if (!inputs[binding.input].hasValue)
      throw Error(SHARDRT_BAD_INPUT,
                  cat("input \"", inputs[binding.input].value->name, "\" was not set"));
  for (const Runner::Binding &binding : runner.bindings)
    if (const Input &input = inputs[binding.input]; !input.resident && !input.staged.empty())
      std::memcpy(address(binding.buffer), input.staged.data(), input.staged.size());
  current = entry;
  runner.executor->run();
  for (const Runner::Binding &binding : runner.bindings)
    if (Input &input = inputs[binding.input]; binding.replacement >= 0 && !input.staged.empty())
      std::memcpy(input.staged.data(), address(binding.replacement), input.staged.size());
}

void Session::refreshParameters() {
  if (bundle.program.isTraining() && bundle.program.findEntry(gatherEntry))
    run(gatherEntry);
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
