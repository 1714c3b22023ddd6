//===- CommandLine.cpp - Options of shardc --------------------------------===//
//
// Parsed by hand into the commands' own option structs: LLVM's registry would add its several
// hundred options, and a flag that does not apply to a command must be refused, with the command's
// name.
//
//===----------------------------------------------------------------------===//

#include "shardc/Driver/Driver.h"
#include "shardc/FSDP/Optimizer.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace shardc {

static const char kHelp[] = R"(shardc: compile exported transformers for a mesh of devices

usage: shardc COMMAND ...

  shardc compile MODEL.onnx --tp 4 -o llama.bundle    a program for four ranks; run it with shard-run
  shardc compile MODEL.onnx --tp 4 --target cuda …    the same for four GPUs; none is needed here
  shardc verify  MODEL.onnx --tp 4                    numbers against the unsharded program, stage by stage
  shardc plan    llama.train --html report.html       memory and time of a step before it runs, what stays exposed
  shardc explain llama.bundle                         every collective: why, bytes, what would remove it
  shardc export-plan MODEL.onnx --tp 4 -o PLANNED.onnx a copy of the file with the plan as its device configuration
  shardc inspect llama.bundle                         what a bundle holds
  shardc pack    llama.bundle -o llama.zip            the bundle as one file, which runs without being unpacked
  shardc profile -n 4 -o machine.json                 measures this machine: what --costs reads

model (compile, verify, export-plan)
  MODEL                  .onnx, or .mlir of the graph dialect
  --dim NAME=N           size of a dynamic dimension (repeatable)
  --shape-instance NAME=N,...
                         further sizes, for which the bundle gets an entry point of its own, with the same weights and caches; who
                         runs it chooses by the inputs' shapes (compile, verify; repeatable)
  --constant NAME=FILE.npy
                         compile with this value of an input, which then is none any more: what shapes depend on
  --cache NAME=N         dimension NAME is the length of a key/value cache to which each run appends: room for N entries. The
                         length is an input of that name; both are kept in place from run to run, and start empty
  --carry INPUT=OUTPUT   the output replaces the input after each run, in place: a cache of a fixed size (repeatable)
  --weights PATH         weights by name: .safetensors, *.index.json, or a folder with one of these

mesh and plan (compile, verify, export-plan)
  --tp N                 tensor parallel over N devices: the same as --mesh tp=N
  --mesh AXES            axes and sizes, major to minor: dp_shard=2,tp=4
  --plan NAME|FILE       a family's built-in plan, a YAML or JSON file, onnx (onnx:NAME): the file's device configuration, or default:
                         the base plan, by name and role. Without: the file's device configuration if it has one, else default
  --ep N                 expert parallel: experts over N devices, all of tp and the rest of dp_shard; tokens are gathered for them
  --sequence-parallel    cut the residual stream along the sequence over tp
  --async-tensor-parallel
                         cut the collectives of --sequence-parallel, and the products beside them, into pieces that overlap
                         (compile, verify)
  --async-tensor-parallel-pieces N
                         so many (default: by --costs, else 4 or 2 of at least 64 KiB)
  --costs FILE           table of shardc profile, by which shardings, routes and schedule are chosen (compile, verify; default: a model)
  --strict               a plan line that matches nothing is an error
  --print-plan           print which style each parameter got and from where; without -o nothing is compiled
  --keep-outputs-sharded do not gather outputs

compile
  -o, --output NAME      the bundle: a directory, or one file if NAME ends with .zip
  --force                replace an existing one
  --target cpu|cuda      what ranks are: processors (default), or NVIDIA GPUs
  --isa LEVELS           cpu: processor levels to compile for (default x86-64-v4,x86-64-v3; with products of bf16
                         x86-64-v4+amx-bf16,x86-64-v4+avx512bf16 too)
  --arch LIST            cuda: architectures; compute_XX is PTX for it and later ones (default sm_80,sm_90a,sm_100a,compute_80)
  --toolkit DIR          cuda: a folder with bin/ptxas, which sm_XX need (default: $CUDA_ROOT, $CUDA_HOME, $CUDA_PATH, PATH, /usr/local/cuda)
  --cuda-workspace SIZE  cuda: memory of a rank for cuBLASLt (default 32MiB)
  --allow-tf32           cuda: f32 matrix multiplications may round their factors to tf32 (faster; 10 bits instead of 23)
  --fp8 e4m3|hybrid      products of linear layers (attention's and feed-forward blocks') in 8-bit floats, each tensor scaled by its largest
                         magnitude: e4m3 throughout, or e5m2 for gradients; what has a size that is no multiple of 16 stays.
                         On GPUs from sm_89 on (default --arch then: sm_90a,sm_100a,compute_90)
  --fp8-skip REGEX       parameters whose products are not
  --progress             a line for each stage on stderr, with its time
  --stop-after STAGE     import, or a stage of the pipeline; writes no bundle
  --json                 print the bundle's facts as JSON

