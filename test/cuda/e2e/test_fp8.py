"""Products in 8-bit floats: cuBLASLt's, as the fake one demands them (TN, multiples of 16, scales), against processors."""

import json

import harness
import numpy as np
import pytest
from programs import FIXTURES, Model, losses

INFERENCE = FIXTURES / "llama/static-op20-named.onnx"
TRAINING = FIXTURES / "llama/dynamic-op23-named.onnx"
COMPILE = ("--arch", "compute_90", "--plan", "llama")


def products(bundle):
    """Those in 8 bits, one for each time that it is launched."""
    program = json.loads((bundle / "program.json").read_text())
    lists = [program, *program.get("entries", [])]
    launched = [program["kernels"][c["kernel"]] for entry in lists for c in entry.get("commands", []) if c["op"] == "launch"]
    calls = [call for kernel in launched for call in kernel["calls"] if call["kind"] == "gemm"]
    return [call for call in calls if call["a"]["dtype"].startswith("f8")]


@pytest.mark.parametrize("ranks", [1, 2])
def test_logits(gpus, tmp_path, ranks):
    model = Model(INFERENCE, tmp_path)
    bundle = gpus.compile(model.path, "--tp", ranks, "--fp8", "e4m3", *COMPILE, bundle=tmp_path / "gpu")
    reference = tmp_path / "cpu"
    harness.call(gpus.build / "bin/shardc", "compile", model.path, "--tp", ranks, "--fp8", "e4m3", "--plan", "llama", "-o", reference, seconds=120)
    # All linear layers of two layers, and not the head.
    assert len(products(bundle)) == 14 and all("scale" in call[x] for call in products(bundle) for x in "ab")
    gpus.having(arch=90).logged(tmp_path / "log", bundle, *model.arguments(tmp_path / "gpu.npy"), "--runs", 2)
    gpus.run(reference, *model.arguments(tmp_path / "cpu.npy"))
    got, want = model.read(tmp_path / "gpu.npy"), model.read(tmp_path / "cpu.npy")
    cost = np.abs(want - model.logits).max()  # what 8 bits change at all
    assert cost > 1e-3 * np.abs(model.logits).max()
    assert np.abs(got - want).max() < cost / 10


def test_products_that_do_not_fit(gpus, tmp_path):
    """On four ranks k and v have rows of 8: multiplied as bf16, which is told and changes nothing."""
    model = Model(INFERENCE, tmp_path)
    options = [model.path, "--tp", 4, "--fp8", "e4m3", "--plan", "llama"]
    bundle = gpus.compile(*options, "--arch", "compute_90", bundle=tmp_path / "gpu")
    harness.call(gpus.build / "bin/shardc", "compile", *options, "-o", tmp_path / "cpu", seconds=120)
    assert len(products(bundle)) == 2 * 5
    notes = json.loads((bundle / "manifest.json").read_text())["report"]["notes"]
    assert [note["path"] for note in notes] == ["self_attn.k_proj", "self_attn.v_proj"]
    assert all(note["note"] == "fp8: rows have 8 elements, which is no multiple of 16: multiplied as bf16" for note in notes)
    explained = harness.call(gpus.build / "bin/shardc", "explain", bundle, seconds=60)
    assert all(note["note"] in explained and note["path"] in explained for note in notes)
    gpus.having(arch=90).logged(tmp_path / "log", bundle, *model.arguments(tmp_path / "gpu.npy"))
    gpus.run(tmp_path / "cpu", *model.arguments(tmp_path / "cpu.npy"))
    got, want = model.read(tmp_path / "gpu.npy"), model.read(tmp_path / "cpu.npy")
    assert np.abs(got - want).max() < np.abs(want - model.logits).max() / 10


def test_old_gpus_are_named(gpus, tmp_path):
    model = Model(INFERENCE, tmp_path)
    bundle = gpus.compile(model.path, "--fp8", "e4m3", *COMPILE, bundle=tmp_path / "gpu")
    _, error = gpus.run(bundle, *model.arguments(tmp_path / "gpu.npy"), fails=True)
    assert "this GPU is sm_80" in error and "the bundle has code for compute_90" in error


def test_training(gpus, tmp_path):
    """Gradients are of the other type, and factors that do not lie along the sum are transposed first."""
    options = [TRAINING, "--train", "--dim", "batch=4", "--dim", "seq=16", "--dp-shard", "2", "--tp", "2", "--fp8", "hybrid"]
    bundle = gpus.compile(*options, *COMPILE, bundle=tmp_path / "gpu")
    calls = products(bundle)
    assert len(calls) == 3 * 14
    assert {call["b"]["dtype"] for call in calls} | {call["a"]["dtype"] for call in calls} == {"f8E4M3FN", "f8E5M2"}
    reference = tmp_path / "cpu"
    harness.call(gpus.build / "bin/shardc", "compile", *options, "--plan", "llama", "-o", reference, seconds=120)
    tokens = tmp_path / "tokens.bin"
    np.random.default_rng(0).integers(0, 256, 2000).astype(np.uint16).tofile(tokens)
    logs = []
    for name, how, path in (("gpu", gpus.having(arch=90), bundle), ("cpu", gpus, reference)):
        logs.append(tmp_path / f"{name}.jsonl")
        how.run(path, "--data", tokens, "--token-dtype", "u16", "--steps", 3, "--log", logs[-1], "--timeout", "60")
    got, want = (np.array([[step["loss"], step["grad_norm"]] for step in losses(log)]) for log in logs)
    # What f32 rounds elsewhere tips the rounding of some elements to 8 bits, and AdamW's first steps have the size of signs.
    np.testing.assert_allclose(got[0][0], want[0][0], rtol=1e-5)  # 3e-6 when written
    np.testing.assert_allclose(got[0][1], want[0][1], rtol=5e-3)  # 1.1e-3
    np.testing.assert_allclose(got, want, rtol=2e-2)
