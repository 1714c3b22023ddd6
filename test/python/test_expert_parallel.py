"""Experts over their own mesh: compiled logits against torch's, what a bundle says about it, and checkpoints from mesh to mesh."""

import json
import subprocess

import numpy as np
import pytest
from shardc.tokens import write_tokens

from conftest import ROOT

FIXTURES = ROOT / "test/fixtures"
# (mesh, ep): all of tp; a part of dp_shard; all of it; both; beside copies. The batch is 2: it does not divide over dp_shard=4.
MESHES = [
    ("tp=2", 2),
    ("tp=4", 4),
    ("dp_shard=2", 2),
    ("dp_shard=4", 2),
    ("dp_shard=4", 4),
    ("dp_shard=2,tp=2", 2),
    ("dp_shard=2,tp=2", 4),
    ("dp_replicate=2,dp_shard=2", 2),
]


@pytest.fixture
def tool(compiler_build):
    def run(name, *words, fails=False):
        done = subprocess.run([compiler_build / "bin" / name, *map(str, words)], capture_output=True, text=True, timeout=300)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture
def logits(tool, tmp_path):
    """Compiles a fixture, runs it, and returns its logits and torch's."""

    def compute(family, *options, variant="static-op20"):
        model = FIXTURES / family / f"{variant}.onnx"
        reference = np.load(model.with_suffix(".npz"))
        np.save(tmp_path / "ids.npy", reference["input_ids"])
        tool("shardc", "compile", model, *options, "--isa", "x86-64-v3", "--force", "-o", tmp_path / "bundle")
        files = ["--input", f"input_ids={tmp_path}/ids.npy", "--output", f"logits={tmp_path}/out.npy"]
        tool("shard-run", tmp_path / "bundle", *files)
        return np.load(tmp_path / "out.npy"), reference["logits"]

    return compute


# By the family's plan, and once by role.
@pytest.mark.parametrize("mesh, ep, plan", [*((mesh, ep, None) for mesh, ep in MESHES), ("dp_shard=2,tp=2", 4, "default")])
@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_logits_are_torchs(logits, tmp_path, family, mesh, ep, plan):
    plan = plan or family
    got, expected = logits(family, "--mesh", mesh, "--ep", ep, "--plan", plan)
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    parameters = json.loads((tmp_path / "bundle/program.json").read_text())["parameters"]
    shares = {np.prod([axis["size"] for axis in p["shard"][0]]) for p in parameters if len(p["shape"]) == 3}
    assert shares == {ep}  # of experts, of which there are three dimensions


@pytest.mark.parametrize("family", ["deepseek_v3", "nemotron_h"])
def test_other_families(logits, family):
    variant = "static-op20" if family == "deepseek_v3" else "dynamic-op23-named"
    dims = [] if family == "deepseek_v3" else ["--dim", "batch=2", "--dim", "seq=16"]
    got, expected = logits(family, "--mesh", "dp_shard=2,tp=2", "--ep", 4, "--plan", family, *dims, variant=variant)
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_sequence_parallelism(logits):
    got, expected = logits("qwen3_moe", "--mesh", "dp_shard=2,tp=2", "--ep", 4, "--sequence-parallel")
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_explain_names_the_line_of_the_plan(tool, logits, tmp_path):
    logits("qwen3_moe", "--mesh", "dp_shard=2", "--ep", 2, "--plan", "qwen3_moe")
    assert 'grouped_gemm (built-in plan qwen3_moe: "layers.*.mlp.experts.gate_up_proj")' in tool("shardc", "explain", tmp_path / "bundle")
    plan = tool("shardc", "compile", FIXTURES / "qwen3_moe/static-op20.onnx", "--mesh", "dp_shard=4,tp=2", "--ep", 4, "--plan", "qwen3_moe", "--print-plan")
    assert "grouped_gemm           [{dp_shard:(2)2, tp}, {}, {}]  from built-in plan qwen3_moe" in plan
    assert "ep_dispatch_experts    over {dp_shard:(2)2, tp}  from built-in plan qwen3_moe" in plan


@pytest.mark.parametrize(
    "options, message",
    [
        (["--tp", 2, "--ep", 3], "ep = 3 is not a multiple of tp = 2"),
        (["--ep", 2], "ep = 2 does not divide dp_shard x tp = 1 x 1"),
        (["--ep", 0], "--ep 0: experts are on at least one device"),
        (["--train", "--dp-shard", 2, "--ep", 2, "--strategy", "ddp"], "--strategy ddp: expert parallelism is not supported, ep is 2; use fsdp2"),
        (["--train", "--dp-shard", 2, "--ep", 2, "--strategy", "megatron_fsdp"], "--strategy megatron_fsdp: expert parallelism is not supported, ep is 2"),
    ],
)
def test_what_is_refused(tool, options, message):
    assert message in tool("shardc", "compile", FIXTURES / "qwen3_moe/static-op20.onnx", *options, "-o", "none", fails=True)


def test_checkpoints_go_from_mesh_to_mesh(tool, tmp_path):
    """One trained with experts over ranks, loaded without and saved again, is the same file; and back."""
    model = FIXTURES / "qwen3_moe/static-op20.onnx"
    write_tokens(tmp_path / "tokens.bin", np.random.default_rng(0).integers(0, 256, 17 * 8))
    meshes = {"ep": ["--dp-shard", 2, "--tp", 2, "--ep", 4], "half": ["--dp-shard", 4, "--ep", 2], "whole": []}
    for name, mesh in meshes.items():
        tool("shardc", "compile", model, "--train", *mesh, "--plan", "qwen3_moe", "--isa", "x86-64-v3", "-o", tmp_path / name)
    tool("shard-run", tmp_path / "ep", "--data", tmp_path / "tokens.bin", "--steps", 2, "--save", tmp_path / "saved-0")
    saved = (tmp_path / "saved-0/checkpoint.safetensors").read_bytes()
    for n, name in enumerate(["whole", "half", "ep"]):
        tool("shard-run", tmp_path / name, "--load", tmp_path / f"saved-{n}", "--save", tmp_path / f"saved-{n + 1}")
        assert (tmp_path / f"saved-{n + 1}/checkpoint.safetensors").read_bytes() == saved
