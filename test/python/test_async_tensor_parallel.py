"""Async tensor parallelism: collectives along the sequence, and the products beside them, in pieces. Bit for bit the uncut program's
numbers (training: test/train), near torch's, and what is and what is not cut is said."""

import json
import subprocess

import numpy as np
import pytest

from conftest import ROOT

FIXTURES = ROOT / "test/fixtures"
# Collectives that are cut, of the layers and the head. Experts are no products along a sequence, mixers stay whole; GPT-2's attention ends with an
# all-reduce.
SITES = {"llama": 9, "gpt2": 7, "qwen3_moe": 5, "qwen2": 9, "gemma2": 9, "mixtral": 5, "deepseek_v3": 9, "nemotron_h": 5, "mamba2": 1, "qwen3_5": 7}
SLOW_LINK = ROOT / "test/Schedule/Inputs/slow-link.json"


@pytest.fixture
def tool(compiler_build):
    def run(name, *words, fails=False):
        done = subprocess.run([compiler_build / "bin" / name, *map(str, words)], capture_output=True, text=True, timeout=300)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout + done.stderr

    return run


@pytest.fixture
def compiled(tool, tmp_path):
    """Compiles a fixture; returns the folder, and what the compiler said."""

    def compile_model(family, name, *options):
        model = FIXTURES / family / "static-op20.onnx"
        return tmp_path / name, tool("shardc", "compile", model, "--sequence-parallel", *options, "-o", tmp_path / name)

    return compile_model


def pieces(bundle):
    """Collectives along the sequence that are started, and those that complete where they stand."""
    commands = json.loads((bundle / "program.json").read_text())["entries"][0]["commands"]
    found = [c for c in commands if c["op"] in ("all_gather", "reduce_scatter")]
    return [c for c in found if "ticket" in c], [c for c in found if "ticket" not in c]


# A piece is a sequence of the batch of 2, or half of each rank's part of one.
CASES = [(family, tp, count) for family in ("llama", "gpt2", "qwen3_moe") for tp in (2, 4) for count in (2, 4)]
CASES += [(family, 2, 4) for family in SITES if family not in ("llama", "gpt2", "qwen3_moe")]


@pytest.mark.parametrize("family, tp, count", CASES)
def test_the_same_bits(compiled, tool, tmp_path, family, tp, count):
    reference = np.load(FIXTURES / family / "static-op20.npz")
    np.save(tmp_path / "ids.npy", reference["input_ids"])
    logits = []
    for name, options in (("whole", ()), ("cut", ("--async-tensor-parallel", "--async-tensor-parallel-pieces", count))):
        bundle, _ = compiled(family, name, "--tp", tp, "--isa", "x86-64-v3", *options)
        # --poison: memory that nobody needs any more is overwritten at once
        tool("shard-run", bundle, "--poison", "--input", f"input_ids={tmp_path}/ids.npy", "--output", f"logits={tmp_path}/out.npy")
        logits.append(np.load(tmp_path / "out.npy"))
    np.testing.assert_array_equal(*logits)
    assert np.abs(logits[1] - reference["logits"]).max() <= 1e-4 * np.abs(reference["logits"]).max()
    assert len(pieces(tmp_path / "cut")[0]) == SITES[family] * count
    assert not pieces(tmp_path / "whole")[0]


def test_every_stage_is_verified(tool):
    options = ("--tp", 2, "--sequence-parallel", "--async-tensor-parallel", "--async-tensor-parallel-pieces", 2, "--json")
    text = tool("shardc", "verify", FIXTURES / "llama/static-op20.onnx", *options)
    stages = {stage["stage"]: stage for stage in json.JSONDecoder().raw_decode(text)[0]["stages"]}
    assert stages["decompose"]["ok"] and stages["compiled"]["ok"]


def test_what_stays_whole_is_told(compiled, tool):
    bundle, said = compiled("llama", "cut", "--tp", 2, "--async-tensor-parallel", "--async-tensor-parallel-pieces", 2)
    assert "remark: reduce_scatter is not cut into pieces: no product makes what it reduces" in said  # of the embedding
    explained = tool("shardc", "explain", bundle)
    assert "not cut into pieces: no product makes what it reduces" in explained
    assert "one of 2 pieces, beside the products of others" in explained
    # The fixture is far too small to be worth it, unless somebody says how many pieces; or the link is slow.
    bundle, said = compiled("llama", "small", "--tp", 2, "--async-tensor-parallel")
    assert "remark: all_gather is not cut into pieces: a piece is 4096 bytes, less than 65536" in said and not pieces(bundle)[0]


def test_measured_costs_decide(compiled, tmp_path):
    bundle, said = compiled("llama", "slow", "--tp", 2, "--async-tensor-parallel", "--costs", SLOW_LINK)
    assert " us, the whole " in said  # its latency is large too: nothing is gained
    table = json.loads(SLOW_LINK.read_text())
    for collective in table["collectives"]:
        collective.update(latency_us=0.0, gigabytes_per_second=0.1)
    table["kernels"]["launch_us"] = 0.0
    (tmp_path / "fast.json").write_text(json.dumps(table))
    bundle, said = compiled("llama", "fast", "--tp", 2, "--async-tensor-parallel", "--costs", tmp_path / "fast.json")
    assert pieces(bundle)[0]


@pytest.mark.parametrize(
    "options, message",
    [
        (("--async-tensor-parallel",), "--async-tensor-parallel needs --sequence-parallel"),
        (("--async-tensor-parallel-pieces", 2, "--sequence-parallel"), "--async-tensor-parallel-pieces needs --async-tensor-parallel"),
        (("--async-tensor-parallel", "--async-tensor-parallel-pieces", 1), "--async-tensor-parallel-pieces 1: a collective is cut into at least 2"),
        (
            ("--train", "--sequence-parallel", "--async-tensor-parallel", "--tensor-parallel-overlap", "none"),
            "--tensor-parallel-overlap none does not apply to --async-tensor-parallel",
        ),
        (("--train", "--strategy", "ddp", "--sequence-parallel", "--async-tensor-parallel"), "--strategy ddp"),
    ],
)
def test_options_that_contradict_each_other(tool, tmp_path, options, message):
    said = tool("shardc", "compile", FIXTURES / "llama/static-op20.onnx", "--tp", 2, *options, "-o", tmp_path / "none", fails=True)
    assert message in said
