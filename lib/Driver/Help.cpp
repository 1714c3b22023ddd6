//===- Help.cpp - What shardc --help says ---------------------------------===//

#include "Help.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace shardc;

/// A section is what stands between empty lines; its heading says of which commands it is.
static constexpr llvm::StringLiteral kHelp =
    R"(shardc: compile exported transformers for a mesh of devices

usage: shardc COMMAND ...

  shardc compile MODEL.onnx --tp 4 -o llama.bundle    a program for four ranks; run it with shard-run
  shardc compile MODEL.onnx --tp 4 --target cuda …    the same for four GPUs; none is needed here
  shardc verify  MODEL.onnx --tp 4                    numbers against the unsharded program, stage by stage
  shardc plan    llama.train --html report.html       memory and time of a step before it runs
  shardc explain llama.bundle                         every collective: why, bytes, what would remove it
  shardc export-plan MODEL.onnx --tp 4 -o NEW.onnx    a copy of the file, the plan as its device configuration
  shardc inspect llama.bundle                         what a bundle holds
  shardc pack    llama.bundle -o llama.zip            the bundle as one file, which runs without being unpacked
  shardc profile -n 4 -o machine.json                 measures this machine: what --costs reads

model (compile, verify, export-plan)
  MODEL                  .onnx, or .mlir of the graph dialect
  --dim NAME=N           size of a dynamic dimension (repeatable)
  --shape-instance NAME=N,...
                         further sizes, for which the bundle gets an entry point of its own, with the same
                         weights and caches; who runs it chooses by the inputs' shapes (compile, verify;
                         repeatable)
  --constant NAME=FILE.npy
                         compile with this value of an input, which then is none any more: what shapes depend on
  --cache NAME=N         dimension NAME is the length of a key/value cache to which each run appends: room for N
                         entries. The length is an input of that name; both are kept in place from run to run,
                         and start empty
  --carry INPUT=OUTPUT   the output replaces the input after each run, in place: a cache of a fixed size
                         (repeatable)
  --weights PATH         weights by name: .safetensors, *.index.json, or a folder with one of these; what is in
                         another of f32, f16 and bf16 is rounded

mesh and plan (compile, verify, export-plan)
  --tp N                 tensor parallel over N devices: the same as --mesh tp=N
  --mesh AXES            axes and sizes, major to minor: dp_shard=2,tp=4
  --plan NAME|FILE       a family's built-in plan, a YAML or JSON file, onnx (onnx:NAME): the file's device
                         configuration, or default: the base plan, by name and role. Without: the file's device
                         configuration if it has one, else default
  --ep N                 expert parallel: experts over N devices, all of tp and the rest of dp_shard; tokens are
                         gathered for them
  --sequence-parallel    cut the residual stream along the sequence over tp
  --async-tensor-parallel
                         cut the collectives of --sequence-parallel, and the products beside them, into pieces
                         that overlap (compile, verify)
  --async-tensor-parallel-pieces N
                         so many (default: by --costs, else 4 or 2 of at least 64 KiB)
  --costs FILE           table of shardc profile, by which shardings, routes and schedule are chosen (compile,
                         verify; default: a model)
  --strict               a plan line that matches nothing is an error
  --print-plan           print which style each parameter got and from where; without -o nothing is compiled
  --keep-outputs-sharded do not gather outputs

compile
  -o, --output NAME      the bundle: a directory, or one file if NAME ends with .zip
  --force                replace an existing one
  --target cpu|cuda      what ranks are: processors (default), or NVIDIA GPUs
  --isa LEVELS           cpu: processor levels to compile for (default x86-64-v4,x86-64-v3; with products of
                         bf16 x86-64-v4+amx-bf16,x86-64-v4+avx512bf16 too)
  --arch LIST            cuda: architectures; compute_XX is PTX for it and later ones (default
                         sm_80,sm_90a,sm_100a,compute_80)
  --toolkit DIR          cuda: a folder with bin/ptxas, which sm_XX need (default: $CUDA_ROOT, $CUDA_HOME,
                         $CUDA_PATH, PATH, /usr/local/cuda)
  --cuda-workspace SIZE  cuda: memory of a rank for cuBLASLt (default 32MiB)
  --allow-tf32           cuda: f32 matrix multiplications may round their factors to tf32 (faster; 10 bits
                         instead of 23)
  --fp8 e4m3|hybrid      products of linear layers (attention's and feed-forward blocks') in 8-bit floats, each
                         tensor scaled by its largest magnitude: e4m3 throughout, or e5m2 for gradients; what
                         has a size that is no multiple of 16 stays. On GPUs from sm_89 on (default --arch then:
                         sm_90a,sm_100a,compute_90)
  --fp8-skip REGEX       parameters whose products are not
  --progress             a line for each stage on stderr, with its time
  --stop-after STAGE     import, or a stage of the pipeline; writes no bundle
  --json                 print the bundle's facts as JSON

