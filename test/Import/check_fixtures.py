#!/usr/bin/env python3
"""Imports real exported models and compares what the interpreter computes with what torch computed.

    SHARDC_FIXTURES=DIR check_fixtures.py --build build [NAME ...]

DIR holds FAMILY/VARIANT.onnx with VARIANT.npz (inputs by name, `logits`) beside it; a model without one is only imported.
Skipped, visibly, if SHARDC_FIXTURES is not set or numpy is missing.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

DYNAMIC = {"batch": 0, "seq": 1, "s72": 0, "s70": 1}  # names of dimensions that the exporters wrote
FULL_SIZE = {"s72": 1, "s70": 2048}


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def dims_of(model: pathlib.Path, shape):
    """--dim options for the dynamic dimensions that the importer asks for."""
    if "dynamic" not in model.name:
        return []
    names = [n for n in DYNAMIC if (n.startswith("s7")) == ("fake" in model.name or "-hf" in model.name)]
    sizes = FULL_SIZE if shape is None else {n: shape[DYNAMIC[n]] for n in names}
    return [o for n, size in sizes.items() for o in ("--dim", f"{n}={size}")]


def compare(numpy, expected, actual, kind):
    """Worst error relative to the largest expected value, and what is allowed."""
    scale = max(float(numpy.abs(expected).max()), 1e-30)
    worst = float(numpy.abs(expected.astype("float64") - actual.astype("float64")).max()) / scale
    # The reference is torch in the model's own type; 16-bit exports round at every op.
    return worst, {"bf16": 4e-2, "fp16": 4e-3}.get(kind, 1e-5)


def check_shape(numpy, tools, model: pathlib.Path, folder: pathlib.Path, arrays):
    """Imports with the shapes of these arrays and compares; returns what to say, "ok …" if all is well."""
    text = folder / "model.mlir"
    start = time.time()
    shape = arrays["input_ids"].shape if arrays else None
    imported = run(tools / "shard-translate", "--import-onnx", model, *dims_of(model, shape), "-o", text)
    seconds = time.time() - start
    if imported.returncode:
        return f"not imported: {imported.stderr.strip()}"
    if not arrays:
        return f"ok imported in {seconds:.2f} s"
    results = [n for n in ("logits", "loss") if n in arrays]
    command = [tools / "shard-opt", "--shard-interpret", text]
    for name, array in arrays.items():
        if name not in results and not name.startswith("grad."):
            numpy.save(folder / f"{name}.npy", array)
            command += ["--input", f"{name}={folder / (name + '.npy')}"]
    for name in results:
        command += ["--output", f"{name}={folder / (name + '.out.npy')}"]
    interpreted = run(*command)
    if interpreted.returncode:
        return f"not interpreted: {interpreted.stderr.strip()[:300]}"
    kind = model.stem.rsplit("-", 1)[-1]
    notes = []
    for name in results:
        actual = numpy.load(folder / (name + ".out.npy"))
        if actual.dtype.kind == "V":  # bf16 has no numpy type
            actual = (actual.view("uint16").astype("uint32") << 16).view("float32")
        worst, allowed = compare(numpy, arrays[name], actual, kind)
        if not worst <= allowed:
            return f"{name} differs by {worst:.2e} of its largest value, allowed {allowed:.0e}"
        notes.append(f"{name} {worst:.1e}")
    return f"ok {', '.join(notes)}; imported in {seconds:.2f} s"


def check(numpy, tools, model: pathlib.Path, folder: pathlib.Path):
    """All shapes of a model: NAME__2, NAME__3 in its archive are further ones."""
    archive = model.with_suffix(".npz")
    stored = dict(numpy.load(archive)) if archive.exists() else {}
    result = check_shape(numpy, tools, model, folder, {n: a for n, a in stored.items() if "__" not in n})
    for suffix in ("__2", "__3"):
        arrays = {n.removesuffix(suffix): a for n, a in stored.items() if n.endswith(suffix)}
        if arrays and result.startswith("ok"):
            other = check_shape(numpy, tools, model, folder, arrays)
            result = f"{result}; {list(arrays['input_ids'].shape)}: {other}" if other.startswith("ok") else other
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("names", nargs="*", help="parts of FAMILY/VARIANT to check; all if none is given")
    args = parser.parse_args()
    root = os.environ.get("SHARDC_FIXTURES")
    if not root:
        print("SKIPPED: SHARDC_FIXTURES is not set")
        return 0
    try:
        import numpy
    except ImportError:
        print("SKIPPED: numpy is not installed")
        return 0
    failures = 0
    for model in sorted(pathlib.Path(root).glob("*/*.onnx")):
        name = f"{model.parent.name}/{model.stem}"
        if args.names and not any(part in name for part in args.names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = check(numpy, args.build.resolve() / "bin", model, pathlib.Path(folder))
        failures += not result.startswith("ok")
        print(f"{name}: {result}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
