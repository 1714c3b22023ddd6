"""Training options from the seeds' configuration classes, down to the command line; needs no binary but for the last test."""

import dataclasses

import pytest
from shardc.config import (
    CPUOffloadPolicy,
    DDPConfig,
    DistributedSetup,
    FSDP2Config,
    MegatronFSDPConfig,
    MixedPrecisionPolicy,
    ParallelismSizes,
    TrainOptions,
    UnsupportedError,
)
from shardc.config.train import TRAIN_REFUSED, TRAIN_USED


def from_setup(strategy, sizes=None, setup_options=None, **others):
    setup = DistributedSetup.build(strategy, ParallelismSizes(**(sizes or {})), **(setup_options or {}))
    return TrainOptions.from_setup(setup, **others)


def test_every_field_is_used_or_refused():
    for config, refused in TRAIN_REFUSED.items():
        names = {field.name for field in dataclasses.fields(config)}
        assert names == set(refused) | set(TRAIN_USED[config]), config.__name__
        assert all(getattr(config(), name) in neutral for name, (neutral, _) in refused.items())


def test_fsdp2():
    config = FSDP2Config(sequence_parallel=True, reshard_after_forward=False, enable_fsdp2_prefetch=True, activation_checkpointing=True)
    options = from_setup(config, dict(dp_size=4, dp_replicate_size=2, tp_size=2), clip_grad_norm=1.0)
    assert options.mesh == {"dp_replicate": 2, "dp_shard": 2, "tp": 2}
    words = options.arguments("m.onnx", "m.train")
    assert words[-1] != "--train" and "--train" in words
    for option, value in {
        "--strategy": "fsdp2",
        "--param-dtype": "bf16",
        "--reduce-dtype": "f32",
        "--reshard-after-forward": "false",
        "--activation-checkpointing": "full",
        "--backward-prefetch": "2",
        "--forward-prefetch": "1",
        "--clip-grad-norm": "1.0",
    }.items():
        assert words[words.index(option) + 1] == value
    assert "--sequence-parallel" in words and "--async-tensor-parallel" not in words
    words = from_setup(FSDP2Config(sequence_parallel=True, enable_async_tensor_parallel=True), dict(tp_size=2)).arguments("m.onnx", "m.train")
    assert "--async-tensor-parallel" in words


def test_offloading_is_not_dropped_silently():
    config = FSDP2Config(offload_policy=CPUOffloadPolicy(pin_memory=False))
    assert from_setup(config).offload is None  # ranks are CPUs: shards are where they are asked to be
    with pytest.raises(UnsupportedError, match="which takes pinned memory") as error:
        from_setup(config, target="cuda")
    assert error.value.field == "CPUOffloadPolicy.pin_memory"
    words = from_setup(FSDP2Config(offload_policy=CPUOffloadPolicy()), target="cuda").arguments("m.onnx", "m.train")
    assert words[words.index("--offload") + 1] == "parameters"
    assert "--offload" not in from_setup(FSDP2Config(), target="cuda").arguments("m.onnx", "m.train")


def test_outer_sharding_is_an_option_of_its_own():
    sizes = dict(dp_size=4, dp_replicate_size=2)
    for given in (1, "optim"):  # as Megatron-FSDP numbers and names it
        words = from_setup(FSDP2Config(), sizes, outer_dp_sharding_strategy=given).arguments("m.onnx", "m.train")
        assert words[words.index("--outer-dp-sharding-strategy") + 1] == str(given)
    assert "--outer-dp-sharding-strategy" not in from_setup(FSDP2Config(), sizes).arguments("m.onnx", "m.train")


def test_megatron_and_ddp():
    options = from_setup(MegatronFSDPConfig(grad_reduce_in_fp32=True, overlap_param_gather=False, overlap_grad_reduce=False), dict(dp_size=2))
    assert (options.strategy, options.zero_dp_strategy, options.reduce_dtype) == ("megatron_fsdp", 3, "f32")
    assert options.check_for_nan_in_grad and "--check-for-nan-in-grad" in options.arguments("m.onnx", "m.train")
    quiet = from_setup(MegatronFSDPConfig(check_for_nan_in_grad=False), dict(dp_size=2))
    assert "--check-for-nan-in-grad" not in quiet.arguments("m.onnx", "m.train")
    assert (options.forward_prefetch, options.backward_prefetch, options.reductions_in_flight) == (0, 0, 0)
    assert from_setup(DDPConfig(activation_checkpointing=True), dict(dp_size=2)).activation_checkpointing == "full"
    with pytest.raises(ValueError, match="mesh: given, but the setup decides it"):
        from_setup(DDPConfig(), dict(dp_size=2), mesh={"dp_shard": 2})


@pytest.mark.parametrize(
    "config, sizes, field",
    [
        (FSDP2Config(autocast_dtype="bfloat16"), {}, "FSDP2Config.autocast_dtype"),
        (FSDP2Config(offload_policy=CPUOffloadPolicy()), {}, "CPUOffloadPolicy.pin_memory"),
        (FSDP2Config(mp_policy=MixedPrecisionPolicy(param_dtype="float64")), {}, "MixedPrecisionPolicy.param_dtype"),
        (FSDP2Config(), dict(cp_size=2), "ParallelismSizes.cp_size"),
        (MegatronFSDPConfig(nccl_ub=True), {}, "MegatronFSDPConfig.nccl_ub"),
        (DDPConfig(bucket_cap_mb=25), {}, "DDPConfig.bucket_cap_mb"),
    ],
)
def test_what_cannot_be_done_is_refused(config, sizes, field):
    with pytest.raises(UnsupportedError) as error:
        from_setup(config, sizes)
    assert error.value.field == field
