//===- Plan.cpp - shardc plan: a bundle's step before it runs -------------===//
//
// Reads program.json and manifest.json of a bundle and says for one entry:
//
//   1. Memory: what lives when, the peak, and what it is made of.
//   2. Time: computation and collectives on a timeline (Schedule/Timeline.h), by the table of costs
//      that the bundle was compiled with, another one (--costs) or a model of a machine (--gflops,
//      --memory-gbps, --link-gbps, --latency-us): what every collective costs, how much of it is
//      hidden, and what stays exposed.
//   3. Where each parameter lies: bucket, offset, sharding.
//
// As text, as JSON, or as one HTML page with pictures (no scripts, nothing fetched).
//
//===----------------------------------------------------------------------===//

#include "BundleJson.h"
#include "shardc/Driver/Driver.h"
#include "shardc/Schedule/Timeline.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <map>

using namespace mlir;
namespace json = llvm::json;

namespace shardc {
namespace {

struct Buffer {
  std::string name, kind;
  int64_t offset = 0, bytes = 0;
  int64_t first = -1, last = -1; ///< commands that use it
};

struct Collective {
  std::string op, origin;
  int64_t command = 0, waited = 0; ///< started at, ended at
  double start = 0, end = 0,
         exposed = 0; ///< microseconds; of the time the computation waited for it
};

struct Span {
  double start, end;
  std::string name;
};

/// How many ranges cover each byte, and how many bytes are covered: parts of buffers overlap the
/// whole.
struct Coverage {
  std::map<int64_t, int64_t> counts = {{0, 0}}; ///< from an offset to the next one
  int64_t bytes = 0;

  std::map<int64_t, int64_t>::iterator cutAt(int64_t offset) {
    auto after = counts.upper_bound(offset);
    return counts.try_emplace(offset, std::prev(after)->second).first;
  }
  void add(int64_t begin, int64_t end, int64_t change) {
    if (begin >= end)
      return;
    auto last = cutAt(end);
    for (auto at = cutAt(begin); at != last; ++at) {
      int64_t size = std::next(at)->first - at->first, before = at->second;
      at->second += change;
      bytes += size * ((at->second > 0) - (before > 0));
    }
  }
};

/// One entry of a bundle, read and simulated.
class StepPlan {
public:
  bool read(const PlanOptions &options);
  bool readCosts(const PlanOptions &options);
  void simulate();
  void printText() const;
  json::Value toJson() const;
  void writeHtml(llvm::raw_ostream &os, const std::string &title) const;

private:
  bool fail(const llvm::Twine &message) const {
    llvm::errs() << "error: " << message << "\n";
    return false;
  }
  void findLifetimes();
  int64_t arenaBytes() const;
  double hostMicros(const json::Object &command) const;
  std::vector<std::pair<std::string, int64_t>> atPeak(size_t most) const;
  double exposedMicros() const;
  std::string modelText() const;

