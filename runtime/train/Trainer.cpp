// Micro-batch m of step n takes the sequences (n·accumulation + m)·B … + B - 1 of an endless stream
// that goes through all windows of the data once an epoch, each epoch in another order.
#include "runtime/train/Trainer.h"
#include "runtime/core/BucketRuns.h"
#include "runtime/core/Convert.h"
#include "runtime/core/Error.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace shardrt;

static const char positionsName[] = "position_ids", maskName[] = "attention_mask";

static const Entry *wanted(const Bundle &bundle, const char *name, const std::string &why) {
  if (const Entry *entry = bundle.program.findEntry(name))
    return entry;
  throw Error(SHARDRT_INVALID_ARGUMENT,
              cat(why, " needs the entry point \"", name, "\", which the bundle does not have"));
}

TrainingEntries shardrt::chooseEntries(const Bundle &bundle, const TrainerOptions &options) {
  if (!bundle.manifest.training)
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat(bundle.files.path(), ": holds no training program, manifest.json has no "
                                         "\"training\""));
  TrainingEntries entries;
  entries.accumulation =
      options.accumulation ? options.accumulation : bundle.manifest.training->accumulation;
  const Entry *step = bundle.program.findEntry("step");
  bool hasPieces = bundle.program.findEntry("forward_backward") != nullptr;
  // Gradients can be looked at before the optimizer spreads what is wrong with them.
  if (step && entries.accumulation == 1 && !(options.checkNan && hasPieces)) {
    entries.whole = step;
    return entries;
  }
  std::string why = cat("accumulation over ", entries.accumulation, " micro-batches");
  entries.forwardBackward = wanted(bundle, "forward_backward", why);
  entries.finish = wanted(bundle, "finish_grad_sync", why);
  entries.optimize = wanted(bundle, "optimizer_step", why);
  entries.zero = wanted(bundle, "zero_grad", why);
  return entries;
}

Trainer::Trainer(Session &session, const TokenFile &data, const TrainerOptions &options)
    : session(session), training(*session.bundle.manifest.training), data(data), options(options),
      entries(chooseEntries(session.bundle, options)) {
  state.seed = options.seed;
  state.dataFingerprint = data.fingerprint();
  addInputs();
  prepareCounts();
}

static bool isBatch(const Value &value, const Training &training) {
  return value.shape == Shape{training.sequences, training.length} &&
         (value.dtype == SHARDRT_I64 || value.dtype == SHARDRT_I32);
}

/// The same row for every sequence: positions 0, 1, … or ones.
template <typename T> static std::vector<T> rows(const Training &training, bool positions) {
  std::vector<T> values(training.sequences * training.length, 1);
  for (size_t i = 0; positions && i < values.size(); ++i)
    values[i] = static_cast<T>(static_cast<int64_t>(i) % training.length);
  return values;
}

[[noreturn]] static void refuse(const Value &value, const std::string &what) {
  throw Error(SHARDRT_BAD_BUNDLE, cat("input \"", value.name, "\", ", dtypeName(value.dtype), " ",
                                      shapeString(value.shape), ", ", what));
}

bool Trainer::addScalar(const Value &value, size_t index) {
  if (!optimizerScalar(training, value.name, 1))
    return false;
  if (value.dtype != SHARDRT_F32 || !value.shape.empty())
    refuse(value, "should be a single f32");
  scalars.push_back({index, &value.name});
  return true;
}

void Trainer::addInput(const Value &value) {
  size_t index = session.inputIndex(value.name);
  if (addScalar(value, index))
    return;
  bool isLabels = value.name == training.labels, isWide = value.dtype == SHARDRT_I64;
  if (!isLabels && std::find(training.inputs.begin(), training.inputs.end(), value.name) ==
                       training.inputs.end())
    refuse(value, "is neither of the batch nor a number that the trainer knows");
  if (!isBatch(value, training))
    refuse(value, cat("should be i64 or i32 [", training.sequences, ", ", training.length, "]"));
  if (value.name == positionsName || value.name == maskName) {
    bool isPositions = value.name == positionsName;
    isWide ? session.setInput(index, rows<int64_t>(training, isPositions).data())
           : session.setInput(index, rows<int32_t>(training, isPositions).data());
    return;
  }
  BatchInput &target = isLabels ? labels : tokens;
  if (target.isFound && target.input != index)
    refuse(value, "is a second input for tokens");
  if ((tokens.isFound || labels.isFound) && tokenType != value.dtype)
    refuse(value, "has another type than the other input of the batch");
  tokenType = value.dtype;
  target = {index, true,
            std::vector<std::byte>(training.sequences * training.length * dtypeSize(tokenType))};
}

