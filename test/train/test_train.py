"""Compiled training against torch's (references.py): losses of 20 steps, every gradient, on every kind of mesh; and bit for
bit between settings that must not change a number.

A Case is a family on a mesh with options; what is compiled and run is kept for the session. By default each family has
its meshes and one case of each kind of option, and the first family has all; `--full` gives all to all."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import reference_data
import shardc
from harness import Failed, call, compile_training, train

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4  # relative, of losses; of a gradient, relative to its largest magnitude
FAMILIES = ("llama", "gpt2", "qwen3_moe", "gemma2", "nemotron_h")
OTHER_FAMILIES = ("qwen2", "mixtral", "mamba2", "deepseek_v3", "qwen3_5")  # their gradients only
MESHES = {
    "1": (),
    "dp2": ("--dp-shard", "2"),
    "dp4": ("--dp-shard", "4"),
    "tp2": ("--tp", "2"),
    "dp2-tp2": ("--dp-shard", "2", "--tp", "2"),
    "replicate2-shard2": ("--dp-replicate", "2", "--dp-shard", "2"),
}
# Experts over tp and a part of dp_shard: two ranks have the same ones in dp4-ep2, and in dp2-tp2-ep2, where they are cut over tp only.
EXPERT_MESHES = {
    "dp2-ep2": (*MESHES["dp2"], "--ep", "2"),
    "dp4-ep2": (*MESHES["dp4"], "--ep", "2"),
    "dp2-tp2-ep2": (*MESHES["dp2-tp2"], "--ep", "2"),
    "dp2-tp2-ep4": (*MESHES["dp2-tp2"], "--ep", "4"),
    "replicate2-shard2-ep2": (*MESHES["replicate2-shard2"], "--ep", "2"),
}
MESHES |= EXPERT_MESHES
SEQUENCE_PARALLEL = ("--sequence-parallel",)
# In pieces of whole sequences, and of parts of them.
ASYNC = {f"async{n}": ("--async-tensor-parallel", "--async-tensor-parallel-pieces", str(n)) for n in (2, 4)}
ZERO = {f"zero{stage}": ("--zero-dp-strategy", str(stage)) for stage in range(4)}
CHECKPOINTING = {kind: ("--activation-checkpointing", kind) for kind in ("selective", "full")}
PREFETCH = {f"prefetch{n}": ("--forward-prefetch", str(n), "--backward-prefetch", str(n), "--reductions-in-flight", str(n))
            for n in (0, 2, "auto")}  # fmt: skip
PREFETCH["prefetchauto"] = (*PREFETCH["prefetchauto"], "--tensor-parallel-overlap", "auto")
# A link so slow that auto starts everything as early as it may; and nothing behind anything.
PREFETCH["slow-link"] = (*PREFETCH["prefetchauto"], "--costs", str(ROOT / "test" / "Schedule" / "Inputs" / "slow-link.json"))
PREFETCH["synchronous"] = (*PREFETCH["prefetch0"], "--tensor-parallel-overlap", "none")
RESHARD = {f"reshard-{value}": ("--reshard-after-forward", value) for value in ("true", "false")}
OUTER = ("--outer-dp-sharding-strategy", "optim")
LOSS_CHUNKS = ("--loss-chunks", "4")
# Numbers stay the same, bit for bit.
NEUTRAL = {**ZERO, **CHECKPOINTING, **PREFETCH, **RESHARD, "zero1-full": (*ZERO["zero1"], *CHECKPOINTING["full"])}
ACCUMULATED = {
    "accumulation4": ("--gradient-accumulation", "4"),
    "accumulation4-each": ("--gradient-accumulation", "4", "--defer-fsdp-grad-sync", "false"),
}
NOT_OVER_ONE_RANK = (*ZERO, *PREFETCH, *RESHARD, "zero1-full", "accumulation4-each")


@dataclass(frozen=True)
class Case:
    family: str
    mesh: str
    name: str = ""  # of the options, in the case's id
    options: tuple = ()
    run: str = "adamw"

    def __str__(self) -> str:
        return "-".join(filter(None, (self.family, self.mesh, self.name, "" if self.run == "adamw" else self.run)))

    def with_options(self, name: str, options) -> Case:
        return dataclasses.replace(
            self, name="-".join(filter(None, (self.name, name))), options=(*self.options, *options)
        )


def plain_cases(family: str) -> list[Case]:
    """Every mesh, with and without sequence parallelism."""
    meshes = [mesh for mesh in MESHES if mesh not in EXPERT_MESHES or family == "qwen3_moe"]
    cases = [Case(family, mesh) for mesh in meshes]
    return cases + [Case(family, mesh).with_options("sp", SEQUENCE_PARALLEL) for mesh in meshes if "tp" in mesh]


def accumulated_cases(case: Case, names=tuple(ACCUMULATED)) -> list[Case]:
    chosen = [name for name in names if case.mesh != "1" or name not in NOT_OVER_ONE_RANK]
    return [dataclasses.replace(case.with_options(name, ACCUMULATED[name]), run="accumulation4") for name in chosen]


def cases_against_torch(everything: bool) -> list[Case]:
    cases = []
    for family in FAMILIES:
        cases += (plain := plain_cases(family))
        if everything:
            cases += [other for case in plain for other in accumulated_cases(case)]
        elif family == FAMILIES[0]:
            cases += [other for mesh in ("1", "dp2-tp2") for other in accumulated_cases(Case(family, mesh))]
        else:
            cases += accumulated_cases(Case(family, "dp2-tp2"), ["accumulation4"])
        # A head, a tied one with and without a soft cap in front of the loss.
        if family in ("llama", "gpt2", "gemma2"):
            cases += [Case(family, mesh).with_options("chunks", LOSS_CHUNKS) for mesh in ("1", "dp2-tp2")]
        outer = Case(family, "replicate2-shard2").with_options("outer", OUTER)
        cases += [outer, *accumulated_cases(outer)] if everything or family == FAMILIES[0] else []
    llama = Case("llama", "dp2-tp2")
    cases += [Case("llama", mesh, run="muon_float32") for mesh in MESHES if mesh not in EXPERT_MESHES]
    cases += [other for mesh in ("dp4-ep2", "dp2-tp2-ep4") for other in accumulated_cases(Case("qwen3_moe", mesh))]
    return cases + [dataclasses.replace(llama, run=run) for run in ("sgd", "unclipped", "cosine")]


def neutral_cases(everything: bool) -> list[tuple[Case, Case]]:
    """(a case, the same with an option that must not change a number)"""
    pairs = []
    for family in FAMILIES:
        for base in plain_cases(family):
            chosen = set()
            if everything:
                chosen = set(NEUTRAL)
            elif family == FAMILIES[0] and base.name == "":
                chosen = {"dp2": set(NEUTRAL), "replicate2-shard2": set(ZERO)}.get(base.mesh, set())
            elif base.mesh in EXPERT_MESHES and base.name == "":
                chosen = {*ZERO, "full"} if base.mesh in ("dp4-ep2", "dp2-tp2-ep4") else {"zero1"}
            if base.mesh == "dp2-tp2":
                chosen |= {"zero1-full", "selective", "prefetchauto", "synchronous"}
            if base.mesh == "1":
                chosen = (chosen | {"full"}) - set(NOT_OVER_ONE_RANK)
            pairs += [(base, base.with_options(name, NEUTRAL[name])) for name in NEUTRAL if name in chosen]
            if everything:
                for accumulated in accumulated_cases(base):
                    pairs += [
                        (accumulated, accumulated.with_options(name, CHECKPOINTING[name])) for name in CHECKPOINTING
                    ]
    muon = Case("llama", "dp2-tp2", run="muon_float32")
    pairs += [(muon, muon.with_options(name, NEUTRAL[name])) for name in ("zero0", "zero1-full", "zero2")]
    for family in FAMILIES if everything else FAMILIES[:2]:
        base = Case(family, "replicate2-shard2")
        pairs += [(case, case.with_options("outer", OUTER)) for case in (base, *accumulated_cases(base))]
    experts = Case("qwen3_moe", "replicate2-shard2-ep2")
    pairs.append((experts, experts.with_options("outer", OUTER)))
    muon = Case("llama", "replicate2-shard2", run="muon_float32")
    pairs.append((muon, muon.with_options("outer", OUTER)))
    pairs += async_cases(everything)
    chunked = Case("llama", "dp2-tp2").with_options("chunks", LOSS_CHUNKS)
    pairs += [(chunked, chunked.with_options(name, NEUTRAL[name])) for name in ("zero1-full", "selective", "prefetch2", "prefetchauto")]
    return pairs


def async_cases(everything: bool) -> list[tuple[Case, Case]]:
    """Collectives along the sequence in pieces, beside products of others."""
    pairs = []
    for family in FAMILIES if everything else ("llama", "gpt2", "qwen3_moe"):
        bases = [Case(family, "tp2").with_options("sp", SEQUENCE_PARALLEL)]
        bases += [Case(family, "1").with_options("tp4-sp", ("--tp", "4", *SEQUENCE_PARALLEL))]
        pairs += [(base, base.with_options(name, ASYNC[name])) for base in bases for name in ASYNC]
        both = Case(family, "dp2-tp2").with_options("sp", SEQUENCE_PARALLEL)
        for base in (both.with_options("full", CHECKPOINTING["full"]), *accumulated_cases(both, ["accumulation4"])):
            pairs.append((base, base.with_options("async2", ASYNC["async2"])))
    return pairs


def gradient_cases(everything: bool) -> list[Case]:
    cases = []
    for family in FAMILIES + OTHER_FAMILIES:
        meshes = ("1", "dp2-tp2") if everything or family in FAMILIES else ("1",)
        if family in ("qwen3_moe", "mixtral", "nemotron_h"):
            meshes += ("dp2-tp2-ep4", "dp4-ep2")
        cases += [Case(family, mesh) for mesh in meshes]
    return cases


def pytest_generate_tests(metafunc):
    everything = metafunc.config.getoption("--full")
    if "loss_case" in metafunc.fixturenames:
        metafunc.parametrize("loss_case", cases_against_torch(everything), ids=str)
    if "neutral_pair" in metafunc.fixturenames:
        metafunc.parametrize("neutral_pair", neutral_cases(everything), ids=lambda pair: str(pair[1]))
    if "gradient_case" in metafunc.fixturenames:
        metafunc.parametrize("gradient_case", gradient_cases(everything), ids=str)


@pytest.fixture(scope="session")
def trained(tools, tmp_path_factory):
    """Compiles and runs a case, once."""

    @functools.cache
    def run(case: Case):
        folder = tmp_path_factory.mktemp("case")
        reference = reference_data.load(case.family)
        bundle, recipe = folder / "bundle", reference.runs[case.run]
        compile_training(tools, reference, recipe.optimizer, (*MESHES[case.mesh], *case.options), bundle)
        return train(tools, bundle, recipe, folder / "run")

    return run


def test_losses_are_torchs(trained, loss_case):
    expected, result = reference_data.load(loss_case.family).runs[loss_case.run], trained(loss_case)
    np.testing.assert_allclose(result.losses, expected.losses, rtol=TOLERANCE)
    np.testing.assert_allclose(result.grad_norms, expected.grad_norms, rtol=10 * TOLERANCE)
    np.testing.assert_allclose(result.learning_rates, expected.learning_rates, rtol=1e-6)


@pytest.mark.parametrize("mesh", ["1", "dp2-tp2"])
def test_muon_in_bfloat16(trained, mesh):
    """Products round elsewhere in torch: five steps of Newton-Schulz in bfloat16 make directions alike, not equal."""
    expected = reference_data.load("llama").runs["muon"]
    result = trained(Case("llama", mesh, run="muon"))
    np.testing.assert_allclose(result.losses, expected.losses, rtol=5e-3)
    assert not np.array_equal(result.losses, trained(Case("llama", mesh, run="muon_float32")).losses)


def test_chunks_of_the_loss_change_the_order_of_sums_only(trained):
    whole = Case("llama", "dp2-tp2")
    chunked = whole.with_options("chunks", LOSS_CHUNKS)
    np.testing.assert_allclose(trained(chunked).losses, trained(whole).losses, rtol=1e-6)


def test_numbers_stay_the_same_bit_for_bit(trained, neutral_pair):
    base, other = map(trained, neutral_pair)
    different = [1 + int(step) for step in np.flatnonzero(other.losses != base.losses)]
    assert not different, f"losses of steps {different}"
    different = [1 + int(step) for step in np.flatnonzero(other.grad_norms != base.grad_norms)]
    assert not different, f"gradient norms of steps {different}"
    assert other.digest == base.digest, "the checkpoints differ"


@pytest.mark.parametrize(
    "options, message",
    [
        ((*MESHES["replicate2-shard2"], *OUTER, *ZERO["zero2"]), "--outer-dp-sharding-strategy optim needs --zero-dp-strategy 3, not 2"),
        ((*MESHES["dp2"], *OUTER), "--outer-dp-sharding-strategy optim needs replicas of shards; dp_replicate is 1, dp_shard 2"),
        (("--outer-dp-sharding-strategy", "2"), '--outer-dp-sharding-strategy "2" is not no_shard (0) or optim (1)'),
        (("--strategy", "ddp", *OUTER), "--strategy ddp: --outer-dp-sharding-strategy does not apply, nothing is sharded"),
        ((*MESHES["replicate2-shard2"], "--strategy", "megatron_fsdp"), "dp_replicate of size 2 needs --outer-dp-sharding-strategy"),
    ],
)
def test_options_that_contradict_each_other(tools, tmp_path, options, message):
    with pytest.raises(Failed) as error:
        compile_training(tools, reference_data.load("llama"), reference_data.load("llama").runs["adamw"].optimizer, options, tmp_path / "none")
    assert message in str(error.value)


@pytest.mark.parametrize("entries", ["step", "separate"])
def test_replicas_share_what_the_optimizer_owns(tools, tmp_path, entries):
    """Memory by Megatron's formula: what the optimizer owns is divided by both axes, gathered shards and gradients by the inner one."""
    optimizer = reference_data.load("llama").runs["adamw"].optimizer
    options = (*MESHES["replicate2-shard2"], *(("--separate-entry-points", "--defer-fsdp-grad-sync", "false") if entries == "separate" else ()))
    states, memory = {}, {}
    for name, outer in (("no_shard", ()), ("optim", OUTER)):
        compile_training(tools, reference_data.load("llama"), optimizer, (*options, *outer), tmp_path / name)
        program = json.loads((tmp_path / name / "program.json").read_text())
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["training"]["outer_dp_sharding_strategy"] == name
        memory[name], states[name] = manifest["memory"], {}
        whole = sum(bucket["length"] for bucket in program["buckets"]) * 4
        for state in program["states"]:
            if state["bucket"] is not None:
                held = states[name].setdefault(state["role"], [])
                held.append(program["buffers"][state["buffer"]]["bytes"])
        states[name] = {role: sum(held) / whole for role, held in states[name].items()}
    owned = ("parameter", "exp_avg", "exp_avg_sq")
    if entries == "step":
        assert states["no_shard"] == dict.fromkeys(owned, 1 / 2)
        assert states["optim"] == dict.fromkeys(owned, 1 / 4)
    else:
        assert states["no_shard"] == {**dict.fromkeys(owned, 1 / 2), "gradient": 1 / 2}
        # Gradients that wait for the sum over replicas, and what it leaves; shards that all micro-batches gather from.
        assert states["optim"] == {**dict.fromkeys(owned, 1 / 4), "gradient": 1 / 2 + 1 / 4, "compute_parameter": 1 / 2}
    if entries == "step":  # temporaries: the shards that both passes gather from, less of the gradients
        assert memory["no_shard"]["arena_bytes"] - memory["optim"]["arena_bytes"] >= (3 / 4 - 1 / 2 + 1 / 4) * whole
        given = train(tools, tmp_path / "no_shard", reference_data.load("llama").runs["adamw"], tmp_path / "run")
        run = tools / "shard-run"
        call(run, tmp_path / "optim", "--load", given.checkpoint, "--save", tmp_path / "taken", seconds=60)
        call(run, tmp_path / "no_shard", "--load", tmp_path / "taken", "--save", tmp_path / "back", seconds=60)
        files = [folder / "checkpoint.safetensors" for folder in (given.checkpoint, tmp_path / "taken", tmp_path / "back")]
        assert len({file.read_bytes() for file in files}) == 1


