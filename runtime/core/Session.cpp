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

using namespace shardrt;

static const char gatherEntry[] = "gather"; // of a training bundle
int64_t shardrt::sessionArenaBytes(const Bundle &bundle) {
  return hostArenaBytes(bundle) + Exchange::areaBytes(bundle.ranks());
}

int shardrt::sessionGroups(const Bundle &bundle) {
  return static_cast<int>(bundle.program.groups.size()) + 1;
}

/// The exchange's part of the channel's arena, if that is the right one.
static std::byte *checkedArea(const Bundle &bundle, Channel &channel) {
  if (channel.ranks != bundle.ranks())
    throw Error(SHARDRT_RANK_COUNT,
                cat("the bundle is for ", bundle.ranks(), " ranks, the job has ", channel.ranks));
  if (channel.arenaBytes < sessionArenaBytes(bundle))
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat("the channel's arena has ", channel.arenaBytes, " bytes, the bundle needs ",
                    sessionArenaBytes(bundle)));
  return channel.arena() + hostArenaBytes(bundle);
}

Session::Session(const Bundle &bundle, Progress &progress, const SessionOptions &options)
    : bundle(bundle), progress(progress),
      messages(progress, checkedArea(bundle, progress.channel())),
      pool(std::max(1, options.threads),
           options.pin ? options.localRank * std::max(1, options.threads) : -1),
      backend(bundle.program.target == Target::Cuda
                  ? createCudaBackend(bundle, progress, messages, options)
                  : createHostBackend(bundle, progress, pool)),
      current(&bundle.program.entries.front()) {
  load(options.weights);
  describeInputs();
  for (const Entry &entry : bundle.program.entries)
    runners.push_back(makeRunner(entry));
  if (!bundle.program.init.empty())
    backend->prepare(bundle.program.init, "init")->run();
  refreshParameters();
  if (options.poison)
    for (Runner &runner : runners) {
      runner.poison = std::make_unique<Poison>(bundle.program, *runner.entry);
      runner.executable->setPoison(runner.poison.get());
    }
  if (options.trace) {
    trace = std::make_unique<Trace>();
    for (Runner &runner : runners)
      runner.executable->setTrace(trace.get());
    progress.setTrace(trace.get());
  }
}

Session::~Session() {
  progress.setTrace(nullptr);
  backend->finish();
}

void Session::load(const std::string &weights) {
  const Program &program = bundle.program;
  for (const Buffer &buffer : program.buffers) // an arena that was used before is not zero
    if (buffer.kind == BufferKind::State)
      memory().zero(buffer.offset, buffer.bytes);
  for (const Constant &constant : program.constants)
    if (constant.bytes)
      memory().write(offsetOf(constant.buffer), bundle.constants->data() + constant.offset,
                     constant.bytes);
  for (const AxisIndex &index : program.axisIndices) {
    int64_t value = bundle.manifest.mesh.indexAlong(rank(), index.axes);
    memory().write(offsetOf(index.buffer), &value, sizeof(value));
  }
  auto isParameter = [](const State &state) { return state.role == StateRole::Parameter; };
  if (program.parameters.empty() &&
      std::none_of(program.states.begin(), program.states.end(), isParameter))
    return;
  WeightFiles files = weights.empty() ? WeightFiles::ofBundle(bundle.files) : WeightFiles(weights);
  loadParameters(program, bundle.manifest.mesh, rank(), files, pool, memory());
  loadStates(program, bundle.manifest.mesh, rank(), files, memory());
}

/// The output that takes an input's place after a run, or null.
static const Value *replacementOf(const Entry &entry, const Value &input) {
  for (const Value &output : entry.outputs)
    if (output.alias == input.name)
      return &output;
  return nullptr;
}

Session::Form::Form(const Value &value, const Mesh &mesh, int rank)
    : value(&value), part(slicesOf(mesh, rank, value.shape, value.sharding),
                          rowMajorStrides(value.shape), dtypeSize(value.dtype)),
      bytes(localBytes(value)) {}

