"""A training step as a command line: the seeds' configuration classes as options of `shardc compile --train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .options import _NCCL, CompileOptions, UnsupportedError, expert_parallelism
from .setup import DistributedSetup
from .strategies import CPUOffloadPolicy, DDPConfig, FSDP2Config, MegatronFSDPConfig

_SHORT = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_GRAPH = "the graph is compiled as it was exported"

# For every field that a training step has no use for: the values that ask for nothing, and why another is refused.
TRAIN_REFUSED: dict[type, dict[str, tuple[tuple, str]]] = {
    FSDP2Config: {
        "patch_is_packed_sequence": ((False,), _GRAPH + "; patch before exporting"),
        "autocast_dtype": ((None,), "use mp_policy: dtypes are decided op by op when the step is compiled"),
        "enable_compile": ((False, True), "everything is compiled"),
    },
    MegatronFSDPConfig: {
        "megatron_fsdp_unit_modules": ((MegatronFSDPConfig().megatron_fsdp_unit_modules,), "units are the layers that the export names"),
        "init_fsdp_with_meta_device": ((False, True), "weights are read by each rank, shard by shard"),
        "preserve_fp32_weights": ((False,), "the master copy has the exported model's dtype; export in float32"),
        "average_in_collective": ((False,), "the loss is normalised before, so that gradients are summed"),
        "disable_bucketing": ((False,), "a unit's gradients are reduced together"),
        "keep_fp8_transpose_cache": ((False,), "there are no FP8 weights yet"),
        "nccl_ub": ((False,), _NCCL),
        "fsdp_double_buffer": ((False, True), "a unit and the next are in the arena by plan"),
        "activation_checkpointing": ((False,), "Megatron-FSDP does not support it; use FSDP2Config"),
        # One normalisation: by counted tokens of the global batch. Equal to a mean of means if all labels count.
        "calculate_per_token_loss": ((False, True), ""),
    },
    DDPConfig: {
        "broadcast_buffers": ((False,), "buffers are constants of the program, equal on all ranks"),
        "find_unused_parameters": ((False, True), "a parameter that the loss does not reach has a zero gradient on every rank"),
        "static_graph": ((False, True), "a compiled graph is static"),
        "bucket_cap_mb": ((None,), "a bucket is a layer's parameters"),
        "gradient_as_bucket_view": ((False, True), "gradients are always views of their bucket"),
        "autocast_dtype": ((None,), "use FSDP2Config's mp_policy"),
    },
}
TRAIN_USED: dict[type, tuple[str, ...]] = {
    FSDP2Config: (
        "sequence_parallel",
        "enable_async_tensor_parallel",
        "tp_plan",
        "mp_policy",
        "offload_policy",
        "activation_checkpointing",
        "defer_fsdp_grad_sync",
        "reshard_after_forward",
        "enable_fsdp2_prefetch",
        "fsdp2_backward_prefetch_depth",
        "fsdp2_forward_prefetch_depth",
    ),
    MegatronFSDPConfig: ("zero_dp_strategy", "check_for_nan_in_grad", "grad_reduce_in_fp32", "overlap_grad_reduce", "overlap_param_gather"),
    DDPConfig: ("activation_checkpointing",),
}


_FLAGS = ("separate_entry_points", "check_for_nan_in_grad")  # options without a value


@dataclass(frozen=True)
class TrainOptions(CompileOptions):
    """How to compile a training step; fields are options of `shardc compile --train` (docs/training.md).

    strategy: fsdp2, megatron_fsdp or ddp. mesh: axes among dp_replicate, dp_shard, tp.
    None leaves an option to the compiler."""

    strategy: str = "fsdp2"
    zero_dp_strategy: int | None = None
    outer_dp_sharding_strategy: int | str | None = None
    reshard_after_forward: bool | int | None = None
    activation_checkpointing: str | None = None
    memory_limit: str | None = None
    offload: str | None = None
    param_dtype: str | None = None
    reduce_dtype: str | None = None
    fp32_parameters: str | None = None
    gradient_accumulation: int | None = None
    defer_fsdp_grad_sync: bool | None = None
    separate_entry_points: bool = False
    check_for_nan_in_grad: bool = False
    forward_prefetch: int | None = None
    backward_prefetch: int | None = None
    reductions_in_flight: int | None = None
    loss: str | None = None
    loss_chunks: int | str | None = None
    frozen: str | None = None
    optimizer: str = "adamw"
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    newton_schulz_steps: int | None = None
    newton_schulz_dtype: str | None = None
    adjust_learning_rate: str | None = None
    weight_decay: float | None = None
    no_weight_decay: str | None = None
    clip_grad_norm: float | None = None
    learning_rate: float | None = None
    lr_schedule: str | None = None
    lr_warmup_steps: int | None = None
    lr_decay_steps: int | None = None
    lr_minimum: float | None = None

    @classmethod
    def from_setup(cls, setup: DistributedSetup, **others: Any) -> TrainOptions:
        """Options of a training setup: mesh, plan, strategy, dtypes, checkpointing. What cannot be done is an
        UnsupportedError that names the field. `others`: optimizer, dims and what a setup does not say."""
        strategy = setup.strategy_config
        if strategy is None:
            raise ValueError("from_setup: the setup has no strategy")
        for name, (neutral, why) in TRAIN_REFUSED[type(strategy)].items():
            if getattr(strategy, name) not in neutral:
                raise UnsupportedError(f"{type(strategy).__name__}.{name}", getattr(strategy, name), why)
        chosen: dict[str, Any] = {"mesh": _mesh(setup, strategy)}
        if getattr(strategy, "offload_policy", None) is not None:
            chosen.update(_offload(strategy.offload_policy, others.get("target", "cpu")))
        checkpointing = setup.activation_checkpointing or getattr(strategy, "activation_checkpointing", False)
        if checkpointing:
            chosen["activation_checkpointing"] = "full" if checkpointing is True else checkpointing
        chosen.update(_FROM[type(strategy)](strategy))
        experts = expert_parallelism(setup)
        if experts:
            chosen.update(experts, reshard_after_forward=_reshard_of_experts(setup, strategy))
        both = sorted(set(chosen) & set(others))
        if both:
            raise ValueError(f"{', '.join(both)}: given, but the setup decides it")
        return cls(**chosen, **others)

    def arguments(self, model: str | Path, output: str | Path | None, plan: str | None = None) -> list[str]:
        words = super().arguments(model, output, plan) + ["--train"]
        inherited = {f.name for f in fields(CompileOptions)}
        for own in fields(self):
            value = getattr(self, own.name)
            if own.name in inherited or value is None or value is False and own.name in _FLAGS:
                continue
            words.append("--" + own.name.replace("_", "-"))
            if own.name not in _FLAGS:
                words.append(str(value).lower() if isinstance(value, bool) else str(value))
        return words


def _mesh(setup: DistributedSetup, strategy: Any) -> Mapping[str, int]:
    axes = {name: size for name, size in setup.mesh_context.axes.items() if size > 1}
    for axis, name in (("pp", "pp_size"), ("cp", "cp_size")):
        if axes.get(axis, 1) > 1:
            raise UnsupportedError(f"ParallelismSizes.{name}", axes[axis], "this axis is not compiled yet")
    renamed = {"dp": "dp_shard", "dp_cp": "dp_shard"}  # one data-parallel axis: what is sharded, or (DDP) reduced over
    return {renamed.get(name, name): size for name, size in axes.items()} or {"dp_shard": 1}


def _reshard_of_experts(setup: DistributedSetup, strategy: Any) -> bool:
    """Models with experts have a default of their own; both classes have the field."""
    own, general = setup.moe_parallel_config.reshard_after_forward, strategy.reshard_after_forward
    if general not in (None, own):
        raise UnsupportedError("MoEParallelizerConfig.reshard_after_forward", own, f"FSDP2Config.reshard_after_forward is {general}, and it is one option")
    return own


def _offload(policy: CPUOffloadPolicy, target: str) -> dict[str, Any]:
    if target == "cuda":
        if not policy.pin_memory:
            raise UnsupportedError("CPUOffloadPolicy.pin_memory", False, "GPUs read and write the shards where they are, which takes pinned memory")
        return {"offload": "parameters"}
    if policy.pin_memory:  # shards are in CPU memory already; pinning is for a device
        raise UnsupportedError("CPUOffloadPolicy.pin_memory", True, "ranks are CPUs: their memory is where shards are, nothing is copied")
    return {}


def _from_fsdp2(config: FSDP2Config) -> dict[str, Any]:
    chosen: dict[str, Any] = {"strategy": "fsdp2", "plan": config.tp_plan, "sequence_parallel": config.sequence_parallel}
    chosen["async_tensor_parallel"] = config.enable_async_tensor_parallel
    policy = config.mp_policy
    if policy is not None:
        for name in ("param_dtype", "reduce_dtype"):
            dtype = getattr(policy, name)
            if dtype is not None:
                if dtype not in _SHORT:
                    raise UnsupportedError(f"MixedPrecisionPolicy.{name}", dtype, "dtypes are float32, float16 and bfloat16")
                chosen[name] = _SHORT[dtype]
        if policy.output_dtype not in (None, policy.param_dtype, "float32"):
            raise UnsupportedError("MixedPrecisionPolicy.output_dtype", policy.output_dtype, "a unit's outputs have its param_dtype, the loss is float32")
        if not policy.cast_forward_inputs:
            raise UnsupportedError("MixedPrecisionPolicy.cast_forward_inputs", False, "ops are narrow where their activations are")
    if config.reshard_after_forward is not None:
        chosen["reshard_after_forward"] = config.reshard_after_forward
    if config.enable_fsdp2_prefetch:
        chosen["backward_prefetch"] = config.fsdp2_backward_prefetch_depth
        chosen["forward_prefetch"] = config.fsdp2_forward_prefetch_depth
    if not config.defer_fsdp_grad_sync:
        chosen.update(defer_fsdp_grad_sync=False, separate_entry_points=True)
    return chosen


def _from_megatron(config: MegatronFSDPConfig) -> dict[str, Any]:
    chosen: dict[str, Any] = {"strategy": "megatron_fsdp", "zero_dp_strategy": config.zero_dp_strategy}
    chosen["check_for_nan_in_grad"] = config.check_for_nan_in_grad
    if config.grad_reduce_in_fp32:
        chosen["reduce_dtype"] = "f32"
    if not config.overlap_grad_reduce:
        chosen["reductions_in_flight"] = 0
    if not config.overlap_param_gather:
        chosen.update(forward_prefetch=0, backward_prefetch=0)
    return chosen


_FROM = {FSDP2Config: _from_fsdp2, MegatronFSDPConfig: _from_megatron, DDPConfig: lambda config: {"strategy": "ddp"}}
