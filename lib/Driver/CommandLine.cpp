//===- CommandLine.cpp - Options of shardc --------------------------------===//
//
// Parsed by hand into the commands' own option structs: LLVM's registry would add its several
// hundred options, and a flag that does not apply to a command must be refused, with the command's
// name.
//
//===----------------------------------------------------------------------===//

#include "Help.h"
#include "shardc/Driver/Driver.h"
#include "shardc/FSDP/Optimizer.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace shardc {

namespace {

/// The arguments, and what is wrong with them.
class Arguments {
public:
  Arguments(int argc, char **argv) : args(argv + 1, argv + argc) {}
  bool empty() const { return at == args.size(); }
  bool asksForHelp() const {
    return llvm::is_contained(args, "--help") || llvm::is_contained(args, "-h");
  }
  llvm::StringRef next() { return args[at++]; }

  /// The value of `option`: behind `=` or the next argument.
  bool value(llvm::StringRef option, llvm::StringRef inlined, bool hasInlined, std::string &out) {
    if (hasInlined) {
      out = inlined.str();
      return true;
    }
    if (empty())
      return fail(option + " needs a value");
    out = next().str();
    return true;
  }

  template <typename T>
  bool number(llvm::StringRef option, llvm::StringRef inlined, bool hasInlined, T &out) {
    std::string text;
    if (!value(option, inlined, hasInlined, text))
      return false;
    if constexpr (std::is_floating_point_v<T>)
      return !llvm::StringRef(text).getAsDouble(out) ||
             fail(option + ": \"" + text + "\" is not a number");
    else
      return !llvm::StringRef(text).getAsInteger(10, out) ||
             fail(option + ": \"" + text + "\" is not a whole number");
  }

  bool fail(const llvm::Twine &message) {
    llvm::errs() << "error: " << message << " (shardc --help)\n";
    return false;
  }

private:
  std::vector<std::string> args;
  size_t at = 0;
};

/// All options of all commands, and which were given.
struct Parsed {
  std::string command, target;
  CompileOptions compile;
  VerifyOptions verify;
  PlanOptions plan;
  ExportPlanOptions exportPlan;
  PackOptions pack;
  ProfileOptions profile;
  std::string explainCosts;
  bool json = false;

  ModelOptions &model() {
    return command == "verify"        ? verify.model
           : command == "export-plan" ? exportPlan.model
                                      : compile.model;
  }
};

} // namespace

/// NAME=N into a map.
static bool parseDim(Arguments &args, const std::string &text, llvm::StringMap<int64_t> &dims) {
  auto [name, size] = llvm::StringRef(text).split('=');
  int64_t value = 0;
  if (name.empty() || size.getAsInteger(10, value) || value < 1)
    return args.fail("--dim \"" + text + "\" is not of the form NAME=N with N at least 1");
  dims[name] = value;
  return true;
}

/// NAME=N,NAME=N: sizes instead of those of --dim.
static bool parseInstance(Arguments &args, const std::string &text,
                          std::vector<ShapeInstance> &instances) {
  ShapeInstance instance{text, {}};
  for (llvm::StringRef part : llvm::split(llvm::StringRef(text), ',')) {
    auto [name, size] = part.split('=');
    int64_t value = 0;
    if (name.empty() || size.getAsInteger(10, value) || value < 1)
      return args.fail("--shape-instance \"" + text +
                       "\" is not of the form NAME=N,NAME=N with each N at least 1");
    if (!instance.dims.try_emplace(name, value).second)
      return args.fail("--shape-instance \"" + text + "\": \"" + name + "\" is given twice");
  }
  if (llvm::any_of(instances, [&](const ShapeInstance &other) { return other.name == text; }))
    return args.fail("--shape-instance \"" + text + "\" is given twice");
  instances.push_back(std::move(instance));
  return true;
}