/// The input of that name, which has the value's shape as one of its forms then.
Session::Input &Session::describe(const Value &value) {
  auto input = std::find_if(inputs.begin(), inputs.end(),
                            [&](const Input &known) { return known.name() == value.name; });
  if (input == inputs.end())
    input = inputs.emplace(inputs.end());
  if (std::none_of(input->forms.begin(), input->forms.end(),
                   [&](const Form &form) { return form.value->shape == value.shape; }))
    input->forms.emplace_back(value, bundle.manifest.mesh, rank());
  return *input;
}

void Session::describeInputs() {
  const std::vector<Entry> &entries = bundle.program.entries;
  for (const Entry &entry : entries)
    for (const Value &value : entry.inputs) {
      Input &input = describe(value);
      const Value *replacement = replacementOf(entry, value);
      input.hasValue |= replacement != nullptr;
      // Of a buffer that is no state, other entries may use the same part of the arena for other
      // things.
      bool isState = bundle.program.buffers[value.buffer].kind == BufferKind::State;
      input.resident |= replacement && (isState || entries.size() == 1) &&
                        offsetOf(replacement->buffer) == offsetOf(value.buffer);
    }
  for (Input &input : inputs) {
    int64_t bytes = 0;
    for (const Form &form : input.forms)
      bytes = std::max(bytes, form.bytes);
    if (input.resident)
      memory().zero(offsetOf(input.now().value->buffer), bytes);
    else
      input.staged = memory().allocateBlock(bytes);
  }
}

Session::Runner Session::makeRunner(const Entry &entry) {
  Runner runner{&entry, {}, nullptr, nullptr};
  for (const Value &value : entry.inputs) {
    const Value *replacement = replacementOf(entry, value);
    Runner::Binding binding{inputIndex(value.name), 0, value.buffer,
                            replacement ? replacement->buffer : -1, &value};
    while (inputs[binding.input].forms[binding.form].value->shape != value.shape)
      ++binding.form;
    runner.bindings.push_back(binding);
  }
  runner.executable = backend->prepare(entry.commands, entry.name.c_str());
  return runner;
}

size_t Session::inputIndex(const std::string &name) const {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].name() == name)
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
  Input &input = inputs[index];
  auto form = std::find_if(input.forms.begin(), input.forms.end(), [&](const Form &known) {
    return known.value->dtype == dtype && known.value->shape == shape;
  });
  if (form == input.forms.end()) {
    const Value &value = *input.forms.front().value;
    std::string wanted = input.forms.size() == 1
                             ? cat("is ", dtypeName(value.dtype), " ", shapeString(value.shape))
                             : cat("fits no instance: ", bundle.program.listInstances());
    throw Error(SHARDRT_BAD_INPUT, cat("input \"", name, "\" ", wanted, ", given ",
                                       dtypeName(dtype), " ", shapeString(shape)));
  }
  input.form = form - input.forms.begin();
  setInput(index, data);
}

void Session::setInput(size_t index, const void *data) {
  Input &input = inputs[index];
  const Form &form = input.now();
  const std::byte *whole = static_cast<const std::byte *>(data);
  if (input.resident)
    memory().access(offsetOf(form.value->buffer), form.bytes, Memory::Write,
                    [&](std::byte *local) { form.part.toLocal(whole, local); });
  else
    form.part.toLocal(whole, input.staged.get());
  if (form.value->capacity)
    std::memcpy(&input.length, data, sizeof(input.length));
  input.hasValue = true;
}

const Entry &Session::chooseEntry() const {
  const std::vector<Entry> &entries = bundle.program.entries;
  if (!bundle.program.hasInstances())
    return entries.front();
  for (const Runner &runner : runners)
    if (std::all_of(runner.bindings.begin(), runner.bindings.end(),
                    [&](const Runner::Binding &binding) {
                      const Input &input = inputs[binding.input];
                      return input.hasValue && input.form == binding.form;
                    }))
      return *runner.entry;
  std::string given;
  for (const Input &input : inputs)
    if (input.forms.size() > 1)
      given += cat(given.empty() ? "" : ", ", input.name(), " ",
                   input.hasValue ? shapeString(input.now().value->shape) : "not set");
  throw Error(SHARDRT_BAD_INPUT, cat("no instance takes the inputs as they are (", given,
                                     "): ", bundle.program.listInstances()));
}

