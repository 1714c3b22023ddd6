"""Compiles every kernel of the fixtures for NVIDIA GPUs, without one, and makes a table: `kernels.py [--output docs/cuda-kernels.md]`.

Fails if a program does not compile, or a kernel spills registers. Without ptxas only PTX is made, which is said.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHS = ["sm_80", "sm_90a", "sm_100a"]
PROGRAMS = {f"tp={n}": ["--tp", str(n)] for n in (1, 2, 4, 8)}
PROGRAMS["train, dp_shard=2, tp=2"] = ["--train", "--dp-shard", "2", "--tp", "2"]


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


def compile_kernels(tools, fused, out, emit, toolkit=None, archs=ARCHS):
    toolkit = f" toolkit={toolkit}" if toolkit else ""
    run(tools / "shard-opt", fused, f"--shard-lower-cuda=emit={emit} arch={','.join(archs)} output={out}{toolkit}", "-o", "/dev/null")
    return json.loads((out / "kernels.json").read_text())["kernels"]


def find_toolkit(toolkit=None):
    """A folder with bin/ptxas: this one, the virtual environment (`make setup` puts one there), or where the compiler looks by itself; None if there is none."""
    folders = [toolkit] if toolkit else [sys.prefix, *(os.environ.get(name) for name in ("CUDA_ROOT", "CUDA_HOME", "CUDA_PATH")), "/usr/local/cuda"]
    found = [pathlib.Path(folder) for folder in folders if folder and (pathlib.Path(folder) / "bin/ptxas").exists()]
    on_path = shutil.which("ptxas") if not toolkit else None
    return found[0] if found else pathlib.Path(on_path).parent.parent if on_path else None


def compile_bundle(tools, model, options, folder, toolkit):
    """What a bundle for all architectures holds, and the processor seconds that it took, ptxas included."""
    bundle = folder / "model.bundle"
    archs = ARCHS if toolkit else [arch.replace("sm_", "compute_").rstrip("a") for arch in ARCHS]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    tool_options = ["--toolkit", toolkit] if toolkit else []
    run(tools / "shardc", "compile", model, *options, "--target", "cuda", "--arch", ",".join(archs), "-o", bundle, *tool_options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    program, manifest = (json.loads((bundle / name).read_text()) for name in ("program.json", "manifest.json"))
    calls = [call["kind"] for kernel in program["kernels"] for call in kernel["calls"]]
    images = [image["resources"] for image in manifest["kernels"] if "resources" in image]
    return {
        "kernels": len(program["kernels"]),
        "generated": calls.count("launch"),
        "gemm": calls.count("gemm"),
        "registers": max((image["registers"] for image in images), default=None),
        "spills": sum(image["spill_bytes"] for image in images) if images else None,
        "shared": max((image["shared_bytes"] for image in images), default=None),
        "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
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
                try:
                    row = compile_bundle(tools, model, options, pathlib.Path(folder), toolkit)
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
        "Made by `test/cuda/kernels.py --output docs/cuda-kernels.md`: bundles of the fixtures, compiled without a GPU for " + ", ".join(ARCHS) + ". Kernels are",
        "functions of the program, of which each makes calls of generated code and of cuBLASLt. Registers and shared memory (bytes) are the most that any kernel",
        "takes on any of the three, spills (bytes) their sum; processor seconds are for the whole bundle, ptxas included. Nothing here ran on a GPU.",
        "",
        "| family | program | kernels | generated | cuBLASLt | registers | spills | shared | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for family, program, row in rows:
        cells = [row[name] for name in ("kernels", "generated", "gemm", "registers", "spills", "shared")] + [f"{row['seconds']:.1f}"]
        lines.append(f"| {family} | {program} | " + " | ".join("–" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