/// NAME=VALUE, of an input, into a map.
static bool parsePair(Arguments &args, llvm::StringRef option, llvm::StringRef form,
                      const std::string &text, llvm::StringMap<std::string> &map) {
  auto [name, value] = llvm::StringRef(text).split('=');
  if (name.empty() || value.empty())
    return args.fail(option + " \"" + text + "\" is not of the form " + form);
  if (!map.try_emplace(name, value.str()).second)
    return args.fail(option + ": input \"" + name + "\" is given twice");
  return true;
}

/// NAME=N, the cache's dimension.
static bool parseCache(Arguments &args, const std::string &text, ImportOptions &options) {
  auto [name, size] = llvm::StringRef(text).split('=');
  if (name.empty() || size.getAsInteger(10, options.cacheCapacity) || options.cacheCapacity < 1)
    return args.fail("--cache \"" + text + "\" is not of the form NAME=N with N at least 1");
  if (!options.cacheDim.empty())
    return args.fail("--cache \"" + text + "\": \"" + options.cacheDim +
                     "\" is a cache's length already");
  options.cacheDim = name.str();
  return true;
}

/// "2GiB", "500MB", "4096".
static bool parseSize(Arguments &args, llvm::StringRef option, llvm::StringRef text,
                      int64_t &bytes) {
  llvm::StringRef digits = text.take_while(
      [](char c) { return std::isdigit(static_cast<unsigned char>(c)) || c == '.'; });
  int64_t unit = llvm::StringSwitch<int64_t>(text.drop_front(digits.size()).trim())
                     .Cases({"", "B"}, 1)
                     .Case("KiB", 1 << 10)
                     .Case("MiB", 1 << 20)
                     .Case("GiB", 1 << 30)
                     .Case("kB", 1000)
                     .Case("MB", 1000000)
                     .Case("GB", 1000000000)
                     .Default(0);
  double number = 0;
  if (digits.getAsDouble(number) || unit == 0 || number <= 0)
    return args.fail(option + " \"" + text + "\" is not a size like 2GiB or 500MB");
  bytes = static_cast<int64_t>(number * unit);
  return true;
}

static std::vector<std::string> splitList(llvm::StringRef text) {
  llvm::SmallVector<llvm::StringRef> items;
  text.split(items, ',', -1, /*KeepEmpty=*/false);
  return {items.begin(), items.end()};
}

static bool isModelCommand(llvm::StringRef command) {
  return command == "compile" || command == "verify" || command == "export-plan";
}

