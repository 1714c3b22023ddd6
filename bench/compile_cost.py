#!/usr/bin/env python3
"""Compile cost. Inference: Llama 8B (32 layers) and 70B (80 layers) without weights, from the ONNX file to the program of one rank of
eight. Training: the same and 405B (126 layers, by bench/make_llama.py --no-weights), --tp 8 --dp-shard 8, from the ONNX file to the bundle, kernels
of one level included. Prints processor seconds of each stage, which other work on the machine does not lengthen much, wall seconds, and peak memory.

    .venv/bin/python bench/compile_cost.py --build build --fixtures DIR [--write-docs]

DIR (or $SHARDC_FIXTURES) holds llama-8b-static-fake-named.onnx and llama-70b-static-fake-named.onnx.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile

import onnx
from common import describe, fail, machine, save, table, write_docs
from make_llama import Config, make_llama

LLAMA_405B = Config(
    hidden=16384, layers=126, heads=128, kv_heads=8, ffn=53248, vocab=128256, batch=1, sequence=2048, has_weights=False
)
TRAINING = ["--train", "--tp", "8", "--dp-shard", "8", "--isa", "x86-64-v4", "--force"]
MODELS = {"8B": "llama-8b-static-fake-named.onnx", "70B": "llama-70b-static-fake-named.onnx"}
STAGE = re.compile(r"^(\w+) +([\d.]+) s +([\d.]+) s cpu", re.M)


def compile_once(shardc, model, options):
    """Seconds of each stage (wall, processor) and peak resident bytes."""
    command = [shardc, "compile", model, "--progress", *options]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        fail(f"shardc compile {model} exited with {process.returncode}:\n{text[-2000:]}")
    stages = {name: (float(wall), float(cpu)) for name, wall, cpu in STAGE.findall(text)}
    return stages, usage.ru_maxrss * 1024


def measure(shardc, model, runs, options):
    measured = [compile_once(shardc, model, options) for _ in range(runs)]

    def median(name, index):
        return statistics.median(stages[name][index] for stages, _ in measured)

    stages = {name: {"wall_s": median(name, 0), "cpu_s": median(name, 1)} for name in measured[0][0]}
    return {"stages": stages, "peak_bytes": max(peak for _, peak in measured)}


def report(results):
    names = list(results)
    stages = list(results[names[0]]["stages"])
    rows = []

    def row(title, values, form):
        growth = values[-1] / values[0] if len(values) > 1 and values[0] else None
        rows.append([title, *(form.format(v) for v in values), f"{growth:.2f}" if growth else ""])

    for stage in stages:
        row(stage, [results[n]["stages"][stage]["cpu_s"] for n in names], "{:.3f}")
    for title, unit in (("all, processor seconds", "cpu_s"), ("all, wall seconds", "wall_s")):
        row(title, [sum(s[unit] for s in results[n]["stages"].values()) for n in names], "{:.3f}")
    row("peak memory, MiB", [results[n]["peak_bytes"] / 2**20 for n in names], "{:.0f}")
    return table(["stage", *names, "growth"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--fixtures", default=os.environ.get("SHARDC_FIXTURES"), type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write-docs", action="store_true")
    args = parser.parse_args()
    if not args.fixtures:
        fail("compile_cost.py needs --fixtures DIR or SHARDC_FIXTURES")
    missing = [file for file in MODELS.values() if not (args.fixtures / file).exists()]
    if missing:
        fail(f"{args.fixtures} lacks {', '.join(missing)}")
    facts = machine()
    shardc = args.build.resolve() / "bin" / "shardc"
    files = {name: args.fixtures / file for name, file in MODELS.items()}
    inference = ["--tp", "8", "--stop-after", "partition"]
    results = {name: measure(shardc, file, args.runs, inference) for name, file in files.items()}
    with tempfile.TemporaryDirectory() as folder:
        files["405B"] = pathlib.Path(folder) / "llama-405b.onnx"
        onnx.save(make_llama(LLAMA_405B), files["405B"])
        options = [*TRAINING, "-o", pathlib.Path(folder) / "llama.train"]
        training = {name: measure(shardc, file, args.runs, options) for name, file in files.items()}
    text = f"{describe(facts)}; median of {args.runs}, processor seconds.\n\n{report(results)}\n\n"
    text += f"A training step, {' '.join(TRAINING[1:-1])}, kernels and bundle included:\n\n{report(training)}"
    results = {"inference": results, "training": training}
    print(text)
    if args.write_docs:
        save("compile-cost", facts, results)
        write_docs("compile cost", text)


if __name__ == "__main__":
    main()
