#!/usr/bin/env python3
"""Runs the ONNX standard's own node tests through the importer and the interpreter.

    node_tests.py --build build [--list] [NAME ...]

Needs the onnx wheel and numpy (skipped, visibly, without). A case whose shape operands are inputs is run with them as constants, since
all shapes are known at import. Prints each failure and a summary by operator; the exit status is non-zero if a case fails that
is not in node_tests_expected.txt, or one passes that is.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = HERE / "node_tests_expected.txt"


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)


def with_constants(onnx, model, arrays, names):
    """The model with those inputs as initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in [v for v in copy.graph.input if v.name in names]:
        copy.graph.input.remove(value)
        copy.graph.initializer.append(onnx.numpy_helper.from_array(arrays[value.name], value.name))
    return copy


def to_array(onnx, numpy, value):
    """Numpy scalars and protos as arrays; anything else (a sequence, an optional) as it is."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return numpy.asarray(value) if isinstance(value, numpy.generic) else value


def attempt(onnx, numpy, tools, model, arrays, expected, folder, rtol, atol):
    """None if right, else what is wrong."""
    path, text = folder / "model.onnx", folder / "model.mlir"
    onnx.save(model, path)
    imported = run(tools / "shard-translate", "--import-onnx", path, "--inline-weights", "-o", text)
    if imported.returncode:
        return "import: " + imported.stderr.strip().replace(str(path), "model")
    command = [tools / "shard-opt", "--shard-interpret", text]
    for value in model.graph.input:
        numpy.save(folder / f"in.{value.name}.npy", arrays[value.name])
        command += ["--input", f"{value.name}={folder}/in.{value.name}.npy"]
    for value in model.graph.output:
        command += ["--output", f"{value.name}={folder}/out.{value.name}.npy"]
    interpreted = run(*command)
    if interpreted.returncode:
        return "interpret: " + interpreted.stderr.strip()
    for value, want in zip(model.graph.output, expected):
        got = numpy.load(folder / f"out.{value.name}.npy")
        if want.dtype.name == "bfloat16" and got.dtype.itemsize == 2:  # the .npy format has no name for it
            got = got.view(want.dtype)
        if got.shape != want.shape or got.dtype != want.dtype:
            return f"{value.name}: {got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
        if want.dtype == bool or want.dtype.kind in "iu":
            fits = numpy.array_equal(got, want)
        else:
            fits = numpy.allclose(got.astype("float64"), want.astype("float64"), rtol=rtol, atol=atol, equal_nan=True)
        if not fits:
            return f"{value.name}: wrong numbers"
    return None


def check(onnx, numpy, tools, case):
    model, sets = case.model, case.data_sets
    if not sets:
        return "no data"
    inputs, expected = ([to_array(onnx, numpy, a) for a in part] for part in sets[0])
    if any(not isinstance(a, numpy.ndarray) for a in list(inputs) + list(expected)):
        return "skipped: not tensors"
    arrays = {v.name: a for v, a in zip(model.graph.input, inputs)}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        problem = attempt(onnx, numpy, tools, model, arrays, expected, folder, case.rtol, case.atol)
        constants = set()
        # Each round makes what the importer asks for a constant.
        while problem and "must be known at compile time" in problem:
            more = {n for n in re.findall(r'\("([^"]*)"\) must be known', problem) if n in arrays}
            if not more - constants:  # derived from other inputs: all small ones
                more = {n for n, a in arrays.items() if a.dtype.kind in "iub"}
            if not more - constants:
                more = set(arrays)
            if not more - constants:
                break
            constants |= more
            problem = attempt(onnx, numpy, tools, with_constants(onnx, model, arrays, constants), arrays, expected, folder,
                              case.rtol, case.atol)
    return problem


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--list", action="store_true", help="print the result of every case")
    parser.add_argument("--write-expected", action="store_true")
    parser.add_argument("names", nargs="*", help="beginnings of case names")
    args = parser.parse_args()
    try:
        import numpy
        import onnx
        from onnx.backend.test.loader import load_model_tests
    except ImportError as error:
        print(f"SKIPPED: {error}")
        return 0
    tools = args.build.resolve() / "bin"
    cases = [c for c in load_model_tests(kind="node") if not args.names or any(c.name.startswith(n) for n in args.names)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda c: check(onnx, numpy, tools, c), cases))
    lines = {}
    count = collections.Counter()
    for case, problem in zip(cases, results):
        kind = "ok" if problem is None else problem.split(":")[0]
        count[kind] += 1
        if problem:
            lines[case.name] = problem
        if args.list or (problem and args.names):
            print(f"{case.name}: {(problem or 'ok')[:300]}")
    print(dict(count))
    if args.write_expected:
        EXPECTED.write_text("".join(f"{n}\n" for n in sorted(lines)))
        return 0
    known = set(EXPECTED.read_text().split()) if EXPECTED.exists() else set()
    ran = {c.name for c in cases}
    worse = sorted(set(lines) - known)
    better = sorted((known & ran) - set(lines))
    for name in worse:
        print(f"FAILED {name}: {lines[name][:300]}")
    for name in better:
        print(f"now passes, take it out of {EXPECTED.name}: {name}")
    return int(bool(worse or better))


if __name__ == "__main__":
    sys.exit(main())
