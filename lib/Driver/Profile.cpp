//===- Profile.cpp - shardc profile: what computing and moving bytes costs ---===//
//
// Of processors, or of GPUs:
//
//   1. A program with one command for each number (ProfileProgram.h) is compiled as any other.
//   2. shard-run runs it on as many ranks as asked for, over the channel asked for, and writes a
//      trace.
//   3. A kernel takes the median over runs and ranks. A collective takes, of each run, the shortest
//      of all ranks' times, which is that of the rank that came last: the others' hold the waiting
//      for it. The median over runs, and a line through the sizes: latency and bandwidth.
//
//===----------------------------------------------------------------------===//

#include "BundleJson.h"
#include "ProfileProgram.h"
#include "ShardRun.h"
#include "shardc/Annotate/Plan.h"
#include "shardc/Bundle/Bundle.h"
#include "shardc/Driver/Driver.h"

#include "mlir/Parser/Parser.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/TargetParser/Host.h"

#include <map>

using namespace mlir;
namespace json = llvm::json;

namespace shardc {
namespace {

class Profiler {
public:
  explicit Profiler(const ProfileOptions &options)
      : options(options), target(options.backend == "cuda" ? Target::Cuda : Target::Cpu) {}
  /// Failures have been said on stderr.
  FailureOr<CostTable> run();

private:
  LogicalResult fail(const llvm::Twine &message) {
    llvm::errs() << "error: " << message << "\n";
    return failure();
  }
  LogicalResult makeMesh();
  std::vector<std::vector<int>> axisGroups() const;
  LogicalResult compile();
  LogicalResult checkCommands();
  LogicalResult measure(const std::string &entry);
  LogicalResult readTrace(const std::string &entry, const std::string &file);
  LogicalResult readFacts(const std::string &file);
  CostTable table() const;

