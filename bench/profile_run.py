#!/usr/bin/env python3
"""Which kernels the compiled Llama of bench/run.py spends its time in: shard-run --trace, one rank, one thread.

A launch counts with its shortest time over all runs, so that other work on the machine does not show. FLOPs are those
of the contractions; other kernels have none worth counting.

    .venv/bin/python bench/profile_run.py --build build [--write-docs]
"""

import argparse
import collections
import json
import math
import pathlib
import tempfile

import numpy as np
import onnx
from common import describe, machine, run, save, table, write_docs
from make_llama import Config, make_llama


def shortest_times(trace):
    """Seconds of each command, by its index."""
    events = json.loads(trace.read_text())
    events = events["traceEvents"] if isinstance(events, dict) else events
    best = {}
    for event in events:
        command = event.get("args", {}).get("command")
        if event["ph"] == "X" and command is not None:
            best[command] = min(best.get(command, math.inf), event["dur"] * 1e-6)
    return best


def weight_flops(program, command):
    """2 m n k of a launch that multiplies by a packed weight, else 0."""
    panels = {p["buffer"]: p for p in program["parameters"] if p["layout"]["kind"] == "panels"}
    weights = [b for b in command["buffers"] if b in panels]
    if not weights:
        return 0
    output = math.prod(program["buffers"][command["buffers"][-1]]["shape"])
    return sum(2 * output * program["buffers"][b]["shape"][panels[b]["layout"]["k_dims"][0]] for b in weights)


def profile(program, times):
    kernels = collections.defaultdict(lambda: [0, 0.0, 0])
    for index, command in enumerate(program["entries"][0]["commands"]):
        if command["op"] == "launch":
            entry = kernels[program["kernels"][command["kernel"]]]
            entry[0] += 1
            entry[1] += times.get(index, 0)
            entry[2] += weight_flops(program, command)
    total = sum(seconds for _, seconds, _ in kernels.values())
    ranked = sorted(kernels.items(), key=lambda item: -item[1][1])
    return [
        {"kernel": name, "launches": count, "ms": 1e3 * seconds, "share": seconds / total, "gflops": flops / seconds / 1e9}
        for name, (count, seconds, flops) in ranked
    ]


def peak(tools):
    """GFLOP/s of one core that does nothing but multiply-adds, from the first line of gemm_bench; 0 if it was not built."""
    if not (tools / "gemm_bench").exists():
        return 0
    return float(run([tools / "gemm_bench", "native", "--peak"]).split("peak")[1].split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--write-docs", action="store_true")
    args = parser.parse_args()
    facts, config, tools = machine(), Config(), args.build.resolve() / "bin"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        onnx.save(make_llama(config), folder / "llama.onnx")
        np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, config.vocab, (config.batch, config.sequence)))
        bundle = folder / "llama.bundle"
        run([tools / "shardc", "compile", folder / "llama.onnx", "--tp", 1, "-o", bundle])
        command = [tools / "shard-run", bundle, "--input", f"input_ids={folder / 'ids.npy'}", "--threads", 1]
        run([*command, "--bench", args.runs, "--trace", folder / "trace.json"])
        rows = profile(json.loads((bundle / "program.json").read_text()), shortest_times(folder / "trace.json"))
    peak_rate = peak(tools)
    cells = []
    for row in rows[:12]:
        rate = f"{row['gflops']:.0f}" + (f" ({row['gflops'] / peak_rate:.0%})" if peak_rate else "")
        cells.append([row["kernel"], row["launches"], f"{row['ms']:.2f}", f"{row['share']:.1%}", rate if row["gflops"] else ""])
    text = f"{describe(facts)}; one thread" + (f", peak {peak_rate:.0f} GFLOP/s" if peak_rate else "") + ".\n\n"
    text += table(["kernel", "launches", "ms a run", "share", "GFLOP/s (of peak)"], cells)
    print(text)
    if args.write_docs:
        save("profile", facts, rows)
        write_docs("kernels", text)


if __name__ == "__main__":
    main()
