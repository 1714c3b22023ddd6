"""Whole fixtures compiled for GPUs, on fake ones: torch's logits; the same bits in whatever order."""

import json

import numpy as np
import pytest
from programs import FIXTURES, Model

PLANS = {"llama", "gpt2", "gemma2", "qwen2"}  # the others are cut without one
FAMILIES = ["llama", "gpt2", "gemma2", "qwen2", "mamba2", "qwen3_5", "mixtral", "qwen3_moe", "deepseek_v3", "nemotron_h"]
# Relative to the largest logit. Narrow types: torch's own logits are that far from exact ones.
TOLERANCE = {"static-op20": 1e-5, "static-op20-decode-hf": 1e-5, "static-op20-bf16": 3e-2, "static-op20-fp16": 4e-3}
CASES = [(family, "static-op20", ranks) for family in FAMILIES for ranks in (1, 2)]
CASES += [("llama", name, 2) for name in TOLERANCE if name != "static-op20"]


@pytest.fixture(scope="module")
def compiled(gpus, tmp_path_factory):
    bundles = {}

    def compile_model(family, name, ranks, *options):
        key = (family, name, ranks, *options)
        if key not in bundles:
            folder = tmp_path_factory.mktemp("model")
            model = Model(FIXTURES / family / f"{name}.onnx", folder)
            plan = ["--plan", family] if family in PLANS else []
            bundles[key] = model, gpus.compile(model.path, "--tp", ranks, *plan, *options, bundle=folder / "bundle")
        return bundles[key]

    return compile_model


def difference(got, want):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize(("family", "name", "ranks"), CASES)
def test_logits(gpus, compiled, tmp_path, family, name, ranks):
    model, bundle = compiled(family, name, ranks)
    result = tmp_path / "logits.npy"
    runs = 1 if "decode" in name else 2  # a second run would be of the next position
    found = gpus.having(seed=ranks).logged(tmp_path / "log", bundle, *model.arguments(result), "--runs", runs)
    assert difference(model.read(result), model.logits) < TOLERANCE[name]
    assert found["runs"] == runs * ranks and (ranks == 1 or found["calls"])


def test_one_file(gpus, compiled, tmp_path):
    """Images and weights are taken from a zip file as it is."""
    model, bundle = compiled("llama", "static-op20", 2)
    file, result = tmp_path / "llama.zip", tmp_path / "logits.npy"
    gpus.pack(bundle, file)
    gpus.run(file, *model.arguments(result))
    assert difference(model.read(result), model.logits) < TOLERANCE["static-op20"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_instances_share_a_cache(gpus, tmp_path, ranks):
    """A prompt of 16, then single tokens: the cache stays in the GPUs' memory from one entry point to the other."""
    path = FIXTURES.parent / "python/caches/llama-op20.onnx"
    with np.load(path.with_suffix(".npz")) as arrays:
        ids, logits = arrays["input_ids"], arrays["logits"]
    sizes = ["--dim", "batch=2", "--dim", "seq=16", "--cache", "past=24", "--shape-instance", "seq=1"]
    bundle = gpus.compile(path, "--tp", ranks, *sizes, bundle=tmp_path / "bundle")
    np.savez(tmp_path / "in.npz", ids=ids)
    program = """
import sys, numpy as np, shardc
ids, got = np.load(sys.argv[2])["ids"], []
with shardc.load(sys.argv[1], build=sys.argv[4], outputs=["logits"]) as bundle:
    for begin, end in [(0, 16)] + [(i, i + 1) for i in range(16, 24)]:
        got.append(bundle.run(input_ids=ids[:, begin:end])["logits"])
np.save(sys.argv[3], np.concatenate(got, 1))
"""
    gpus.python(program, bundle, tmp_path / "in.npz", tmp_path / "out.npy", gpus.build)
    assert difference(np.load(tmp_path / "out.npy"), logits) < TOLERANCE["static-op20"]


OPTIONS = ["--no-cuda-graph", "--nccl-ub register", "--nccl-ub window", "--poison", "--in-process", "--trace trace.json"]


@pytest.mark.parametrize("options", OPTIONS)
def test_options_change_nothing(gpus, compiled, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    model, bundle = compiled("llama", "static-op20", 2)
    results = [tmp_path / "plain.npy", tmp_path / "other.npy"]
    gpus.run(bundle, *model.arguments(results[0]), "--runs", 3)
    found = gpus.logged(tmp_path / "log", bundle, *model.arguments(results[1]), "--runs", 3, *options.split())
    assert results[0].read_bytes() == results[1].read_bytes()
    assert bool(found["registered"]) == ("--nccl-ub" in options)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_order_of_streams_changes_nothing(gpus, compiled, tmp_path, family):
    model, bundle = compiled(family, "static-op20", 2, "--sequence-parallel")
    results = []
    for seed in range(6):
        graph = [] if seed % 2 else ["--no-cuda-graph"]
        gpus.having(seed=seed).logged(tmp_path / "log", bundle, *model.arguments(tmp_path / "logits.npy"), "--runs", 3, *graph)
        results.append((tmp_path / "logits.npy").read_bytes())
    assert len(set(results)) == 1
    assert difference(np.load(tmp_path / "logits.npy"), model.logits) < TOLERANCE["static-op20"]


def test_pieces_beside_products(gpus, compiled, tmp_path):
    """Async tensor parallelism: a piece is half of each rank's part of a sequence; none is staged, so that all are started and waited for."""
    results = []
    for seed, options in enumerate([[], *[["--async-tensor-parallel", "--async-tensor-parallel-pieces", "4"]] * 4]):
        model, bundle = compiled("llama", "static-op20", 2, "--sequence-parallel", *options)
        graph = [] if seed % 2 else ["--no-cuda-graph"]
        gpus.having(seed=seed).logged(tmp_path / "log", bundle, *model.arguments(tmp_path / "logits.npy"), "--runs", 3, *graph)
        results.append((tmp_path / "logits.npy").read_bytes())
        commands = json.loads((bundle / "program.json").read_text())["entries"][0]["commands"]
        started = [c for c in commands if c["op"] in ("all_gather", "reduce_scatter") and "ticket" in c]
        assert len(started) == (4 * (2 * 4 + 1) if options else 0)
    assert len(set(results)) == 1
