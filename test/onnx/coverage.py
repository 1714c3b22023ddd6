#!/usr/bin/env python3
"""Runs the ONNX standard's own backend node tests through `shardc compile` and `shard-run`.

    coverage.py --build build                      all tests of the listed operators; writes docs/onnx-coverage.md
                                                   and expected.txt
    coverage.py --build build NAME ...             tests whose names begin so; prints what is wrong, writes nothing
    coverage.py --build build --target cuda        compiled for GPUs, run on the fake ones of test/cuda/fake; the same

Output: a row per operator in docs/onnx-coverage.md, the names that pass in test/onnx/expected.txt.

1. The onnx wheel builds the tests in Python. Counted are those with only operators of `OPERATORS` and only tensors in and out.
2. Inputs that decide a shape (`shape`, `axes`, `k`, …) are bound when the model is compiled (`--constant`), as all shapes are
   static: everything that such an operand depends on, found by walking back from `STATIC_OPERANDS`.
3. Compile for one rank and one ISA level, run, compare as ONNX's runner does: element type, shape, and values within the test's
   tolerances.

Limits: a test whose inputs are all bound is folded by the importer and proves its evaluator, not a kernel; the report counts them.
"""

import argparse
import collections
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXPECTED = ROOT / "test" / "onnx" / "expected.txt"
REPORT = ROOT / "docs" / "onnx-coverage.md"

#: Every operator that torch's exporter wrote for 18 transformer families, opsets 20 to 23, optimized or not.
OPERATORS = set(
    """Add And Attention Cast CastLike Clip Concat Constant ConstantOfShape Conv Cos CumSum Div Einsum Equal Exp Expand Gather
    GatherElements GatherND Gelu Gemm Greater GreaterOrEqual Identity IsNaN LayerNormalization Less LessOrEqual MatMul Max Mod Mul
    Neg Not Pad Pow RMSNormalization Range Reciprocal ReduceMax ReduceMean ReduceSum Relu Reshape RotaryEmbedding ScatterElements
    ScatterND SequenceAt Shape Sigmoid Sign Sin Slice Softmax Softplus Split SplitToSequence Sqrt Squeeze Sub Tanh Tile TopK
    Transpose Trilu Unsqueeze Where""".split()
)

#: Operands whose numbers decide the shape of a result.
STATIC_OPERANDS = {
    "ConstantOfShape": [0], "Expand": [1], "Pad": [1, 3], "Range": [0, 1, 2], "ReduceMax": [1], "ReduceMean": [1], "ReduceSum": [1],
    "Reshape": [1], "Slice": [1, 2, 3, 4], "Split": [1], "SplitToSequence": [1], "SequenceAt": [1], "Squeeze": [1], "Tile": [1],
    "TopK": [1], "Trilu": [1], "Unsqueeze": [1], "CumSum": [1],
}  # fmt: skip
#: Operators whose result depends on the shape of their operand only.
SHAPE_ONLY = {"Shape", "Size"}
#: The types of set (a); TensorProto's codes of float, int32, int64 and bool.
PLAIN_TYPES = {1, 6, 7, 9}
#: The other types that the graph dialect has: uint8, int8, uint16, int16, float16, double, uint32, uint64, bfloat16,
#: float8e4m3fn, float8e5m2.
DIALECT_TYPES = PLAIN_TYPES | {2, 3, 4, 5, 10, 11, 12, 13, 16, 17, 19}


class Case:
    """One node test: its model, and how to run it."""

    def __init__(self, case, subject):
        self.name, self.case, self.graph, self.subject = case.name, case, case.model.graph, subject
        self.operators = {node.op_type for node in self.graph.node}
        values = list(self.graph.input) + list(self.graph.output)
        self.are_tensors = all(v.type.WhichOneof("value") == "tensor_type" for v in values)
        self.types = {v.type.tensor_type.elem_type for v in values}

    def bound_inputs(self):
        """Names of the inputs that shapes depend on."""
        makers = {out: node for node in self.graph.node for out in node.output}
        pending = [
            node.input[i]
            for node in self.graph.node
            for i in STATIC_OPERANDS.get(node.op_type, [])
            if i < len(node.input) and node.input[i]
        ]
        seen = set()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            maker = makers.get(name)
            if maker is not None and maker.op_type not in SHAPE_ONLY:
                pending.extend(maker.input)
        return {v.name for v in self.graph.input} & seen


def select(cases):
    """The tests that count, each with its subject: the operator that it is about. `…_expanded` is a test of an operator which
    is spelled as a function of others; where the operator is not a listed one, the functions' are."""
    about = {case.name: case.model.graph.node[0].op_type for case in cases if len(case.model.graph.node) == 1}
    chosen = []
    for case in cases:
        operator = about.get(re.sub(r"_expanded.*", "", case.name)) or about.get(case.name)
        chosen.append(Case(case, operator if operator in OPERATORS else "functions of others"))
    return [case for case in chosen if case.operators <= OPERATORS and case.are_tensors]