training (compile)
  --train                compile the training step: loss, backward pass, reduction, optimizer
  --strategy NAME        fsdp2 (default), megatron_fsdp or ddp: its rules
  --dp-replicate N, --dp-shard N
                         data parallelism: whole copies, shards; with --tp N the mesh
  --zero-dp-strategy N   what is sharded: 0 nothing, 1 and 2 optimizer state and gradients, 3 parameters too
                         (default)
  --outer-dp-sharding-strategy no_shard|optim
                         what dp_replicate cuts: nothing (default), or optimizer state and main parameters
  --check-for-nan-in-grad
                         check each rank's gradients in the step: what is not finite is named, and the update
                         changes nothing
  --reshard-after-forward true|false|N
                         gather parameters again for the backward pass, from groups of N ranks; default: but for
                         the last layer
  --activation-checkpointing none|selective|full|auto
                         what is recomputed in the backward pass; auto: the least that fits the memory limit
  --memory-limit SIZE    of one rank, such as 2GiB; refused if the step does not fit
  --offload none|optimizer|parameters
                         cuda: what lies in the machine's pinned memory instead of the GPU's: nothing (default),
                         the optimizer's states, or also main parameters and the shards of gradients that are
                         kept between entries (FSDP2's CPUOffloadPolicy)
  --forward-prefetch N, --backward-prefetch N
                         units whose parameters are gathered ahead of use (0: none), or auto: as late as hides
                         the gather, by the costs and within the memory limit (default: auto with --costs, else
                         1)
  --reductions-in-flight N gradient reductions that may run behind the backward pass (0: none), or auto (default
                         likewise)
  --tensor-parallel-overlap auto|none
                         tensor parallelism's collectives beside products that nothing waits for, where the
                         costs say that it is faster (default with --costs), or never
  --gradient-accumulation N
                         micro-batches a step (each of the compiled batch size)
  --defer-fsdp-grad-sync true|false reduce gradients after the last micro-batch only (default), or after each
  --separate-entry-points
                         forward_backward, finish_grad_sync, optimizer_step and zero_grad instead of one step
  --param-dtype T        type in which parameters are gathered and used: f32 (default), bf16, f16; the master
                         copy is as in the model
  --fp32-parameters REGEX
                         parameters that stay f32, with what reads them
  --reduce-dtype T       element type of gradient reductions: f32, bf16, f16 (types also by torch's names: fp32,
                         bfloat16, …)
  --loss NAME            output to minimise, or logits for next-token cross entropy; default: loss, else logits
  --loss-chunks N|auto   chunks of each sequence whose logits exist one after the other; auto (default): by size
  --frozen REGEX         parameters that are not trained
  --optimizer NAME       adamw (default), sgd or muon (matrices of layers; AdamW for the rest); --beta1 --beta2
                         --epsilon --momentum --weight-decay X; of Muon --nesterov true|false
                         --newton-schulz-steps N --newton-schulz-dtype bfloat16|float32 --adjust-learning-rate
                         original|match_rms_adamw
  --no-weight-decay REGEX
                         parameters without weight decay
  --clip-grad-norm X     largest global norm of the gradient
  --learning-rate X      default 1e-3; --lr-schedule constant|linear|cosine --lr-warmup-steps N --lr-decay-steps
                         N (behind the warm-up) --lr-minimum X

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
  --arch LIST            cuda: architectures to compile for (default compute_80, which any driver compiles for
                         its GPU)
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
  0 done   1 the model, plan or bundle is wrong   2 wrong command line   3 verify: numbers differ
)";

void shardc::printHelp(llvm::raw_ostream &os) { os << kHelp; }

void shardc::printHelp(llvm::raw_ostream &os, llvm::StringRef command) {
  llvm::SmallVector<llvm::StringRef> sections, commands;
  kHelp.split(sections, "\n\n");
  for (llvm::StringRef section : llvm::drop_begin(sections)) { // the first is the title
    llvm::StringRef heading = section.split('\n').first;
    auto [subject, listed] = heading.split('(');
    commands.clear();
    llvm::SplitString(listed.empty() ? heading : listed, commands, " ,)");
    if (!heading.starts_with(" ") && llvm::is_contained(commands, command))
      os << "\n" << section << "\n";
    for (llvm::StringRef line : llvm::split(section, '\n'))
      if (line.ltrim().starts_with(("shardc " + command + " ").str()))
        os << line.ltrim() << "\n";
  }
}