void Session::run(const std::string &name) {
  const Entry *entry = name.empty() ? &chooseEntry() : bundle.program.findEntry(name);
  if (!entry)
    throw Error(SHARDRT_INVALID_ARGUMENT, cat("the bundle has no entry point \"", name, "\""));
  run(*entry);
}

/// That it has a value, in the shape that the entry takes; and of a cache that there is room.
void Session::checkInput(const Entry &entry, const Runner::Binding &binding) const {
  const Input &input = inputs[binding.input];
  if (!input.hasValue)
    throw Error(SHARDRT_BAD_INPUT, cat("input \"", input.name(), "\" was not set"));
  if (input.form != binding.form)
    throw Error(SHARDRT_BAD_INPUT,
                cat("input \"", input.name(), "\" is ", shapeString(input.now().value->shape),
                    ", entry point \"", entry.name, "\" takes ",
                    shapeString(input.forms[binding.form].value->shape)));
  const Value &value = *binding.value;
  if (value.capacity && (input.length < 0 || input.length > value.capacity - value.step))
    throw Error(SHARDRT_BAD_INPUT,
                cat("the cache \"", value.name, "\" has room for ", value.capacity,
                    " entries, entry point \"", entry.name, "\" would append ", value.step,
                    " at position ", input.length));
}

void Session::run(const Entry &entry) {
  Runner &runner = runners[&entry - bundle.program.entries.data()];
  for (const Runner::Binding &binding : runner.bindings)
    checkInput(entry, binding);
  for (const Runner::Binding &binding : runner.bindings)
    if (const Input &input = inputs[binding.input]; !input.resident && input.now().bytes)
      memory().startWrite(offsetOf(binding.buffer), input.staged.get(), input.now().bytes);
  current = &entry;
  if (trace)
    trace->nextRun();
  int64_t begin = trace ? nowNs() : 0;
  runner.executable->run();
  if (trace)
    trace->add({entry.name.c_str(), Trace::Entries, begin, nowNs(), {}});
  for (const Runner::Binding &binding : runner.bindings)
    inputs[binding.input].length += binding.value->step;
  for (const Runner::Binding &binding : runner.bindings)
    if (Input &input = inputs[binding.input];
        binding.replacement >= 0 && !input.resident && input.now().bytes)
      memory().read(offsetOf(binding.replacement), input.staged.get(), input.now().bytes);
}

void Session::readLocal(const Value &value, void *dst) const {
  memory().read(offsetOf(value.buffer), dst, localBytes(value));
}

const std::byte *Session::localData(const Value &value) {
  if (std::byte *arena = memory().hostAddress())
    return arena + offsetOf(value.buffer);
  std::vector<std::byte> &copy = copies[value.buffer];
  copy.resize(localBytes(value));
  readLocal(value, copy.data());
  return copy.data();
}

void Session::refreshParameters() {
  if (bundle.program.isTraining() && bundle.program.findEntry(gatherEntry))
    run(gatherEntry);
}

void Session::gatherOutput(const Value &output, void *data) {
  int64_t local = localBytes(output);
  if (isReplicated(output.sharding)) {
    if (rank() == 0)
      readLocal(output, data);
    return;
  }
  std::vector<std::byte> parts(rank() == 0 ? local * bundle.ranks() : 0);
  if (memory().hostAddress()) {
    Collective call;
    call.kind = CollectiveKind::Gather;
    call.dtype = SHARDRT_UI8;
    call.src = localData(output);
    call.dst = parts.data();
    call.count = local;
    progress.run(call);
  } else { // other ranks cannot reach the arena: piece by piece
    std::vector<int64_t> taken(parts.empty() ? 0 : bundle.ranks());
    messages.collect(localData(output), local,
                     [&](int from, const std::byte *piece, int64_t bytes) {
                       std::memcpy(parts.data() + from * local + taken[from], piece, bytes);
                       taken[from] += bytes;
                     });
  }
  for (int from = 0; from < bundle.ranks() && rank() == 0; ++from)
    copyToGlobal(slicesOf(bundle.manifest.mesh, from, output.shape, output.sharding),
                 rowMajorStrides(output.shape), dtypeSize(output.dtype),
                 parts.data() + from * local, static_cast<std::byte *>(data));
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