class Runner:
    """Compiles and runs cases with the tools of one build."""

    def __init__(self, build, target="cpu"):
        self.bin = Path(build).resolve() / "bin"
        flags = Path("/proc/cpuinfo").read_text()
        self.compiling = ["--isa", "x86-64-v4" if "avx512dq" in flags and "avx512vl" in flags else "x86-64-v3"]
        self.running, self.environment = ["--threads", "1"], None
        if target == "cuda":
            self.compiling, self.running = ["--target", "cuda", "--arch", "compute_80"], []
            self.environment = {**os.environ, "LD_LIBRARY_PATH": str(self.bin.parent / "test/cuda/fake")}

    def run(self, case):
        """None if the results are right, else what is wrong."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                return self._run(case, Path(folder))
            except subprocess.TimeoutExpired as error:
                return f"{Path(error.cmd[0]).name}: not done after {error.timeout:.0f} s"

    def _run(self, case, folder):
        import numpy

        (folder / "model.onnx").write_bytes(case.case.model.SerializeToString())
        bound = case.bound_inputs()
        for inputs, expected in case.case.data_sets:
            inputs, expected = [as_array(a) for a in inputs], [as_array(a) for a in expected]
            compiling, running = [], []
            for n, (value, array) in enumerate(zip(case.graph.input, inputs)):
                numpy.save(folder / f"in{n}.npy", as_stored(array))
                if value.name in bound:
                    compiling += ["--constant", f"{value.name}={folder}/in{n}.npy"]
                else:
                    running += ["--input", f"{value.name}={folder}/in{n}.npy"]
            for n, value in enumerate(case.graph.output):
                running += ["--output", f"{value.name}={folder}/out{n}.npy"]
            bundle = folder / "model.bundle"
            options = ["-o", bundle, "--force", *self.compiling, *compiling]
            problem = self._tool("shardc", "compile", folder / "model.onnx", *options)
            problem = problem or self._tool("shard-run", bundle, "--in-process", *self.running, *running)
            if problem:
                return problem.replace(str(folder) + "/", "")
            for n, (value, want) in enumerate(zip(case.graph.output, expected)):
                have = numpy.load(folder / f"out{n}.npy")
                problem = compare(have, want, case.case)
                if problem:
                    return f'output "{value.name}" {problem}'
        return None if case.case.data_sets else "the test has no data"

    def _tool(self, name, *args):
        command = [str(self.bin / name), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=self.environment)
        if done.returncode == 0:
            return None
        if done.returncode < 0:
            return f"{name}: crashed with signal {-done.returncode}: {done.stderr.strip()[-300:]}"
        return f"{name}: {done.stderr.strip()}"


def as_array(value):
    """The wheel gives arrays, or protobufs of some."""
    import numpy
    import onnx

    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else numpy.asarray(value)


#: Of ml_dtypes, which numpy's file format does not have: stored as words of their size.
NARROW = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


def as_stored(array):
    return array.view(NARROW[array.dtype.name]) if array.dtype.name in NARROW else array


def compare(have, want, case):
    """None if `have` is what the test wants, else the difference. As onnx.backend.test.runner does it."""
    import numpy

    tolerances = dict(rtol=case.rtol, atol=case.atol, equal_nan=True)
    if want.dtype.name in NARROW and have.dtype.itemsize == want.dtype.itemsize:
        if want.dtype.name == "bfloat16":
            tolerances["rtol"] = max(case.rtol, 2**-6)
        have, want = have.view(want.dtype).astype(numpy.float32), want.astype(numpy.float32)
    if have.dtype != want.dtype or have.shape != want.shape:
        return f"is {have.dtype}{list(have.shape)} instead of {want.dtype}{list(want.shape)}"
    wide = numpy.float64 if have.dtype.kind == "f" else have.dtype
    wrong = ~numpy.isclose(have.astype(wide), want.astype(wide), **tolerances)
    if not wrong.any():
        return None
    at = tuple(int(i) for i in numpy.argwhere(wrong)[0])
    return f"differs in {int(wrong.sum())} of {wrong.size} places, at {list(at)} it is {have[at]} instead of {want[at]}"


def run_all(runner, cases, workers):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return dict(zip([c.name for c in cases], pool.map(runner.run, cases)))


def load_cases():
    """The wheel's node tests, or an ImportError."""
    warnings.simplefilter("ignore")
    from onnx.backend.test.loader import load_model_tests

    return select([case for case in load_model_tests(kind="node") if case.model is not None])


