"""Sizes of the mesh, and a strategy on it: what is allowed together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .strategies import (
    STRATEGIES,
    ActivationCheckpointingMode,
    DDPConfig,
    DistributedStrategyConfig,
    FSDP2Config,
    MegatronFSDPConfig,
    MoEParallelizerConfig,
)


@dataclass(frozen=True)
class ParallelismSizes:
    """Devices along each kind of parallelism. None, 0 and -1 mean "not given": dp_size is then what the others leave of
    the world, every other size is 1."""

    dp_size: int | None = None
    dp_replicate_size: int | None = None
    tp_size: int = 1
    pp_size: int = 1
    cp_size: int = 1
    ep_size: int = 1

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise ValueError(f"ParallelismSizes.{f.name}: {value!r} is not a whole number")

    def given(self, name: str) -> int:
        """A size, 1 if it is not given."""
        return max(1, getattr(self, name) or 1)


@dataclass(frozen=True)
class MeshContext:
    """Axes from the outermost to the innermost, names for several of them as one, and the experts' view of the same
    devices."""

    axes: Mapping[str, int]
    flattened: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expert_axes: Mapping[str, int] | None = None

    @property
    def world_size(self) -> int:
        size = 1
        for axis in self.axes.values():
            size *= axis
        return size


def resolve_strategy_config(strategy: str | DistributedStrategyConfig, **options: Any) -> DistributedStrategyConfig:
    """A strategy by name with its options, or one that is configured already."""
    if not isinstance(strategy, str):
        if not isinstance(strategy, tuple(set(STRATEGIES.values()))):
            raise ValueError(
                f"strategy: {strategy!r} is neither a name nor an FSDP2Config, MegatronFSDPConfig or DDPConfig"
            )
        if options:
            raise ValueError(
                f"strategy: {', '.join(options)} given beside a {type(strategy).__name__}, which has its own"
            )
        return strategy
    config = STRATEGIES.get(strategy.lower())
    if config is None:
        raise ValueError(f'strategy: "{strategy}" is not one of {", ".join(STRATEGIES)}')
    unknown = sorted(set(options) - {f.name for f in fields(config)})
    if unknown:
        raise ValueError(f"{config.__name__}: has no field {', '.join(unknown)}")
    return config(**options)


def _check_combination(strategy: DistributedStrategyConfig, sizes: ParallelismSizes) -> None:
    name = type(strategy).__name__
    excluded = {
        FSDP2Config: (),
        MegatronFSDPConfig: ("pp_size", "ep_size", "dp_replicate_size"),
        DDPConfig: ("tp_size", "pp_size", "cp_size", "ep_size", "dp_replicate_size"),
    }[type(strategy)]
    for size in excluded:
        if sizes.given(size) > 1:
            raise ValueError(f"ParallelismSizes.{size}: {sizes.given(size)} is not supported by {name}, only 1")


def _data_parallel_size(sizes: ParallelismSizes, world_size: int | None) -> int:
    tp, cp, pp = sizes.given("tp_size"), sizes.given("cp_size"), sizes.given("pp_size")
    others, text = tp * cp * pp, f"tp_size {tp} x cp_size {cp} x pp_size {pp} = {tp * cp * pp}"
    is_given = (sizes.dp_size or 0) > 0
    if world_size is None:
        return sizes.dp_size if is_given else sizes.given("dp_replicate_size")
    if is_given and sizes.dp_size * others != world_size:
        raise ValueError(f"world_size: {world_size} is not dp_size {sizes.dp_size} x {text}")
    if world_size < 1 or world_size % others:
        raise ValueError(f"world_size: {world_size} is not a multiple of {text}")
    return world_size // others


def make_mesh(strategy: DistributedStrategyConfig, sizes: ParallelismSizes, world_size: int | None) -> MeshContext:
    """The strategy's mesh: FSDP2 (pp, dp_replicate, dp_shard, cp, tp), Megatron-FSDP (dp, cp, tp), DDP (dp)."""
    _check_combination(strategy, sizes)
    dp = _data_parallel_size(sizes, world_size)
    tp, cp, pp, ep = (sizes.given(name) for name in ("tp_size", "cp_size", "pp_size", "ep_size"))
    if isinstance(strategy, DDPConfig):
        return MeshContext({"dp": dp})
    if isinstance(strategy, MegatronFSDPConfig):
        return MeshContext({"dp": dp, "cp": cp, "tp": tp}, {"dp_cp": ("dp", "cp")} if cp > 1 else {})
    replicate = sizes.given("dp_replicate_size")
    if dp % replicate:
        raise ValueError(f"ParallelismSizes.dp_replicate_size: {replicate} does not divide dp_size {dp}")
    if replicate >= dp and replicate != 1:
        raise ValueError(
            f"ParallelismSizes.dp_replicate_size: {replicate} leaves nothing of dp_size {dp} to shard; use DDP for that"
        )
    if (dp * cp * tp) % ep:
        raise ValueError(
            f"ParallelismSizes.ep_size: {ep} does not divide dp_size {dp} x cp_size {cp} x tp_size {tp} = {dp * cp * tp}"
        )
    axes = {"pp": pp, "dp_replicate": replicate, "dp_shard": dp // replicate, "cp": cp, "tp": tp}
    flattened = {
        "dp": ("dp_replicate", "dp_shard"),
        "dp_shard_cp": ("dp_shard", "cp"),
        "dp_cp": ("dp_replicate", "dp_shard", "cp"),
    }
    return MeshContext(axes, flattened, {"ep_shard": dp * cp * tp // ep, "ep": ep} if ep > 1 else None)


@dataclass(frozen=True)
class DistributedSetup:
    """A strategy on a mesh, with everything that was given resolved and checked. Made by `build`."""

    mesh_context: MeshContext
    strategy_config: DistributedStrategyConfig | None = None
    pipeline_config: Mapping[str, Any] | None = None
    moe_parallel_config: MoEParallelizerConfig | None = None
    activation_checkpointing: ActivationCheckpointingMode = False

    @classmethod
    def build(
        cls,
        strategy: str | DistributedStrategyConfig = "fsdp2",
        parallelism_sizes: ParallelismSizes | None = None,
        pipeline_config: Mapping[str, Any] | None = None,
        moe_parallel_config: MoEParallelizerConfig | Mapping[str, Any] | None = None,
        activation_checkpointing: ActivationCheckpointingMode = False,
        world_size: int | None = None,
    ) -> DistributedSetup:
        """strategy: a name or a configuration. moe_parallel_config: may be a dict. pipeline_config: a dict.
        world_size: number of devices; None takes what the sizes make."""
        strategy = resolve_strategy_config(strategy)
        sizes = parallelism_sizes or ParallelismSizes()
        for name, config, size in (
            ("pipeline_config", pipeline_config, "pp_size"),
            ("moe_parallel_config", moe_parallel_config, "ep_size"),
        ):
            if config is not None and sizes.given(size) <= 1:
                raise ValueError(f"{name}: given, but {size} is {sizes.given(size)}")
        if sizes.given("ep_size") > 1 and not isinstance(moe_parallel_config, MoEParallelizerConfig):
            moe_parallel_config = MoEParallelizerConfig(**(moe_parallel_config or {}))
        if sizes.given("pp_size") > 1:
            pipeline_config = dict(pipeline_config or {})
        if not isinstance(activation_checkpointing, bool) and activation_checkpointing not in ("full", "selective"):
            raise ValueError(
                f'activation_checkpointing: {activation_checkpointing!r} is not False, True, "full" or "selective"'
            )
        mesh = make_mesh(strategy, sizes, world_size)
        return cls(mesh, strategy, pipeline_config, moe_parallel_config, activation_checkpointing)


def validate_tp_mesh(model_config: Mapping[str, Any], tp_size: int) -> None:
    """The rule of the systems that the classes come from: attention heads and key/value heads divide by tp_size.
    `model_config` is a config.json; heads may be in its text_config. shardc itself does not need this: it repeats
    key/value heads where there are fewer than tp_size."""
    if tp_size == 1:
        return
    config = model_config.get("text_config") or model_config
    heads = config.get("num_attention_heads") or 0
    for name, count in (
        ("num_key_value_heads", config.get("num_key_value_heads") or heads),
        ("num_attention_heads", heads),
    ):
        if count % tp_size:
            raise ValueError(f"{name}: {count} is not a multiple of tp_size {tp_size}")