void Trainer::addInputs() {
  for (const Entry *entry : {entries.whole, entries.forwardBackward, entries.optimize})
    if (entry)
      for (const Value &value : entry->inputs)
        addInput(value);
  if (!tokens.isFound || !labels.isFound)
    throw Error(SHARDRT_BAD_BUNDLE, cat("the training program has no input for ",
                                        tokens.isFound ? "labels" : "tokens"));
}

template <typename T> void Trainer::fill() {
  T *in = reinterpret_cast<T *>(tokens.data.data()),
    *out = reinterpret_cast<T *>(labels.data.data());
  for (int64_t i = 0; i < training.sequences; ++i, ++state.sequences) {
    int64_t epoch = state.sequences / data.windows(), index = state.sequences % data.windows();
    data.read(shuffled(state.seed, epoch, data.windows(), index), in + i * training.length,
              out + i * training.length);
  }
}

void Trainer::nextBatch() {
  try {
    tokenType == SHARDRT_I64 ? fill<int64_t>() : fill<int32_t>();
  } catch (const Error &error) { // on all ranks alike: one of them says so
    if (session.rank() == 0)
      throw;
    throw AbortedError(error.what());
  }
  session.setInput(tokens.input, tokens.data.data());
  session.setInput(labels.input, labels.data.data());
}

void Trainer::setScalars(int64_t step) {
  for (const Scalar &scalar : scalars) {
    float value =
        static_cast<float>(*optimizerScalar(training, *scalar.name, step, options.learningRate));
    session.setInput(scalar.input, &value);
  }
}

void Trainer::addResults(const Entry &entry, StepReport &report) {
  for (const Value &output : entry.outputs) {
    if (output.dtype != SHARDRT_F32 || !output.shape.empty())
      continue;
    float value;
    session.readLocal(output, &value);
    if (output.name == "loss")
      lossSum += value;
    else if (output.name == "tokens")
      tokenSum += value;
    else if (output.name == "grad_norm") {
      report.gradNorm = value;
      report.hasGradNorm = true;
    }
  }
}

StepReport Trainer::step() {
  int64_t begin = nowNs();
  StepReport report = {};
  report.step = state.step + 1;
  report.learningRate = learningRateAt(
      training.schedule, options.learningRate.value_or(training.learningRate), report.step);
  report.tokens = entries.accumulation * training.sequences * training.length;
  isUnchanged = !counts.empty();
  lossSum = tokenSum = 0;
  setScalars(report.step);
  for (int64_t i = 0; i < entries.accumulation; ++i) {
    const Entry &entry = entries.whole ? *entries.whole : *entries.forwardBackward;
    nextBatch();
    session.run(entry);
    addResults(entry, report);
    checkCounts(entry, report.step);
  }
  report.loss = lossSum / tokenSum;
  if (!entries.whole) {
    if (options.checkNan)
      checkGradients(report.step); // whose share of the gradients is bad
    session.run(*entries.finish);
    if (options.checkNan)
      checkGradients(report.step);
    session.run(*entries.optimize);
    addResults(*entries.optimize, report);
    session.run(*entries.zero);
  }
  isUnchanged = isUnchanged && !std::isfinite(report.gradNorm);
  if (options.checkNan || !counts.empty()) // a sum of what is finite may not be
    checkReport(report);
  state.step = report.step;
  state.tokens += report.tokens;
  report.ms = static_cast<double>(nowNs() - begin) * 1e-6;
  return report;
}

/// The first tensor of the states of this role in which a number is not finite; empty if none.
std::string Trainer::findNonFinite(StateRole role) const {
  const Program &program = session.bundle.program;
  for (const State &state : program.states) {
    if (state.role != role || state.bucket < 0)
      continue;
    const Bucket &bucket = program.buckets[state.bucket];
    int64_t held = heldLength(bucket, state.shard);
    int64_t first = firstElement(session.bundle.manifest.mesh, session.rank(), bucket, state.shard);
    const Buffer &buffer = program.buffers[state.buffer];
    int64_t at = -1;
    session.memory().access(
        buffer.offset, held * dtypeSize(buffer.dtype), Memory::Read,
        [&](const std::byte *data) { at = shardrt::findNonFinite(buffer.dtype, data, held); });
    if (at < 0)
      continue;
    for (const BucketItem &item : bucket.items)
      if (first + at >= item.offset &&
          first + at < item.offset + *checkedCount(localShape(item.shape, item.sharding)))
        return item.tensor;
    return cat(bucket.name, " (padding)");
  }
  return "";
}