  json::Value program = nullptr, manifest = nullptr;
  const json::Array *commands = nullptr;
  std::string entry;
  std::vector<Buffer> buffers;
  std::vector<int64_t> live; ///< bytes by command, permanent storage included
  int64_t permanent = 0, peak = 0, peakAt = 0;
  int64_t host = 0; ///< bytes of states in the machine's memory, from loading on
  std::vector<Collective> collectives;
  std::vector<Span> computation;
  double total = 0;
  CostTable costs;
};

int64_t integer(const json::Object &object, llvm::StringRef key) {
  return object.getInteger(key).value_or(0);
}

std::vector<int64_t> buffersOf(const json::Object &command) {
  std::vector<int64_t> result;
  if (const json::Array *list = command.getArray("buffers"))
    for (const json::Value &value : *list)
      result.push_back(value.getAsInteger().value_or(-1));
  for (llvm::StringRef key : {"src", "dst"})
    if (auto index = command.getInteger(key))
      result.push_back(*index);
  return result;
}

/// A symbol, or, for GPUs, an object with a name.
std::string kernelName(const json::Value &kernel) {
  return kernel.getAsObject() ? text(*kernel.getAsObject(), "name")
                              : kernel.getAsString().value_or("").str();
}

std::string megabytes(int64_t bytes) { return llvm::formatv("{0:F2} MB", bytes / 1e6); }

} // namespace

bool StepPlan::read(const PlanOptions &options) {
  auto programFile = readBundleJson(options.bundle, "program.json"),
       manifestFile = readBundleJson(options.bundle, "manifest.json");
  if (!programFile || !manifestFile)
    return false;
  program = std::move(*programFile);
  manifest = std::move(*manifestFile);
  const json::Object *root = program.getAsObject();
  const json::Array *list = root->getArray("buffers"), *entries = root->getArray("entries");
  if (!list || !entries)
    return fail(options.bundle + "/program.json has no buffers or entries");
  for (const json::Value &value : *list)
    if (const json::Object *object = value.getAsObject())
      buffers.push_back({text(*object, "name"), text(*object, "kind"), integer(*object, "offset"),
                         integer(*object, "bytes")});
  std::string names;
  for (const json::Value &value : *entries)
    if (const json::Object *object = value.getAsObject()) {
      std::string name = text(*object, "name");
      names += (names.empty() ? "" : ", ") + name;
      bool isWanted = options.entry.empty()
                          ? name == "step" || name == "main" || name == "forward_backward"
                          : name == options.entry;
      if (isWanted && !commands) {
        entry = name;
        commands = object->getArray("commands");
      }
    }
  if (!commands)
    return fail("there is no entry \"" + options.entry + "\"; there are: " + names);
  findLifetimes();
  return true;
}

int64_t StepPlan::arenaBytes() const {
  const json::Object *arena = program.getAsObject()->getObject("arena");
  return arena ? integer(*arena, "bytes") : 0;
}

void StepPlan::findLifetimes() {
  std::map<int64_t, std::vector<int64_t>> tickets;
  for (auto [n, value] : llvm::enumerate(*commands)) {
    const json::Object *command = value.getAsObject();
    if (!command)
      continue;
    std::vector<int64_t> used = buffersOf(*command);
    if (auto ticket = command->getInteger("ticket")) {
      if (text(*command, "op") == "wait")
        used = tickets[*ticket];
      else
        tickets[*ticket] = used;
    }
    for (int64_t index : used)
      if (index >= 0 && index < static_cast<int64_t>(buffers.size())) {
        Buffer &buffer = buffers[index];
        buffer.first = buffer.first < 0 ? n : buffer.first;
        buffer.last = n;
      }
  }
  int64_t arena = arenaBytes();
  auto isPermanent = [](const Buffer &buffer) {
    return buffer.kind == "state" || buffer.kind == "parameter" || buffer.kind == "constant" ||
           buffer.kind == "axis_index";
  };
  Coverage coverage;
  std::vector<std::vector<const Buffer *>> begins(commands->size()), ends(commands->size());
  for (const Buffer &buffer : buffers) {
    if (buffer.offset >= arena && buffer.bytes > 0) { // offloaded
      host += buffer.kind == "state" ? buffer.bytes : 0;
    } else if (isPermanent(buffer)) {
      coverage.add(buffer.offset, buffer.offset + buffer.bytes, 1);
    } else if (buffer.first >= 0) {
      begins[buffer.first].push_back(&buffer);
      ends[buffer.last].push_back(&buffer);
    }
  }
  permanent = coverage.bytes;
  for (size_t n = 0; n < commands->size(); ++n) {
    for (const Buffer *buffer : begins[n])
      coverage.add(buffer->offset, buffer->offset + buffer->bytes, 1);
    live.push_back(coverage.bytes);
    if (live.back() > peak) {
      peak = live.back();
      peakAt = n;
    }
    for (const Buffer *buffer : ends[n])
      coverage.add(buffer->offset, buffer->offset + buffer->bytes, -1);
  }
}

/// What lives at the peak beside permanent storage, equal ones added up, largest first.
std::vector<std::pair<std::string, int64_t>> StepPlan::atPeak(size_t most) const {
  std::map<std::string, std::pair<int64_t, int64_t>> sums;
  std::vector<const Buffer *> alive;
  for (const Buffer &buffer : buffers)
    if (buffer.first >= 0 && buffer.first <= peakAt && peakAt <= buffer.last &&
        buffer.kind == "temporary")
      alive.push_back(&buffer);
  for (const Buffer *buffer : alive) {
    bool isInside = llvm::any_of(alive, [&](const Buffer *other) {
      return other != buffer && other->offset <= buffer->offset &&
             buffer->offset + buffer->bytes <= other->offset + other->bytes &&
             (other->bytes > buffer->bytes || other < buffer);
    });
    if (isInside)
      continue;
    auto &[bytes, count] = sums[buffer->name + " of " + megabytes(buffer->bytes)];
    bytes += buffer->bytes;
    ++count;
  }
  std::vector<std::pair<std::string, int64_t>> result;
  for (auto &[name, sum] : sums)
    result.push_back({std::to_string(sum.second) + " x " + name, sum.first});
  llvm::sort(result, [](const auto &a, const auto &b) { return a.second > b.second; });
  if (result.size() > most)
    result.resize(most);
  return result;
}

/// The table, or the model if there are numbers for it.
bool StepPlan::readCosts(const PlanOptions &options) {
  bool hasNumbers =
      options.gflops || options.memoryGigabytes || options.linkGigabits || options.latencyMicros;
  if (hasNumbers && !options.costs.empty())
    return fail("--costs " + options.costs +
                ": --gflops, --memory-gbps, --link-gbps and --latency-us are of the model that it "
                "replaces");
  if (!hasNumbers) {
    FailureOr<CostTable> read =
        shardc::readCosts(options.costs, *manifest.getAsObject(), options.bundle);
    if (failed(read))
      return false;
    costs = std::move(*read);
  }
  costs.gflops = options.gflops.value_or(costs.gflops);
  costs.memoryGigabytes = options.memoryGigabytes.value_or(costs.memoryGigabytes);
  costs.linkGigabytes = options.linkGigabits.value_or(costs.linkGigabytes * 8) / 8;
  costs.latencyMicros = options.latencyMicros.value_or(costs.latencyMicros);
  return true;
}

/// What of a command crosses a GPU's bus, as the scheduler counts it (Schedule/Estimate.cpp).
double StepPlan::hostMicros(const json::Object &command) const {
  if (!host)
    return 0;
  std::vector<int64_t> used = buffersOf(command);
  int64_t results = command.getInteger("results").value_or(command.getInteger("dst") ? 1 : 0),
          arena = arenaBytes();
  double read = 0, written = 0;
  for (auto [n, index] : llvm::enumerate(used))
    if (index >= 0 && index < static_cast<int64_t>(buffers.size()) &&
        buffers[index].offset >= arena)
      (static_cast<int64_t>(n) < static_cast<int64_t>(used.size()) - results ? read : written) +=
          buffers[index].bytes;
  return costs.hostMicros(read, written);
}

void StepPlan::simulate() {
  const json::Object &root = *program.getAsObject();
  const json::Object *report = manifest.getAsObject()->getObject("report");
  const json::Array *works = report ? report->getArray("kernel_costs") : nullptr,
                    *origins = report ? report->getArray("collectives") : nullptr;
  const json::Array *kernels = root.getArray("kernels"), *groups = root.getArray("groups");
  auto groupSize = [&](int64_t index) {
    int64_t size = 1;
    const json::Object *group = groups && index < static_cast<int64_t>(groups->size())
                                    ? (*groups)[index].getAsObject()
                                    : nullptr;
    if (const json::Array *axes = group ? group->getArray("axes") : nullptr)
      for (const json::Value &axis : *axes)
        size *= axis.getAsObject() ? integer(*axis.getAsObject(), "size") : 1;
    return std::max<int64_t>(size, 1);
  };
  Timeline timeline(text(*manifest.getAsObject(), "target") == "cuda" ? Target::Cuda : Target::Cpu);
  std::map<int64_t, size_t> open;
  for (auto [n, value] : llvm::enumerate(*commands)) {
    const json::Object &command = *value.getAsObject();
    std::string op = text(command, "op");
    if (op == "launch") {
      int64_t kernel = integer(command, "kernel");
      const json::Object *work = works && kernel < static_cast<int64_t>(works->size())
                                     ? (*works)[kernel].getAsObject()
                                     : nullptr;
      Timeline::Span span = timeline.compute(
          std::max(costs.kernelMicros(work ? KernelWork::fromJson(*work) : KernelWork()),
                   hostMicros(command)));
      computation.push_back({span.start, span.end, kernels ? kernelName((*kernels)[kernel]) : ""});
      continue;
    }
    if (op == "wait") {
      auto found = open.find(integer(command, "ticket"));
      if (found == open.end())
        continue;
      Collective &collective = collectives[found->second];
      collective.waited = n;
      collective.exposed = timeline.wait(found->first);
      open.erase(found);
      continue;
    }
    int64_t bytes = 0;
    for (int64_t index : buffersOf(command))
      bytes = std::max(bytes, buffers[index].bytes);
    if (op == "copy" || op == "zero" || op == "slice") {
      timeline.compute(std::max(costs.copyMicros(bytes), hostMicros(command)));
      continue;
    }
    Collective collective{op, "", static_cast<int64_t>(n), static_cast<int64_t>(n)};
    std::string axes;
    if (auto origin = command.getInteger("origin");
        origin && origins && *origin < static_cast<int64_t>(origins->size()))
      if (const json::Object *object = (*origins)[*origin].getAsObject()) {
        collective.origin =
            text(*object, "origin") +
            (text(*object, "path").empty() ? "" : " (" + text(*object, "path") + ")");
        axes = text(*object, "group");
      }
    double micros = hostMicros(command) +
                    costs.collectiveMicros(op, axes, groupSize(integer(command, "group")), bytes);
    Timeline::Span span;
    if (auto ticket = command.getInteger("ticket")) {
      open[*ticket] = collectives.size();
      span = timeline.start(*ticket, integer(command, "group"), micros);
    } else {
      span = timeline.run(integer(command, "group"), micros);
    }
    collective.start = span.start;
    collective.end = span.end;
    collective.exposed = span.exposed;
    collectives.push_back(collective);
  }
  total = timeline.now();
}

std::string StepPlan::modelText() const {
  return llvm::formatv("the model ({0} GFLOP/s, memory {1} GB/s, link {2} Gbit/s)", costs.gflops,
                       costs.memoryGigabytes, costs.linkGigabytes * 8)
      .str();
}

double StepPlan::exposedMicros() const {
  double sum = 0;
  for (const Collective &collective : collectives)
    sum += collective.exposed;
  return sum;
}

/// Why a collective is not hidden.
static std::string reasonOf(const Collective &collective) {
  if (collective.exposed <= 0)
    return "hidden";
  if (collective.waited == collective.command)
    return "its result is needed by the next command";
  return "takes longer than what is computed beside it";
}

void StepPlan::printText() const {
  llvm::raw_ostream &os = llvm::outs();
  os << "entry " << entry << ": " << commands->size() << " commands, " << collectives.size()
     << " collectives\n\n"
     << "memory of a rank   " << megabytes(arenaBytes()) << " arena = " << megabytes(permanent)
     << " permanent + temporaries; peak " << megabytes(peak) << " at command " << peakAt << "\n";
  if (host)
    os << "host memory        " << megabytes(host) << " of offloaded states, pinned\n";
  for (auto &[name, bytes] : atPeak(8))
    os << "  " << llvm::format("%10.2f MB  ", bytes / 1e6) << name << "\n";
  os << "\ntime by " << (costs.isMeasured() ? "costs " + costs.describe() : modelText()) << ": "
     << llvm::format("%.1f us, of which %.1f us (%.1f %%) wait for communication\n", total,
                     exposedMicros(), total > 0 ? 100 * exposedMicros() / total : 0);
  std::map<std::string, std::pair<double, int64_t>> groups;
  for (const Collective &collective : collectives)
    if (collective.exposed > 0) {
      llvm::StringRef first = llvm::StringRef(collective.origin).split('\n').first;
      auto &[micros, count] =
          groups[(collective.op + ", " + first + ": " + reasonOf(collective)).str()];
      micros += collective.exposed;
      ++count;
    }
  std::vector<std::pair<double, std::string>> lines;
  for (auto &[name, sum] : groups)
    lines.push_back({sum.first, std::to_string(sum.second) + " x " + name});
  llvm::sort(lines, [](const auto &a, const auto &b) { return a.first > b.first; });
  for (auto &[micros, name] : lines)
    os << llvm::format("  %10.1f us  ", micros) << name << "\n";
  const json::Array *buckets = program.getAsObject()->getArray("buckets");
  if (!buckets)
    return;
  os << "\nparameters\n";
  for (const json::Value &value : *buckets) {
    const json::Object &bucket = *value.getAsObject();
    os << "  " << text(bucket, "name") << ": " << integer(bucket, "length") << " "
       << text(bucket, "dtype") << ", cut over "
       << (bucket.getArray("shard") && !bucket.getArray("shard")->empty() ? "the shard axes"
                                                                          : "nothing")
       << "\n";
    for (const json::Value &item : *bucket.getArray("items"))
      os << "    at "
         << llvm::format("%10lld  ", static_cast<long long>(integer(*item.getAsObject(), "offset")))
         << text(*item.getAsObject(), "tensor") << "\n";
  }
}

json::Value StepPlan::toJson() const {
  json::Array list, memory, peakParts;
  for (const Collective &c : collectives)
    list.push_back(json::Object{{"op", c.op},
                                {"origin", c.origin},
                                {"start_us", c.start},
                                {"end_us", c.end},
                                {"exposed_us", c.exposed},
                                {"why", reasonOf(c)}});
  for (int64_t bytes : live)
    memory.push_back(bytes);
  for (auto &[name, bytes] : atPeak(32))
    peakParts.push_back(json::Object{{"name", name}, {"bytes", bytes}});
  return json::Object{{"entry", entry},
                      {"permanent_bytes", permanent},
                      {"peak_bytes", peak},
                      {"host_bytes", host},
                      {"peak_command", peakAt},
                      {"at_peak", std::move(peakParts)},
                      {"live_bytes", std::move(memory)},
                      {"total_us", total},
                      {"exposed_us", exposedMicros()},
                      {"collectives", std::move(list)},
                      {"costs", costs.isMeasured() ? costs.describe() : modelText()}};
}

static std::string escaped(llvm::StringRef text) {
  std::string result;
  for (char c : text)
    switch (c) {
    case '<':
      result += "&lt;";
      break;
    case '>':
      result += "&gt;";
      break;
    case '&':
      result += "&amp;";
      break;
    case '"':
      result += "&quot;";
      break;
    default:
      result += c;
    }
  return result;
}

void StepPlan::writeHtml(llvm::raw_ostream &os, const std::string &title) const {
  constexpr double width = 1100, height = 220;
  os << "<!doctype html><meta charset=\"utf-8\"><title>" << escaped(title)
     << "</title>\n<style>body{font:14px sans-serif;margin:2em;max-width:1150px}"
     << "svg{background:#f6f6f6}td,th{padding:2px "
        "8px;text-align:left}td.n{text-align:right}</style>\n<h1>"
     << escaped(title) << ", entry " << escaped(entry)
     << "</h1>\n<h2>Memory of a rank over the step</h2>\n<p>Permanent " << megabytes(permanent)
     << ", peak " << megabytes(peak) << " at command " << peakAt
     << (host ? "; host memory " + megabytes(host) + " of offloaded states" : "")
     << ".</p>\n<svg width=\"" << width << "\" height=\"" << height
     << "\"><polyline fill=\"#9ac\" stroke=\"#358\" points=\"0," << height;
  for (auto [n, bytes] : llvm::enumerate(live))
    os << llvm::format(" %.1f,%.1f", n * width / std::max<size_t>(live.size(), 1),
                       height - bytes * (height - 10) / std::max<int64_t>(peak, 1));
  os << llvm::format(" %.1f,%.1f", width, height) << "\"/>"
     << llvm::format("<line x1=\"0\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#a33\"/>", width,
                     height - permanent * (height - 10) / double(std::max<int64_t>(peak, 1)),
                     height - permanent * (height - 10) / double(std::max<int64_t>(peak, 1)))
     << "</svg>\n<table>";
  for (auto &[name, bytes] : atPeak(12))
    os << "<tr><td class=\"n\">" << megabytes(bytes) << "<td>" << escaped(name);
  os << "</table>\n<h2>Timeline</h2>\n<p>By "
     << escaped(costs.isMeasured() ? "costs " + costs.describe() : modelText()) << ": "
     << llvm::format("%.1f us, of which %.1f us wait for communication (red).", total,
                     exposedMicros())
     << "</p>\n<svg width=\"" << width << "\" height=\"90\">";
  auto rect = [&](double start, double end, double y, llvm::StringRef colour,
                  const std::string &name) {
    os << llvm::format("<rect x=\"%.2f\" width=\"%.2f\" y=\"%.0f\" height=\"24\" fill=\"",
                       start * width / total, std::max(0.3, (end - start) * width / total), y)
       << colour << "\"><title>" << escaped(name) << llvm::format(", %.1f us", end - start)
       << "</title></rect>";
  };
  for (const Span &span : computation)
    rect(span.start, span.end, 10, "#7a9", span.name);
  for (const Collective &c : collectives) {
    rect(c.start, c.end, 50, "#79c", c.op + ": " + c.origin);
    if (c.exposed > 0)
      rect(c.end - c.exposed, c.end, 10, "#c55", "waits: " + c.origin);
  }
  os << "</svg>\n<h2>Collectives</h2>\n<table><tr><th>operation<th>us<th>exposed us<th>why "
        "there<th>why exposed";
  for (const Collective &c : collectives)
    os << "<tr><td>" << c.op
       << llvm::format("<td class=\"n\">%.1f<td class=\"n\">%.1f<td>", c.end - c.start, c.exposed)
       << escaped(llvm::StringRef(c.origin).split('\n').first) << "<td>" << reasonOf(c);
  os << "</table>\n";
  if (const json::Array *buckets = program.getAsObject()->getArray("buckets")) {
    os << "<h2>Parameters</h2>\n<table><tr><th>bucket<th>offset<th>tensor<th>shape";
    for (const json::Value &value : *buckets)
      for (const json::Value &item : *value.getAsObject()->getArray("items")) {
        const json::Object &object = *item.getAsObject();
        os << "<tr><td>" << escaped(text(*value.getAsObject(), "name")) << "<td class=\"n\">"
           << integer(object, "offset") << "<td>" << escaped(text(object, "tensor")) << "<td>"
           << json::Value(json::Array(*object.getArray("shape")));
      }
    os << "</table>\n";
  }
}

int planCommand(const PlanOptions &options) {
  StepPlan plan;
  if (!plan.read(options) || !plan.readCosts(options))
    return kFailed;
  plan.simulate();
  if (!options.html.empty()) {
    std::error_code code;
    llvm::raw_fd_ostream os(options.html, code);
    if (code) {
      llvm::errs() << "error: " << options.html << ": " << code.message() << "\n";
      return kFailed;
    }
    plan.writeHtml(os, llvm::sys::path::filename(options.bundle).str());
  }
  if (options.json)
    llvm::outs() << llvm::formatv("{0:2}\n", plan.toJson());
  else
    plan.printText();
  return kOk;
}

} // namespace shardc