/// One option of training.
static bool parseTraining(Arguments &args, llvm::StringRef name, llvm::StringRef inlined, bool has,
                          CompileOptions &options, bool &known) {
  TrainOptions &train = options.train;
  PipelineOptions &pipeline = options.model.pipeline;
  known = true;
  if (name == "--train")
    return train.enabled = true;
  std::string text;
  auto string = [&](auto &out) {
    return args.value(name, inlined, has, text) && (out = text, true);
  };
  // Types also go by torch's names.
  auto dtype = [&](auto &out) {
    if (!string(out))
      return false;
    out = llvm::StringSwitch<std::string>(text)
              .Cases({"fp32", "float32", "torch.float32"}, "f32")
              .Cases({"bfloat16", "torch.bfloat16"}, "bf16")
              .Cases({"fp16", "float16", "torch.float16"}, "f16")
              .Default(text);
    return true;
  };
  auto integer = [&](auto &out, int64_t least) {
    int64_t value = 0;
    if (!args.number(name, inlined, has, value))
      return false;
    if (value < least)
      return args.fail(name + " " + llvm::Twine(value) + " is below " + llvm::Twine(least));
    out = value;
    return true;
  };
  auto real = [&](auto &out) {
    double value = 0;
    if (!args.number(name, inlined, has, value))
      return false;
    if (!(value >= 0))
      return args.fail(name + " " + std::to_string(value) + " is negative");
    out = value;
    return true;
  };
  auto distance = [&](int64_t &out) {
    return string(text) &&
           (parseDistance(text, out) ||
            args.fail(name + " \"" + text + "\" is not auto or a number of at least 0"));
  };
  auto parse = [&]() -> std::optional<bool> {
    if (name == "--strategy")
      return string(train.strategy);
    if (name == "--dp-replicate")
      return integer(train.dpReplicate, 1);
    if (name == "--dp-shard")
      return integer(train.dpShard, 1);
    if (name == "--zero-dp-strategy")
      return integer(pipeline.zeroDpStrategy, 0);
    if (name == "--outer-dp-sharding-strategy")
      return string(pipeline.outerDpShardingStrategy);
    if (name == "--check-for-nan-in-grad")
      return pipeline.checkForNanInGrad = true;
    if (name == "--reshard-after-forward")
      return string(pipeline.reshardAfterForward);
    if (name == "--activation-checkpointing")
      return string(pipeline.activationCheckpointing);
    if (name == "--memory-limit")
      return string(text) && parseSize(args, name, text, train.memoryLimit);
    if (name == "--offload")
      return string(text) &&
             (parseOffload(text, train.offload) ||
              args.fail("--offload \"" + text + "\" is not none, optimizer or parameters"));
    if (name == "--forward-prefetch")
      return distance(train.overlap.forwardPrefetch);
    if (name == "--backward-prefetch")
      return distance(train.overlap.backwardPrefetch);
    if (name == "--reductions-in-flight")
      return distance(train.overlap.reductions);
    if (name == "--tensor-parallel-overlap")
      return string(text) && (parseTensorParallel(text, train.overlap.tensorParallel) ||
                              args.fail(name + " \"" + text + "\" is not auto or none"));
    if (name == "--gradient-accumulation")
      return integer(train.accumulation, 1);
    if (name == "--separate-entry-points")
      return pipeline.separateEntries = true;
    if (name == "--defer-fsdp-grad-sync") {
      if (!string(text))
        return false;
      if (text != "true" && text != "false")
        return args.fail(name + " \"" + text + "\" is not true or false");
      pipeline.deferGradSync = text == "true";
      return true;
    }
    if (name == "--param-dtype")
      return dtype(pipeline.paramDtype);
    if (name == "--fp32-parameters")
      return string(pipeline.fp32Parameters);
    if (name == "--reduce-dtype")
      return dtype(pipeline.reduceDtype);
    if (name == "--loss")
      return string(pipeline.loss);
    if (name == "--loss-chunks") {
      if (!string(text))
        return false;
      int64_t chunks = 0;
      if (text != "auto" && (llvm::StringRef(text).getAsInteger(10, chunks) || chunks < 1))
        return args.fail(name + " \"" + text + "\" is not auto or a number of at least 1");
      pipeline.lossChunks = chunks;
      return true;
    }
    if (name == "--frozen")
      return string(pipeline.frozen);
    if (name == "--optimizer")
      return string(train.optimizer);
    for (const OptimizerOption &option : optimizerOptions())
      if (name == "--" + option.spelling())
        return string(text) && (train.optimizerOptions.push_back({option.spelling(), text}), true);
    if (name == "--no-weight-decay")
      return string(pipeline.noDecay);
    if (name == "--clip-grad-norm")
      return real(pipeline.clipNorm);
    if (name == "--learning-rate")
      return real(train.learningRate);
    if (name == "--lr-schedule")
      return string(train.schedule);
    if (name == "--lr-warmup-steps")
      return integer(train.warmupSteps, 0);
    if (name == "--lr-decay-steps")
      return integer(train.decaySteps, 0);
    if (name == "--lr-minimum")
      return real(train.minimumLearningRate);
    return std::nullopt;
  };
  std::optional<bool> done = parse();
  known = done.has_value();
  if (known)
    train.given.insert(name);
  return done.value_or(true);
}