@pytest.fixture
def load(tools, tmp_path, monkeypatch):
    """Compiles a run for a mesh and loads it in this process."""
    monkeypatch.setenv("SHARDC_BUILD", str(tools.parent))

    def compile_and_load(reference, run, mesh, *options):
        compile_training(tools, reference, run.optimizer, (*MESHES[mesh], *options), tmp_path / "bundle")
        return shardc.load(tmp_path / "bundle")

    return compile_and_load


@pytest.mark.parametrize("mesh", ["1", "dp2-tp2"])
def test_ignored_labels(load, mesh):
    """Ranks count different numbers of labels, and one sequence counts none. From Python: a token file has no such labels."""
    reference = reference_data.load("llama")
    run, losses, grad_norms = reference.runs["ignored"], [], []
    with load(reference, run, mesh) as bundle:
        for input_ids, labels in zip(run.input_ids, run.labels):
            results = bundle.step(input_ids=input_ids, labels=labels)
            losses.append(results["loss"] / results["tokens"])
            grad_norms.append(results["grad_norm"])
            assert results["tokens"] == pytest.approx((labels != reference_data.IGNORED).mean(), rel=1e-6)
    np.testing.assert_allclose(losses, run.losses, rtol=TOLERANCE)
    np.testing.assert_allclose(grad_norms, run.grad_norms, rtol=10 * TOLERANCE)


def test_gradients_are_torchs(load, gradient_case):
    reference = reference_data.load(gradient_case.family)
    run, wrong = reference.runs["adamw"], {}
    with load(reference, run, gradient_case.mesh, "--separate-entry-points") as bundle:
        results = bundle.forward_backward(input_ids=run.input_ids[0], labels=run.labels[0])
        bundle.finish_grad_sync()
        gradients = bundle.gradients()
    assert results["tokens"] == 1
    assert set(gradients) == set(reference.gradients)
    for name, expected in reference.gradients.items():
        difference = np.abs(gradients[name] - expected).max() / np.abs(expected).max()
        if not difference <= TOLERANCE:
            wrong[name] = difference
    assert not wrong
