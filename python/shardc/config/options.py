"""What shardc compiles with, as a command line, and what it cannot do of what a training setup asks for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .setup import DistributedSetup
from .strategies import DDPConfig, FSDP2Config, MegatronFSDPConfig, MoEParallelizerConfig

_GRADIENTS = "an inference program has no gradients; use TrainOptions"
_NO_BACKWARD = "an inference program has no backward pass; use TrainOptions"
_DTYPES = "the program computes in the dtypes of the exported model; export it in that dtype and pass None"
_NCCL = "how NCCL uses memory is said when a bundle runs: load(nccl_ub=...), shard-run --nccl-ub"
_FSDP = "an inference program does not shard parameters over data-parallel ranks; use TrainOptions"

# For every field that the compiler has no use for: the values that ask for nothing, and why another is refused.
# What is in neither table is used (below); a test checks that no field of a class is missing from both.
REFUSED: dict[type, dict[str, tuple[tuple, str]]] = {
    FSDP2Config: {
        "patch_is_packed_sequence": ((False,), "the graph is compiled as it was exported; patch before exporting"),
        "mp_policy": ((None,), _DTYPES),
        "offload_policy": ((None,), "weights stay in the arena of their rank"),
        "autocast_dtype": ((None,), _DTYPES),
        "activation_checkpointing": ((False,), _NO_BACKWARD),
        "defer_fsdp_grad_sync": ((True,), _GRADIENTS),
        "reshard_after_forward": ((None,), _FSDP),
        "enable_compile": ((False, True), "everything is compiled"),
        "enable_fsdp2_prefetch": ((False,), _FSDP),
        "fsdp2_backward_prefetch_depth": ((2,), _FSDP),
        "fsdp2_forward_prefetch_depth": ((1,), _FSDP),
    },
    MegatronFSDPConfig: {
        "megatron_fsdp_unit_modules": ((MegatronFSDPConfig().megatron_fsdp_unit_modules,), _FSDP),
        "zero_dp_strategy": ((3,), _FSDP),
        "init_fsdp_with_meta_device": ((False,), _FSDP),
        "grad_reduce_in_fp32": ((False,), _GRADIENTS),
        "preserve_fp32_weights": ((False,), "an inference program has no optimizer step; use TrainOptions"),
        "overlap_grad_reduce": ((True,), _GRADIENTS),
        "overlap_param_gather": ((True,), _FSDP),
        "check_for_nan_in_grad": ((True,), _GRADIENTS),
        "average_in_collective": ((False,), _GRADIENTS),
        "disable_bucketing": ((False,), _GRADIENTS),
        "calculate_per_token_loss": ((False,), _GRADIENTS),
        "keep_fp8_transpose_cache": ((False,), "there are no FP8 weights yet"),
        "nccl_ub": ((False,), _NCCL),
        "fsdp_double_buffer": ((False,), _FSDP),
        "activation_checkpointing": ((False,), _NO_BACKWARD),
    },
    DDPConfig: {
        "activation_checkpointing": ((False,), _NO_BACKWARD),
        "broadcast_buffers": ((False,), "buffers are constants of the program, equal on all ranks"),
        "find_unused_parameters": ((False,), _GRADIENTS),
        "static_graph": ((False, True), "a compiled graph is static"),
        "bucket_cap_mb": ((None,), _GRADIENTS),
        "gradient_as_bucket_view": ((False,), _GRADIENTS),
        "autocast_dtype": ((None,), _DTYPES),
    },
}
USED: dict[type, tuple[str, ...]] = {FSDP2Config: ("sequence_parallel", "enable_async_tensor_parallel", "tp_plan")}

# Sizes above 1 that are refused: mesh axis, name of the size, and why.
_WHOLE = _FSDP + '; strategy "ddp" keeps whole weights on every rank'
REFUSED_AXES = [
    (MegatronFSDPConfig, "dp", "dp_size", _WHOLE),
    (FSDP2Config, "dp_shard", "dp_size", _WHOLE),
    (object, "pp", "pp_size", "pipeline parallelism is not compiled yet"),
    (object, "cp", "cp_size", "context parallelism is not compiled yet"),
]

# The same of experts' configuration; reshard_after_forward is used by training.
MOE_REFUSED: dict[str, tuple[tuple, str]] = {
    "ignore_router_for_ac": ((True,), "what routers choose is always saved"),
    "lm_head_precision": ((None,), "use TrainOptions.fp32_parameters"),
    "wrap_outer_model": ((True,), "what belongs to no layer is in units of its own"),
    "mp_policy": ((None,), "dtypes are the strategy's"),
}


class UnsupportedError(NotImplementedError):
    """A field asks for something that the compiler does not do. `field` is its name."""

    def __init__(self, field: str, value: Any, why: str):
        super().__init__(f"{field}: {value!r} is not supported: {why}")
        self.field = field


def refuse_unsupported(config: Any) -> None:
    """Raises for the first field that asks for more than the compiler does."""
    for name, (neutral, why) in REFUSED[type(config)].items():
        value = getattr(config, name)
        if value not in neutral:
            raise UnsupportedError(f"{type(config).__name__}.{name}", value, why)


def refuse_sizes(setup: DistributedSetup) -> None:
    """Raises for the first mesh axis that the compiler has no use for."""
    axes = {**setup.mesh_context.axes, **(setup.mesh_context.expert_axes or {})}
    for strategy, axis, name, why in REFUSED_AXES:
        if isinstance(setup.strategy_config, strategy) and axes.get(axis, 1) > 1:
            size = axes[axis] * (axes.get("dp_replicate", 1) if axis == "dp_shard" else 1)
            raise UnsupportedError(f"ParallelismSizes.{name}", size, why)


def expert_parallelism(setup: DistributedSetup) -> dict[str, int]:
    """The option ep, if the setup has a mesh of experts; raises where the compiler has no such mesh."""
    axes, ep = setup.mesh_context.axes, (setup.mesh_context.expert_axes or {}).get("ep", 1)
    if ep == 1:
        return {}
    tp, shards = axes.get("tp", 1), axes.get("dp_shard", 1)
    if ep % tp:
        raise UnsupportedError("ParallelismSizes.ep_size", ep, f"experts are cut over all of tp, ep_size is no multiple of tp_size {tp}")
    if shards * tp % ep:
        raise UnsupportedError("ParallelismSizes.ep_size", ep, f"experts are cut over dp_shard x tp = {shards} x {tp}, which it does not divide")
    config = setup.moe_parallel_config or MoEParallelizerConfig()
    for name, (neutral, why) in MOE_REFUSED.items():
        if getattr(config, name) not in neutral:
            raise UnsupportedError(f"MoEParallelizerConfig.{name}", getattr(config, name), why)
    return {"ep": ep}


def resolve_plan(plan: str | Path | Mapping[str, str] | None) -> str | Mapping[str, str] | None:
    """A plan as the compiler takes it: None, a built-in plan's name, a file, or a mapping; an import path of a mapping or
    of a function that returns one is imported."""
    if plan is None or isinstance(plan, Mapping):
        return plan
    if isinstance(plan, Path) or Path(plan).is_file() or "." not in plan:
        return str(plan)
    module, _, name = plan.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # the last two: ../plan.json
        raise ValueError(
            f'plan: "{plan}" is neither a file, nor the name of a built-in plan, nor an import path of a dict or function'
        ) from error
    found = found() if callable(found) else found
    if not isinstance(found, Mapping):
        raise ValueError(f'plan: "{plan}" is a {type(found).__name__}, not a dict')
    return found


def _check_plan(plan: Mapping[str, str]) -> None:
    if not plan:
        raise ValueError("plan: is empty; None chooses a plan by model")
    for pattern, style in plan.items():
        if not isinstance(pattern, str) or not isinstance(style, str):
            raise ValueError(f"plan: {pattern!r}: {style!r} is not a pattern and a style's name, such as colwise")


@dataclass(frozen=True)
class CompileOptions:
    """How to compile a model; fields are options of `shardc compile`.

    mesh: axes and sizes, from the outermost; {"dp": 2, "tp": 4} or "dp=2,tp=4". Axes that begin with dp cut the batch,
        the plan uses tp. tp: the same as mesh={"tp": tp}.
    plan: {module pattern: style}, a file, a built-in plan's name, or an import path; None chooses by name and role.
    ep: devices over which experts are cut: all of tp, and the rest of dp_shard.
    sequence_parallel: cut the residual stream along the sequence over tp.
    async_tensor_parallel: cut its collectives, and the products beside them, into pieces that overlap.
        async_tensor_parallel_pieces: so many; None: by costs, else by size.
    dims: sizes of dynamic dimensions.
    shape_instances: further sizes of dimensions; the bundle gets an entry point for each, with the same weights and
        caches, and a run takes the one that its inputs fit.
    cache: {dimension: N}; the length of a key/value cache to which each run appends, with room for N entries.
    carry: {input: output}; the output replaces the input for the next run, in place.
    weights: .safetensors, index or folder, for a model that was exported without.
    costs: a table of `shardc profile`, by which shardings, routes and schedule are chosen.
    strict: a plan line that matches nothing is an error.
    print_plan: report the style of every parameter (in the result of `shardc.plan`).
    keep_outputs_sharded: do not gather outputs.
    isa: processor levels, best first; None takes the compiler's.
    target: "cpu" or "cuda"; None takes the compiler's. arch: of "cuda": architectures such as "sm_90a", "compute_80" for PTX; None
        takes the compiler's. allow_tf32: of "cuda": products of f32 may round their factors to tf32.
    fp8: "e4m3" (or "hybrid", of a training step): products of linear layers in 8-bit floats. fp8_skip: parameters (a regular
        expression) whose products are not.
    force: replace an existing bundle."""

    mesh: Mapping[str, int] | str | None = None
    tp: int | None = None
    plan: Mapping[str, str] | str | Path | None = None
    ep: int | None = None
    sequence_parallel: bool = False
    async_tensor_parallel: bool = False
    async_tensor_parallel_pieces: int | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    shape_instances: Sequence[Mapping[str, int]] = ()
    cache: Mapping[str, int] = field(default_factory=dict)
    carry: Mapping[str, str] = field(default_factory=dict)
    weights: str | Path | None = None
    costs: str | Path | None = None
    strict: bool = False
    print_plan: bool = False
    keep_outputs_sharded: bool = False
    isa: tuple[str, ...] | None = None
    target: str | None = None
    arch: tuple[str, ...] | None = None
    allow_tf32: bool = False
    fp8: str | None = None
    fp8_skip: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.mesh is not None and self.tp is not None:
            raise ValueError(f"CompileOptions.tp: {self.tp} given beside mesh {self.mesh!r}; give one of them")
        if isinstance(self.mesh, str):
            object.__setattr__(self, "mesh", _parse_mesh(self.mesh))
        if self.target not in (None, "cpu", "cuda"):
            raise ValueError(f'CompileOptions.target: {self.target!r} is not "cpu" or "cuda"')
        for name in ("isa", "arch", "allow_tf32"):
            if getattr(self, name) and (self.target == "cuda") != (name != "isa"):
                raise ValueError(f"CompileOptions.{name}: does not apply to target {self.target or 'cpu'!r}")
        if self.fp8 not in (None, "e4m3", "hybrid"):
            raise ValueError(f'CompileOptions.fp8: {self.fp8!r} is not "e4m3" or "hybrid"')
        if self.fp8_skip and not self.fp8:
            raise ValueError(f"CompileOptions.fp8_skip: {self.fp8_skip!r} without fp8")
        if self.async_tensor_parallel and not self.sequence_parallel:
            raise ValueError("CompileOptions.async_tensor_parallel: needs sequence_parallel=True")
        if self.async_tensor_parallel_pieces is not None:
            if not self.async_tensor_parallel:
                raise ValueError(f"CompileOptions.async_tensor_parallel_pieces: {self.async_tensor_parallel_pieces!r} without async_tensor_parallel")
            if type(self.async_tensor_parallel_pieces) is not int or self.async_tensor_parallel_pieces < 2:
                raise ValueError(
                    f"CompileOptions.async_tensor_parallel_pieces: {self.async_tensor_parallel_pieces!r} is not a whole number of at least 2"
                )
        if len(self.cache) > 1:
            raise ValueError(f"CompileOptions.cache: {', '.join(self.cache)} are {len(self.cache)} dimensions; a cache has one length")
        sizes = {"mesh": self.mesh or {}, "dims": self.dims, "cache": self.cache}
        sizes |= {name: {name: 1 if value is None else value} for name, value in (("tp", self.tp), ("ep", self.ep))}
        for name, values in [*sizes.items(), *(("shape_instances", instance) for instance in self.shape_instances)]:
            for key, size in values.items():
                if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                    raise ValueError(f"CompileOptions.{name}: {key} is {size!r}, not a whole number of at least 1")
                if name == "mesh" and not re.fullmatch(r"[A-Za-z_]\w*", key):
                    raise ValueError(f'CompileOptions.mesh: "{key}" is not a name of an axis')
        if isinstance(self.plan, Mapping):
            _check_plan(self.plan)

    @classmethod
    def from_setup(cls, setup: DistributedSetup, **others: Any) -> CompileOptions:
        """Options of a training setup, for what of it makes sense without training: mesh, plan, sequence parallelism. A
        field that asks for something else is an UnsupportedError that names it."""
        refuse_sizes(setup)
        if setup.activation_checkpointing is not False:
            raise UnsupportedError("activation_checkpointing", setup.activation_checkpointing, _NO_BACKWARD)
        strategy = setup.strategy_config
        if strategy is not None:
            refuse_unsupported(strategy)
        chosen = {"mesh": {name: size for name, size in setup.mesh_context.axes.items() if size > 1} or {"tp": 1}}
        chosen.update(expert_parallelism(setup))
        if setup.moe_parallel_config is not None and setup.moe_parallel_config.reshard_after_forward:
            raise UnsupportedError("MoEParallelizerConfig.reshard_after_forward", True, _FSDP)
        if isinstance(strategy, FSDP2Config):
            chosen.update(plan=strategy.tp_plan, sequence_parallel=strategy.sequence_parallel)
            chosen.update(async_tensor_parallel=strategy.enable_async_tensor_parallel)
        both = sorted(set(chosen) & set(others))
        if both:
            raise ValueError(f"{', '.join(both)}: given, but the setup decides it")
        return cls(**chosen, **others)

    def arguments(self, model: str | Path, output: str | Path | None, plan: str | None = None) -> list[str]:
        """Arguments of the shardc binary. `plan`: the file in which a mapping was written; it replaces the field."""
        if isinstance(self.plan, Mapping) and plan is None:
            raise ValueError("CompileOptions.plan: a mapping must be written to a file, whose name is to be passed")
        words = ["compile", str(model)]
        if self.mesh is not None:
            words += ["--mesh", ",".join(f"{name}={size}" for name, size in self.mesh.items())]
        if self.tp is not None:
            words += ["--tp", str(self.tp)]
        if self.ep is not None:
            words += ["--ep", str(self.ep)]
        if plan or self.plan:
            words += ["--plan", str(plan or self.plan)]
        for name, size in self.dims.items():
            words += ["--dim", f"{name}={size}"]
        for instance in self.shape_instances:
            words += ["--shape-instance", ",".join(f"{name}={size}" for name, size in instance.items())]
        for name, size in self.cache.items():
            words += ["--cache", f"{name}={size}"]
        for name, replacement in self.carry.items():
            words += ["--carry", f"{name}={replacement}"]
        if self.weights is not None:
            words += ["--weights", str(self.weights)]
        if self.costs is not None:
            words += ["--costs", str(self.costs)]
        if self.isa:
            words += ["--isa", ",".join(self.isa)]
        if self.target:
            words += ["--target", self.target]
        if self.arch:
            words += ["--arch", ",".join(self.arch)]
        for name in ("fp8", "fp8_skip"):
            if getattr(self, name):
                words += ["--" + name.replace("_", "-"), getattr(self, name)]
        if self.async_tensor_parallel_pieces is not None:
            words += ["--async-tensor-parallel-pieces", str(self.async_tensor_parallel_pieces)]
        for name in ("sequence_parallel", "async_tensor_parallel", "allow_tf32", "strict", "print_plan", "keep_outputs_sharded", "force"):
            if getattr(self, name):
                words.append("--" + name.replace("_", "-"))
        return words + (["-o", str(output)] if output is not None else [])


def _parse_mesh(text: str) -> dict[str, int]:
    mesh = {}
    for part in text.split(","):
        name, _, size = part.strip().partition("=")
        if not size.isdecimal() or name in mesh:
            raise ValueError(f'CompileOptions.mesh: "{text}" is not of the form dp=2,tp=4')
        mesh[name] = int(size)
    return mesh
