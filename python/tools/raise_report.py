"""What Raise finds in exported models, and whether it changes their results.

    python python/tools/raise_report.py --build build FOLDER_OR_MODEL.onnx... [--dim NAME=N] [--no-run]

Imports each model, raises it, prints a line with the blocks found, and interprets it before and after on the same random
inputs. Exit status: the number of models that fail or differ by more than rounding, relative to the largest output.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCKS = ["attention", "rms_norm", "layer_norm", "rope", "silu", "gelu", "gelu_tanh", "softplus", "grouped_matmul"]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[0] if done.stderr.strip() else f"exit {done.returncode}")
    return done.stderr


def load(path):
    """An .npy file in double precision; bf16 is stored as two opaque bytes."""
    import numpy as np

    array = np.load(path)
    if array.dtype.kind == "V":
        array = (array.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def output_names(module):
    """The names of @main's results."""
    results = re.search(r"func\.func @main\(.*\) -> (.*) \{$", module.read_text(), re.MULTILINE).group(1)
    return re.findall(r'graph\.name = "([^"]*)"', results)


def difference(before, after):
    """The largest, relative to the largest value before."""
    scale = max(abs(before).max(initial=0), 1e-30)
    return abs(before - after).max(initial=0) / scale


def tolerance(model):
    """16-bit models round at every op, and raising leaves some of the roundings out."""
    return {"bf16": 4e-2, "fp16": 4e-3}.get(model.stem.rsplit("-", 1)[-1], 1e-4)


def examine(model, build, dims, folder, interpret):
    """Counts by block, and the relative difference of the outputs (None if not run)."""
    imported, raised = folder / "imported.mlir", folder / "raised.mlir"
    bounds = [f"--dim={dim}" for dim in dims] if "dynamic" in model.name else []
    run(build / "bin/shard-translate", "--import-onnx", model, *bounds, "-o", imported)
    passes = ["--shard-raise=report", "--shard-unpack-parameters", "--cse"]
    remark = run(build / "bin/shard-opt", imported, *passes, "-o", raised)
    found = re.search(r"remark: @main: (.*)", remark).group(1)
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", found)}
    if not interpret:
        return counts, None
    worst = 0.0
    for name in output_names(imported):
        outputs = []
        for module in (imported, raised):
            file = module.with_suffix(".npy")
            run(build / "bin/shard-opt", "--shard-interpret", module, "--output", f"{name}={file}")
            outputs.append(load(file))
        worst = max(worst, difference(*outputs))
    return counts, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--dim", action="append", default=["batch=2", "seq=16"], help="for models called *dynamic*")
    parser.add_argument("--no-run", action="store_true", help="only count")
    args = parser.parse_args()
    models = [file for path in args.models for file in (sorted(path.rglob("*.onnx")) if path.is_dir() else [path])]

    print(f"{'model':42}" + "".join(f"{name:>15}" for name in BLOCKS) + f"{'difference':>12}")
    failures = 0
    for model in models:
        label = f"{model.parent.name}/{model.stem}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                counts, worst = examine(model, args.build, args.dim, Path(folder), not args.no_run)
            except RuntimeError as error:
                print(f"{label:42} {error}")
                failures += 1
                continue
        failures += worst is not None and worst > tolerance(model)
        cells = "".join(f"{counts.get(name, 0) or '-':>15}" for name in BLOCKS)
        print(f"{label:42}{cells}{'-' if worst is None else f'{worst:.1e}':>12}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