/// One option; `known` false if the command has no such option.
static bool parseOption(Arguments &args, llvm::StringRef argument, Parsed &p, bool &known) {
  llvm::StringRef name, inlined; // not bound by structure: lambdas capture them
  std::tie(name, inlined) = argument.split('=');
  bool has = argument.contains('=');
  std::string text;
  known = true;
  if (name == "--json" && p.command != "" && p.command != "export-plan" && p.command != "pack")
    return p.json = true;
  if (isModelCommand(p.command)) {
    PipelineOptions &pipeline = p.model().pipeline;
    int64_t tp = 0;
    if (name == "--dim")
      return args.value(name, inlined, has, text) && parseDim(args, text, p.model().import.dims);
    if (name == "--shape-instance" && p.command != "export-plan")
      return args.value(name, inlined, has, text) && parseInstance(args, text, p.model().instances);
    if (name == "--constant")
      return args.value(name, inlined, has, text) &&
             parsePair(args, name, "NAME=FILE.npy", text, p.model().import.constants);
    if (name == "--carry")
      return args.value(name, inlined, has, text) &&
             parsePair(args, name, "INPUT=OUTPUT", text, p.model().import.carried);
    if (name == "--cache")
      return args.value(name, inlined, has, text) && parseCache(args, text, p.model().import);
    if (name == "--weights")
      return args.value(name, inlined, has, p.model().weights);
    if (name == "--tp") {
      if (!args.number(name, inlined, has, tp))
        return false;
      if (tp < 1)
        return args.fail("--tp " + llvm::Twine(tp) + ": a mesh axis has at least one device");
      pipeline.mesh = "tp=" + std::to_string(tp);
      p.compile.train.tp = tp; // with --train the mesh is made of all sizes
      return true;
    }
    if (name == "--mesh")
      return args.value(name, inlined, has, text) &&
             (pipeline.mesh = text, p.compile.train.given.insert(name), true);
    if (name == "--plan")
      return args.value(name, inlined, has, text) && (pipeline.plan = text, true);
    if (name == "--ep" &&
        p.command != "export-plan") { // which cannot say how tokens come to their experts
      int64_t ep = 0;
      if (!args.number(name, inlined, has, ep))
        return false;
      if (ep < 1)
        return args.fail("--ep " + llvm::Twine(ep) + ": experts are on at least one device");
      pipeline.ep = ep;
      return true;
    }
    if (name == "--sequence-parallel")
      return pipeline.sequenceParallel = true;
    if (name == "--async-tensor-parallel" && p.command != "export-plan")
      return pipeline.asyncTensorParallel = true;
    if (name == "--async-tensor-parallel-pieces" && p.command != "export-plan") {
      int64_t pieces = 0;
      if (!args.number(name, inlined, has, pieces))
        return false;
      if (pieces < 2)
        return args.fail("--async-tensor-parallel-pieces " + llvm::Twine(pieces) +
                         ": a collective is cut into at least 2");
      pipeline.asyncTensorParallelPieces = pieces;
      return true;
    }
    if (name == "--costs" && p.command != "export-plan")
      return args.value(name, inlined, has, text) && (pipeline.costs = text, true);
    if (name == "--strict")
      return pipeline.strict = true;
    if (name == "--print-plan")
      return pipeline.printPlan = true;
    if (name == "--keep-outputs-sharded" && p.command != "export-plan")
      return pipeline.keepOutputsSharded = true;
  }
  if (p.command == "compile") {
    bool isTraining = false;
    if (!parseTraining(args, name, inlined, has, p.compile, isTraining))
      return false;
    if (isTraining)
      return true;
    if (name == "-o" || name == "--output")
      return args.value(name, inlined, has, p.compile.output);
    if (name == "--force")
      return p.compile.force = true;
    if (name == "--progress")
      return p.compile.progress = true;
    if (name == "--stop-after")
      return args.value(name, inlined, has, p.compile.stopAfter);
    if (name == "--isa") {
      if (!args.value(name, inlined, has, text))
        return false;
      p.compile.levels = splitList(text);
      return true;
    }
    if (name == "--fp8") {
      if (!args.value(name, inlined, has, text))
        return false;
      if (text != "e4m3" && text != "hybrid")
        return args.fail("--fp8 \"" + text + "\" is not e4m3 or hybrid");
      p.compile.model.pipeline.fp8 = text;
      return true;
    }
    if (name == "--fp8-skip")
      return args.value(name, inlined, has, text) &&
             (p.compile.model.pipeline.fp8Skip = text, true);
    if (name == "--target")
      return args.value(name, inlined, has, p.compile.target);
    if (name == "--arch") {
      if (!args.value(name, inlined, has, text))
        return false;
      p.compile.archs = splitList(text);
      return true;
    }
    if (name == "--toolkit")
      return args.value(name, inlined, has, p.compile.toolkit);
    if (name == "--allow-tf32")
      return p.compile.allowTf32 = true;
    if (name == "--cuda-workspace")
      return args.value(name, inlined, has, text) &&
             parseSize(args, name, text, p.compile.workspaceBytes);
  }
  if (p.command == "export-plan") {
    if (name == "-o" || name == "--output")
      return args.value(name, inlined, has, p.exportPlan.output);
    if (name == "--force")
      return p.exportPlan.force = true;
    if (name == "--configuration")
      return args.value(name, inlined, has, p.exportPlan.name);
  }
  if (p.command == "pack") {
    if (name == "-o" || name == "--output")
      return args.value(name, inlined, has, p.pack.output);
    if (name == "--force")
      return p.pack.force = true;
  }
  if (p.command == "plan") {
    auto positive = [&](std::optional<double> &out) {
      double value = 0;
      if (!args.number(name, inlined, has, value))
        return false;
      out = value;
      return value > 0 || args.fail(name + " needs a positive number");
    };
    if (name == "--costs")
      return args.value(name, inlined, has, p.plan.costs);
    if (name == "--html")
      return args.value(name, inlined, has, p.plan.html);
    if (name == "--entry")
      return args.value(name, inlined, has, p.plan.entry);
    if (name == "--gflops")
      return positive(p.plan.gflops);
    if (name == "--memory-gbps")
      return positive(p.plan.memoryGigabytes);
    if (name == "--link-gbps")
      return positive(p.plan.linkGigabits);
    if (name == "--latency-us")
      return positive(p.plan.latencyMicros);
  }
  if (p.command == "explain" && name == "--costs")
    return args.value(name, inlined, has, p.explainCosts);
  if (p.command == "profile") {
    auto count = [&](int64_t &out) {
      return args.number(name, inlined, has, out) &&
             (out >= 1 || args.fail(name + " " + llvm::Twine(out) + " is below 1"));
    };
    if (name == "-n" || name == "--ranks")
      return count(p.profile.ranks);
    if (name == "--threads")
      return count(p.profile.threads);
    if (name == "--repeats")
      return count(p.profile.repeats);
    if (name == "--backend")
      return args.value(name, inlined, has, p.profile.backend) &&
             (llvm::is_contained({"cpu", "cuda"}, p.profile.backend) ||
              args.fail("--backend \"" + p.profile.backend + "\" is not cpu or cuda"));
    if (name == "--arch") {
      if (!args.value(name, inlined, has, text))
        return false;
      p.profile.archs = splitList(text);
      return true;
    }
    if (name == "--quick")
      return p.profile.quick = true;
    if (name == "--mesh")
      return args.value(name, inlined, has, p.profile.mesh);
    if (name == "--channel")
      return args.value(name, inlined, has, p.profile.channel) &&
             (llvm::is_contained({"shm", "mpi", "inprocess"}, p.profile.channel) ||
              args.fail("--channel \"" + p.profile.channel + "\" is not shm, mpi or inprocess"));
    if (name == "--link-gbps")
      return args.number(name, inlined, has, p.profile.linkGigabits) &&
             (p.profile.linkGigabits > 0 || args.fail(name + " needs a positive number"));
    if (name == "-o" || name == "--output")
      return args.value(name, inlined, has, p.profile.output);
    if (name == "--force")
      return p.profile.force = true;
  }
  if (p.command == "verify") {
    if (name == "--input" || name == "-i") {
      if (!args.value(name, inlined, has, text))
        return false;
      p.verify.inputs.push_back(text);
      return true;
    }
    if (name == "--seed")
      return args.number(name, inlined, has, p.verify.seed);
    if (name == "--tolerance")
      return args.number(name, inlined, has, p.verify.tolerance);
    if (name == "--budget")
      return args.number(name, inlined, has, p.verify.byteBudget);
    if (name == "--no-compiled") {
      p.verify.compiled = false;
      return true;
    }
  }
  known = false;
  return false;
}

