"""What is particular to each data-parallel strategy. Sizes are apart, in `ParallelismSizes`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

ActivationCheckpointingMode = bool | Literal["full", "selective"]

_FLOATS = ("float64", "float32", "float16", "bfloat16")


class _Config:
    """Shared by the configuration classes."""

    def to_dict(self) -> dict[str, Any]:
        """Fields by name; policies stay objects."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _fail(self, name: str, why: str) -> None:
        raise ValueError(f"{type(self).__name__}.{name}: {why}")

    def _check_bools(self, *names: str) -> None:
        for name in names:
            if not isinstance(getattr(self, name), bool):
                self._fail(name, f"{getattr(self, name)!r} is not a bool")

    def _set_dtype(self, name: str) -> None:
        """A dtype's name, from a name or a torch.dtype."""
        value = getattr(self, name)
        if value is None:
            return
        text = str(value).removeprefix("torch.")
        if text not in _FLOATS:
            self._fail(name, f"{value!r} is not one of {', '.join(_FLOATS)}")
        object.__setattr__(self, name, text)

    def _check_checkpointing(self) -> None:
        mode = self.activation_checkpointing
        if not isinstance(mode, bool) and mode not in ("full", "selective"):
            self._fail("activation_checkpointing", f'{mode!r} is not False, True, "full" or "selective"')


@dataclass(frozen=True)
class MixedPrecisionPolicy(_Config):
    """Dtypes of a unit's computation, with torch's defaults: None keeps what is there.

    param_dtype: of gathered parameters and the computation. reduce_dtype: of gradient reductions. output_dtype: of the
    unit's outputs. cast_forward_inputs: cast floating-point inputs to param_dtype."""

    param_dtype: str | None = None
    reduce_dtype: str | None = None
    output_dtype: str | None = None
    cast_forward_inputs: bool = True

    def __post_init__(self) -> None:
        for name in ("param_dtype", "reduce_dtype", "output_dtype"):
            self._set_dtype(name)
        self._check_bools("cast_forward_inputs")


@dataclass(frozen=True)
class CPUOffloadPolicy(_Config):
    """Shards of parameters, gradients and optimizer states live in CPU memory, pinned or not."""

    pin_memory: bool = True

    def __post_init__(self) -> None:
        self._check_bools("pin_memory")


def _default_policy() -> MixedPrecisionPolicy:
    return MixedPrecisionPolicy(param_dtype="bfloat16", reduce_dtype="float32", output_dtype="bfloat16")