def set_of(case):
    """a: the plain types; b: the others that the dialect has; c: types that it has not."""
    return "a" if case.types <= PLAIN_TYPES else "b" if case.types <= DIALECT_TYPES else "c"


def reason(problem):
    """The first line, without names of values and numbers, so that equal reasons count together."""
    line = next((text for text in problem.splitlines() if "error:" in text), problem.splitlines()[0])
    line = re.sub(r"^.*?error: ", "", line)
    line = re.sub(r'^node "[^"]*" \(([^,)]*)[^)]*\): ', r"\1: ", line)
    line = re.sub(r'"[^"]*"', "…", line)
    line = re.sub(r"\[[^\]]*\]", "[…]", line)
    return re.sub(r"(?<!\w)-?\d+(\.\d+)?(e[-+]\d+)?(?!\w)", "N", line).replace("|", "\\|")[:140]


SETS = {
    "a": "f32, i32, i64 and bool only",
    "b": "with f64, f16, bf16, 8-bit floats (e4m3fn, e5m2), i8, i16 or unsigned integers",
    "c": "with types that the dialect does not have (strings, complex, 4-bit and other 8-bit floats, 2-bit and 4-bit integers)",
}


def write_report(cases, problems, onnx_version):
    passed = collections.Counter(set_of(c) for c in cases if problems[c.name] is None)
    total = collections.Counter(set_of(c) for c in cases)
    bound = sum(1 for c in cases if c.bound_inputs() and problems[c.name] is None)
    folded = sum(
        1 for c in cases if problems[c.name] is None and c.graph.input and len(c.bound_inputs()) == len(c.graph.input)
    )
    lines = [
        "# ONNX backend tests",
        "",
        f"Written by `test/onnx/coverage.py` from the {len(cases)} node tests of onnx {onnx_version} that use only the {len(OPERATORS)}",
        "operators that torch's exporter writes for transformers (`OPERATORS` in the script). Each is compiled for one rank and run; element",
        "type, shape and values are compared with the tolerances of ONNX's runner. Inputs that shapes depend on are bound when the",
        f"model is compiled (`shardc compile --constant NAME=FILE.npy`), in {bound} of the tests that pass; in {folded} of them these are all the",
        "inputs, so that the importer computes the result.",
        "",
        "| set | passed | of |",
        "|---|---:|---:|",
        *[f"| ({key}) {text} | {passed[key]} | {total[key]} |" for key, text in SETS.items()],
        f"| all | {sum(passed.values())} | {sum(total.values())} |",
        "",
        "## By operator",
        "",
        "| operator | (a) | (b) | (c) |",
        "|---|---:|---:|---:|",
    ]
    for operator in sorted({c.subject for c in cases}):
        row = [operator]
        for key in SETS:
            own = [c for c in cases if c.subject == operator and set_of(c) == key]
            good = sum(problems[c.name] is None for c in own)
            row.append(f"{good}/{len(own)}" if own else "")
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", "## What fails, and why", ""]
    for key, text in SETS.items():
        failures = collections.defaultdict(list)
        for case in cases:
            if set_of(case) == key and problems[case.name] is not None:
                failures[reason(problems[case.name])].append(case.name)
        if not failures:
            lines += [f"({key}): nothing", ""]
            continue
        lines += [f"### ({key}) {text}", "", "| tests | reason | for example |", "|---:|---|---|"]
        for why, names in sorted(failures.items(), key=lambda item: (-len(item[1]), item[0])):
            lines.append(f"| {len(names)} | {why} | {', '.join(names[:2])} |")
        lines.append("")
    REPORT.write_text("\n".join(lines).rstrip() + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--set", choices=SETS, help="only tests of that set; writes nothing")
    parser.add_argument("--target", choices=["cpu", "cuda"], default="cpu", help="cuda: on fake GPUs; writes nothing")
    parser.add_argument("names", nargs="*", help="beginnings of names; writes nothing")
    args = parser.parse_args()
    import onnx

    cases = [c for c in load_cases() if not args.names or c.name.startswith(tuple(args.names))]
    if args.set:
        cases = [c for c in cases if set_of(c) == args.set]
    problems = run_all(Runner(args.build, args.target), cases, args.jobs)
    for case in cases:
        if problems[case.name] is not None:
            print(f"{case.name} ({set_of(case)}, {case.subject}): {problems[case.name][:400]}")
    for key in SETS:
        own = [problems[c.name] is None for c in cases if set_of(c) == key]
        print(f"({key}) {sum(own)} of {len(own)} pass")
    if not args.names and not args.set and args.target == "cpu":
        write_report(cases, problems, onnx.__version__)
        EXPECTED.write_text("".join(f"{name}\n" for name in sorted(problems) if problems[name] is None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
