"""Configuration classes: defaults, rules, and what CompileOptions makes of them."""

import dataclasses
import re
import sys
import types
from pathlib import Path

import pytest
from shardc.config import (
    CompileOptions,
    CPUOffloadPolicy,
    DDPConfig,
    DistributedSetup,
    FSDP2Config,
    MegatronFSDPConfig,
    MixedPrecisionPolicy,
    MoEParallelizerConfig,
    ParallelismSizes,
    TrainOptions,
    UnsupportedError,
    resolve_strategy_config,
    validate_tp_mesh,
)
from shardc.config.options import REFUSED, USED, resolve_plan

PLAIN = FSDP2Config(mp_policy=None)  # what the default would be without its bf16 policy


def test_defaults_are_those_of_the_documents():
    assert FSDP2Config().mp_policy == MixedPrecisionPolicy("bfloat16", "float32", "bfloat16", True)
    assert MixedPrecisionPolicy().to_dict() == {
        "param_dtype": None,
        "reduce_dtype": None,
        "output_dtype": None,
        "cast_forward_inputs": True,
    }
    assert MegatronFSDPConfig().zero_dp_strategy == 3
    assert DDPConfig().to_dict()["bucket_cap_mb"] is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        FSDP2Config().sequence_parallel = True


def test_torch_dtypes_are_taken_by_their_text():
    class Dtype:
        def __str__(self):
            return "torch.bfloat16"

    assert MixedPrecisionPolicy(param_dtype=Dtype()).param_dtype == "bfloat16"


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: FSDP2Config(enable_async_tensor_parallel=True),
            "enable_async_tensor_parallel: needs sequence_parallel",
        ),
        (lambda: FSDP2Config(activation_checkpointing="some"), "'some' is not False, True"),
        (lambda: FSDP2Config(fsdp2_backward_prefetch_depth=0), "fsdp2_backward_prefetch_depth: 0 is not"),
        (lambda: FSDP2Config(sequence_parallel="no"), "sequence_parallel: 'no' is not a bool"),
        (lambda: FSDP2Config(reshard_after_forward=2), "reshard_after_forward: 2 is not a bool"),
        (lambda: FSDP2Config(tp_plan={}), "tp_plan: is empty"),
        (lambda: FSDP2Config(autocast_dtype="int8"), "autocast_dtype: 'int8' is not one of"),
        (lambda: MegatronFSDPConfig(zero_dp_strategy=4), "zero_dp_strategy: 4 is not 0, 1, 2 or 3"),
        (lambda: MegatronFSDPConfig(zero_dp_strategy=0, init_fsdp_with_meta_device=True), "zero_dp_strategy is 0"),
        (lambda: DDPConfig(bucket_cap_mb=0), "bucket_cap_mb: 0 is not above 0"),
        (lambda: MixedPrecisionPolicy(param_dtype="bf16"), "MixedPrecisionPolicy.param_dtype: 'bf16' is not one of"),
        (lambda: ParallelismSizes(tp_size=2.0), "ParallelismSizes.tp_size: 2.0 is not a whole number"),
        (lambda: resolve_strategy_config("zero"), '"zero" is not one of fsdp2'),
        (lambda: resolve_strategy_config(3), "3 is neither a name nor"),
        (lambda: resolve_strategy_config("ddp", mp_policy=None), "DDPConfig: has no field mp_policy"),
        (lambda: resolve_strategy_config(PLAIN, enable_compile=True), "enable_compile given beside a FSDP2Config"),
    ],
)
def test_wrong_values_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_zero_strategies_below_three_warn():
    with pytest.warns(UserWarning, match="zero_dp_strategy: 1"):
        MegatronFSDPConfig(zero_dp_strategy=1)


def axes(strategy, world=None, **sizes):
    return dict(DistributedSetup.build(strategy, ParallelismSizes(**sizes), world_size=world).mesh_context.axes)


def test_meshes():
    assert axes("fsdp2", 16, tp_size=2, cp_size=2, dp_replicate_size=2) == {
        "pp": 1,
        "dp_replicate": 2,
        "dp_shard": 2,
        "cp": 2,
        "tp": 2,
    }
    assert axes("MFSDP", 8, tp_size=2) == {"dp": 4, "cp": 1, "tp": 2}
    assert axes("ddp", 4) == {"dp": 4}
    assert axes("fsdp2", dp_size=-1, tp_size=0)["tp"] == 1
    mesh = DistributedSetup.build("fsdp2", ParallelismSizes(dp_size=4, ep_size=2)).mesh_context
    assert mesh.expert_axes == {"ep_shard": 2, "ep": 2}
    assert mesh.world_size == 4
    assert mesh.flattened["dp_shard_cp"] == ("dp_shard", "cp")