@dataclass(frozen=True)
class FSDP2Config(_Config):
    """FSDP2: each layer is a unit, gathered before use; composes with tensor, sequence, context and pipeline parallelism.

    sequence_parallel: cut the residual stream along the sequence between tensor-parallel regions.
    tp_plan: {module pattern: style}, a built-in plan's name, a plan file, or an import path; None chooses by model.
    patch_is_packed_sequence: treat sequences as never packed, which spares a synchronisation.
    mp_policy: dtypes; default bf16 parameters and outputs, f32 reductions. None keeps the model's.
    offload_policy: keep shards in CPU memory (of GPU ranks: --offload parameters).
    autocast_dtype: run the forward under autocast.
    activation_checkpointing: False, True or "full" (each layer), "selective" (keep the results of large products).
    defer_fsdp_grad_sync: with gradient accumulation, reduce in the last microbatch only.
    reshard_after_forward: free gathered parameters after the forward; None: in all layers but the last.
    enable_async_tensor_parallel: overlap tensor-parallel collectives with products; needs sequence_parallel.
    enable_compile: compile each layer.
    enable_fsdp2_prefetch, fsdp2_backward_prefetch_depth, fsdp2_forward_prefetch_depth: gather that many units ahead."""

    sequence_parallel: bool = False
    tp_plan: Mapping[str, str] | str | None = None
    patch_is_packed_sequence: bool = False
    mp_policy: MixedPrecisionPolicy | None = field(default_factory=_default_policy)
    offload_policy: CPUOffloadPolicy | None = None
    autocast_dtype: str | None = None
    activation_checkpointing: ActivationCheckpointingMode = False
    defer_fsdp_grad_sync: bool = True
    reshard_after_forward: bool | None = None
    enable_async_tensor_parallel: bool = False
    enable_compile: bool = False
    enable_fsdp2_prefetch: bool = False
    fsdp2_backward_prefetch_depth: int = 2
    fsdp2_forward_prefetch_depth: int = 1

    def __post_init__(self) -> None:
        self._check_bools(
            "sequence_parallel",
            "patch_is_packed_sequence",
            "defer_fsdp_grad_sync",
            "enable_async_tensor_parallel",
            "enable_compile",
            "enable_fsdp2_prefetch",
        )
        self._check_checkpointing()
        self._set_dtype("autocast_dtype")
        if self.reshard_after_forward is not None:
            self._check_bools("reshard_after_forward")
        if self.enable_async_tensor_parallel and not self.sequence_parallel:
            self._fail("enable_async_tensor_parallel", "needs sequence_parallel=True")
        for name in ("fsdp2_backward_prefetch_depth", "fsdp2_forward_prefetch_depth"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                self._fail(name, f"{getattr(self, name)!r} is not a whole number of at least 1")
        if isinstance(self.tp_plan, Mapping) and not self.tp_plan:
            self._fail("tp_plan", "is empty; None chooses a plan by model")


@dataclass(frozen=True)
class MegatronFSDPConfig(_Config):
    """Megatron-FSDP: flat buffers per unit, ZeRO 0 to 3; composes with tensor and context parallelism only.

    megatron_fsdp_unit_modules: classes whose instances are units.
    zero_dp_strategy: what is sharded over data-parallel ranks: 0 nothing, 1 optimizer states, 2 also gradients,
        3 also parameters.
    init_fsdp_with_meta_device: build without memory, fill layer by layer; not with strategy 0.
    grad_reduce_in_fp32: reduce gradients in f32. preserve_fp32_weights: keep an f32 master copy.
    overlap_grad_reduce, overlap_param_gather: with the computation.
    check_for_nan_in_grad: before the optimizer step. average_in_collective: instead of dividing apart.
    disable_bucketing: reduce each gradient when it is there.
    calculate_per_token_loss: normalise by tokens, not sequences.
    keep_fp8_transpose_cache: keep transposed FP8 weights. nccl_ub: registered NCCL buffers.
    fsdp_double_buffer: two sets of gathered parameters.
    activation_checkpointing: recompute activations in the backward."""

    megatron_fsdp_unit_modules: list[str] = field(
        default_factory=lambda: ["transformers.models.llama.modeling_llama.LlamaDecoderLayer"]
    )
    zero_dp_strategy: int = 3
    init_fsdp_with_meta_device: bool = False
    grad_reduce_in_fp32: bool = False
    preserve_fp32_weights: bool = False
    overlap_grad_reduce: bool = True
    overlap_param_gather: bool = True
    check_for_nan_in_grad: bool = True
    average_in_collective: bool = False
    disable_bucketing: bool = False
    calculate_per_token_loss: bool = False
    keep_fp8_transpose_cache: bool = False
    nccl_ub: bool = False
    fsdp_double_buffer: bool = False
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        self._check_bools(*(f.name for f in fields(self) if f.default is True or f.default is False))
        if self.zero_dp_strategy not in (0, 1, 2, 3):
            self._fail("zero_dp_strategy", f"{self.zero_dp_strategy!r} is not 0, 1, 2 or 3")
        if self.zero_dp_strategy == 0 and self.init_fsdp_with_meta_device:
            self._fail("init_fsdp_with_meta_device", "needs sharded parameters, and zero_dp_strategy is 0")
        if self.zero_dp_strategy != 3:
            warnings.warn(f"MegatronFSDPConfig.zero_dp_strategy: {self.zero_dp_strategy} is little tested; 3 is usual")


@dataclass(frozen=True)
class DDPConfig(_Config):
    """DDP: every rank holds all parameters. No tensor, pipeline, context or expert parallelism.

    activation_checkpointing: recompute activations in the backward. broadcast_buffers: from rank 0 before each forward.
    find_unused_parameters: look for parameters without a gradient. static_graph: the graph never changes.
    bucket_cap_mb: size of gradient buckets; None: torch's. gradient_as_bucket_view: gradients are views of buckets.
    autocast_dtype: run the forward under autocast."""

    activation_checkpointing: bool = False
    broadcast_buffers: bool = False
    find_unused_parameters: bool = False
    static_graph: bool = False
    bucket_cap_mb: float | None = None
    gradient_as_bucket_view: bool = False
    autocast_dtype: str | None = None

    def __post_init__(self) -> None:
        self._check_bools(*(f.name for f in fields(self) if f.default is False))
        self._set_dtype("autocast_dtype")
        if self.bucket_cap_mb is not None and not self.bucket_cap_mb > 0:
            self._fail("bucket_cap_mb", f"{self.bucket_cap_mb} is not above 0")


@dataclass(frozen=True)
class MoEParallelizerConfig(_Config):
    """Mixtures of experts under expert parallelism and FSDP.

    ignore_router_for_ac: save router results instead of recomputing them, where ties could choose other experts.
    reshard_after_forward: as in FSDP2Config. lm_head_precision: dtype of the head.
    wrap_outer_model: the outer model is the root unit. mp_policy: None takes the strategy's."""

    ignore_router_for_ac: bool = True
    reshard_after_forward: bool = False
    lm_head_precision: str | None = None
    wrap_outer_model: bool = True
    mp_policy: MixedPrecisionPolicy | None = None

    def __post_init__(self) -> None:
        self._check_bools("ignore_router_for_ac", "reshard_after_forward", "wrap_outer_model")
        self._set_dtype("lm_head_precision")
        if not self.ignore_router_for_ac:
            warnings.warn("MoEParallelizerConfig.ignore_router_for_ac: recomputed routers may choose other experts")


DistributedStrategyConfig = FSDP2Config | MegatronFSDPConfig | DDPConfig
STRATEGIES = {
    "fsdp2": FSDP2Config,
    "megatron_fsdp": MegatronFSDPConfig,
    "megatron-fsdp": MegatronFSDPConfig,
    "mfsdp": MegatronFSDPConfig,
    "ddp": DDPConfig,
}