  const ProfileOptions &options;
  Target target;
  Mesh mesh;
  ProfileProgram program;
  MachineFacts facts;
  std::string folder, shardRun;
};

} // namespace

/// As given, or one axis for each prime factor of the number of ranks: their products are the sizes
/// of groups.
LogicalResult Profiler::makeMesh() {
  if (!options.mesh.empty()) {
    Result<Mesh> parsed = parseMesh(options.mesh);
    if (!parsed)
      return fail("--mesh: " + parsed.error);
    mesh = *parsed;
    if (options.ranks && options.ranks != mesh.deviceCount())
      return fail("-n " + llvm::Twine(options.ranks) + ": --mesh " + options.mesh + " has " +
                  llvm::Twine(mesh.deviceCount()) + " ranks");
    return success();
  }
  int64_t rest = std::max<int64_t>(options.ranks, 1);
  for (int64_t factor = 2; rest > 1; ++factor)
    for (; rest % factor == 0; rest /= factor)
      mesh.axes.push_back({"n" + std::to_string(mesh.axes.size()), factor});
  if (mesh.axes.empty())
    mesh.axes.push_back({"n0", 1});
  return success();
}

/// The axes of a given mesh one by one, and all together; else groups of neighbours, of every size.
std::vector<std::vector<int>> Profiler::axisGroups() const {
  std::vector<std::vector<int>> groups;
  std::vector<int> large;
  for (auto [n, axis] : llvm::enumerate(mesh.axes))
    if (axis.size > 1)
      large.push_back(n);
  if (!options.mesh.empty() && large.size() > 1)
    for (int axis : large)
      groups.push_back({axis});
  if (!options.mesh.empty() && !large.empty())
    groups.push_back(large);
  if (options.mesh.empty())
    for (size_t first = large.size(); first-- > 0;)
      groups.push_back({large.begin() + first, large.end()});
  return groups;
}

LogicalResult Profiler::compile() {
  program = makeProfileProgram(mesh, axisGroups(), ProfileSizes::of(target, options.quick), target);
  std::unique_ptr<MLIRContext> context = makeContext();
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(program.text, context.get());
  if (!module)
    return failure();
  BundleOptions bundle;
  bundle.path = folder + "/profile.bundle";
  bundle.model = "profile";
  bundle.schedule.target = target;
  if (target == Target::Cuda)
    bundle.schedule.offload = Offload::Optimizer; // the state of the entry `bus`
  bundle.archs = options.archs.empty() ? std::vector<std::string>{"compute_80"} : options.archs;
  if (target == Target::Cuda)
    if (llvm::Error error = checkCudaOptions(bundle))
      return fail("--arch: " + llvm::toString(std::move(error)));
  return failed(compileToBundle(*module, bundle)) ? failure() : checkCommands();
}

/// Commands are found by their number, so they must be those that were asked for.
LogicalResult Profiler::checkCommands() {
  std::optional<json::Value> value = readBundleJson(folder + "/profile.bundle", "program.json");
  const json::Array *entries = value ? value->getAsObject()->getArray("entries") : nullptr;
  if (!entries)
    return failure();
  for (const json::Value &item : *entries) {
    const json::Object &entry = *item.getAsObject();
    const std::vector<Probe> &probes = program.probes[text(entry, "name")];
    const json::Array &commands = *entry.getArray("commands");
    if (commands.size() != probes.size())
      return fail("entry " + text(entry, "name") + " has " + llvm::Twine(commands.size()) +
                  " commands for " + llvm::Twine(probes.size()) + " measurements");
    for (auto [n, command] : llvm::enumerate(commands))
      if (std::string op = text(*command.getAsObject(), "op"); op != probes[n].op)
        return fail("entry " + text(entry, "name") + ": command " + llvm::Twine(n) + " is " + op +
                    ", expected " + probes[n].op);
  }
  return success();
}

LogicalResult Profiler::measure(const std::string &entry) {
  std::string trace = folder + "/" + entry + ".json",
              report = folder + "/" + entry + "-report.json";
  std::vector<std::string> args;
  bool isMpi = options.channel == "mpi";
  std::string tool = shardRun;
  if (isMpi) {
    auto mpirun = llvm::sys::findProgramByName("mpirun");
    if (!mpirun)
      return fail("--channel mpi: mpirun is not in PATH");
    tool = *mpirun;
    args = {tool, "-n", std::to_string(mesh.deviceCount())};
  }
  args.insert(args.end(), {shardRun, folder + "/profile.bundle", "--entry", entry, "--runs",
                           std::to_string(options.repeats + 1), "--trace", trace, "--json"});
  if (!options.channel.empty())
    args.insert(args.end(), {"--channel", options.channel});
  if (options.threads)
    args.insert(args.end(), {"--threads", std::to_string(options.threads)});
  if (options.linkGigabits > 0)
    args.insert(args.end(), {"--link-gbps", std::to_string(options.linkGigabits)});
  SmallVector<StringRef> argRefs(args.begin(), args.end());
  std::optional<StringRef> redirects[] = {std::nullopt, StringRef(report), std::nullopt};
  std::string message;
  if (int code = llvm::sys::ExecuteAndWait(tool, argRefs, std::nullopt, redirects, 0, 0, &message))
    return fail("measuring " + entry + ": shard-run ended with status " + llvm::Twine(code) + " " +
                message);
  return failed(readTrace(entry, trace)) ? failure() : readFacts(report);
}

static llvm::Expected<json::Value> parseFile(const std::string &path) {
  auto file = llvm::MemoryBuffer::getFile(path);
  if (!file)
    return llvm::errorCodeToError(file.getError());
  return json::parse((*file)->getBuffer());
}

LogicalResult Profiler::readTrace(const std::string &entry, const std::string &path) {
  llvm::Expected<json::Value> value = parseFile(path);
  if (!value)
    return fail(path + ": " + llvm::toString(value.takeError()));
  const json::Array *events =
      value->getAsObject() ? value->getAsObject()->getArray("traceEvents") : value->getAsArray();
  if (!events)
    return fail(path + ": is no trace");
  std::vector<Probe> &probes = program.probes[entry];
  // Of each command the times of all ranks, by run; the first one touches pages.
  std::vector<std::map<int64_t, std::vector<double>>> times(probes.size());
  for (const json::Value &item : *events) {
    const json::Object &event = *item.getAsObject();
    const json::Object *args = event.getObject("args");
    if (event.getString("ph") != "X" || !args || args->getString("entry") != entry)
      continue;
    int64_t command = args->getInteger("command").value_or(-1),
            run = args->getInteger("run").value_or(0);
    if (run > 1 && command >= 0 && command < static_cast<int64_t>(probes.size()))
      times[command][run].push_back(event.getNumber("dur").value_or(0));
  }
  for (auto [probe, runs] : llvm::zip(probes, times)) {
    std::vector<double> values;
    for (auto &[run, ranks] : runs) {
      if (probe.kind == Probe::Collective)
        values.push_back(*llvm::min_element(ranks));
      else
        values.insert(values.end(), ranks.begin(), ranks.end());
    }
    if (values.empty())
      return fail(path + ": command " + llvm::Twine(&probe - probes.data()) + " of " + entry +
                  " was never run");
    probe.micros = std::max(median(values), 1e-3); // the trace's resolution
  }
  return success();
}

LogicalResult Profiler::readFacts(const std::string &path) {
  llvm::Expected<json::Value> value = parseFile(path);
  if (!value)
    return fail("shard-run --json: " + llvm::toString(value.takeError()));
  if (!value->getAsObject())
    return fail("shard-run --json printed no report");
  const json::Object &report = *value->getAsObject();
  bool isCuda = target == Target::Cuda; // whose data NCCL carries, whatever ranks agree over
  facts = {isCuda ? text(report, "device") : llvm::sys::getHostCPUName().str(),
           text(report, "backend"),
           isCuda ? "nccl" : text(report, "channel"),
           text(report, "isa"),
           mesh.deviceCount(),
           report.getInteger("threads").value_or(1)};
  return success();
}

CostTable Profiler::table() const {
  CostTable table;
  table.machine = facts;
  for (const Probe &probe : program.probes.at("kernels")) {
    const KernelWork &work = probe.work;
    if (probe.kind == Probe::Product)
      table.products.push_back(
          {work.dtype, work.m, work.n, work.k, work.productFlops / probe.micros * 1e-3});
    else if (probe.kind == Probe::Attention)
      table.attention.push_back({work.dtype, work.attentionFlops / probe.micros * 1e-3});
    else if (probe.kind == Probe::Launch)
      table.launchMicros = probe.micros;
    else
      (probe.kind == Probe::Row ? table.rowGigabytes : table.elementGigabytes) =
          work.bytes / probe.micros * 1e-3;
  }
  if (auto bus = program.probes.find("bus"); bus != program.probes.end()) {
    const Probe &copy = bus->second.front();
    table.hostGigabytes = copy.bytes / copy.micros * 1e-3;
  }
  auto found = program.probes.find("collectives");
  if (found == program.probes.end())
    return table;
  std::map<std::tuple<int64_t, std::string, std::string>, std::vector<std::pair<double, double>>>
      points;
  for (const Probe &probe : found->second)
    points[{probe.ranks, options.mesh.empty() ? "" : probe.axes, probe.op}].push_back(
        {probe.bytes, probe.micros});
  for (auto &[key, line] : points) {
    LineFit fit = fitLine(line);
    table.collectives.push_back({std::get<2>(key), std::get<1>(key), std::get<0>(key),
                                 fit.latencyMicros, fit.gigabytesPerSecond});
  }
  return table;
}

FailureOr<CostTable> Profiler::run() {
  if (failed(makeMesh()))
    return failure();
  auto tool = findShardRun();
  if (!tool)
    return fail("shard-run is neither beside shardc nor in PATH");
  shardRun = *tool;
  llvm::SmallString<128> unique;
  if (std::error_code error = llvm::sys::fs::createUniqueDirectory("shardc-profile", unique))
    return fail("cannot make a temporary folder: " + error.message());
  llvm::scope_exit removeFolder([&] { llvm::sys::fs::remove_directories(unique); });
  folder = unique.str().str();
  if (failed(compile()))
    return failure();
  for (const auto &entry : program.probes)
    if (failed(measure(entry.getKey().str())))
      return failure();
  return table();
}

static void print(const CostTable &table) {
  llvm::raw_ostream &os = llvm::outs();
  const MachineFacts &machine = table.machine;
  os << machine.processor << " (" << machine.isa << "), " << machine.ranks << " ranks";
  if (machine.target != "cuda")
    os << " of " << machine.threads << " threads";
  os << ", " << machine.channel << "\n";
  for (const CostTable::Product &p : table.products)
    os << "product      " << llvm::left_justify(p.dtype, 6)
       << llvm::left_justify(
              std::to_string(p.m) + " x " + std::to_string(p.n) + " x " + std::to_string(p.k), 20)
       << llvm::format("%10.1f GFLOP/s\n", p.gflops);
  for (const CostTable::Attention &a : table.attention)
    os << "attention    " << llvm::left_justify(a.dtype, 26)
       << llvm::format("%10.1f GFLOP/s\n", a.gflops);
  os << llvm::format("kernels      elementwise %24.2f GB/s\nkernels      by rows %28.2f "
                     "GB/s\nkernels      start %30.2f us\n",
                     table.elementGigabytes, table.rowGigabytes, table.launchMicros);
  if (table.hostGigabytes > 0)
    os << llvm::format("host memory  over the bus %23.2f GB/s\n", table.hostGigabytes);
  for (const CostTable::Collective &c : table.collectives)
    os << "collective   " << llvm::left_justify(c.op, 16)
       << llvm::left_justify(c.axes.empty() ? std::to_string(c.ranks) + " ranks" : "over " + c.axes,
                             16)
       << llvm::format("%9.1f us + %8.2f GB/s\n", c.latencyMicros, c.gigabytesPerSecond);
}

/// What the other backend has.
static bool refuseOptions(const ProfileOptions &options) {
  for (auto [name, isGiven, backend] :
       {std::tuple("--arch", !options.archs.empty(), "cuda"),
        std::tuple("--threads", options.threads != 0, "cpu"),
        std::tuple("--link-gbps", options.linkGigabits != 0, "cpu")})
    if (isGiven && options.backend != backend) {
      llvm::errs() << "error: profile: " << name << " is for --backend " << backend
                   << ", the backend is " << options.backend << "\n";
      return true;
    }
  return false;
}

int profileCommand(const ProfileOptions &options) {
  if (refuseOptions(options))
    return kUsage;
  if (!options.output.empty() && llvm::sys::fs::exists(options.output) &&
      !options.force) { // said before the work
    llvm::errs() << "error: " << options.output << " exists; --force replaces it\n";
    return kUsage;
  }
  FailureOr<CostTable> table = Profiler(options).run();
  if (failed(table))
    return kFailed;
  std::string text = llvm::formatv("{0:2}\n", table->toJson()).str();
  if (!options.output.empty()) {
    std::error_code code;
    llvm::raw_fd_ostream os(options.output, code);
    if (!code) {
      os << text;
      os.close();
      code = os.error();
      os.clear_error();
    }
    if (code) {
      llvm::errs() << "error: " << options.output << ": " << code.message() << "\n";
      return kFailed;
    }
  }
  if (options.json)
    llvm::outs() << text;
  else
    print(*table);
  return kOk;
}

} // namespace shardc
