// Loading fills constants, axis indices and parameters of the arena, which is zero before. Inputs
// are kept outside the arena and copied in before each run, because the planner may reuse their
// storage once they were read; only an input that an output replaces in place (a KV cache) stays in
// the arena. After loading, setting inputs by index and running allocate nothing.
#include "runtime/core/Session.h"
#include "runtime/core/Error.h"
#include "runtime/core/ParameterLoader.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sys/mman.h>

using namespace shardrt;

static const char gatherEntry[] = "gather"; // of a training bundle
static const int64_t pageBytes = 4096;

static int64_t roundUp(int64_t bytes) { return ceilDiv(bytes, pageBytes) * pageBytes; }

static int64_t programBytes(const Bundle &bundle) {
  return ceilDiv(bundle.program.arenaBytes, 64) * 64;
}

int64_t shardrt::sessionArenaBytes(const Bundle &bundle) {
  return 2 * pageBytes + roundUp(programBytes(bundle)) + Exchange::areaBytes(bundle.ranks());
}

int shardrt::sessionGroups(const Bundle &bundle) {
  return static_cast<int>(bundle.program.groups.size()) + 1;
}

/// The channel's arena, if it is the right one.
static std::byte *checkedArena(const Bundle &bundle, Channel &channel) {
  if (channel.ranks != bundle.ranks())
    throw Error(SHARDRT_RANK_COUNT,
                cat("the bundle is for ", bundle.ranks(), " ranks, the job has ", channel.ranks));
  if (channel.arenaBytes < sessionArenaBytes(bundle))
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("the channel's arena has ", channel.arenaBytes, " bytes, the bundle needs ",
                    sessionArenaBytes(bundle)));
  return channel.arena();
}

/// The program's arena ends where the page behind it begins, so that the first byte beyond it is a
/// fault; in front there may be a little room.
Session::Guards::Guards(std::byte *arena, int64_t bytes)
    : front(arena), begin(arena + pageBytes + roundUp(bytes) - bytes), back(begin + bytes) {
  for (std::byte *page : {front, back})
    if (mprotect(page, pageBytes, PROT_NONE) != 0)
      throw Error(SHARDRT_INTERNAL, cat("cannot protect the ends of the arena: ", systemError()));
}

Session::Guards::~Guards() {
  for (std::byte *page : {front, back}) // the channel may serve another session
    mprotect(page, pageBytes, PROT_READ | PROT_WRITE);
}

static std::vector<int> createGroups(const Bundle &bundle, Channel &channel) {
  std::vector<int> groups;
  for (const SubAxes &axes : bundle.program.groups)
    groups.push_back(channel.createGroup(bundle.manifest.mesh.group(channel.rank, axes)));
  return groups;
}

static std::unique_ptr<KernelLibrary> openKernels(const Bundle &bundle) {
  const std::vector<std::string> &names = bundle.program.kernels;
  return names.empty() ? nullptr
                       : std::make_unique<KernelLibrary>(bundle.pathOf(bundle.kernels.file), names);
}

Session::Session(const Bundle &bundle, Progress &progress, const SessionOptions &options)
    : bundle(bundle), progress(progress),
      guards(checkedArena(bundle, progress.channel()), programBytes(bundle)), base(guards.base()),
      messages(progress, base + programBytes(bundle) + pageBytes),
      pool(std::max(1, options.threads),
           options.pin ? options.localRank * std::max(1, options.threads) : -1),
      kernels(openKernels(bundle)), scratch(bundle.program, pool.threads()),
      machine{bundle.program, base, kernels.get(), groups, scratch, progress, pool},
      current(&bundle.program.entries.front()) {
  load(options.weights);
  describeInputs();
  groups = createGroups(bundle, progress.channel());
  for (const Entry &entry : bundle.program.entries)
    runners.push_back(makeRunner(entry));
  if (!bundle.program.init.empty())
    Executor(machine, bundle.program.init, "init").run();
  refreshParameters();
  if (options.poison)
    for (Runner &runner : runners) {
      runner.poison = std::make_unique<Poison>(bundle.program, *runner.entry);
      runner.executor->setPoison(runner.poison.get());
    }
  if (options.trace) {
    trace = std::make_unique<Trace>();
    for (Runner &runner : runners)
      runner.executor->setTrace(trace.get());
    progress.setTrace(trace.get());
  }
}

Session::~Session() { progress.setTrace(nullptr); }

void Session::load(const std::string &weights) {
  const Program &program = bundle.program;
  for (const Buffer &buffer : program.buffers) // an arena that was used before is not zero
    if (buffer.kind == BufferKind::State)
      std::memset(base + buffer.offset, 0, buffer.bytes);
  for (const Constant &constant : program.constants)
    if (constant.bytes)
      std::memcpy(address(constant.buffer), bundle.constants->data() + constant.offset,
                  constant.bytes);
  for (const AxisIndex &index : program.axisIndices) {
    int64_t value = bundle.manifest.mesh.indexAlong(rank(), index.axes);
    std::memcpy(address(index.buffer), &value, sizeof(value));
  }
  auto isParameter = [](const State &state) { return state.role == StateRole::Parameter; };
  if (program.parameters.empty() &&
      std::none_of(program.states.begin(), program.states.end(), isParameter))
    return;
  WeightFiles files(weights.empty() ? bundle.pathOf("weights") : weights);
  loadParameters(program, bundle.manifest.mesh, rank(), files, pool, base);
  loadStates(program, bundle.manifest.mesh, rank(), files, base);
}

