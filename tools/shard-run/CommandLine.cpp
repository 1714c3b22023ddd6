// Options are --name VALUE or --name=VALUE; a table says what each does.
#include "tools/shard-run/CommandLine.h"
#include "runtime/core/Error.h"

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>

using namespace shardrt;

std::string shardrt::helpText() {
  return R"(shard-run: run a compiled model on the ranks of a mesh

usage: shard-run [-n RANKS] BUNDLE --input NAME=FILE.npy ... [--output [NAME=]FILE.npy ...] [options]

  shard-run -n 4 llama.bundle --input input_ids=ids.npy --output logits.npy
  mpirun -n 4 shard-run llama.bundle --input input_ids=ids.npy --output logits.npy
  shard-run -n 4 llama.train --data tokens.bin --steps 200 --log loss.jsonl

data
  -i, --input NAME=FILE    value of a model input, a .npy file of the whole tensor (bf16 as uint16 or raw 2-byte items).
                           Inputs that an output replaces (a KV cache) may be left out; they start as zeros
  -o, --output [NAME=]FILE write a model output as .npy; without NAME if the model has only one
      --weights PATH       weights from a .safetensors file, a *.index.json, or a directory with one of these,
                           instead of the bundle's own
      --entry NAME         entry point to run (default: the first; of a model for several shapes the one that the inputs fit)

training
      --data FILE          a flat file of token numbers
      --token-dtype TYPE   u16 or u32 (default: what FILE.json says, {"dtype": "u16"})
      --steps N            train N steps
      --seed N             order of the data (default 0)
      --learning-rate X    instead of the bundle's; its schedule still applies
      --accumulation N     micro-batches a step (default: the bundle's)
      --save DIR           write a checkpoint at the end; the last good one stays until the new one is whole
      --save-every N       and after every N-th step
      --load DIR           start from a checkpoint, of any mesh; without --data it is only loaded (and saved)
      --log FILE           one line of JSON a step: step, loss, grad_norm, learning_rate, tokens_per_second, ms
      --stats FILE         memory and speed as JSON, when done
      --check-nan          stop when a loss or gradient is not finite, and name the parameter and rank
      --check-allocations  stop with an error if a step allocated memory

ranks
  -n, --ranks N            number of ranks; must be the bundle's, which is the default
      --in-process         ranks are threads of one process
      --channel KIND       auto, shm, mpi, inprocess or tcp (default auto: shm; inprocess if there is one; under mpirun mpi, if its library was built;
                           tcp for GPUs of several machines: MASTER_ADDR and MASTER_PORT, or Slurm's variables, say where ranks meet)
      --threads N          compute threads of each rank (default: processors / ranks on this machine)
      --pin                bind each thread to one processor
      --isa LEVEL          use the code for this level or architecture, for example x86-64-v3, sm_90a (default: the best that runs here)
      --timeout SECONDS    give up when a rank waits longer than this for another one (default 300)
      --link-gbps N        pretend that ranks are connected by a network of N gigabits a second

GPUs
      --backend KIND       cpu or cuda; must be what the bundle was compiled for, which is the default
      --no-cuda-graph      hand over every call of every run, instead of replaying a graph (so does SHARDRT_CUDA_GRAPH=0)
      --nccl-ub KIND       let NCCL use the arena in place: register (ncclCommRegister), or window (symmetric windows)
      --share-device       test mode: more ranks than GPUs
  Ranks take the machine's GPUs in order. libcuda.so.1, libcublasLt.so and libnccl.so.2 are found as the system finds libraries (LD_LIBRARY_PATH), or
  where SHARDRT_LIBCUDA, SHARDRT_CUBLASLT and SHARDRT_NCCL say.

measuring
      --runs N             run N times; outputs that replace inputs carry over
      --bench N            one run to warm up, then N timed ones; prints median, least and most, and memory
      --trace FILE         write when each rank executed which command, for Perfetto or chrome://tracing
      --poison             test mode: fill memory with ones as soon as no later command needs it; results stay the same
      --json               print results as JSON

      --version            print the version
  -h, --help               print this text

Started by mpirun, torchrun or srun, shard-run joins the ranks of that job instead of starting its own.

exit codes
  0 done                  1 internal error         2 wrong option            3 damaged or unreadable bundle
  4 wrong model input     5 missing or wrong weight  6 file not readable or writable  7 no kernels for this processor or GPU
  8 wrong number of ranks 9 a rank died            10 a rank waited too long  11 out of memory
  12 a loss or gradient is not finite               13 no GPU, driver or library of CUDA   14 a GPU or NCCL failed
)";
}

namespace {
struct Option {
  bool takesValue;
  std::function<void(RunOptions &, const std::string &)> apply;
};
} // namespace

[[noreturn]] static void refuse(const std::string &message) {
  throw Error(SHARDRT_INVALID_ARGUMENT, message + " (see shard-run --help)");
}

static double parseNumber(const std::string &option, const std::string &text, double min) {
  char *end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || !(value >= min) || value > 1e9)
    refuse(cat(option, ": \"", text, "\" is not a number of at least ", min));
  return value;
}