static std::vector<Value>::const_iterator findCounts(const Entry &entry) {
  return std::find_if(entry.outputs.begin(), entry.outputs.end(),
                      [](const Value &value) { return value.name == nonFiniteOutput; });
}

/// What the program counted in this rank's own gradients, before anybody else had a part of them.
void Trainer::checkCounts(const Entry &entry, int64_t step) {
  auto output = findCounts(entry);
  if (output == entry.outputs.end())
    return;
  const Buffer &buffer = session.bundle.program.buffers[output->buffer];
  session.memory().read(buffer.offset, counts.data(), // readLocal allocates
                        static_cast<int64_t>(counts.size() * sizeof(float)));
  std::string problem;
  int64_t others = 0;
  for (size_t i = 0; i < training.checkedGradients.size(); ++i) {
    int64_t count = static_cast<int64_t>(counts[i * countStride]);
    if (count > 0 && problem.empty())
      problem = cat("step ", step, ": the gradient of \"", training.checkedGradients[i], "\" has ",
                    count, " numbers that are not finite on rank ", session.rank());
    else
      others += count > 0;
  }
  if (others > 0)
    problem += cat(", those of ", others, " other parameters have some too");
  session.exchange().agree(SHARDRT_NOT_FINITE, problem);
}

/// Room for the counts, if the program makes them.
void Trainer::prepareCounts() {
  int64_t wanted = static_cast<int64_t>(training.checkedGradients.size()) * countStride;
  const Entry &entry = entries.whole ? *entries.whole : *entries.forwardBackward;
  auto output = findCounts(entry);
  if (output == entry.outputs.end()) {
    if (wanted > 0)
      throw Error(SHARDRT_BAD_BUNDLE,
                  cat(training.checkedGradients.size(), " gradients are checked, but entry \"",
                      entry.name, "\" has no output \"", nonFiniteOutput, "\""));
    return;
  }
  Shape local = localShape(output->shape, output->sharding);
  if (output->dtype != SHARDRT_F32 || checkedCount(local) != wanted)
    throw Error(SHARDRT_BAD_BUNDLE,
                cat("output \"", nonFiniteOutput, "\" is ", dtypeName(output->dtype), " ",
                    shapeString(local), " on a rank, for ", training.checkedGradients.size(),
                    " checked gradients f32 [", wanted, "] is wanted"));
  counts.resize(wanted);
}

void Trainer::checkGradients(int64_t step) {
  std::string tensor = findNonFinite(StateRole::Gradient);
  session.exchange().agree(SHARDRT_NOT_FINITE,
                           tensor.empty() ? ""
                                          : cat("step ", step, ": the gradient of \"", tensor,
                                                "\" has a number that is not finite on rank ",
                                                session.rank()));
}

void Trainer::checkReport(const StepReport &report) {
  if (std::isfinite(report.loss) && (!report.hasGradNorm || std::isfinite(report.gradNorm)))
    return; // on all ranks alike
  std::string what = std::isfinite(report.loss) ? cat("the gradient norm is ", report.gradNorm)
                                                : cat("the loss is ", report.loss);
  std::string tensor = findNonFinite(StateRole::Gradient), kind = "gradient";
  if (tensor.empty()) {
    tensor = findNonFinite(StateRole::Parameter);
    kind = "parameter";
  }
  std::string where;
  if (!tensor.empty())
    where = cat("; the ", kind, " \"", tensor, "\" has a number that is not finite on rank ",
                session.rank());
  // Ranks that know where speak first; if none does, rank 0 says what it knows.
  session.exchange().agree(SHARDRT_NOT_FINITE,
                           where.empty() ? "" : cat("step ", report.step, ": ", what, where));
  session.exchange().agree(SHARDRT_NOT_FINITE,
                           session.rank() == 0 ? cat("step ", report.step, ": ", what) : "");
}
