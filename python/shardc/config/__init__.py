"""Configuration: the classes of NeMo AutoModel's distributed training, under their own names, fields and defaults, and
`CompileOptions`, which is what shardc compiles with.

    setup = DistributedSetup.build("ddp", ParallelismSizes(dp_size=2), world_size=2)
    options = CompileOptions.from_setup(setup)            # refuses by name what the compiler cannot do
    options = CompileOptions(mesh={"dp": 2, "tp": 4})     # or directly
    options = TrainOptions.from_setup(setup, optimizer="adamw", dims={"batch": 8})      # a training step

The classes need no torch: dtypes are names, and torch's own are accepted. A value that makes no sense is a ValueError
that names the field and the numbers."""

from .options import CompileOptions, UnsupportedError
from .setup import DistributedSetup, MeshContext, ParallelismSizes, resolve_strategy_config, validate_tp_mesh
from .strategies import (
    ActivationCheckpointingMode,
    CPUOffloadPolicy,
    DDPConfig,
    DistributedStrategyConfig,
    FSDP2Config,
    MegatronFSDPConfig,
    MixedPrecisionPolicy,
    MoEParallelizerConfig,
)
from .train import TrainOptions

__all__ = [
    "ActivationCheckpointingMode",
    "CPUOffloadPolicy",
    "CompileOptions",
    "DDPConfig",
    "DistributedSetup",
    "DistributedStrategyConfig",
    "FSDP2Config",
    "MegatronFSDPConfig",
    "MeshContext",
    "MixedPrecisionPolicy",
    "MoEParallelizerConfig",
    "ParallelismSizes",
    "TrainOptions",
    "UnsupportedError",
    "resolve_strategy_config",
    "validate_tp_mesh",
]