@pytest.mark.parametrize(
    "strategy, world, sizes, message",
    [
        ("ddp", None, dict(tp_size=2), "tp_size: 2 is not supported by DDPConfig"),
        ("ddp", None, dict(cp_size=2), "cp_size: 2 is not supported by DDPConfig"),
        ("ddp", None, dict(dp_size=4, dp_replicate_size=2), "dp_replicate_size: 2 is not supported by DDPConfig"),
        ("megatron-fsdp", None, dict(pp_size=2), "pp_size: 2 is not supported by MegatronFSDPConfig"),
        ("megatron-fsdp", None, dict(ep_size=2), "ep_size: 2 is not supported by MegatronFSDPConfig"),
        ("fsdp2", 6, dict(tp_size=4), "world_size: 6 is not a multiple of tp_size 4 x cp_size 1 x pp_size 1 = 4"),
        ("fsdp2", 8, dict(tp_size=2, dp_size=2), "world_size: 8 is not dp_size 2 x tp_size 2"),
        ("fsdp2", 4, dict(dp_replicate_size=3), "dp_replicate_size: 3 does not divide dp_size 4"),
        ("fsdp2", 4, dict(dp_replicate_size=4), "dp_replicate_size: 4 leaves nothing of dp_size 4"),
        ("fsdp2", 6, dict(ep_size=4), "ep_size: 4 does not divide dp_size 6 x cp_size 1 x tp_size 1 = 6"),
    ],
)
def test_sizes_that_do_not_fit(strategy, world, sizes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        DistributedSetup.build(strategy, ParallelismSizes(**sizes), world_size=world)


def test_setup_completes_and_refuses_policies():
    setup = DistributedSetup.build(
        "fsdp2", ParallelismSizes(dp_size=2, ep_size=2), moe_parallel_config={"wrap_outer_model": False}
    )
    assert setup.moe_parallel_config == MoEParallelizerConfig(wrap_outer_model=False)
    with pytest.raises(ValueError, match="moe_parallel_config: given, but ep_size is 1"):
        DistributedSetup.build(moe_parallel_config={})
    with pytest.raises(ValueError, match="pipeline_config: given, but pp_size is 1"):
        DistributedSetup.build(pipeline_config={})


def test_validate_tp_mesh():
    model = {"num_attention_heads": 32, "num_key_value_heads": 8}
    validate_tp_mesh(model, 8)
    validate_tp_mesh({}, 4)
    with pytest.raises(ValueError, match="num_key_value_heads: 8 is not a multiple of tp_size 16"):
        validate_tp_mesh({"text_config": model}, 16)
    with pytest.raises(ValueError, match="num_attention_heads: 6 is not a multiple of tp_size 4"):
        validate_tp_mesh({"num_attention_heads": 6, "num_key_value_heads": 4}, 4)


# ---- CompileOptions ------------------------------------------------------------------------------------------------
def words(output="o", **options):
    plan = "written.json" if isinstance(options.get("plan"), dict) else None
    return CompileOptions(**options).arguments("m.onnx", output, plan)[2:]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, ["-o", "o"]),
        (dict(tp=4), ["--tp", "4", "-o", "o"]),
        (dict(mesh={"dp": 2, "tp": 4}), ["--mesh", "dp=2,tp=4", "-o", "o"]),
        (dict(mesh="dp=2, tp=4"), ["--mesh", "dp=2,tp=4", "-o", "o"]),
        (dict(plan="llama"), ["--plan", "llama", "-o", "o"]),
        (dict(plan=Path("p.yaml")), ["--plan", "p.yaml", "-o", "o"]),
        (dict(plan={"*.fc": "colwise"}), ["--plan", "written.json", "-o", "o"]),
        (dict(dims={"batch": 2, "seq": 8}), ["--dim", "batch=2", "--dim", "seq=8", "-o", "o"]),
        (dict(cache={"past": 64}), ["--cache", "past=64", "-o", "o"]),
        (dict(carry={"past.0": "present.0"}), ["--carry", "past.0=present.0", "-o", "o"]),
        (dict(weights="w"), ["--weights", "w", "-o", "o"]),
        (dict(costs="machine.json"), ["--costs", "machine.json", "-o", "o"]),
        (dict(isa=("x86-64-v3",)), ["--isa", "x86-64-v3", "-o", "o"]),
        (
            dict(target="cuda", arch=("sm_90a", "compute_80"), allow_tf32=True),
            ["--target", "cuda", "--arch", "sm_90a,compute_80", "--allow-tf32", "-o", "o"],
        ),
        (
            dict(sequence_parallel=True, strict=True, keep_outputs_sharded=True, force=True),
            ["--sequence-parallel", "--strict", "--keep-outputs-sharded", "--force", "-o", "o"],
        ),
        (
            dict(sequence_parallel=True, async_tensor_parallel=True, async_tensor_parallel_pieces=2),
            ["--async-tensor-parallel-pieces", "2", "--sequence-parallel", "--async-tensor-parallel", "-o", "o"],
        ),
        (dict(output=None, print_plan=True), ["--print-plan"]),
    ],
)
def test_command_line(options, expected):
    assert words(**options) == expected


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(tp=2, mesh={"tp": 2}), "tp: 2 given beside mesh"),
        (dict(tp=0), "tp: tp is 0, not a whole number of at least 1"),
        (dict(mesh={"tp": -1}), "mesh: tp is -1"),
        (dict(mesh={"t p": 2}), '"t p" is not a name of an axis'),
        (dict(mesh="tp:2"), '"tp:2" is not of the form'),
        (dict(mesh="tp=2,tp=2"), "is not of the form"),
        (dict(dims={"batch": "2"}), "dims: batch is '2'"),
        (dict(async_tensor_parallel=True), "async_tensor_parallel: needs sequence_parallel"),
        (dict(async_tensor_parallel_pieces=2), "async_tensor_parallel_pieces: 2 without async_tensor_parallel"),
        (
            dict(sequence_parallel=True, async_tensor_parallel=True, async_tensor_parallel_pieces=1),
            "async_tensor_parallel_pieces: 1 is not a whole number of at least 2",
        ),
        (dict(cache={"past": 8, "other": 8}), "cache: past, other are 2 dimensions"),
        (dict(target="gpu"), "target: 'gpu' is not"),
        (dict(arch=("sm_90a",)), "arch: does not apply to target 'cpu'"),
        (dict(target="cuda", isa=("x86-64-v3",)), "isa: does not apply to target 'cuda'"),
        (dict(plan={}), "plan: is empty"),
        (dict(plan={"a": object()}), "is not a pattern and a style's name"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        CompileOptions(**options)


def test_plans_by_import_path(monkeypatch):
    module = types.ModuleType("plans_for_test")
    module.PLAN, module.NUMBER = {"a": "colwise"}, 3
    module.make = lambda: module.PLAN
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert resolve_plan("llama") == "llama"
    assert resolve_plan("plans_for_test.PLAN") == {"a": "colwise"}
    assert resolve_plan("plans_for_test.make") == {"a": "colwise"}
    with pytest.raises(ValueError, match="is a int, not a dict"):
        resolve_plan("plans_for_test.NUMBER")
    for missing in ("missing.json", "./missing.json", "../plans/missing.yaml"):
        with pytest.raises(ValueError, match="neither a file, nor the name of a built-in plan, nor an import path"):
            resolve_plan(missing)


# ---- from a training setup -----------------------------------------------------------------------------------------
def test_every_field_is_used_or_refused():
    """A field that is in neither table would be ignored."""
    for config, refused in REFUSED.items():
        names = {field.name for field in dataclasses.fields(config)}
        assert names == set(refused) | set(USED.get(config, ())), config.__name__
        default = config()
        for name, (neutral, reason) in refused.items():
            assert reason and (name == "mp_policy" or getattr(default, name) in neutral), name


def test_supported_setups():
    options = CompileOptions.from_setup(DistributedSetup.build("ddp", ParallelismSizes(dp_size=2)), force=True)
    assert options == CompileOptions(mesh={"dp": 2}, force=True)
    strategy = FSDP2Config(sequence_parallel=True, tp_plan={"q": "colwise"}, mp_policy=None)
    options = CompileOptions.from_setup(DistributedSetup.build(strategy, ParallelismSizes(tp_size=4)))
    assert options == CompileOptions(mesh={"tp": 4}, sequence_parallel=True, plan={"q": "colwise"})
    assert CompileOptions.from_setup(DistributedSetup.build(PLAIN)).mesh == {"tp": 1}
    with pytest.raises(ValueError, match="mesh: given, but the setup decides it"):
        CompileOptions.from_setup(DistributedSetup.build(PLAIN), mesh={"tp": 2})


def test_expert_parallelism():
    """Of the mesh of experts only its size is the compiler's business: the axes are parts of dp_shard and tp."""
    setup = DistributedSetup.build(PLAIN, ParallelismSizes(tp_size=2, ep_size=2))
    options = CompileOptions.from_setup(setup)
    assert options == CompileOptions(mesh={"tp": 2}, ep=2)
    assert " ".join(options.arguments("m.onnx", None)) == "compile m.onnx --mesh tp=2 --ep 2"
    sizes = ParallelismSizes(dp_size=4, tp_size=2, ep_size=4)
    options = TrainOptions.from_setup(DistributedSetup.build(PLAIN, sizes))
    assert (options.mesh, options.ep, options.reshard_after_forward) == ({"dp_shard": 4, "tp": 2}, 4, False)
    again = DistributedSetup.build(PLAIN, sizes, moe_parallel_config={"reshard_after_forward": True})
    assert TrainOptions.from_setup(again).reshard_after_forward is True
    with pytest.raises(ValueError, match="CompileOptions.ep: ep is 0, not a whole number of at least 1"):
        CompileOptions(ep=0)


@pytest.mark.parametrize(
    "strategy, sizes, moe, message",
    [
        (PLAIN, dict(dp_size=2, tp_size=4, ep_size=2), {}, "ParallelismSizes.ep_size: 2 is not supported: experts are cut over all of tp"),
        (
            PLAIN,
            dict(dp_size=4, dp_replicate_size=2, ep_size=4),
            {},
            "ParallelismSizes.ep_size: 4 is not supported: experts are cut over dp_shard x tp = 2 x 1",
        ),
        (PLAIN, dict(dp_size=2, ep_size=2), {"wrap_outer_model": False}, "MoEParallelizerConfig.wrap_outer_model: False"),
        (
            FSDP2Config(mp_policy=None, reshard_after_forward=True),
            dict(dp_size=2, ep_size=2),
            {},
            "MoEParallelizerConfig.reshard_after_forward: False is not supported: FSDP2Config.reshard_after_forward is True",
        ),
    ],
)
def test_expert_parallelism_that_is_refused(strategy, sizes, moe, message):
    setup = DistributedSetup.build(strategy, ParallelismSizes(**sizes), moe_parallel_config=moe)
    with pytest.raises(UnsupportedError, match=re.escape(message)):
        TrainOptions.from_setup(setup)


@pytest.mark.parametrize(
    "strategy, sizes, others, field",
    [
        (FSDP2Config(), {}, {}, "FSDP2Config.mp_policy"),
        (FSDP2Config(mp_policy=None, offload_policy=CPUOffloadPolicy()), {}, {}, "FSDP2Config.offload_policy"),
        (FSDP2Config(mp_policy=None, reshard_after_forward=True), {}, {}, "FSDP2Config.reshard_after_forward"),
        (FSDP2Config(mp_policy=None, activation_checkpointing=True), {}, {}, "FSDP2Config.activation_checkpointing"),
        (PLAIN, dict(dp_size=2), {}, "ParallelismSizes.dp_size"),
        (PLAIN, dict(dp_size=4, dp_replicate_size=2), {}, "ParallelismSizes.dp_size"),
        (PLAIN, dict(cp_size=2), {}, "ParallelismSizes.cp_size"),
        (PLAIN, dict(pp_size=2), {}, "ParallelismSizes.pp_size"),
        (PLAIN, dict(tp_size=4, ep_size=2), {}, "ParallelismSizes.ep_size"),
        (
            PLAIN,
            dict(tp_size=2, ep_size=2),
            dict(moe_parallel_config={"lm_head_precision": "float32"}),
            "MoEParallelizerConfig.lm_head_precision",
        ),
        (
            PLAIN,
            dict(tp_size=2, ep_size=2),
            dict(moe_parallel_config={"reshard_after_forward": True}),
            "MoEParallelizerConfig.reshard_after_forward",
        ),
        (PLAIN, {}, dict(activation_checkpointing="selective"), "activation_checkpointing"),
        (MegatronFSDPConfig(), dict(dp_size=2), {}, "ParallelismSizes.dp_size"),
        (MegatronFSDPConfig(nccl_ub=True), {}, {}, "MegatronFSDPConfig.nccl_ub"),
        (
            MegatronFSDPConfig(megatron_fsdp_unit_modules=["Block"]),
            {},
            {},
            "MegatronFSDPConfig.megatron_fsdp_unit_modules",
        ),
        (DDPConfig(bucket_cap_mb=25), {}, {}, "DDPConfig.bucket_cap_mb"),
    ],
)
def test_what_the_compiler_cannot_do_is_refused(strategy, sizes, others, field):
    setup = DistributedSetup.build(strategy, ParallelismSizes(**sizes), **others)
    with pytest.raises(UnsupportedError) as error:
        CompileOptions.from_setup(setup)
    assert error.value.field == field
    assert str(error.value).startswith(field + ": ")
