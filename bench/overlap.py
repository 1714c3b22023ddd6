#!/usr/bin/env python3
"""How communication hides: exposed time as a share of a training step, from the trace (python/shardc/trace.py), with overlap on and off, over
shared memory and over a link that is paced to imitate a network (`shard-run --link-gbps`). The model and ranks of bench/train.py: FSDP of 8
sequences, and tensor parallelism with sequence parallelism of 4.

    .venv/bin/python bench/overlap.py --build build [--steps 5] [--links 10,4] [--write-docs]

A rank waits for bytes and for other ranks alike: on a machine that does other work, the second part is that work.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from common import ROOT, describe, machine, run, save, table, write_docs
from make_llama import Config, make_llama
from train import FSDP2, NO_OVERLAP, RANKS, WARM_UP, Compiled, Data

sys.path.insert(0, str(ROOT / "python"))
from shardc.tokens import write_tokens  # noqa: E402
from shardc.trace import exposure  # noqa: E402

SEQUENCES, TENSOR_SEQUENCES = 8, 4
EAGER = ["--forward-prefetch", 2, "--backward-prefetch", 2, "--reductions-in-flight", 2]
SETTINGS = {"no overlap": NO_OVERLAP, "overlap (default)": [], "overlap, two units ahead": EAGER}
TENSOR = ["--tp", RANKS, "--sequence-parallel"]
TENSOR_SETTINGS = {"tp, collectives whole": [], "tp, async tensor parallel": ["--async-tensor-parallel"]}


def measure(system, trace, link, steps):
    """Mean over the ranks."""
    pace = ["--link-gbps", link] if link else []
    run([*system.command, "--steps", WARM_UP + steps, "--trace", trace, *pace])
    ranks = exposure(trace, skip=WARM_UP)
    mean = {name: float(np.mean([getattr(rank, name) for rank in ranks])) for name in ("share", "hidden")}
    return {"ms": float(np.mean([rank.total / rank.runs for rank in ranks])) / 1e3, **mean}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--links", default="10,4", help="Gbit/s of the imitated networks")
    parser.add_argument("--only", choices=["fsdp", "tp"])
    parser.add_argument("--write-docs", action="store_true")
    args = parser.parse_args()
    facts, tools = machine(), args.build.resolve() / "bin"
    results, rows, systems = {}, [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for kind, sequences, mesh, settings in (("fsdp", SEQUENCES, FSDP2, SETTINGS), ("tp", TENSOR_SEQUENCES, TENSOR, TENSOR_SETTINGS)):
            if args.only not in (None, kind):
                continue
            config = Config(batch=sequences)
            data = Data(folder / f"{kind}.onnx", folder / f"{kind}.bin")
            onnx.save(make_llama(config), data.model)
            count = (WARM_UP + args.steps) * config.batch * config.sequence + 1
            write_tokens(data.tokens, np.random.default_rng(0).integers(0, config.vocab, count))
            systems |= {setting: Compiled(setting, tools, data, [*mesh, *options], folder) for setting, options in settings.items()}
        for link in (None, *args.links.split(",")):
            where = f"{link} Gbit/s" if link else "shared memory"
            for setting, system in systems.items():
                result = measure(system, folder / "trace.json", link, args.steps)
                results[f"{where}, {setting}"] = result
                rows.append([where, setting, f"{result['ms']:.0f}", f"{result['share']:.1%}", f"{result['hidden']:.0%}"])
    header = ["link", "setting", "ms a step", "exposed, of the step", "hidden, of what was under way"]
    text = f"{describe(facts)}; {args.steps} steps each, mean of two ranks.\n\n{table(header, rows)}"
    print(text)
    if args.write_docs:
        save("exposed-communication", facts, results)
        write_docs("exposed communication", text)


if __name__ == "__main__":
    main()