/// The output that takes an input's place after a run, or null.
static const Value *replacementOf(const Entry &entry, const Value &input) {
  for (const Value &output : entry.outputs)
    if (output.alias == input.name)
      return &output;
  return nullptr;
}

Session::Input::Input(const Value &value, const Mesh &mesh, int rank)
    : value(&value), part(slicesOf(mesh, rank, value.shape, value.sharding),
                          rowMajorStrides(value.shape), dtypeSize(value.dtype)) {}

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
      Input input(value, bundle.manifest.mesh, rank());
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

Session::Runner Session::makeRunner(const Entry &entry) {
  Runner runner{&entry, {}, nullptr, nullptr};
  for (const Value &value : entry.inputs) {
    const Value *replacement = replacementOf(entry, value);
    runner.bindings.push_back(
        {inputIndex(value.name), value.buffer, replacement ? replacement->buffer : -1});
  }
  runner.executor = std::make_unique<Executor>(machine, entry.commands, entry.name.c_str());
  // A call that must stay behind started ones takes a place in the queue as well.
  if (size_t calls = runner.executor->outstanding())
    progress.reserve(calls + 1);
  return runner;
}

size_t Session::inputIndex(const std::string &name) const {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].value->name == name)
      return i;
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

void Session::setInput(const std::string &name, DType dtype, const Shape &shape, const void *data) {
  size_t index = inputIndex(name);
  const Value &value = *inputs[index].value;
  if (dtype != value.dtype || shape != value.shape)
    throw Error(SHARDRT_BAD_INPUT, cat("input \"", name, "\" is ", dtypeName(value.dtype), " ",
                                       shapeString(value.shape), ", given ", dtypeName(dtype), " ",
                                       shapeString(shape)));
  setInput(index, data);
}

void Session::setInput(size_t index, const void *data) {
  Input &input = inputs[index];
  input.part.toLocal(static_cast<const std::byte *>(data),
                     input.resident ? address(input.value->buffer) : input.staged.data());
  input.hasValue = true;
}

void Session::run(const std::string &name) {
  const Entry *entry = bundle.program.findEntry(name);
  if (!entry)
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("the bundle has no entry point \"", name, "\""));
  run(*entry);
}

void Session::run(const Entry &entry) {
  Runner &runner = runners[&entry - bundle.program.entries.data()];
  for (const Runner::Binding &binding : runner.bindings)
    if (!inputs[binding.input].hasValue)
      throw Error(SHARDRT_BAD_INPUT,
                  cat("input \"", inputs[binding.input].value->name, "\" was not set"));
  for (const Runner::Binding &binding : runner.bindings)
    if (const Input &input = inputs[binding.input]; !input.resident && !input.staged.empty())
      std::memcpy(address(binding.buffer), input.staged.data(), input.staged.size());
  current = &entry;
  if (trace)
    trace->nextRun();
  int64_t begin = trace ? nowNs() : 0;
  runner.executor->run();
  if (trace)
    trace->add({entry.name.c_str(), Trace::Entries, begin, nowNs(), {}});
  for (const Runner::Binding &binding : runner.bindings)
    if (Input &input = inputs[binding.input]; binding.replacement >= 0 && !input.staged.empty())
      std::memcpy(input.staged.data(), address(binding.replacement), input.staged.size());
}

int64_t Session::arenaTouchedBytes() const {
  int64_t bytes = programBytes(bundle), pages = ceilDiv(bytes, pageBytes);
  std::vector<unsigned char> resident(pages);
  std::byte *begin = base + bytes - pages * pageBytes; // the end of the arena is that of a page
  if (mincore(begin, pages * pageBytes, resident.data()) != 0)
    return -1;
  return pageBytes * std::count_if(resident.begin(), resident.end(),
                                   [](unsigned char page) { return page & 1; });
}

void Session::refreshParameters() {
  if (bundle.program.isTraining() && bundle.program.findEntry(gatherEntry))
    run(gatherEntry);
}

void Session::gatherOutput(const Value &output, void *data) {
  int64_t size = dtypeSize(output.dtype),
          local = *checkedCount(localShape(output.shape, output.sharding));
  if (isReplicated(output.sharding)) {
    if (rank() == 0)
      std::memcpy(data, localData(output), local * size);
    return;
  }
  std::vector<std::byte> parts(rank() == 0 ? local * size * bundle.ranks() : 0);
  Collective call;
  call.kind = CollectiveKind::Gather;
  call.dtype = output.dtype;
  call.src = localData(output);
  call.dst = parts.data();
  call.count = local;
  progress.run(call);
  for (int from = 0; from < bundle.ranks() && rank() == 0; ++from)
    copyToGlobal(slicesOf(bundle.manifest.mesh, from, output.shape, output.sharding),
                 rowMajorStrides(output.shape), size, parts.data() + from * local * size,
                 static_cast<std::byte *>(data));
}

void Session::writeTrace(const std::string &path) {
  if (!trace)
    throw Error(SHARDRT_INVALID_ARGUMENT, "the session was created without tracing");
  std::vector<std::string> texts = messages.gatherTexts(trace->json(rank()));
  if (rank() != 0)
    return;
  std::ofstream file(path);
  file << "{\"traceEvents\":[\n";
  for (size_t i = 0; i < texts.size(); ++i)
    file << (i ? ",\n" : "") << texts[i];
  file << "\n],\"displayTimeUnit\":\"ms\"}\n";
  if (!file.flush())
    throw Error(SHARDRT_IO, cat(path, ": cannot write the trace: ", systemError()));
}