training (compile)
  --train                compile the training step: loss, backward pass, reduction, optimizer
  --strategy NAME        fsdp2 (default), megatron_fsdp or ddp: its rules
  --dp-replicate N, --dp-shard N
                         data parallelism: whole copies, shards; with --tp N the mesh
  --zero-dp-strategy N   what is sharded: 0 nothing, 1 and 2 optimizer state and gradients, 3 parameters too (default)
  --outer-dp-sharding-strategy no_shard|optim
                         what dp_replicate cuts: nothing (default), or optimizer state and main parameters
  --check-for-nan-in-grad
                         check each rank's gradients in the step: what is not finite is named, and the update changes nothing
  --reshard-after-forward true|false|N
                         gather parameters again for the backward pass, from groups of N ranks; default: but for the last layer
  --activation-checkpointing none|selective|full|auto
                         what is recomputed in the backward pass; auto: the least that fits the memory limit
  --memory-limit SIZE    of one rank, such as 2GiB; refused if the step does not fit
  --offload none|optimizer|parameters
                         cuda: what lies in the machine's pinned memory instead of the GPU's: nothing (default), the optimizer's states, or
                         also main parameters and the shards of gradients that are kept between entries (FSDP2's CPUOffloadPolicy)
  --forward-prefetch N, --backward-prefetch N
                         units whose parameters are gathered ahead of use (0: none), or auto: as late as hides the gather, by
                         the costs and within the memory limit (default: auto with --costs, else 1)
  --reductions-in-flight N
                         gradient reductions that may run behind the backward pass (0: none), or auto (default likewise)
  --tensor-parallel-overlap auto|none
                         tensor parallelism's collectives beside products that nothing waits for, where the costs say that it
                         is faster (default with --costs), or never
  --gradient-accumulation N
                         micro-batches a step (each of the compiled batch size)
  --defer-fsdp-grad-sync true|false
                         reduce gradients after the last micro-batch only (default), or after each
  --separate-entry-points
                         forward_backward, finish_grad_sync, optimizer_step and zero_grad instead of one step
  --param-dtype T        type in which parameters are gathered and used: f32 (default), bf16, f16; the master copy is as in the model
  --fp32-parameters REGEX
                         parameters that stay f32, with what reads them
  --reduce-dtype T       element type of gradient reductions: f32, bf16, f16 (types also by torch's names: fp32, bfloat16, …)
  --loss NAME            output to minimise, or logits for next-token cross entropy; default: loss, else logits
  --loss-chunks N|auto   chunks of each sequence whose logits exist one after the other; auto (default): by size
  --frozen REGEX         parameters that are not trained
  --optimizer NAME       adamw (default), sgd or muon (matrices of layers; AdamW for the rest); --beta1 --beta2 --epsilon --momentum
                         --weight-decay X; of Muon --nesterov true|false --newton-schulz-steps N --newton-schulz-dtype bfloat16|float32
                         --adjust-learning-rate original|match_rms_adamw
  --no-weight-decay REGEX
                         parameters without weight decay
  --clip-grad-norm X     largest global norm of the gradient
  --learning-rate X      default 1e-3; --lr-schedule constant|linear|cosine --lr-warmup-steps N --lr-decay-steps N (behind
                         the warm-up) --lr-minimum X

verify
  --input NAME=FILE.npy  an input's value (default: seeded random numbers)
  --seed N               seed of those (default 0)
  --tolerance X          largest difference, times the largest magnitude of the output (default 1e-4)
  --budget BYTES         most memory that the interpreter may take (default 4 GiB)
  --no-compiled          the interpreter only
  --json                 print results as JSON

plan
  --entry NAME           default: step, main or forward_backward
  --html FILE            also a page with the memory curve, the timeline and every parameter's place
  --costs FILE           table of shardc profile; default: the one that the bundle was compiled with
  --gflops X, --memory-gbps X, --link-gbps X, --latency-us X
                         a model of a machine instead of a table (default 100, 20 GB/s, 100 Gbit/s, 5 us)
  --json                 print as JSON

export-plan
  -o, --output FILE      the copy; --force replaces an existing one
  --configuration NAME   name of the device configuration (default: of the mesh, such as tp4)

pack
  -o, --output FILE.zip  the file; --force replaces an existing one

profile
  --backend cpu|cuda     measure processors (default) or this machine's GPUs, one a rank, and NCCL between them
  --arch LIST            cuda: architectures to compile for (default compute_80, which any driver compiles for its GPU)
  --quick                small sizes: whether it works, not what things cost
  -n, --ranks N          ranks to measure with; collectives are measured in groups of every size that divides N
  --mesh AXES            the same along the axes of a mesh, and all of it
  --channel KIND         shm, mpi or inprocess, as shard-run's
  --threads N            cpu: of each rank (default: processors / ranks)
  --link-gbps N          cpu: pretend that ranks are connected by a network, as shard-run's
  --repeats N            runs of which the median counts (default 20)
  -o, --output FILE      the table; --force replaces an existing one
  --json                 print it as JSON

explain, inspect
  --costs FILE           explain: table of shardc profile; default: the one that the bundle was compiled with
  --json                 print as JSON

  --version, -h, --help

exit codes
  0 done   1 the model, plan or bundle is wrong (said on stderr)   2 wrong command line   3 verify: numbers differ
)";

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

/// What the help says of one command: its line, and the sections that are its: "plan", "training (compile)".
static void printHelp(llvm::StringRef command) {
  llvm::SmallVector<llvm::StringRef> sections, commands;
  llvm::StringRef(kHelp).split(sections, "\n\n");
  for (llvm::StringRef section : llvm::drop_begin(sections)) { // the first is the title
    llvm::StringRef heading = section.split('\n').first;
    auto [subject, listed] = heading.split('(');
    commands.clear();
    llvm::SplitString(listed.empty() ? heading : listed, commands, " ,)");
    if (!heading.starts_with(" ") && llvm::is_contained(commands, command))
      llvm::outs() << "\n" << section << "\n";
    for (llvm::StringRef line : llvm::split(section, '\n'))
      if (line.ltrim().starts_with(("shardc " + command + " ").str()))
        llvm::outs() << line.ltrim() << "\n";
  }
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
    llvm::errs() << kHelp;
    return kUsage;
  }
  Parsed p;
  llvm::StringRef first = args.next();
  if (first == "-h" || first == "--help" || first == "help") {
    llvm::outs() << kHelp;
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
    printHelp(first);
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
