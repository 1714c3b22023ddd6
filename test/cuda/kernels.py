"""Compiles every kernel of the fixtures for NVIDIA GPUs, without one, and makes a table: `kernels.py [--output docs/cuda-kernels.md]`.

Fails if a program does not compile, or a kernel spills registers. Without ptxas only PTX is made, which is said.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHS = ["sm_80", "sm_90a", "sm_100a"]
PROGRAMS = {"tp=1": "mesh=tp=1", "tp=2": "mesh=tp=2", "train, dp_shard=2": "mesh=dp_shard=2 train"}


class Failed(Exception):
    """A tool's command line and what it said."""


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{done.stderr.strip()[:2000]}")
    return done.stdout


def fixtures():
    """One exported model of each family."""
    folders = sorted(path for path in (ROOT / "test/fixtures").iterdir() if path.is_dir())
    models = [(folder.name, next((folder / name for name in ("static-op20.onnx", "static-op23.onnx") if (folder / name).exists()), None)) for folder in folders]
    return [(name, model) for name, model in models if model]


def fuse(tools, model, options, work):
    """The model as kernel functions on one rank."""
    imported, fused = work / "imported.mlir", work / "fused.mlir"
    run(tools / "shard-translate", "--import-onnx", model, "-o", imported)
    run(tools / "shard-opt", imported, f"--shard-pipeline={options}", "--shard-fuse=target=cuda", "-o", fused)
    return fused


def compile_kernels(tools, fused, out, emit, toolkit=None):
    toolkit = f" toolkit={toolkit}" if toolkit else ""
    run(tools / "shard-opt", fused, f"--shard-lower-cuda=emit={emit} arch={','.join(ARCHS)} output={out}{toolkit}", "-o", "/dev/null")
    return json.loads((out / "kernels.json").read_text())["kernels"]


def find_toolkit(toolkit=None):
    """A folder with bin/ptxas: this one, the virtual environment (`make setup` puts one there), or where the compiler looks by itself; None if there is none."""
    folders = [toolkit] if toolkit else [sys.prefix, *(os.environ.get(name) for name in ("CUDA_ROOT", "CUDA_HOME", "CUDA_PATH")), "/usr/local/cuda"]
    found = [pathlib.Path(folder) for folder in folders if folder and (pathlib.Path(folder) / "bin/ptxas").exists()]
    on_path = shutil.which("ptxas") if not toolkit else None
    return found[0] if found else pathlib.Path(on_path).parent.parent if on_path else None


def summarise(kernels):
    calls = [call["kind"] for kernel in kernels for call in kernel["calls"]]
    compiled = [report for kernel in kernels for reports in kernel.get("compiled", {}).values() for report in reports.values()]

    def largest(key):
        return max((report[key] for report in compiled), default=None)

    return {
        "generated": calls.count("launch"),
        "libraries": f"{calls.count('gemm')} gemm",
        "registers": largest("registers"),
        "spills": sum(report["spill_bytes"] for report in compiled) if compiled else None,
        "shared": largest("shared_bytes"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path, help="write the table into this file")
    parser.add_argument("--toolkit", help="CUDA toolkit: a folder with bin/ptxas")
    parser.add_argument("--only", help="families, comma-separated")
    args = parser.parse_args()
    tools, toolkit = args.build.resolve() / "bin", find_toolkit(args.toolkit)
    if not toolkit:
        print("there is no ptxas: PTX only, no registers", file=sys.stderr)
    rows, failures = [], []
    for family, model in fixtures():
        if args.only and family not in args.only.split(","):
            continue
        for program, options in PROGRAMS.items():
            with tempfile.TemporaryDirectory() as folder:
                work = pathlib.Path(folder)
                try:
                    fused = fuse(tools, model, options, work)
                    start = time.perf_counter()
                    row = summarise(compile_kernels(tools, fused, work / "out", "cubin" if toolkit else "ptx", toolkit))
                    row["seconds"] = time.perf_counter() - start
                except Failed as failure:
                    failures.append(f"{family} {program}: {failure}")
                    continue
            rows.append((family, program, row))
            print(family, program, row, file=sys.stderr)
            if row["spills"]:
                failures.append(f"{family} {program}: {row['spills']} bytes of registers are spilled")
    if args.output:
        args.output.write_text(table(rows))
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


def table(rows):
    lines = [
        "# Kernels on NVIDIA GPUs",
        "",
        "Made by `test/cuda/kernels.py --output docs/cuda-kernels.md`: every generated kernel of the fixtures, compiled by ptxas for "
        + ", ".join(ARCHS)
        + ". Registers and shared memory (bytes) are the most that any kernel takes on any of them, spills (bytes) their sum; seconds are for all three. "
        "Nothing here ran on a GPU.",
        "",
        "| family | program | generated | library calls | registers | spills | shared | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family, program, row in rows:
        cells = [row["generated"], row["libraries"], row["registers"], row["spills"], row["shared"], f"{row['seconds']:.1f}"]
        lines.append(f"| {family} | {program} | " + " | ".join("–" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