static bool parse(Arguments &args, Parsed &p) {
  while (!args.empty()) {
    llvm::StringRef argument = args.next();
    if (!argument.starts_with("-") || argument == "-") {
      if (!p.target.empty())
        return args.fail("\"" + argument + "\": " + p.command + " takes one file, which is " +
                         p.target);
      p.target = argument.str();
      continue;
    }
    // `--input NAME=FILE` and `--dim NAME=N` carry '=' in their value; only a long option's own '='
    // inlines one.
    bool known = false;
    if (!parseOption(args, argument, p, known))
      return known ? false
                   : args.fail("\"" + argument + "\" is not an option of shardc " + p.command);
  }
  if (p.command == "profile")
    return p.target.empty() ||
           args.fail("\"" + p.target + "\": profile takes no file; -o names the table");
  if (p.target.empty())
    return args.fail("shardc " + p.command + " needs a " +
                     (isModelCommand(p.command) ? "model" : "bundle"));
  return true;
}

int runDriver(int argc, char **argv) {
  Arguments args(argc, argv);
  if (args.empty()) {
    printHelp(llvm::errs());
    return kUsage;
  }
  Parsed p;
  llvm::StringRef first = args.next();
  if (first == "-h" || first == "--help" || first == "help") {
    printHelp(llvm::outs());
    return kOk;
  }
  if (first == "--version") {
    llvm::outs() << "shardc " SHARDC_VERSION "\n";
    return kOk;
  }
  p.command = first.str();
  if (!llvm::is_contained(
          {"compile", "verify", "explain", "inspect", "plan", "export-plan", "pack", "profile"},
          first)) {
    args.fail("\"" + first +
              "\" is not a command: compile, verify, plan, export-plan, pack, explain, inspect or "
              "profile");
    return kUsage;
  }
  if (args.asksForHelp()) {
    printHelp(llvm::outs(), first);
    return kOk;
  }
  if (!parse(args, p))
    return kUsage;
  p.model().import.path = p.target;
  if (p.command == "compile") {
    p.compile.json = p.json;
    return compileCommand(p.compile);
  }
  if (p.command == "verify") {
    p.verify.json = p.json;
    return verifyCommand(p.verify);
  }
  if (p.command == "export-plan")
    return exportPlanCommand(p.exportPlan);
  if (p.command == "pack") {
    p.pack.bundle = p.target;
    return packCommand(p.pack);
  }
  if (p.command == "profile") {
    p.profile.json = p.json;
    return profileCommand(p.profile);
  }
  if (p.command == "plan") {
    p.plan.bundle = p.target;
    p.plan.json = p.json;
    return planCommand(p.plan);
  }
  return p.command == "explain" ? explainCommand(p.target, p.explainCosts, p.json)
                                : inspectCommand(p.target, p.json);
}

} // namespace shardc
