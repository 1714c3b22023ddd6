#!/usr/bin/env python3
"""Cost of a training step, side by side in one run: a Llama (bench/make_llama.py) compiled with `shardc compile --train`
against PyTorch's FSDP2, DDP and tensor parallelism (bench/train_peers.py) and against XLA (bench/train_xla.py), two ranks
of one thread each, AdamW.

    .venv/bin/python bench/train.py --build build [--rounds 3] [--steps 7] [--only f32,bf16] [--write-docs]

Each round starts every system afresh, one after the other, so that what else the machine does falls on all of them. A
system's time is the median of its rounds' medians, without warm-up steps; its memory is the proportional set size, less
what its idle process holds. All systems of a case train on the same weights and tokens, and their losses are compared
before a ratio is printed. The limit is the arithmetic of the matrix products at one core's measured peak.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from common import ROOT, describe, fail, machine, run, save, table, write_docs
from make_llama import Config, make_llama
from train_peers import MEMORY_STEPS

sys.path.insert(0, str(ROOT / "python"))
from shardc.tokens import write_tokens  # noqa: E402

RANKS, WARM_UP = 2, 2
FSDP2 = ["--strategy", "fsdp2", "--dp-shard", RANKS]
NO_OVERLAP = ["--forward-prefetch", 0, "--backward-prefetch", 0, "--reductions-in-flight", 0]
FULL = ["--activation-checkpointing", "full"]
BF16 = ["--param-dtype", "bf16", "--reduce-dtype", "f32"]


@dataclasses.dataclass(frozen=True)
class Case:
    """Systems that do the same; ratios are to the first peer."""

    sequences: int  # of a step, over all ranks
    peers: dict
    compiled: dict
    loss_tolerance: float = 1e-4
    dtype: str = "f32"


CASES = {
    "f32": Case(
        sequences=8,
        peers={"FSDP2": ["fsdp2"], "FSDP2, layers compiled": ["fsdp2", "--compile"], "DDP": ["ddp"], "XLA": ["xla", "fsdp"]},
        compiled={"shardc": FSDP2, "shardc, no overlap": [*FSDP2, *NO_OVERLAP]},
    ),
    "f32 checkpointing": Case(
        sequences=8,
        peers={"FSDP2": ["fsdp2", "--checkpointing"], "DDP": ["ddp", "--checkpointing"]},
        compiled={"shardc": [*FSDP2, *FULL]},
    ),
    "bf16": Case(
        sequences=8,
        peers={"FSDP2": ["fsdp2", "--bf16"]},
        compiled={"shardc": [*FSDP2, *BF16]},
        loss_tolerance=1e-2,
        dtype="bf16",
    ),
    "tp 2": Case(sequences=4, peers={"DTensor": ["tp"], "XLA": ["xla", "tp"]}, compiled={"shardc": ["--tp", RANKS]}),
}


@dataclasses.dataclass(frozen=True)
class Data:
    """What the systems of a case train on."""

    model: pathlib.Path
    tokens: pathlib.Path


def step_flops(config: Config) -> float:
    """Of the matrix products, forward and backward; attention as if it were not causal."""
    heads = (config.heads + 2 * config.kv_heads) * config.head_dim
    layer = config.hidden * heads + config.hidden * config.hidden + 3 * config.hidden * config.ffn
    weights = config.layers * layer + config.hidden * config.vocab
    attention = 2 * config.layers * config.sequence * config.hidden
    return 3 * 2.0 * config.batch * config.sequence * (weights + attention)


def peaks(tools) -> dict:
    """FLOP/s of one core."""
    text = run([tools / "gemm_bench", "native", "--peak"])
    found = re.search(r"peak ([\d.]+) GFLOP/s f32, ([\d.]+) GFLOP/s bf16", text)
    if not found:
        fail(f"gemm_bench printed no peak: {text.strip()}")
    return {"f32": 1e9 * float(found[1]), "bf16": 1e9 * float(found[2])}


class Compiled:
    def __init__(self, name, tools, data, options, folder):
        self.name, self.log = name, folder / "loss.jsonl"
        bundle = folder / f"{re.sub('[^a-z0-9]+', '-', name)}.train"
        command = [tools / "shardc", "compile", data.model, "--train", *options, "--optimizer", "adamw"]
        command += ["--learning-rate", 1e-3, "--beta1", 0.9, "--beta2", 0.95, "--weight-decay", 0.1, "-o", bundle, "--force"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if "--train" in done.stderr and "is not an option" in done.stderr:
            fail(f"{tools / 'shardc'} has no --train: this build cannot compile training steps")
        if done.returncode:
            fail(f"{name}: shardc compile exited with {done.returncode}:\n{done.stderr.strip()[:2000]}")
        self.command = [tools / "shard-run", "-n", RANKS, bundle, "--data", data.tokens, "--threads", 1, "--json"]

    def measure(self, steps):
        total = WARM_UP + steps + MEMORY_STEPS
        facts = json.loads(run([*self.command, "--steps", total, "--log", self.log]))
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        lines = [line for line in lines if "step" in line]
        times = [line["ms"] for line in lines[WARM_UP : WARM_UP + steps]]
        return {"times_ms": times, "losses": [line["loss"] for line in lines], "memory": facts["memory"]}


class Peer:
    """A system of bench/train_peers.py, or with "xla" in front of its options of bench/train_xla.py."""

    def __init__(self, name, args, data, options, case):
        self.name = name
        python, script = args.peer_python, "train_peers.py"
        if options[0] == "xla":
            python, script, options = args.xla_python, "train_xla.py", options[1:]
        self.command = [python, ROOT / "bench" / script, options[0], data.model, data.tokens, *options[1:]]
        self.command += ["--ranks", RANKS, "--sequences", case.sequences, "--warm-up", WARM_UP]

    def measure(self, steps):
        # Other lines may come before: torch and its compiler write what they like.
        return json.loads(run([*self.command, "--steps", steps]).strip().splitlines()[-1])


def summarize(system, rounds):
    ranks = [[rank["pss_bytes"] - rank["idle_pss_bytes"] for rank in r["memory"]] for r in rounds]
    totals = [sum(rank["pss_bytes"] for rank in r["memory"]) for r in rounds]
    medians = [statistics.median(r["times_ms"]) for r in rounds]
    return {
        "system": system.name,
        "median_ms": statistics.median(medians),
        "min_ms": min(min(r["times_ms"]) for r in rounds),
        "rank_mib": statistics.median(max(each) for each in ranks) / 2**20,
        "total_mib": statistics.median(totals) / 2**20,
        "losses": rounds[0]["losses"],
        "rounds": medians,
    }


def check_losses(name, case, results):
    """Every system must train the same model on the same data."""
    expected = np.array(results[0]["losses"])
    for result in results[1:]:
        difference = float(np.abs(np.array(result["losses"]) / expected - 1).max())
        print(f"{name}, {result['system']}: losses differ by {difference:.1e} from {results[0]['system']}'s")
        if not difference <= case.loss_tolerance:
            fail(f"{name}: {result['system']} does not compute what {results[0]['system']} computes")


def report(results, limit_ms):
    base = results[0]
    header = ["system", "median ms", "best ms", f"time to {base['system']}", "time to limit"]
    header += ["MiB a rank over idle", f"memory to {base['system']}", "MiB, all ranks with idle"]
    rows = []
    for r in results:
        row = [r["system"], f"{r['median_ms']:.0f}", f"{r['min_ms']:.0f}", f"{r['median_ms'] / base['median_ms']:.2f}"]
        row += [f"{r['median_ms'] / limit_ms:.1f}", f"{r['rank_mib']:.0f}", f"{r['rank_mib'] / base['rank_mib']:.2f}"]
        rows.append([*row, f"{r['total_mib']:.0f}"])
    return table(header, rows)


def measure_case(name, case, args, tools, peak, folder):
    config = Config(batch=case.sequences)
    data = Data(folder / "llama.onnx", folder / "tokens.bin")
    onnx.save(make_llama(config), data.model)
    count = (WARM_UP + args.steps + MEMORY_STEPS) * case.sequences * config.sequence + 1
    write_tokens(data.tokens, np.random.default_rng(0).integers(0, config.vocab, count))
    systems = [Peer(peer, args, data, options, case) for peer, options in case.peers.items()]
    systems += [Compiled(ours, tools, data, options, folder) for ours, options in case.compiled.items()]
    measured = [[] for _ in systems]
    for _ in range(args.rounds):
        for system, rounds in zip(systems, measured):
            rounds.append(system.measure(args.steps))
    results = [summarize(system, rounds) for system, rounds in zip(systems, measured)]
    check_losses(name, case, results)
    limit_ms = 1e3 * step_flops(config) / RANKS / peak[case.dtype]
    text = f"{name}, {case.sequences} sequences of {config.sequence} a step; arithmetic alone {limit_ms:.0f} ms:\n\n"
    return results, text + report(results, limit_ms)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each system a round")
    parser.add_argument("--only", help=f"comma-separated beginnings of cases: {'; '.join(CASES)}")
    parser.add_argument("--peer-python", default=ROOT / ".venv-torch/bin/python", help="the Python that has torch (make test-torch)")
    parser.add_argument("--xla-python", default=ROOT / ".venv-bench/bin/python", help="the Python that has jax (make bench installs it)")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md, the numbers into bench/results")
    args = parser.parse_args()
    for python, target in ((args.peer_python, ".venv-torch"), (args.xla_python, ".venv-bench")):
        if not os.access(python, os.X_OK):
            fail(f"{python} is not there: make {target}/.stamp installs it")
    wanted = tuple(args.only.split(",")) if args.only else ("",)
    chosen = {name: case for name, case in CASES.items() if name.startswith(wanted)}
    if not chosen:
        fail(f"--only {args.only}: no such case; there are {'; '.join(CASES)}")

    facts, tools, results, texts = machine(), args.build.resolve() / "bin", {}, []
    peak = peaks(tools)
    for name, case in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            results[name], text = measure_case(name, case, args, tools, peak, pathlib.Path(folder))
        print(text + "\n", flush=True)
        texts.append(text)
    if args.write_docs:
        save("train-cost", facts, results)
        write_docs("training cost", f"{describe(facts)}; {args.rounds} rounds of {args.steps} steps.\n\n" + "\n\n".join(texts))


if __name__ == "__main__":
    main()
