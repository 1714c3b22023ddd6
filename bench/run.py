#!/usr/bin/env python3
"""Run cost, side by side in one run: a mid-size Llama compiled for one rank of two threads and for two ranks of one,
against onnxruntime and (where it can be imported) torch with two threads.

Each round starts every system afresh, one after the other (A B C A B C ...), so that what else the machine does falls
on all of them; a system's number is the median of its rounds' medians. All systems read the same ONNX file and their
logits are compared before anything is timed.

    .venv/bin/python bench/run.py --build build [--rounds 5] [--runs 10] [--write-docs]
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np
import onnx
from common import ROOT, describe, fail, machine, run, save, table, write_docs
from make_llama import Config, make_llama

PREFERRED = "onnxruntime"


class Compiled:
    """A bundle on ranks of this machine."""

    def __init__(self, tools, folder, ranks, threads):
        self.name = f"shardc, {ranks} rank{'s' * (ranks > 1)} x {threads} thread{'s' * (threads > 1)}"
        self.folder, self.ranks = folder, ranks
        self.bundle = folder / f"tp{ranks}.bundle"
        run([tools / "shardc", "compile", folder / "llama.onnx", "--tp", ranks, "-o", self.bundle])
        self.command = [tools / "shard-run", self.bundle, "--input", f"input_ids={folder / 'ids.npy'}", "--json"]
        self.command += ["--threads", threads]

    def logits(self):
        out = self.folder / "ours.npy"
        run([*self.command, "--output", out])
        return np.load(out)

    def measure(self, runs):
        once = json.loads(run([*self.command, "--runs", "1"]))  # no warm-up: its first result is the first
        facts = json.loads(run([*self.command, "--bench", runs]))
        return {**facts, "first_result_ms": once["first_result_ms"]}


class Baseline:
    """Another system, in a process of its own."""

    def __init__(self, python, folder, system, threads):
        self.name = f"{system}, {threads} threads"
        self.folder, self.ranks = folder, 1
        script = ROOT / "bench" / "baseline.py"
        self.command = [python, script, system, folder / "llama.onnx", folder / "ids.npy", "--threads", threads]

    def logits(self):
        out = self.folder / "theirs.npy"
        run([*self.command, "--runs", "1", "--output", out])
        return np.load(out)

    def measure(self, runs):
        return json.loads(run([*self.command, "--runs", runs]))


def baselines(python, folder):
    found = []
    for system in ("onnxruntime", "torch"):
        if pathlib.Path(python).exists() and not subprocess.run([python, "-c", f"import {system}"], capture_output=True).returncode:
            found.append(Baseline(python, folder, system, 2))
        else:
            print(f"{system}: {python} cannot import it, left out")
    return found


def check(systems):
    """All systems must compute the same function."""
    reference = systems[-1].logits()
    for system in systems[:-1]:
        difference = float(np.abs(system.logits() - reference).max() / np.abs(reference).max())
        print(f"{system.name}: logits differ by {difference:.1e} of their largest from {systems[-1].name}")
        if not difference < 1e-4:
            fail(f"{system.name} does not compute what {systems[-1].name} computes")


def summarize(system, rounds):
    def median(key):
        return statistics.median(r[key] for r in rounds)

    ranks = [rank for r in rounds for rank in r["memory"]]
    return {
        "system": system.name,
        "ranks": system.ranks,
        "median_ms": median("median_ms"),
        "min_ms": min(r["min_ms"] for r in rounds),
        "first_result_s": median("first_result_ms") / 1e3,
        "pss_mib": max(rank["pss_bytes"] for rank in ranks) / 2**20,
        "rounds": [r["median_ms"] for r in rounds],
    }


def report(results):
    base = next((r for r in results if r["system"].startswith(PREFERRED)), results[-1])
    header = ["system", "median ms", "best ms", f"ratio to {base['system'].split(',')[0]} (median, best)"]
    header += ["first result, s", "memory a rank, MiB (PSS)"]
    rows = []
    for r in results:
        ratio = f"{r['median_ms'] / base['median_ms']:.2f}, {r['min_ms'] / base['min_ms']:.2f}"
        rows.append([r["system"], f"{r['median_ms']:.1f}", f"{r['min_ms']:.1f}", ratio])
        rows[-1] += [f"{r['first_result_s']:.2f}", f"{r['pss_mib']:.0f}"]
    return table(header, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10, help="timed runs of each system a round")
    parser.add_argument("--baseline-python", default=ROOT / ".venv-torch/bin/python", help="the Python that has onnxruntime and torch")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/benchmarks.md, the numbers into bench/results")
    args = parser.parse_args()

    facts, config = machine(), Config()
    with tempfile.TemporaryDirectory() as temporary:
        folder, tools = pathlib.Path(temporary), args.build.resolve() / "bin"
        onnx.save(make_llama(config), folder / "llama.onnx")
        np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, config.vocab, (config.batch, config.sequence)))
        systems = [Compiled(tools, folder, 1, 2), Compiled(tools, folder, 2, 1)]
        systems += baselines(args.baseline_python, folder)
        check(systems)
        measured = {system.name: [] for system in systems}
        for _ in range(args.rounds):
            for system in systems:
                measured[system.name].append(system.measure(args.runs))
    results = [summarize(system, measured[system.name]) for system in systems]
    text = f"{describe(facts)}; {args.rounds} rounds of {args.runs} runs.\n\n{report(results)}"
    print(text)
    if args.write_docs:
        save("run-cost", facts, results)
        write_docs("run cost", text)


if __name__ == "__main__":
    main()
