"""Steps whose gradients are not finite (--check-for-nan-in-grad): the parameter and the rank are named, and nothing is lost.

One row of the embedding is NaN, and one sequence has its token: the gradients of the rank that has the sequence are NaN,
those of the others are not until ranks add them up."""

import json
import subprocess

import numpy as np
import pytest
import reference_data
import shardc
from harness import compile_training
from shardc.tokens import shuffled, write_tokens

RARE = 255
TABLE = "model.embed_tokens.weight"
CHECK = ("--check-for-nan-in-grad",)
CASES = {
    "dp2": ("--dp-shard", "2"),
    "dp2-zero0": ("--dp-shard", "2", "--zero-dp-strategy", "0"),
    "dp2-zero1": ("--dp-shard", "2", "--zero-dp-strategy", "1"),
    "dp2-unclipped": ("--dp-shard", "2", "--clip-grad-norm", "0"),
    "outer": ("--dp-replicate", "2", "--dp-shard", "2", "--outer-dp-sharding-strategy", "optim"),
    "entries": ("--dp-shard", "2", "--separate-entry-points"),
    "each": ("--dp-shard", "2", "--separate-entry-points", "--defer-fsdp-grad-sync", "false"),
}


def batches(run):
    """Tokens of all sequences of the run without the rare one."""
    return np.where(run.input_ids == RARE, 0, run.input_ids), np.where(run.labels == RARE, 0, run.labels)


def snapshot(bundle):
    return {name: value.copy() for name, value in {**bundle.state_dict(), **bundle.optimizer_state_dict()}.items()}


def assert_equal(states, others):
    assert set(states) == set(others)
    for name, value in states.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_gradient_is_named_and_changes_nothing(tools, tmp_path, monkeypatch, case):
    monkeypatch.setenv("SHARDC_BUILD", str(tools.parent))
    reference = reference_data.load("llama")
    run = reference.runs["adamw"]
    compile_training(tools, reference, run.optimizer, (*CASES[case], *CHECK), tmp_path / "bundle")
    ids, labels = batches(run)
    with shardc.load(tmp_path / "bundle") as bundle:
        names = bundle.manifest["training"]["checked_gradients"]
        assert sorted(names) == sorted(bundle.state_dict())
        assert "nonfinite_gradients" not in bundle.step(input_ids=ids[0], labels=labels[0])
        table = bundle.state_dict()[TABLE].copy()
        table[RARE] = np.nan
        bundle.load_state_dict({TABLE: table}, strict=False)
        before = snapshot(bundle)
        bad = ids[1].copy()
        bad[-1, 5] = RARE  # of the last rank
        last = bundle.ranks - 1
        with pytest.raises(FloatingPointError, match=rf'the gradient of "{names[0]}" has \d+ numbers that are not finite on rank {last}, as have {len(names) - 1} '):
            bundle.step(input_ids=bad, labels=labels[1])
        assert bundle.steps == 1
        assert_equal(snapshot(bundle), before)
        if "zero_grad" in bundle.entries:
            bundle.zero_grad()
        results = bundle.step(input_ids=ids[1], labels=labels[1])  # it goes on
        assert np.isfinite(results["grad_norm"]) and bundle.steps == 2
        assert not np.array_equal(bundle.state_dict()["lm_head.weight"], before["lm_head.weight"])


def test_checking_changes_no_bit(tools, tmp_path, monkeypatch):
    monkeypatch.setenv("SHARDC_BUILD", str(tools.parent))
    reference, states = reference_data.load("llama"), []
    run = reference.runs["adamw"]
    for name, options in (("checked", CHECK), ("plain", ())):
        compile_training(tools, reference, run.optimizer, (*CASES["dp2"], *options), tmp_path / name)
        with shardc.load(tmp_path / name) as bundle:
            for step in range(3):
                bundle.step(input_ids=run.input_ids[step], labels=run.labels[step])
            states.append(snapshot(bundle))
    assert_equal(*states)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_shard_run_saves_what_was_before(tools, tmp_path, monkeypatch, accumulation):
    """The third step is bad: two are in the checkpoint, which goes on behind the bad batch."""
    monkeypatch.setenv("SHARDC_BUILD", str(tools.parent))
    reference = reference_data.load("llama")
    run = reference.runs["adamw"]
    options = (*CASES["dp2"], *CHECK, *(("--gradient-accumulation", str(accumulation)) if accumulation > 1 else ()))
    compile_training(tools, reference, run.optimizer, options, tmp_path / "bundle")
    with shardc.load(tmp_path / "bundle") as bundle:
        table = bundle.state_dict()[TABLE].copy()
        table[RARE] = np.nan
        bundle.load_state_dict({TABLE: table}, strict=False)
        bundle.save(tmp_path / "start")
    per_step = run.input_ids.shape[1] * accumulation
    count, length = 8 * per_step, run.input_ids.shape[2]
    tokens = np.random.default_rng(0).integers(0, RARE, (count, length))
    clean = tokens.reshape(-1).tolist() + [0]
    tokens[shuffled(0, 0, count, 3 * per_step - 1), 5] = RARE  # the last sequence of the third step: rank 1's
    write_tokens(tmp_path / "bad.bin", tokens.reshape(-1).tolist() + [0])
    write_tokens(tmp_path / "clean.bin", clean)

    def train(data, steps, start, *more):
        command = [tools / "shard-run", tmp_path / "bundle", "--data", tmp_path / data, "--steps", str(steps), "--threads", "1"]
        command += ["--load", tmp_path / start, "--timeout", "30", "--check-allocations", "--log", tmp_path / "log", *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    ended = train("bad.bin", 5, "start", "--save", tmp_path / "saved")
    assert ended.returncode == 12
    assert "step 3: the gradient of " in ended.stderr and "numbers that are not finite on rank 1" in ended.stderr
    assert train("clean.bin", 2, "start", "--save", tmp_path / "two").returncode == 0
    weights = [(tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("saved", "two")]
    assert weights[0] == weights[1]
    assert json.loads((tmp_path / "saved/trainer.json").read_text())["step"] == 2
    assert train("bad.bin", 2, "saved").returncode == 0