static int parseCount(const std::string &option, const std::string &text) {
  double value = parseNumber(option, text, 1);
  if (value != static_cast<int>(value))
    refuse(cat(option, ": \"", text, "\" is not a whole number"));
  return static_cast<int>(value);
}

static int64_t parseInteger(const std::string &option, const std::string &text, int64_t min) {
  char *end = nullptr;
  errno = 0;
  long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end || errno || value < min)
    refuse(cat(option, ": \"", text, "\" is not a whole number of at least ", min));
  return value;
}

static std::pair<std::string, std::string> splitName(const std::string &text) {
  size_t at = text.find('=');
  return at == std::string::npos ? std::make_pair(std::string(), text)
                                 : std::make_pair(text.substr(0, at), text.substr(at + 1));
}

static void addInput(RunOptions &options, const std::string &text) {
  auto [name, file] = splitName(text);
  if (name.empty() || file.empty())
    refuse(cat("--input: \"", text, "\" is not NAME=FILE"));
  options.inputs.push_back({name, file});
}

static void setChannel(RunOptions &options, const std::string &text) {
  if (text != "auto" && text != "shm" && text != "mpi" && text != "inprocess" && text != "tcp")
    refuse(cat("--channel: \"", text, "\" is not one of auto, shm, mpi, inprocess, tcp"));
  options.channel = text;
}

static void setBackend(RunOptions &options, const std::string &text) {
  if (text != "cpu" && text != "cuda")
    refuse(cat("--backend: \"", text, "\" is not one of cpu, cuda"));
  options.backend = text;
}

static void setNcclUb(RunOptions &options, const std::string &text) {
  if (text != "register" && text != "window")
    refuse(cat("--nccl-ub: \"", text, "\" is not one of register, window"));
  options.ncclUb = text;
}

static const std::map<std::string, Option> &optionTable() {
  static const std::map<std::string, Option> table = {
      {"--input", {true, addInput}},
      {"--output",
       {true, [](RunOptions &o, const std::string &v) { o.outputs.push_back(splitName(v)); }}},
      {"--weights", {true, [](RunOptions &o, const std::string &v) { o.weights = v; }}},
      {"--entry", {true, [](RunOptions &o, const std::string &v) { o.entry = v; }}},
      {"--ranks",
       {true, [](RunOptions &o, const std::string &v) { o.ranks = parseCount("--ranks", v); }}},
      {"--in-process",
       {false, [](RunOptions &o, const std::string &) { o.channel = "inprocess"; }}},
      {"--channel", {true, setChannel}},
      {"--threads",
       {true, [](RunOptions &o, const std::string &v) { o.threads = parseCount("--threads", v); }}},
      {"--pin", {false, [](RunOptions &o, const std::string &) { o.pin = true; }}},
      {"--isa", {true, [](RunOptions &o, const std::string &v) { o.isa = v; }}},
      {"--timeout",
       {true, [](RunOptions &o,
                 const std::string &v) { o.timeout = parseNumber("--timeout", v, 0.001); }}},
      {"--backend", {true, setBackend}},
      {"--no-cuda-graph",
       {false, [](RunOptions &o, const std::string &) { o.noCudaGraph = true; }}},
      {"--nccl-ub", {true, setNcclUb}},
      {"--share-device", {false, [](RunOptions &o, const std::string &) { o.shareDevice = true; }}},
      {"--link-gbps",
       {true, [](RunOptions &o,
                 const std::string &v) { o.linkGbps = parseNumber("--link-gbps", v, 1e-6); }}},
      {"--runs",
       {true, [](RunOptions &o, const std::string &v) { o.runs = parseCount("--runs", v); }}},
      {"--bench",
       {true, [](RunOptions &o, const std::string &v) { o.bench = parseCount("--bench", v); }}},
      {"--trace", {true, [](RunOptions &o, const std::string &v) { o.trace = v; }}},
      {"--data", {true, [](RunOptions &o, const std::string &v) { o.data = v; }}},
      {"--token-dtype", {true, [](RunOptions &o, const std::string &v) { o.tokenDtype = v; }}},
      {"--steps",
       {true,
        [](RunOptions &o, const std::string &v) { o.steps = parseInteger("--steps", v, 1); }}},
      {"--seed",
       {true, [](RunOptions &o, const std::string &v) { o.seed = parseInteger("--seed", v, 0); }}},
      {"--learning-rate",
       {true, [](RunOptions &o,
                 const std::string &v) { o.learningRate = parseNumber("--learning-rate", v, 0); }}},
      {"--accumulation",
       {true, [](RunOptions &o,
                 const std::string &v) { o.accumulation = parseInteger("--accumulation", v, 1); }}},
      {"--save", {true, [](RunOptions &o, const std::string &v) { o.save = v; }}},
      {"--save-every",
       {true, [](RunOptions &o,
                 const std::string &v) { o.saveEvery = parseInteger("--save-every", v, 1); }}},
      {"--load", {true, [](RunOptions &o, const std::string &v) { o.load = v; }}},
      {"--log", {true, [](RunOptions &o, const std::string &v) { o.log = v; }}},
      {"--stats", {true, [](RunOptions &o, const std::string &v) { o.stats = v; }}},
      {"--check-nan", {false, [](RunOptions &o, const std::string &) { o.checkNan = true; }}},
      {"--check-allocations",
       {false, [](RunOptions &o, const std::string &) { o.checkAllocations = true; }}},
      {"--poison", {false, [](RunOptions &o, const std::string &) { o.poison = true; }}},
      {"--json", {false, [](RunOptions &o, const std::string &) { o.json = true; }}},
      {"--version",
       {false, [](RunOptions &o, const std::string &) { o.action = RunOptions::Version; }}},
      {"--help", {false, [](RunOptions &o, const std::string &) { o.action = RunOptions::Help; }}}};
  return table;
}

static std::string longName(const std::string &option) {
  static const std::map<std::string, std::string> shorts = {
      {"-n", "--ranks"}, {"-i", "--input"}, {"-o", "--output"}, {"-h", "--help"}};
  auto it = shorts.find(option);
  return it == shorts.end() ? option : it->second;
}

RunOptions shardrt::parseCommandLine(int argc, char **argv) {
  RunOptions options;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word.size() < 2 || word[0] != '-') {
      if (!options.bundle.empty())
        refuse(cat("two bundles given, \"", options.bundle, "\" and \"", word, "\""));
      options.bundle = word;
      continue;
    }
    size_t equals = word.compare(0, 2, "--") == 0 ? word.find('=') : std::string::npos;
    std::string name = longName(word.substr(0, equals));
    auto it = optionTable().find(name);
    if (it == optionTable().end())
      refuse(cat("unknown option \"", word, "\""));
    if (!it->second.takesValue && equals != std::string::npos)
      refuse(cat(name, " takes no value"));
    if (it->second.takesValue && equals == std::string::npos && i + 1 >= argc)
      refuse(cat(name, " needs a value"));
    std::string value = !it->second.takesValue        ? ""
                        : equals != std::string::npos ? word.substr(equals + 1)
                                                      : argv[++i];
    it->second.apply(options, value);
    options.given.push_back(name);
  }
  if (options.action == RunOptions::Run && options.bundle.empty())
    refuse("no bundle given");
  return options;
}

void shardrt::checkBackend(const RunOptions &options, const std::string &target) {
  if (!options.backend.empty() && options.backend != target)
    refuse(cat("--backend ", options.backend, ": ", options.bundle, " was compiled for ", target));
  static const std::set<std::string> forCuda = {"--no-cuda-graph", "--nccl-ub", "--share-device"};
  static const std::set<std::string> forCpu = {"--threads", "--pin", "--link-gbps",
                                               "--check-allocations"}; // drivers allocate
  bool isCuda = target == "cuda";
  if (options.channel == "tcp" && !isCuda)
    refuse(cat("--channel tcp: is for GPUs, ", options.bundle, " was compiled for ", target));
  for (const std::string &name : options.given)
    if ((isCuda ? forCpu : forCuda).count(name))
      refuse(cat(name, ": is for ", isCuda ? "processors" : "GPUs", ", ", options.bundle,
                 " was compiled for ", target));
}

void shardrt::checkOptions(const RunOptions &options, bool isTraining) {
  static const std::set<std::string> forTraining = {
      "--data",         "--token-dtype", "--steps", "--seed",      "--learning-rate",
      "--accumulation", "--log",         "--stats", "--check-nan", "--check-allocations",
      "--save",         "--save-every",  "--load"};
  static const std::set<std::string> forInference = {"--input", "--output", "--entry", "--runs",
                                                     "--bench"};
  for (const std::string &name : options.given)
    if ((isTraining ? forInference : forTraining).count(name))
      refuse(cat(name, ": ", options.bundle,
                 isTraining ? " holds a training program, which takes --data and --steps"
                            : " holds no training program"));
  if (!isTraining)
    return;
  if (options.data.empty() && options.load.empty())
    refuse("a training program needs --data, or a checkpoint to --load");
  if (!options.data.empty() && options.steps == 0)
    refuse("--data needs --steps");
  if (options.saveEvery && options.save.empty())
    refuse("--save-every needs --save");
  static const std::set<std::string> forSteps = {
      "--token-dtype", "--steps",      "--seed",      "--learning-rate",    "--accumulation",
      "--log",         "--save-every", "--check-nan", "--check-allocations"};
  for (const std::string &name : options.given)
    if (options.data.empty() && forSteps.count(name))
      refuse(cat(name, " needs --data"));
}
